"""``evlog import text``, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventlog.analysis.facts import load
from eventlog.importers.text import read_text
from eventlog.importers.text.importing import TextImport, import_text
from eventlog.importers.writing import RunExistsError
from eventlog.replay import events
from eventlog.storage.layout import RunPath
from tests.cli.conftest import Evlog, clean_environment, evlog

__all__ = ["clean_environment", "evlog"]

LOGS = Path(__file__).parent / "logs"


def test_import_text_makes_a_run_with_its_times(evlog: Evlog, tmp_path: Path) -> None:
    """Params, metrics with steps, files, tables and final values, at the times of the lines."""
    done = evlog(
        "import",
        "text",
        str(LOGS / "torch.log"),
        "--project",
        "p",
        "--tag",
        "purpose=baseline",
        "--dir",
        str(tmp_path),
    )

    assert done.code == 0, done.err
    facts = load(tmp_path / "p" / "torch")
    assert facts.view.params["lr"] == 0.001
    assert facts.view.metrics["loss"].count == 4
    assert facts.view.summary["test_accuracy"] == 0.9312
    assert facts.view.tags == {"purpose": "baseline"}
    assert facts.view.status == "finished"
    assert facts.checkpoints[0].path == "checkpoints/epoch2.pt"
    assert [a.name for a in facts.view.artifacts] == ["source/torch.log", "confusion.png"]
    assert facts.view.context["import"]["left_out"] == 3
    times = [event.ts for event in events(tmp_path / "p" / "torch")]
    assert times == sorted(times)
    assert facts.view.duration_s == pytest.approx(60.377)


def test_import_text_shows_what_it_left_out(evlog: Evlog, tmp_path: Path) -> None:
    """Nothing disappears silently."""
    done = evlog(
        "import", "text", str(LOGS / "torch.log"), "--dir", str(tmp_path), "--dry-run", "--left-out", "2"
    )

    assert "left out: 3 lines" in done.out
    assert "Loading dataset from cifar10" in done.out
    assert "gradient overflow" not in done.out
    assert not list(tmp_path.glob("*/*/log"))


def test_import_text_says_what_the_run_lacks(evlog: Evlog, tmp_path: Path) -> None:
    """What the audit misses, also before anything is written; what the caller adds is missed no more."""
    log = tmp_path / "a.log"
    log.write_text("step 1 val_loss=0.5\n")

    bare = json.loads(evlog("import", "text", str(log), "--json", "--dry-run", "--dir", "runs").out)
    assert not Path("runs").exists()

    words = ("--param", "seed=1", "--experiment", "old", "--dir", "runs")
    shown = evlog("import", "text", str(log), *words)

    lacking = {line["check"] for line in bare["lacks"]}
    assert {"seed", "code.commit", "data.name", "environment.packages", "experiment"} <= lacking
    assert "no data set" in shown.out
    assert "no seed" not in shown.out
    assert "no experiment" not in shown.out
    assert load(Path("runs/default/a")).view.experiment == "old"


def test_import_text_twice_adds_nothing(evlog: Evlog, tmp_path: Path) -> None:
    """The digest of the log tells that it is there; another log under that name is refused."""
    for _ in range(2):
        done = evlog("import", "text", str(LOGS / "keras.log"), "--dir", str(tmp_path))
    other = evlog("import", "text", str(LOGS / "torch.log"), "--name", "keras", "--dir", str(tmp_path))

    assert "nothing was added" in done.out
    assert other.code == 1
    assert "is another run" in other.err
    assert load(tmp_path / "default" / "keras").view.metrics["loss"].count == 3


def test_import_text_reads_standard_input(evlog: Evlog, tmp_path: Path) -> None:
    """A pipe is enough."""
    done = evlog(
        "import", "text", "-", "--name", "piped", "--json", "--dir", str(tmp_path), stdin="step 1 loss=0.5\n"
    )

    assert json.loads(done.out)["points"][0]["value"] == 0.5
    assert load(tmp_path / "default" / "piped").view.metrics["loss"].last == 0.5


@pytest.mark.parametrize(
    ("text", "words", "code", "said"),
    [
        ("nothing here\n", [], 1, "none of its 1 lines was understood"),
        ("", [], 1, "none of its 0 lines"),
        ("loss=1\n", ["--pattern", "("], 2, "no regular expression"),
        ("loss=1\n", ["--pattern", "loss"], 2, "no named group"),
        ("loss=1\n", ["--param", "lr"], 2, "not KEY=VALUE"),
        ("loss=1\n", ["--name", "../x"], 1, "run id"),
    ],
)
def test_import_text_says_what_is_wrong(
    evlog: Evlog, tmp_path: Path, text: str, words: list[str], code: int, said: str
) -> None:
    """A clear line, the right exit code, and no run."""
    log = tmp_path / "a.log"
    log.write_text(text)

    done = evlog("import", "text", str(log), *words, "--dir", str(tmp_path / "runs"))

    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs" / "default" / "a").exists()


def test_import_text_of_a_missing_file_says_so(evlog: Evlog, tmp_path: Path) -> None:
    """The file's name stands in the message."""
    done = evlog("import", "text", str(tmp_path / "no.log"), "--dir", str(tmp_path))

    assert done.code == 1
    assert "no.log" in done.err


def test_an_import_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a run never appears."""
    log = tmp_path / "a.log"
    log.write_text("step 1 loss=0.5\n")
    run = RunPath("p", "a", tmp_path / "runs" / "p" / "a")
    monkeypatch.setattr("eventlog.importers.text.importing._points", lambda _: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        import_text(log, read_text(log.read_text()), run)

    assert list(run.path.parent.iterdir()) == []


def test_other_params_make_another_import(tmp_path: Path) -> None:
    """What the user adds belongs to the digest."""
    log = tmp_path / "a.log"
    log.write_text("step 1 loss=0.5\n")
    run = RunPath("p", "a", tmp_path / "runs" / "p" / "a")
    import_text(log, read_text(log.read_text()), run)

    with pytest.raises(RunExistsError):
        import_text(log, read_text(log.read_text()), run, TextImport(params={"lr": 1}))
