"""Several benchmarks together."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.analysis.facts import load, results
from eventlog.evaluation.engine_errors import BadEvaluationError
from eventlog.evaluation.groups import aggregate, evaluate_group
from eventlog.evaluation.results import EvaluationResult, Usage
from tests.evaluation.engine_support import Sums, solver, tracker_in
from tests.tracker.support import logged


def result(name: str, answered: int, seconds: float = 1.0, **scores: float) -> EvaluationResult:
    """Return results of a benchmark with so many samples."""
    return EvaluationResult(
        benchmark=name,
        scores=scores,
        measured={"seconds": seconds},
        texts={},
        samples=[],
        num_samples=answered,
        errors=0,
        resumed=0,
        usage=Usage(),
        model="m",
        parameters={},
        split="test",
    )


def test_a_group_has_the_mean_of_benchmarks_and_of_samples() -> None:
    """Macro counts each benchmark once, weighted counts each sample once; seconds add up."""
    found = aggregate([result("a", 10, accuracy=0.5), result("b", 30, 2.0, accuracy=0.9)])

    assert found == {
        "accuracy_macro": pytest.approx(0.7),
        "accuracy_weighted": pytest.approx(0.8),
        "seconds": 3.0,
    }


def test_only_what_all_benchmarks_have_is_aggregated() -> None:
    """A mean over some of them would be compared with one over all."""
    found = aggregate([result("a", 1, accuracy=1.0, f1=0.3), result("b", 1, accuracy=0.0)])

    assert found.keys() == {"accuracy_macro", "accuracy_weighted", "seconds"}


def test_groups_without_samples_and_with_odd_numbers_do_not_fail() -> None:
    """No answers have no weights; infinities are what they are."""
    assert aggregate([]) == {}
    assert aggregate([result("a", 0)]) == {"seconds": 1.0}
    odd = aggregate([result("a", 1, x=math.inf), result("b", 1, x=-math.inf)])
    assert math.isnan(odd["x_macro"])


def test_a_group_is_an_evaluation_of_the_run(tmp_path: Path) -> None:
    """Its results stand beside those of its benchmarks, in the run and in the archive."""
    with tracker_in(tmp_path) as tracker:
        evaluate_group([Sums(10, "a"), Sums(3, "b")], solver, group="both", tracker=tracker)
        run = tracker.run_dir
    assert run is not None

    found = results(load(run))
    assert (found["a/accuracy"], found["b/accuracy"]) == (0.9, 1.0)
    assert found["both/accuracy_macro"] == 0.95
    assert found["both/accuracy_weighted"] == 12 / 13
    assert [e.benchmark for e in logged(run, ev.Evaluation)] == ["a", "b", "both"]
    archived = json.loads((run / "artifacts" / "results.json").read_text())
    assert archived["results"].keys() == {"a", "b"}
    assert archived["groups"]["both"]["accuracy_macro"] == 0.95


def test_without_a_name_nothing_is_aggregated(tmp_path: Path) -> None:
    """Several benchmarks may only share a run."""
    with tracker_in(tmp_path) as tracker:
        found = evaluate_group([Sums(2, "a"), Sums(2, "b")], solver, tracker=tracker)

    assert (found.metrics, list(found.results)) == ({}, ["a", "b"])
    json.dumps(found.to_dict())


def test_a_group_goes_on_where_it_was(tmp_path: Path) -> None:
    """Benchmarks that are complete are not asked again."""
    asked = []

    def model(prompts: list[str]) -> list[str]:
        asked.extend(prompts)
        if len(asked) == 12:
            raise KeyboardInterrupt
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        with pytest.raises(KeyboardInterrupt):
            evaluate_group([Sums(10, "a"), Sums(5, "b")], model, tracker=tracker, batch_size=1)
        found = evaluate_group([Sums(10, "a"), Sums(5, "b")], model, tracker=tracker, resume=True)

    assert len(asked) == 16
    assert [one.resumed for one in found.results.values()] == [10, 1]


@pytest.mark.parametrize(("names", "group"), [([], None), (["a", "a"], None), (["a", "b"], "b")])
def test_names_that_would_be_mixed_up_are_refused(
    tmp_path: Path, names: list[str], group: str | None
) -> None:
    """Samples of two benchmarks of one name could not be told apart."""
    with tracker_in(tmp_path) as tracker, pytest.raises(BadEvaluationError):
        evaluate_group([Sums(2, name) for name in names], solver, group=group, tracker=tracker)
