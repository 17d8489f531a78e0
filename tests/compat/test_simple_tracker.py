"""The tracker of evaluations with two CSV files."""

from __future__ import annotations

import asyncio
import csv
import inspect
import math
import os
import shutil
import signal
import threading
from abc import ABC
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from eventlog import events as ev
from eventlog.analysis.facts import load, results
from eventlog.compat.evaluation_run import EvaluationRun
from eventlog.compat.simple_tracker import BaseExperimentTracker, BatchLengthError, SimpleExperimentTracker
from eventlog.delivery.pump import deliver_run
from eventlog.errors import EvlogWarning
from eventlog.replay import events, view
from eventlog.storage.layout import iter_runs
from sinks.csv import CSVSink
from tests.tracker.support import run_job, start_job


@dataclass
class Output:
    score: float
    explanation: str = ""


class Input(msgspec.Struct):
    query: str
    expected_response: str
    generated_response: str


class Opaque:
    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


def tracker(score_key: str | list[str] = "score", project: str = "qa") -> SimpleExperimentTracker:
    return SimpleExperimentTracker(project, output_dir="out", score_key=score_key)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run_of(project: str = "qa") -> Path:
    (run,) = [run.path for run in iter_runs(Path("out")) if run.project == project]
    return run


def test_a_diverged_metric_is_read_back_as_a_number() -> None:
    """NaN is a text in the log only; what the getters return is arithmetic."""
    with tracker() as one:
        one.log({"score": 1.0, "loss": math.nan}, "d", {}, run_id="r")

        (row,), (history,) = one.get_run_results("r"), one.get_experiment_history()

    assert math.isnan(row["metrics"]["loss"])
    assert math.isnan(history["metrics"]["d/loss"])


# --- the interface --------------------------------------------------------------------------------------


def test_interface_is_that_of_the_document() -> None:
    """Names, parameters and defaults are as they stand there."""
    simple = inspect.signature(SimpleExperimentTracker)
    call = ["evaluation_result", "dataset_name", "data", "run_id", "metadata"]
    batch = ["evaluation_results", *call[1:]]

    assert issubclass(SimpleExperimentTracker, BaseExperimentTracker)
    assert issubclass(BaseExperimentTracker, ABC)
    assert {name: p.default for name, p in simple.parameters.items()} == {
        "project_name": inspect.Parameter.empty,
        "output_dir": "./gllm_evals/experiments",
        "score_key": "score",
    }
    for cls, more in ((SimpleExperimentTracker, []), (BaseExperimentTracker, ["kwargs"])):
        assert list(inspect.signature(cls.log).parameters)[1:] == call + more
        assert list(inspect.signature(cls.alog).parameters)[1:] == call + more
        assert list(inspect.signature(cls.log_batch).parameters)[1:] == batch + more
    assert BaseExperimentTracker.__abstractmethods__ == {"log", "alog", "log_batch"}


def test_attributes_are_those_of_the_document() -> None:
    """Users read the files by these names."""
    one = tracker()

    assert one.project_name == "qa"
    assert one.output_dir == Path("out")
    assert one.experiment_results_file == Path("out/experiment_results.csv")
    assert one.leaderboard_file == Path("out/leaderboard.csv")


async def test_another_tracker_can_be_made_from_the_base() -> None:
    """Three methods are enough; the rest says that it is not there."""

    class Counting(BaseExperimentTracker):
        count = 0

        def log(self, *args: Any, **kwargs: Any) -> None:
            self.count += 1

        async def alog(self, *args: Any, **kwargs: Any) -> None:
            self.count += 1

        async def log_batch(self, evaluation_results: Any, *args: Any, **kwargs: Any) -> None:
            self.count += len(evaluation_results)

    one = Counting("p", anything=1)
    one.log({}, "d", {})
    await one.alog({}, "d", {})
    await one.log_batch([{}, {}], "d", [{}, {}])
    await one.log_context(model="m")

    assert one.count == 4
    with pytest.raises(NotImplementedError, match="Counting"):
        one.get_experiment_history()


# --- what is kept ----------------------------------------------------------------------------------------


def test_result_is_kept_whole() -> None:
    """What was logged comes back: result, data and metadata, nested as they were."""
    one = tracker(score_key="generation.score")
    result = {"generation": {"score": 0.8, "explanation": 'two\nlines, "quoted", =1+1, ü'}, "passed": True}
    data = {"query": "q", "expected_response": "a", "generated_response": "b", "context": ["c1", "c2"]}
    one.log(result, "squad", data, run_id="r1", metadata={"prompt": {"version": 3}})

    (row,) = one.get_run_results("r1")

    assert (row["result"], row["data"], row["metadata"]) == (result, data, {"prompt": {"version": 3}})
    assert (row["dataset"], row["index"], row["score"]) == ("squad", 0, 0.8)
    assert (row["target"], row["prediction"]) == ("a", "b")
    assert row["metrics"] == {"generation.score": 0.8, "passed": 1, "score": 0.8}


@pytest.mark.parametrize(
    ("result", "key", "score"),
    [
        ({"score": 0.5}, "score", 0.5),
        ({"metrics": {"accuracy": 0.25}}, "metrics.accuracy", 0.25),
        ({"metrics.accuracy": 0.75}, "metrics.accuracy", 0.75),
        ({"generation": {"score": 1}}, ["generation", "score"], 1.0),
        ({"a.b": {"c": 2}}, ["a.b", "c"], 2.0),
        ({"scores": [0.1, 0.2]}, "scores.1", 0.2),
        (Output(0.5), "score", 0.5),
        (Opaque(score=0.5), "score", 0.5),
        (Opaque(generation=Output(0.5)), "generation.score", 0.5),
        ({"score": np.float32(0.5)}, "score", 0.5),
        ({"score": Decimal("0.5")}, "score", 0.5),
        ({"score": True}, "score", 1.0),
        (0.5, "score", 0.5),
        ({"score": math.nan}, "score", "NaN"),
    ],
)
def test_score_is_found(result: object, key: str | list[str], score: object) -> None:
    """A name, a dotted path or a list of names, in mappings, objects and sequences."""
    one = tracker(score_key=key)
    one.log(result, "d", "input", run_id="r")

    assert one.get_run_results("r")[0]["score"] == score


@pytest.mark.parametrize("result", [{"other": 1}, {"score": "high"}, {"score": None}, {}, None, "text", []])
def test_result_without_a_score_is_kept_and_told(result: object) -> None:
    """A wrong score_key costs a warning, not the result."""
    one = tracker()
    with pytest.warns(EvlogWarning, match="score_key"):
        one.log(result, "d", "input", run_id="r")

    (row,) = one.get_run_results("r")
    (best,) = one.get_experiment_history()

    assert (row["score"], row["result"]) == (None, result)
    assert (best["score"], best["samples"], best["scored"]) == (None, 1, 0)


def test_inputs_of_all_kinds_are_taken() -> None:
    """Structs and objects tell their fields."""
    one = tracker()
    for data in (Input("q", "a", "b"), Opaque(query="q", expected_response="a", generated_response="b")):
        one.log({"score": 1}, "d", data, run_id="r")
    one.log({"score": 1}, "d", "text", run_id="r")

    found = one.get_run_results("r")

    assert [row["target"] for row in found] == ["a", "a", None]
    assert (
        found[0]["data"]
        == found[1]["data"]
        == {"query": "q", "expected_response": "a", "generated_response": "b"}
    )
    assert found[2]["data"] == "text"


async def test_context_is_in_the_log() -> None:
    """What surrounds an evaluation is part of its run."""
    one = tracker()
    one.log({"score": 1}, "d", "x")
    await one.log_context(model="m", prompt={"version": 2})
    one.close()

    assert view(run_of()).context["evaluation"] == {"model": "m", "prompt": {"version": 2}}


def test_results_of_a_run_are_the_means() -> None:
    """Comparison and leaderboards see the mean of each number by dataset and name."""
    one = tracker()
    for score in (0.0, 1.0, 0.5):
        one.log({"score": score, "parts": {"f1": score / 2}}, "qa", "x")
    one.close()

    assert results(load(run_of())) == {"qa/score": 0.5, "qa/parts.f1": 0.25}


# --- runs -------------------------------------------------------------------------------------------------


def test_calls_without_a_run_share_one() -> None:
    """A tracker has one run of its own; the run that was named last takes its place."""
    one, other = tracker(), tracker()
    one.log({"score": 1}, "d", 1)
    one.log({"score": 1}, "d", 2)
    other.log({"score": 1}, "d", 3)
    own = one.run_id
    one.log({"score": 1}, "d", 4, run_id="named")
    one.log({"score": 1}, "d", 5)

    assert own != other.run_id
    assert [len(one.get_run_results(run)) for run in (own, other.run_id, "named", "nowhere")] == [2, 1, 2, 0]


def test_run_that_is_named_again_goes_on() -> None:
    """Later programs add to a run; indexes and means go on."""
    for score in (0.0, 1.0):
        with tracker() as one:
            one.log({"score": score}, "d", score, run_id="r")

    assert [row["index"] for row in tracker().get_run_results("r")] == [0, 1]
    assert results(load(run_of()))["d/score"] == 0.5
    assert view(run_of()).status == "finished"


def test_many_runs_may_be_open_by_turns() -> None:
    """More runs than are kept open lose nothing."""
    one = tracker()
    for i in range(24):
        one.log({"score": i}, "d", i, run_id=f"r{i % 12}")

    assert [len(one.get_run_results(f"r{n}")) for n in range(12)] == [2] * 12
    assert len(one.get_experiment_history()) == 12


def test_run_that_has_ended_takes_nothing_more(tmp_path: Path) -> None:
    """Whoever logs into it hears that, and opens it again."""
    run = EvaluationRun(tmp_path / "out" / "qa" / "r", "r")
    was_taken = run.log({"score": 1}, "d", 1, None, "score")
    run.end()

    assert (was_taken, run.log({"score": 1}, "d", 2, None, "score")) == (True, False)
    assert len(tracker().get_run_results("r")) == 1


def test_names_that_cannot_be_directories_are_kept_apart() -> None:
    """Any project and run may be named; the leaderboard has the name as it was given."""
    one = tracker(project="a/b: c")
    one.log({"score": 1}, "d", 1, run_id="x/1")
    one.log({"score": 0}, "d", 1, run_id="x:1")

    assert [row["name"] for row in one.get_experiment_history()] == ["x/1", "x:1"]
    assert len(one.get_run_results("x/1")) == len(one.get_run_results("x:1")) == 1


def test_history_is_that_of_the_project() -> None:
    """Projects share a directory without mixing."""
    one, other = tracker(project="one"), tracker(project="other")
    one.log({"score": 0.25}, "d", 1, run_id="a")
    other.log({"score": 0.75}, "d", 1, run_id="b")

    (best,) = one.get_experiment_history()

    assert (best["project"], best["run_id"], best["score"]) == ("one", "a", 0.25)
    assert {row["project"] for row in rows(other.leaderboard_file)} == {"one", "other"}


# --- at once ----------------------------------------------------------------------------------------------


async def test_tasks_that_log_at_once_keep_every_row() -> None:
    """Each of many concurrent calls is a row."""
    one = tracker()
    await asyncio.gather(
        *(one.alog({"score": i % 2}, "d", i, run_id=f"r{i % 3}") for i in range(600)),
        one.log_batch([{"score": 1}] * 60, "d", list(range(600, 660)), run_id="r0"),
    )

    found = [row["data"] for n in range(3) for row in one.get_run_results(f"r{n}")]

    assert sorted(found) == list(range(660))
    assert len(rows(one.experiment_results_file)) == 660


def test_threads_that_log_at_once_keep_every_row() -> None:
    """The tracker is thread-safe, also while the files are made."""
    one = tracker()

    def work(number: int) -> None:
        for i in range(100):
            one.log({"score": 1}, "d", number * 100 + i, run_id="r")
            if i % 40 == 0:
                one.refresh()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = one.get_run_results("r")
    assert sorted(row["data"] for row in found) == list(range(500))
    assert [row["index"] for row in found] == list(range(500))


async def test_batch_needs_an_input_for_each_result() -> None:
    """Nothing of a batch that does not fit is logged."""
    one = tracker()

    with pytest.raises(BatchLengthError, match="2 results and 1 inputs"):
        await one.log_batch([{"score": 1}, {"score": 1}], "d", ["x"], run_id="r")

    assert one.get_run_results("r") == []


LOGS = """
    from eventlog.compat.simple_tracker import SimpleExperimentTracker
    name = "%s"
    tracker = SimpleExperimentTracker("qa", output_dir="out")
    for i in range(150):
        tracker.log({"score": int(name == "a")}, "d", i, run_id="shared")
        tracker.log({"score": 0}, "d", i, run_id=f"own-{name}")
"""


def test_processes_may_share_a_run(tmp_path: Path) -> None:
    """Programs that log and end at once: each row is there, and each run in the leaderboard."""
    jobs = [start_job(LOGS % name, tmp_path) for name in "ab"]
    ends = [job.communicate(timeout=60)[1] for job in jobs]
    one = tracker()

    assert [job.returncode for job in jobs] == [0, 0], ends
    assert len(one.get_run_results("shared")) == 300
    found = {row["run_id"]: row["samples"] for row in one.get_experiment_history()}
    assert found == {"shared": 300, "own-a": 150, "own-b": 150}
    assert len(rows(one.experiment_results_file)) == 600
    assert results(load(Path("out/qa/shared")))["d/score"] == 0.5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_logs_rows_of_its_own(tmp_path: Path) -> None:
    """Parent and child go on in one run without taking each other's rows."""
    code = """
        import os
        from eventlog.compat.simple_tracker import SimpleExperimentTracker
        tracker = SimpleExperimentTracker("qa", output_dir="out")
        tracker.log({"score": 1}, "d", "before", run_id="r")
        child = os.fork()
        for i in range(50):
            tracker.log({"score": 1}, "d", i, run_id="r")
        if child:
            os.waitpid(child, 0)
    """
    done = run_job(code, tmp_path)

    assert done[0] == 0, done
    assert len(tracker().get_run_results("r")) == 101
    assert tracker().get_experiment_history()[0]["samples"] == 101


# --- the files are a projection ---------------------------------------------------------------------------


def test_files_are_made_anew_from_the_logs(tmp_path: Path) -> None:
    """From the logs of several runs alone come the same bytes."""
    one = tracker()
    for i in range(30):
        one.log(
            {"score": i / 30, "why": "-x,\n'\""},
            "d",
            {"query": f"=q{i}"},
            run_id=f"r{i % 3}",
            metadata={"i": i},
        )
    one.close()
    was = one.experiment_results_file.read_bytes(), one.leaderboard_file.read_bytes()
    for path in Path("out").glob("*.csv"):
        path.unlink()
    shutil.rmtree("out/.csv-parts")
    for run in iter_runs(Path("out")):
        deliver_run(run.path, CSVSink(), "csv")

    assert (Path("out/experiment_results.csv").read_bytes(), Path("out/leaderboard.csv").read_bytes()) == was


def test_first_call_is_in_the_files_at_once() -> None:
    """Whoever looks at the files while an evaluation goes on sees it."""
    one = tracker()
    one.log({"score": 1}, "d", "x", run_id="r")

    assert [row["run_id"] for row in rows(Path("out/leaderboard.csv"))] == ["r"]


def test_program_that_ends_leaves_finished_runs_and_whole_files(tmp_path: Path) -> None:
    """Nobody has to close the tracker."""
    assert run_job(LOGS % "a", tmp_path)[0] == 0

    found = {row["run_id"]: (row["status"], row["samples"]) for row in rows(Path("out/leaderboard.csv"))}
    assert found == {"shared": ("finished", "150"), "own-a": ("finished", "150")}


def test_program_that_fails_leaves_failed_runs(tmp_path: Path) -> None:
    """An exception that ends the program ends its runs as failed."""
    assert run_job(LOGS % "a" + "    raise RuntimeError('no')\n", tmp_path)[0] == 1

    assert {row["status"] for row in rows(Path("out/leaderboard.csv"))} == {"failed"}


def test_killed_program_has_lost_nothing(tmp_path: Path) -> None:
    """After SIGKILL the next tracker finds every call that had returned, and makes the files."""
    code = """
        from eventlog.compat.simple_tracker import SimpleExperimentTracker
        tracker = SimpleExperimentTracker("qa", output_dir="out")
        for i in range(1_000_000):
            tracker.log({"score": 1}, "d", i, run_id="r")
            print(i, flush=True)
    """
    job = start_job(code, tmp_path)
    assert job.stdout is not None
    last = 0
    for line in job.stdout:
        last = int(line)
        if last >= 500:
            break
    job.send_signal(signal.SIGKILL)
    job.communicate()

    one = tracker()
    (best,) = one.get_experiment_history()

    assert best["samples"] > last
    assert [row["data"] for row in one.get_run_results("r")] == list(range(best["samples"]))
    assert best["status"] == "crashed"


def test_place_that_cannot_be_written_costs_a_warning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files may be in the way of something; the evaluation goes on, and the log has it."""
    Path("out").mkdir()
    Path("out/leaderboard.csv").mkdir()
    one = tracker()
    with pytest.warns(EvlogWarning, match="--to csv"):
        one.log({"score": 1}, "d", "x", run_id="r")

    assert len(one.get_run_results("r")) == 1


def test_disabled_tracker_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """EVLOG_DISABLED switches it off without an error."""
    monkeypatch.setenv("EVLOG_DISABLED", "1")
    one = tracker()
    one.log({"score": 1}, "d", "x")
    asyncio.run(one.log_context(a=1))

    assert one.get_experiment_history() == []
    assert not Path("out").exists()


def test_samples_are_events_for_every_other_tool() -> None:
    """A call is a sample and an evaluation in the log."""
    one = tracker()
    one.log({"score": 1}, "d", {"question": "q", "answer": "4"}, run_id="r")
    one.close()

    kinds = [type(event) for event in events(run_of()) if isinstance(event, (ev.Sample, ev.Evaluation))]
    assert kinds == [ev.Sample, ev.Evaluation, ev.Evaluation]


async def test_calls_leave_the_event_loop_free() -> None:
    """While many results are logged, other tasks get their turn."""
    one, turns, is_done = tracker(), 0, asyncio.Event()

    async def other() -> None:
        nonlocal turns
        while not is_done.is_set():
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await one.log_batch([{"score": 1}] * 2000, "d", list(range(2000)))
    is_done.set()
    await beside

    assert turns > 10


def test_getters_answer_for_every_call_that_has_returned() -> None:
    """What was logged a moment ago is there."""
    one = tracker()
    seen = []
    for i in range(10):
        one.log({"score": i}, "d", i, run_id="r")
        seen.append((len(one.get_run_results("r")), one.get_experiment_history()[0]["samples"]))

    assert seen == [(i + 1, i + 1) for i in range(10)]
