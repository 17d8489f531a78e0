"""Whatever stands in a log, a terminal shows it and does not obey it, and no line is without an end."""

from __future__ import annotations

import json
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventlog import events as ev
from eventlog.cli.app import app
from eventlog.errors import EvlogWarning, printable, warn_once
from eventlog.testing.runs import RunWriter

EVIL = "a\x1b[31m\x1b]0;owned\x07b\rc\x08d\x9b2Je\u202ef\u200bg\u2066h\x00i\x7fj\u2028k\ufeffl\nm"
WORD = EVIL.replace("\0", "")
"""The same as a word of a command, which can hold no NUL."""
LONG = "L" * 200_000
PROJECT, RUN = "p\x1b[31m", "r\u202e\x9b2J\x07"

# What a terminal could take for more than a letter: controls, directions, what has no width, other lines.
_OBEYED = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def repr_of(value: object) -> str:
    """Return all texts in *value*, one after the other."""
    if isinstance(value, dict):
        return "".join(repr_of(part) for pair in value.items() for part in pair)
    return "".join(map(repr_of, value)) if isinstance(value, list) else str(value)


def obeyed(text: str) -> set[str]:
    """Return the characters of *text* that could do something, newlines apart."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in _OBEYED}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with two runs that are as hostile as their names."""
    root = tmp_path_factory.mktemp("root")
    for name in (RUN, "other\x1b[0m"):
        write(root / PROJECT / name)
    (root / "evil\x07" / "no\x1brun" / "log").mkdir(parents=True)
    (root / PROJECT / RUN / "log" / "r0-01KAHCZG000000000000000A00.000001.jsonl").write_bytes(
        b'{"seq":0,\x1b[2J\n'
    )
    return root


def write(run: Path) -> None:
    """Write a run whose every text is hostile."""
    writer = RunWriter(run)
    writer.write(
        ev.RunStarted(name=EVIL, experiment=EVIL, parent_run_id=EVIL, tags={EVIL: EVIL}, notes=EVIL),
        ev.Params(data={EVIL: EVIL, "n": {EVIL: [EVIL, 1]}, "long": LONG, "lr": 0.1}),
        *(ev.Metrics(step=step, data={EVIL: 0.5, "loss": 1.0 / (step + 1)}) for step in range(3)),
        ev.Summary(data={EVIL: EVIL, "long": LONG}),
        ev.Tags(data={f"{EVIL}2": EVIL}),
        ev.Note(text=EVIL),
        ev.Console(stream="stdout", text=EVIL),
        ev.Alert(title=EVIL, text=EVIL, level="error"),
        ev.Artifact(name=EVIL, path=EVIL, artifact_type=EVIL, size_bytes=1, sha256="0" * 64, source=EVIL),
        ev.Checkpoint(path=EVIL, step=1),
        ev.Model(name=EVIL, artifact=EVIL, flavor=EVIL),
        ev.ModelRegistered(name=EVIL, version=EVIL, stage=EVIL, alias=EVIL),
        ev.Dataset(name=EVIL, version=EVIL, split=EVIL, path=EVIL, data={EVIL: EVIL}),
        ev.Histogram(key=EVIL, edges=[0.0, 1.0], counts=[1]),
        ev.Table(key=EVIL, columns=[EVIL], rows=[[EVIL]]),
        ev.Media(key=EVIL, media_type="text", text=EVIL, caption=EVIL),
        ev.Context(kind="git", data={"commit": EVIL, "branch": EVIL, "remote": EVIL, EVIL: EVIL}),
        ev.Context(
            kind="command", data={"argv": [EVIL, EVIL], "cwd": EVIL, "script": EVIL, "executable": EVIL}
        ),
        ev.Context(
            kind="environment", data={"python": EVIL, "packages": {EVIL: EVIL}, "variables": {EVIL: EVIL}}
        ),
        ev.Context(kind=EVIL, data={EVIL: EVIL}),
        ev.Evaluation(benchmark=EVIL, metrics={EVIL: 0.5, "score": 0.5}, data={EVIL: EVIL}),
        ev.Sample(benchmark=EVIL, index=0, input=EVIL, target=EVIL, prediction=EVIL, metrics={EVIL: 1.0}),
        ev.Dropped(counts={EVIL: 1}, reason=EVIL, first_ts=0, last_ts=0),
        ev.RunEnded(status=EVIL, error=ev.ErrorInfo(type=EVIL, message=EVIL, traceback=EVIL), signal=EVIL),
    )
    writer.close()


def evlog(root: Path, *words: str) -> tuple[str, str]:
    """Run a command in this process; return what it wrote to both streams, whatever its exit code."""
    result = CliRunner().invoke(app, [*words, "--dir", str(root)], prog_name="evlog")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout, result.stderr


LABEL, OTHER = f"{PROJECT}/{RUN}", f"{PROJECT}/other\x1b[0m"
COMMANDS = [
    ["list"],
    ["list", "--project", PROJECT],
    ["show", LABEL],
    ["tail", LABEL],
    ["verify"],
    ["stats"],
    ["leaderboard", "--by", "loss"],
    ["leaderboard", "--by", WORD],
    ["decide", "--rule", f"min {WORD}"],
    ["compare", LABEL, OTHER],
    ["diff", LABEL, OTHER],
    ["audit"],
    ["audit", LABEL],
    ["plot", "loss"],
    ["plot", WORD],
    ["reproduce", LABEL],
    ["sync", "--to", "local"],
    ["sync", "--to", "local", "--verify"],
    ["sync", "--status"],
    ["query", "SELECT * FROM runs"],
    ["query", "SELECT * FROM params", "--format", "md"],
    ["query", "SELECT * FROM events", "--format", "markdown"],
    ["query", f"SELECT '{WORD}' AS \"{WORD}\" frum"],
    ["show", f"nothing\x1b[31m/{WORD}"],
    ["schema", WORD],
    ["sync", "--to", WORD],
    ["log", f"--project={WORD}", WORD, "a=1"],
    ["significance", "loss", LABEL, OTHER],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: printable(" ".join(words))[:40])
def test_no_command_passes_anything_on_that_a_terminal_obeys(words: list[str], root: Path) -> None:
    """Neither to standard output nor in messages."""
    out, err = evlog(root, *words)

    assert obeyed(out) == set()
    assert obeyed(err) == set()
    assert out or err


@pytest.mark.parametrize("words", COMMANDS[:8], ids=lambda words: words[0])
def test_giant_texts_are_cut_where_they_are_shown(words: list[str], root: Path) -> None:
    """A value of 200,000 letters does not fill the screen; `--json` and queries give all of it."""
    out, err = evlog(root, *words)

    assert max(map(len, (out + err).splitlines()), default=0) < 20_000


@pytest.mark.parametrize(
    "words", [["list"], ["show", LABEL], ["audit"], ["verify"], ["compare", LABEL, OTHER]]
)
def test_json_is_data_and_still_harmless(words: list[str], root: Path) -> None:
    """Programs get the texts as they are, and a terminal the escapes that JSON has for them."""
    out, err = evlog(root, *words, "--json")

    assert EVIL in repr_of(json.loads(out)) or words == ["verify"], err
    assert obeyed(out) == set()


def test_the_same_in_one_place() -> None:
    """One function decides, for the command line, plots, reports and the console sink."""
    from eventlog.analysis.reports import markup
    from eventlog.cli import render
    from sinks import console

    assert render.printable is printable
    assert vars(markup)["printable"] is printable
    assert vars(console)["printable"] is printable


@pytest.mark.parametrize(
    "code", [*range(0x20), *range(0x7F, 0xA0), 0x200B, 0x202E, 0x2028, 0xFEFF, 0xE0001, 0xD800]
)
def test_what_is_obeyed_is_written_as_an_escape(code: int) -> None:
    """Visibly, so that one sees that it is there."""
    shown = printable(f"a{chr(code)}b")

    assert obeyed(shown) == set()
    assert "\n" not in shown
    assert shown.startswith("a\\")


def test_warnings_show_the_names_in_them() -> None:
    """A training prints them to somebody's terminal."""
    with pytest.warns(EvlogWarning) as seen:
        warn_once("k", f"run {EVIL}")

    assert obeyed(str(seen[0].message)) == set()


def test_warnings_are_shown_also_where_they_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """Under -W error they go to stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_once("k2", f"run {EVIL}")

    assert obeyed(capsys.readouterr().err) == set()


def test_the_console_sink_escapes_and_cuts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`evlog run --track console` and `evlog tail` show a log with it."""
    show: Callable[..., tuple[str, str]] = evlog
    out, _ = show(root, "tail", LABEL, "-n", "100")

    assert obeyed(out) == set()
    assert "\\x1b[31m" in out
    assert max(map(len, out.splitlines())) < 20_000
