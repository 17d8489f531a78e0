"""What a record of a run's origin lacks, and the record as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventlog import Tracker, TrackingConfig
from eventlog.analysis.facts import load
from eventlog.events import Context, Dataset, Evaluation
from eventlog.lineage.missing import corrected_record, missing_in_record
from eventlog.lineage.record import record_of
from tests.cli.conftest import Evlog as Command
from tests.cli.conftest import clean_environment, evlog  # noqa: F401 - fixtures

COMMIT = "a" * 40
TEMPLATE = {
    "git_commit": "",
    "script": "train.py",
    "data": {"name": "dataset_X", "version": "v1.2", "split_seed": 2024},
    "env": {"python": "3.10.12", "framework": "torch==2.2.1", "cuda": "12.1"},
}
WHOLE = {
    "git_commit": COMMIT,
    "command": ["python", "train.py", "--lr", "0.1"],
    "seed": 3,
    "data": {"name": "x", "version": "v2025-05-01", "sha256": "f" * 64, "split_seed": 2024},
    "env": {"python": "3.10.12", "packages": {"torch": "2.2.1"}, "cuda": "12.1"},
    "metrics": {"val_auc_roc": 0.91},
}


def _fields(record: dict[str, object]) -> dict[str, str]:
    return {gap.field: gap.kind for gap in missing_in_record(record)}


def test_the_minimal_template_lacks_what_its_author_left_out() -> None:
    """The template as it is pasted: an empty commit, no seed, no arguments, no hash, no result."""
    assert _fields(dict(TEMPLATE)) == {
        "git_commit": "missing",
        "command": "ambiguous",
        "seed": "missing",
        "data.sha256": "ambiguous",
        "env.packages": "ambiguous",
        "metrics": "missing",
    }


def test_a_whole_record_lacks_nothing() -> None:
    """Nothing is asked for that is there."""
    assert _fields(dict(WHOLE)) == {}


@pytest.mark.parametrize(
    ("change", "field", "kind"),
    [
        ({"git_commit": "main"}, "git_commit", "ambiguous"),
        ({"git_commit": "abc1234"}, "git_commit", "ambiguous"),
        ({"git_commit": "unknown"}, "git_commit", "missing"),
        ({"is_dirty": True}, "diff", "missing"),
        ({"untracked": ["notes.txt", "mine/helper.py"]}, "untracked", "missing"),
        ({"untracked": ["notes.txt"]}, "untracked", "ambiguous"),
        ({"data": {"name": "x", "version": "latest", "split": "80/20"}}, "data.version", "ambiguous"),
        ({"data": {"name": "x", "split": "80/20"}}, "data.version", "missing"),
        ({"data": "mnist"}, "data.version", "missing"),
        ({"data": {"version": "v1", "split": "a"}}, "data.name", "missing"),
        ({"data": {"name": "x", "version": "1", "sha256": "f"}}, "data.split", "missing"),
        ({"data": []}, "data.name", "missing"),
        ({"data": None}, "data.name", "missing"),
        ({"env": {"python": "3.10", "packages": {"a": "1"}}}, "env.python", "ambiguous"),
        ({"env": {"packages": {"a": "1"}}}, "env.python", "missing"),
        ({"env": {"python": "3.10.1", "framework": "torch>=2", "cuda": "12"}}, "env.framework", "ambiguous"),
        ({"env": {"python": "3.10.1", "packages": {"torch": "2"}}}, "env.cuda", "missing"),
        ({"env": None}, "env.packages", "missing"),
        ({"command": [], "script": None}, "script", "missing"),
        ({"seed": None}, "seed", "missing"),
        ({"metrics": {}}, "metrics", "missing"),
    ],
)
def test_one_hole_is_found(change: dict[str, object], field: str, kind: str) -> None:
    """Whatever is taken away, or made vague, is named."""
    assert _fields({**WHOLE, **change}).get(field) == kind


@pytest.mark.parametrize("record", [{}, TEMPLATE, {**WHOLE, "data": [{"name": "a"}, "b"]}, {"data": "mnist"}])
def test_corrected_record_keeps_what_is_known_and_says_what_belongs(record: dict[str, object]) -> None:
    """Every gap has a place that says what to put there; the rest is as it was."""
    before = json.dumps(record)

    fixed = corrected_record(record)

    assert json.dumps(record) == before
    assert all("<" in json.dumps(fixed) for _ in missing_in_record(record))
    for key, value in record.items():
        if not any(gap.field.partition(".")[0].partition("[")[0] == key for gap in missing_in_record(record)):
            assert fixed[key] == value
    assert {gap.field for gap in missing_in_record(fixed)} <= {gap.field for gap in missing_in_record(record)}


def test_record_of_a_run_is_what_its_log_says(tmp_path: Path) -> None:
    """Contexts, data sets and params fill the template."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run("one")
    tracker.log_params({"random_state": 7})
    tracker.log_metrics({"val_loss": 0.5}, step=1)
    tracker.log_event(Context(kind="git", data={"commit": COMMIT, "is_dirty": False}))
    tracker.log_event(Context(kind="environment", data={"python": "3.11.9", "packages": {"numpy": "2.0"}}))
    tracker.log_event(Dataset(name="x", version="v1", sha256="f" * 64, data={"splits": {"train": 8}}))
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None

    record = record_of(load(run))

    assert missing_in_record(record) == []
    assert (record["git_commit"], record["seed"]) == (COMMIT, 7)


def test_an_evaluation_has_results_and_names_its_data(tmp_path: Path) -> None:
    """Its results are no metrics, and its benchmark is what it was asked."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run("one")
    tracker.log_params({"benchmark": "gsm8k", "split": "test"})
    tracker.log_event(Evaluation(benchmark="gsm8k", metrics={"accuracy": 0.5}))
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None

    found = _fields(record_of(load(run)))

    assert "metrics" not in found
    assert {field for field in found if field.startswith("data")} == {"data.version"}


def test_what_came_from_standard_input_has_no_command(tmp_path: Path) -> None:
    """The words ``python -`` say nothing of what was run."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run("one")
    command: dict[str, object] = {
        "orig_argv": ["python", "-"],
        "argv": ["-"],
        "cwd": "/x",
        "script": None,
        "module": None,
    }
    tracker.log_event(Context(kind="command", data=command))
    tracker.log_event(Context(kind="git", data={"commit": COMMIT}))
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None

    assert _fields(record_of(load(run)))["script"] == "missing"


def test_data_named_by_params_count(tmp_path: Path) -> None:
    """A run without a data set's event may say it in params."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run("one")
    tracker.log_params({"dataset_name": "x", "data_version": "latest", "split_strategy": "by user"})
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None

    data = record_of(load(run))["data"]

    assert data == {"name": "x", "version": "latest", "strategy": "by user"}


def test_a_snippet_is_looked_at_and_corrected(evlog: Command, tmp_path: Path) -> None:  # noqa: F811
    """`evlog reproduce --what-is-missing FILE.json` lists the holes and proposes a record."""
    (tmp_path / "record.json").write_text(json.dumps(TEMPLATE))

    done = evlog("reproduce", "record.json", "--what-is-missing")
    alone = evlog("reproduce", "record.json")
    executed = evlog("reproduce", "record.json", "--what-is-missing", "--execute")

    assert (alone.code, executed.code) == (2, 2)
    table, _, proposed = done.out.partition("The record as it should be:")
    assert done.code == 1
    assert "missing    git_commit" in table
    assert json.loads(proposed)["git_commit"] == "<git rev-parse HEAD>"
    assert json.loads(proposed)["script"] == "train.py"


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 20_000], ids=len)
def test_a_file_that_is_no_record_is_refused(evlog: Command, tmp_path: Path, data: bytes) -> None:  # noqa: F811
    """Rubbish gives one line."""
    (tmp_path / "bad.json").write_bytes(data)

    done = evlog("reproduce", "bad.json", "--what-is-missing")

    assert done.code == 1
    assert "is no record" in done.err


def test_a_whole_snippet_lacks_nothing(evlog: Command, tmp_path: Path) -> None:  # noqa: F811
    """Then there is nothing to mend, and the exit code says so."""
    (tmp_path / "record.json").write_text(json.dumps(WHOLE))

    done = evlog("reproduce", "record.json", "--what-is-missing")

    assert (done.code, done.out) == (0, "nothing is missing\n")
