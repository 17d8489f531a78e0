from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.cli.reference import all_commands, reference_page
from tests.cli.conftest import Evlog, log_run, real_evlog, start
from tests.logs import WRITER_A, LogMaker, metrics, put

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
COMMANDS = list(all_commands())


def test_all_commands_are_there() -> None:
    """The commands that the documentation promises exist."""
    assert COMMANDS == [
        "list",
        "show",
        "tail",
        "verify",
        "query",
        "schema",
        "publish",
        "compact",
        "sync",
        "sinks",
        "log",
        "run",
        "leaderboard",
        "decide",
        "compare",
        "diff",
        "significance",
        "plot",
        "report",
        "export",
        "stats",
        "audit",
        "reproduce",
        "eval",
        "sweep",
        "import text",
        "import sqlite",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_to_paste(evlog: Evlog, command: str) -> None:
    """Nobody has to guess how a command is called."""
    done = evlog(*command.split(), "--help")

    assert done.code == 0
    assert f"evlog {command}" in done.out.partition("Examples:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_reference_has_a_place_for_a_command(command: str) -> None:
    """A command without a chapter cannot be added."""
    assert f"\n## evlog {command}\n" in PAGE.read_text()


def test_reference_is_what_the_command_line_says() -> None:
    """The page is generated; after a change: make docs."""
    assert PAGE.read_text() == reference_page()


def test_version_is_shown() -> None:
    """`evlog --version` names the version of the package."""
    import eventlog

    assert real_evlog("--version").out == f"evlog {eventlog.__version__}\n"


def test_importing_the_entry_point_loads_no_package() -> None:
    """What starts every command costs nothing before it knows the command."""
    code = "import sys, eventlog.cli; print([m for m in ('typer', 'duckdb', 'rich') if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_listing_runs_loads_neither_duckdb_nor_rich(root: Path) -> None:
    """A command pays for what it needs only."""
    log_run(root, "one")
    code = (
        "import sys; from eventlog.cli.app import app; app(['list'], standalone_mode=False);"
        "print([m for m in ('duckdb', 'rich', 'watchfiles') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def _garbage(root: Path) -> list[str]:
    put(root / "demo" / "bad", 1, b"\xff garbage\n{}\n" * 50)
    return ["verify", "bad"]


def _unreadable(root: Path) -> list[str]:
    path = put(root / "demo" / "bad", 1, b"")
    path.unlink()
    path.mkdir()
    return ["show", "bad"]


def _unreadable_in_list(root: Path) -> list[str]:
    return ["list", *_unreadable(root)[2:]]


def _ambiguous(root: Path) -> list[str]:
    log_run(root, "same-1")
    log_run(root, "same-2")
    return ["show", "same"]


def _words(*args: str) -> Callable[[Path], list[str]]:
    return lambda _: list(args)


def _with_run(*args: str) -> Callable[[Path], list[str]]:
    def make(root: Path) -> list[str]:
        log_run(root, "one")
        return list(args)

    return make


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_words("list"), 1),
        (_words("list", "--dir", "/nowhere/at/all"), 1),
        (_words("query", "SELECT 1"), 1),
        (_words("show", "nothing"), 1),
        (_words("tail", ""), 1),
        (_words("verify", "nothing"), 1),
        (_words("sync", "--to", "nowhere"), 1),
        (_words("sync", "nothing", "--to", "local"), 1),
        (_words("nonsense"), 2),
        (_words("list", "--nonsense"), 2),
        (_words("list", "--status", "nonsense"), 2),
        (_words("log", "one"), 2),
        (_words("log", "one", "nonsense"), 2),
        (_words("log", "../../etc/x", "a=1"), 1),
        (_words("run"), 2),
        (_words("run", "--track", "nowhere", "true"), 1),
        (_words("run", "--", "no-such-command-anywhere"), 127),
        (_garbage, 1),
        (_unreadable, 1),
        (_unreadable_in_list, 1),
        (_ambiguous, 1),
        (_with_run("query", "SELEC nonsense"), 1),
        (_with_run("query", ""), 2),
        (_with_run("query", "--format", "parquet", "SELECT 1"), 2),
        (_with_run("query", "--output", "/nowhere/at/all", "SELECT 1"), 1),
        (_with_run("show", "demo/nothing"), 1),
    ],
)
def test_bad_input_gives_a_message_and_no_traceback(
    root: Path, make: Callable[[Path], list[str]], code: int
) -> None:
    """Whatever goes wrong is said in words, on stderr, with a meaningful exit code."""
    done = real_evlog(*make(root))

    assert done.code == code
    assert "Traceback" not in done.out + done.err
    assert done.err or done.out


def test_one_unreadable_run_does_not_hide_the_others(root: Path) -> None:
    """A list shows what can be read and says what cannot."""
    log_run(root, "good")
    _unreadable(root)

    done = real_evlog("list")

    assert done.code == 1
    assert "demo/good" in done.out
    assert "demo/bad" in done.err


@pytest.mark.parametrize("command", ["list", "show one", "tail one", "verify", "sinks", "sync --to local"])
def test_output_that_is_no_terminal_is_plain(
    root: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Pipes and files get neither escapes nor bars nor anything cut off."""
    for name in ("argv", "orig_argv"):  # `tail` cuts long values, and these are the test's own
        monkeypatch.setattr(sys, name, ["train.py"])
    log_run(root, "one", tags={"name-" + "x" * 150: "y"})

    done = real_evlog(*command.split(), env={"COLUMNS": "40", "TERM": "xterm-256color"})

    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert "…" not in done.out
    assert done.err == ""
    if command == "list":
        assert "x" * 150 in done.out


def _on_terminal(*args: str, env: dict[str, str]) -> str:
    """Return what a command shows on a terminal of its own."""
    main, other = pty.openpty()
    process = start(*args, env={"TERM": "xterm-256color", **env}, stdout=other)
    os.close(other)
    shown = b""
    try:
        while data := os.read(main, 4096):
            shown += data
    except OSError:
        pass  # Linux says EIO at the end of a terminal
    process.communicate(timeout=60)
    os.close(main)
    return shown.decode()


@pytest.mark.parametrize("command", ["list", "show one", "tail one", "verify"])
def test_no_color_is_honoured(root: Path, command: str) -> None:
    """With NO_COLOR a terminal gets no colours, without it does."""
    log_run(root, "one")

    plain = _on_terminal(*command.split(), env={"NO_COLOR": "1"})
    coloured = _on_terminal(*command.split(), env={})

    assert "\x1b[3" not in plain
    assert "\x1b[" in coloured


@pytest.mark.parametrize("command", ["list", "show one", "tail one --all"])
def test_what_was_logged_cannot_control_the_terminal(root: Path, evlog: Evlog, command: str) -> None:
    """Control characters and markup from a log arrive as visible text."""
    from eventlog.tracker import Tracker, TrackingConfig

    evil = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\u202e\r\n"
    tracker = Tracker((), TrackingConfig(project="demo", tags={evil: evil}, notes=evil), output_dir=root)
    tracker.start_run(run_id="one")
    tracker.log_params({evil: evil})
    tracker.log_metrics({evil: 1.0}, step=1)
    tracker.end_run("failed")

    done = evlog(*command.split())

    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(done.out)
    assert "[red]x[/red]" in done.out


def test_a_reader_that_goes_away_ends_the_command_quietly(root: Path) -> None:
    """`evlog tail … | head` leaves no message."""
    log_run(root, "one", steps=20_000)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        process = start("tail", "one", "--all", stdout=stdout)
        _, err = process.communicate(timeout=60)

    assert err == b""
    assert process.returncode == 141


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_can_be_shown(shell: str) -> None:
    """Shells that people use can complete commands and runs."""
    # Else the shell is the one around this process, if there is any.
    env = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}

    done = real_evlog("--show-completion", shell, env=env)

    assert done.code == 0
    assert "_EVLOG_COMPLETE" in done.out


def test_completion_offers_run_ids(root: Path) -> None:
    """A shell completes the beginning of a run's id."""
    log_run(root, "digits-1")
    log_run(root, "other")
    env = {"_EVLOG_COMPLETE": "complete_bash", "COMP_WORDS": "evlog show dig", "COMP_CWORD": "2"}

    done = real_evlog(env=env)

    assert done.out.split() == ["digits-1"]


def test_json_of_each_command_is_json(root: Path, evlog: Evlog) -> None:
    """What --json prints can be parsed as a whole."""
    log_run(root, "one")

    for words in (
        ["list"],
        ["show", "one"],
        ["verify"],
        ["query", "FROM runs"],
        ["sync", "--to", "local"],
        ["sinks"],
    ):
        assert json.loads(evlog(*words, "--json").out)


def test_log_maker_of_the_tests_is_read(root: Path, evlog: Evlog) -> None:
    """A log that no tracker of ours wrote, by the format alone, is listed."""
    put(root / "demo" / "foreign", 1, b"".join(LogMaker(WRITER_A).segment(metrics(3))))

    assert "demo/foreign" in evlog("list").out
