"""The tracker of experiments, and the database that its experiments are in."""

from __future__ import annotations

import math
import re
import sqlite3
import subprocess
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eventlog import events as ev
from eventlog.analysis.facts import load, results
from eventlog.compat.experiment_tracker import (
    DatabaseError,
    ExperimentBackend,
    ExperimentConfig,
    ExperimentTracker,
    LocalBackend,
)
from eventlog.delivery.pump import deliver_run
from eventlog.errors import AmbiguousRunError, EvlogWarning, TrackerStateError
from eventlog.replay import view
from eventlog.storage.layout import iter_runs
from eventlog.testing import make_run
from sinks.sqlite import SQLiteSink
from tests.tracker.support import logged
from tests.waiting import wait_until

EXP_ID = re.compile(r"exp_\d{8}_\d{6}_[0-9a-f]{6}")


@dataclass
class Result:
    """What a user's own evaluation returns."""

    metrics: dict[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"benchmark": "gsm8k", "metrics": self.metrics, "samples": self.samples, "note": self.note}


class Recorder(ExperimentBackend):
    """A backend of a user's own, with the methods that it needs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start_experiment(self, exp_id: str, config: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.calls.append(("start", exp_id, config, metadata["notes"]))

    def log_metrics(self, exp_id: str, metrics: dict[str, Any], step: int | None) -> None:
        self.calls.append(("metrics", exp_id, metrics, step))

    def finish_experiment(self, exp_id: str, status: str) -> None:
        self.calls.append(("finish", exp_id, status))


def tracker(*backends: Any, **options: Any) -> ExperimentTracker:
    return ExperimentTracker(backends=backends, project="p", output_dir="runs", **options)


def only() -> Path:
    (run,) = iter_runs(Path("runs"))
    return run.path


# --- the tracker ----------------------------------------------------------------------------------


def test_experiment_is_a_run(tmp_path: Path) -> None:
    """Every call is in the log of a run whose id has the form of the document."""
    one = tracker()
    exp_id = one.start_experiment(
        ExperimentConfig(learning_rate=5e-5, lora={"rank": 8}),
        notes="why",
        experiment_name="base",
        tags=["t"],
    )
    one.log_metrics({"loss": 0.5, "reward": math.inf}, 3)
    one.log_checkpoint("model.pt", 3, {"loss": 0.5})
    one.finish_experiment()
    seen = view(only())

    assert EXP_ID.fullmatch(exp_id)
    assert (seen.run_id, seen.name, seen.experiment, seen.status) == (exp_id, "base", "base", "finished")
    assert (seen.notes, seen.tags) == (["why"], {"t": None})
    assert seen.params == {"learning_rate": 5e-5, "lora": {"rank": 8}}
    assert (seen.metrics["loss"].last, seen.metrics["reward"].last, seen.metrics["loss"].last_step) == (
        0.5,
        math.inf,
        3,
    )
    (checkpoint,) = logged(only(), ev.Checkpoint)
    assert (checkpoint.path, checkpoint.step, checkpoint.metrics) == (
        str(tmp_path / "model.pt"),
        3,
        {"loss": 0.5},
    )


def test_config_takes_any_parameters() -> None:
    """It shows them as attributes and gives them back as a dict."""
    config = ExperimentConfig(learning_rate=5e-5, anything=["at", "all"])

    assert config.learning_rate == 5e-5
    assert config.to_dict() == {"learning_rate": 5e-5, "anything": ["at", "all"]}
    assert ExperimentConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("config", [{"lr": 1}, Namespace(lr=1), ExperimentConfig(lr=1)])
def test_configs_of_other_kinds_are_taken(config: object) -> None:
    """A mapping or a namespace will do."""
    one = tracker()
    one.start_experiment(config)
    one.finish_experiment()

    assert view(only()).params == {"lr": 1}


@pytest.mark.parametrize(
    ("status", "logged_as"), [("completed", "finished"), ("failed", "failed"), ("killed", "killed")]
)
def test_status_is_that_of_the_log(status: str, logged_as: str) -> None:
    """Its own words become those that all other commands know."""
    one = tracker()
    one.start_experiment()
    one.finish_experiment(status=status)

    assert view(only()).status == logged_as


def test_error_in_the_block_fails_the_experiment() -> None:
    """As a context manager it ends as its block does."""

    def work() -> None:
        with tracker() as one:
            one.start_experiment()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        work()

    assert view(only()).status == "failed"


def test_second_start_needs_an_end_first() -> None:
    """The message names the call that is missing."""
    one = tracker()
    one.start_experiment()

    with pytest.raises(TrackerStateError, match="finish_experiment"):
        one.start_experiment()
    one.finish_experiment()
    one.finish_experiment()
    one.start_experiment()
    one.finish_experiment()

    assert len(list(iter_runs(Path("runs")))) == 2


def test_git_state_is_captured(tmp_path: Path) -> None:
    """Commit, branch and whether files differ, without a call."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True, cwd=tmp_path)
    (tmp_path / "new.py").write_text("x = 1\n")
    subprocess.run([*git, "add", "new.py"], check=True, cwd=tmp_path)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    one = tracker("local")
    exp_id = one.start_experiment()
    one.finish_experiment()
    found = LocalBackend("experiments.db").get_experiment(exp_id)

    assert found is not None
    assert (found["git_commit"], found["git_branch"], found["git_dirty"]) == (
        commit.stdout.strip(),
        "main",
        True,
    )


# --- evaluations ----------------------------------------------------------------------------------


def test_evaluation_keeps_numbers_samples_and_the_whole_result() -> None:
    """Numbers are results of the run, samples can be compared one by one, the rest is data."""
    samples = [
        {"question": "1+1", "answer": "2", "predicted": "2", "correct": True, "time": 0.5},
        {"question": "1+2", "answer": "3", "predicted": "4", "correct": False},
    ]
    result = Result({"accuracy": 0.5, "format": {"rate": 1}}, samples, "fine")
    one = tracker()
    one.start_experiment()
    one.log_evaluation("gsm8k", result, step=7)
    one.finish_experiment()
    facts = load(only(), with_samples=True)

    assert results(facts) == {"gsm8k/accuracy": 0.5, "gsm8k/format.rate": 1.0}
    assert facts.evaluations[0].data == result.to_dict()
    assert facts.evaluations[0].step == 7
    first, second = facts.samples["gsm8k"][0], facts.samples["gsm8k"][1]
    assert (first.input, first.target, first.prediction) == ("1+1", "2", "2")
    assert (first.metrics, first.latency_ms) == ({"correct": 1}, 500.0)
    assert (second.metrics, second.latency_ms) == ({"correct": 0}, None)


@pytest.mark.parametrize(
    ("result", "numbers"),
    [
        ({"accuracy": 0.5, "model": "m", "n": 3}, {"accuracy": 0.5, "n": 3}),
        ({"metrics": {"f1": math.nan}}, {"f1": "NaN"}),
        (0.75, {"score": 0.75}),
        ({}, {}),
        (None, {}),
    ],
)
def test_evaluation_takes_results_of_other_shapes(result: object, numbers: dict[str, object]) -> None:
    """Without ``metrics`` all numbers count."""
    one = tracker()
    one.start_experiment()
    one.log_evaluation("b", result)
    one.finish_experiment()

    assert logged(only(), ev.Evaluation)[0].metrics == numbers


def test_result_that_is_in_the_log_is_not_logged_again() -> None:
    """What our own evaluation has logged into this run stays as it is."""
    one = tracker()
    exp_id = one.start_experiment()
    one.log_evaluation("b", {"metrics": {"accuracy": 1.0}, "run_id": exp_id})
    one.log_evaluation("b", {"metrics": {"accuracy": 0.5}, "run_id": "another"})
    one.finish_experiment()

    assert [event.metrics for event in logged(only(), ev.Evaluation)] == [{"accuracy": 0.5}]


# --- backends -------------------------------------------------------------------------------------


def test_backend_of_ones_own_is_told_everything() -> None:
    """It is called after each call is in the log, and needs no method that it has no use for."""
    mine = Recorder()
    one = tracker(mine)
    exp_id = one.start_experiment({"lr": 1}, notes="n")
    one.log_metrics({"loss": 0.5}, 1)
    one.log_evaluation("b", {"accuracy": 1})
    one.log_checkpoint("x.pt", 1)
    one.finish_experiment()

    assert mine.calls == [
        ("start", exp_id, {"lr": 1}, "n"),
        ("metrics", exp_id, {"loss": 0.5}, 1),
        ("finish", exp_id, "completed"),
    ]


def test_backend_that_fails_costs_a_warning() -> None:
    """The experiment and the log go on."""

    class Broken(Recorder):
        def log_metrics(self, exp_id: str, metrics: dict[str, Any], step: int | None) -> None:
            raise ConnectionError("no route")

    one = tracker(Broken())
    one.start_experiment()
    with pytest.warns(EvlogWarning, match="Broken failed at metrics: ConnectionError: no route"):
        one.log_metrics({"loss": 1}, 0)
    one.log_metrics({"loss": 1}, 1)
    one.finish_experiment()

    assert view(only()).metrics["loss"].count == 2


def test_local_backend_may_name_the_database() -> None:
    """`backends=[LocalBackend(path)]` is `local` with that database."""
    backend = LocalBackend("other.db")
    one = tracker(backend)
    exp_id = one.start_experiment()
    one.finish_experiment()

    assert backend.get_experiment(exp_id) is not None
    assert (only() / "metadata.json").exists()


# --- reading back ---------------------------------------------------------------------------------


def test_getters_give_what_was_logged() -> None:
    """Plain dicts; NaN is NaN again."""
    one = tracker("local")
    exp_id = one.start_experiment(ExperimentConfig(lr=0.1), notes="n", tags={"k": "v"})
    for step, loss in enumerate([1.0, math.nan, 0.25]):
        one.log_metrics({"loss": loss}, step)
    one.log_evaluation("gsm8k", {"accuracy": 0.5})
    one.log_evaluation("math", {"accuracy": 0.25})
    one.log_checkpoint("x.pt", 2, {"loss": 0.25})
    one.finish_experiment()
    backend = LocalBackend("experiments.db")

    (found,) = backend.get_all_experiments()
    assert found == backend.get_experiment(exp_id)
    assert (found["experiment_id"], found["project"], found["status"]) == (exp_id, "p", "completed")
    assert (found["config"], found["notes"], found["tags"]) == ({"lr": 0.1}, "n", {"k": "v"})
    metrics = backend.get_metrics(exp_id)
    assert [(row["step"], row["metric_name"]) for row in metrics] == [(0, "loss"), (1, "loss"), (2, "loss")]
    assert [str(row["metric_value"]) for row in metrics] == ["1.0", "nan", "0.25"]
    assert backend.get_metrics(exp_id, "other") == []
    (gsm8k,) = backend.get_evaluation_results(exp_id, "gsm8k")
    assert (gsm8k["benchmark"], gsm8k["metrics"], gsm8k["result"]) == (
        "gsm8k",
        {"accuracy": 0.5},
        {"accuracy": 0.5},
    )
    assert len(backend.get_evaluation_results(exp_id)) == 2
    assert [row["step"] for row in backend.get_checkpoints(exp_id)] == [2]


def test_experiment_is_seen_while_it_goes_on() -> None:
    """The database is filled as the run grows."""
    one = tracker("local")
    exp_id = one.start_experiment()
    one.log_metrics({"loss": 1.0}, 0)
    backend = LocalBackend("experiments.db")

    def is_there() -> bool:
        try:
            return len(backend.get_metrics(exp_id)) == 1
        except DatabaseError:
            return False  # not made yet

    wait_until(is_there, "the first value is in the database")
    found = backend.get_experiment(exp_id)
    one.finish_experiment()

    assert found is not None
    assert found["status"] == "running"


def test_unknown_experiment_is_none() -> None:
    """An id that nobody has is no error."""
    make_run(Path("runs/p/a"), [])
    deliver_run(Path("runs/p/a"), SQLiteSink(path="experiments.db"), "sqlite")
    backend = LocalBackend("experiments.db")

    assert backend.get_experiment("exp_20250123_143022_a1b2c3") is None
    assert backend.get_metrics("exp_20250123_143022_a1b2c3") == []
    assert backend.get_evaluation_results("exp_20250123_143022_a1b2c3", "gsm8k") == []


def test_id_of_several_projects_has_to_be_told_apart() -> None:
    """An id alone is enough where it is unique."""
    for project in ("p", "q"):
        run = make_run(Path("runs") / project / "same", [ev.Metrics(step=1, data={project: 1.0})])
        deliver_run(run, SQLiteSink(path="experiments.db"), "sqlite")
    backend = LocalBackend("experiments.db")

    with pytest.raises(AmbiguousRunError):
        backend.get_metrics("same")
    assert [row["metric_name"] for row in backend.get_metrics("q/same")] == ["q"]


@pytest.mark.parametrize("content", [None, b"rubbish" * 100, b""])
def test_file_that_is_no_such_database_is_told(content: bytes | None) -> None:
    """The error says how to get one."""
    path = Path("x.db")
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DatabaseError, match="evlog sync --to sqlite"):
        LocalBackend(path).get_all_experiments()
    assert content is not None or not path.exists()


def test_reading_changes_nothing() -> None:
    """Rows are read without writing, from a directory that cannot be written too."""
    run = make_run(Path("runs/p/a"), [ev.Metrics(step=1, data={"loss": 1.0})])
    deliver_run(run, SQLiteSink(path="experiments.db"), "sqlite")
    before = Path("experiments.db").read_bytes()

    assert len(LocalBackend("experiments.db").get_metrics("a")) == 1
    assert Path("experiments.db").read_bytes() == before
    with sqlite3.connect("experiments.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
