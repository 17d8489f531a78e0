"""Results of benchmarks that somebody else has evaluated."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eventlog import EvlogWarning, Tracker, TrackingConfig
from eventlog.analysis.facts import load, results
from eventlog.errors import BadValueError, forget_reports
from eventlog.evaluation.engine import evaluate
from eventlog.events import Evaluation, Sample
from tests.evaluation.engine_support import Sums, solver
from tests.tracker.support import logged


class Unprintable:
    """Nothing can be said of it."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    forget_reports()
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path / "runs", strict=True)
    tracker.start_run("a")
    return tracker


def end(tracker: Tracker) -> Path:
    """End the run and return its directory."""
    run = tracker.run_dir
    assert run is not None
    tracker.end_run()
    return run


def test_evaluation_gives_results_by_task_and_metric(tracker: Tracker) -> None:
    """Numbers are results of the run as ``task/metric``, texts stand in its summary."""
    tracker.log_evaluation(
        "mmmu", {"accuracy": np.float32(0.5), "n": 7, "version": "v1.2", "loss": math.nan}, 3
    )

    run = end(tracker)
    (event,) = logged(run, Evaluation)
    assert (event.benchmark, event.step) == ("mmmu", 3)
    assert event.metrics == {"accuracy": 0.5, "n": 7, "loss": "NaN"}
    facts = load(run)
    assert facts.view.summary["mmmu/version"] == "v1.2"
    assert results(facts)["mmmu/accuracy"] == 0.5


def test_evaluation_takes_only_the_metrics_where_there_are_some(tracker: Tracker) -> None:
    """What stands beside them tells of the evaluation, and is kept; so is what is no number."""
    told = {
        "metrics": {"accuracy": 1, "by_level": {"1": 0.25, "hard": {"f1": 0.5}}, "matrix": [[1, 2]]},
        "texts": {"grade": "B"},
        "model": "m",
        "num_samples": 10,
    }

    tracker.log_evaluation("math", told)

    run = end(tracker)
    (event,) = logged(run, Evaluation)
    assert event.metrics == {"accuracy": 1, "by_level.1": 0.25, "by_level.hard.f1": 0.5}
    assert event.data == {"matrix": [[1, 2]], "model": "m", "num_samples": 10}
    assert load(run).view.summary == {"math/grade": "B"}


@pytest.mark.parametrize(
    "result",
    [
        SimpleNamespace(accuracy=0.5, _secret=1),
        SimpleNamespace(metrics={"accuracy": 0.5}),
        SimpleNamespace(to_dict=lambda: {"metrics": {"accuracy": 0.5}}),
    ],
)
def test_evaluation_takes_objects(tracker: Tracker, result: object) -> None:
    """Those with ``to_dict`` tell by that, others by their attributes."""
    tracker.log_evaluation("sums", result)

    assert [event.metrics for event in logged(end(tracker), Evaluation)] == [{"accuracy": 0.5}]


@pytest.mark.parametrize("number", [0.25, np.float64(0.25), np.array([0.25])])
def test_evaluation_takes_a_bare_number(tracker: Tracker, number: object) -> None:
    """It is the score."""
    tracker.log_evaluation("sums", number)

    assert [event.metrics for event in logged(end(tracker), Evaluation)] == [{"score": 0.25}]


def test_evaluation_logs_its_samples(tracker: Tracker) -> None:
    """Each is an event; one without an index has its place in the list."""
    samples = [{"input": "1+1", "target": "2", "prediction": "2", "metrics": {"correct": True}}, {"index": 9}]

    tracker.log_evaluation("sums", {"accuracy": 1.0, "samples": samples})

    run = end(tracker)
    assert [(s.index, s.input, s.target, s.metrics) for s in logged(run, Sample)] == [
        (0, "1+1", "2", {"correct": 1}),
        (9, None, None, {}),
    ]
    assert logged(run, Evaluation)[0].data == {}


def test_evaluation_keeps_samples_of_another_shape_as_data(tracker: Tracker) -> None:
    """Nothing is lost."""
    tracker.log_evaluation("sums", {"metrics": {"accuracy": 1.0}, "samples": ["2", "3"]})

    (event,) = logged(end(tracker), Evaluation)
    assert event.data == {"samples": ["2", "3"]}


def test_evaluation_of_this_run_is_not_logged_twice(tracker: Tracker) -> None:
    """`evaluate` has logged it; a result of another run is logged with its samples."""
    here = evaluate(Sums(4), solver, tracker=tracker)
    tracker.log_evaluation("sums", here)
    run = end(tracker)
    tracker.start_run("b")
    tracker.log_evaluation("sums", here.to_dict())
    other = end(tracker)

    assert (len(logged(run, Evaluation)), len(logged(run, Sample))) == (1, 4)
    assert (len(logged(other, Evaluation)), len(logged(other, Sample))) == (1, 4)
    assert logged(other, Evaluation)[0].metrics["accuracy"] == 0.75
    assert [s.metrics for s in logged(run, Sample)] == [s.metrics for s in logged(other, Sample)]


def test_sample_takes_anything(tracker: Tracker) -> None:
    """What JSON cannot hold becomes a text; numbers of numpy are numbers."""
    tracker.log_sample(
        "sums",
        np.int64(3),  # type: ignore[arg-type]  # as a loop over an array gives it
        input={"image": b"\x00", "when": {1, 2}},
        target=Unprintable(),
        prediction=float("inf"),
        metrics={"correct": np.bool_(True), "f1": np.float32(0.5)},
        latency_ms=np.float64(12.5),
    )

    (sample,) = logged(end(tracker), Sample)
    assert (sample.benchmark, sample.index, sample.latency_ms) == ("sums", 3, 12.5)
    assert sample.input == {"image": "base64:AA==", "when": [1, 2]}
    assert (sample.target, sample.prediction) == ("<Unprintable: RuntimeError>", "Infinity")
    assert sample.metrics == {"correct": 1, "f1": 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"index": -1}, "from 0 on"),
        ({"index": 1.5}, "whole number"),
        ({"index": None}, "from 0 on"),
        ({"index": "three"}, "number"),
        ({"index": 0, "metrics": {"judge": "good"}}, "'judge' of a sample"),
        ({"index": 0, "metrics": [1]}, "takes a mapping"),
        ({"index": 0, "latency_ms": "fast"}, "latency_ms"),
        ({"index": 0, "latency_ms": math.nan}, "NaN is no time"),
    ],
)
def test_sample_refuses_what_would_not_be_found_again(
    tracker: Tracker, given: dict[str, object], message: str
) -> None:
    """It is checked before it is logged."""
    with pytest.raises(BadValueError, match=message):
        tracker.log_sample("sums", **given)  # type: ignore[arg-type]  # that is the point


def test_sample_with_a_bad_part_is_kept_without_it(tmp_path: Path) -> None:
    """Outside of ``strict`` it costs a warning."""
    forget_reports()
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path)
    tracker.start_run("a")

    with pytest.warns(EvlogWarning, match="kept without it"):
        tracker.log_sample("sums", 0, metrics={"correct": 1}, latency_ms=math.inf)

    (sample,) = logged(end(tracker), Sample)
    assert (sample.metrics, sample.latency_ms) == ({"correct": 1}, None)


def test_sample_and_evaluation_of_a_disabled_tracker_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every other call."""
    monkeypatch.setenv("EVLOG_DISABLED", "1")
    tracker = Tracker((), output_dir=tmp_path / "runs")

    tracker.log_sample("sums", 0)
    tracker.log_evaluation("sums", {"accuracy": 1})

    assert not (tmp_path / "runs").exists()


def test_sample_too_large_for_a_line_keeps_its_numbers_in_the_line(tracker: Tracker) -> None:
    """A table of SQL is made of lines; the whole sample lies beside them."""
    tracker.log_sample("sums", 0, target="4", prediction="x" * (2 << 20), metrics={"correct": 1})

    run = end(tracker)
    (line,) = [text for file in (run / "log").glob("*.jsonl") for text in file.open() if '"sample"' in text]
    assert '"metrics":{"correct":1}' in line
    assert '"target":"4"' in line
    (sample,) = logged(run, Sample)
    assert (sample.prediction, sample.metrics) == ("x" * (2 << 20), {"correct": 1})
