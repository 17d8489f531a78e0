"""Whether two runs have the same results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.events import Evaluation, Event, Metrics, RunEnded, RunStarted, Summary
from eventlog.lineage.reproduce import Recorded, Tolerance, Verdict, compare_results, read_recorded
from eventlog.values import number_on_disk
from tests.logs import LogMaker, put

EXACT = Tolerance(rtol=0.0, atol=0.0, ignore=[])


def recorded(root: Path, name: str, events: Sequence[Event], *, status: str | None = "finished") -> Recorded:
    """Return a run with these events; without a status it crashed."""
    end = [RunEnded(status=status)] if status else []
    run = root / "demo" / name
    put(run, 1, b"".join(LogMaker().segment([RunStarted(name=name), *events, *end])))
    return read_recorded(run)


def curve(*values: float, key: str = "val_loss") -> list[Event]:
    """Return a metric with one value at each step."""
    return [Metrics(step=step, data={key: number_on_disk(value)}) for step, value in enumerate(values)]


def compare(
    root: Path,
    old: Sequence[Event],
    new: Sequence[Event],
    tolerance: Tolerance = EXACT,
    *,
    status: str | None = "finished",
) -> Verdict:
    """Return the verdict on two runs with these events."""
    return compare_results(recorded(root, "a", old, status=status), recorded(root, "b", new), tolerance)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(), min_size=1, max_size=20))
def test_the_same_values_are_identical(tmp_path: Path, values: list[float]) -> None:
    """Bit by bit, NaN and infinities included."""
    verdict = compare(tmp_path, curve(*values), curve(*values))

    assert (verdict.outcome, verdict.points) == ("identical", len(values))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), data=st.data())
def test_one_changed_bit_is_found_at_its_step(
    tmp_path: Path, values: list[float], data: st.DataObject
) -> None:
    """The first step that differs is named, with both values."""
    at = data.draw(st.integers(0, len(values) - 1))
    changed = [*values]
    changed[at] = math.nextafter(values[at], math.inf)

    verdict = compare(tmp_path, curve(*values), curve(*changed))

    (difference,) = verdict.differences
    assert verdict.outcome == "different"
    assert (difference.key, difference.step, difference.old, difference.new) == (
        "val_loss",
        at,
        values[at],
        changed[at],
    )


@pytest.mark.parametrize(
    ("old", "new", "rtol", "atol", "outcome"),
    [
        (1.0, 1.0 + 1e-7, 1e-6, 0.0, "equal"),
        (1.0, 1.0 + 1e-5, 1e-6, 0.0, "different"),
        (0.0, 1e-9, 1e-6, 0.0, "different"),
        (0.0, 1e-9, 0.0, 1e-8, "equal"),
        (0.0, -0.0, 0.0, 0.0, "equal"),
        (math.nan, math.nan, 0.0, 0.0, "identical"),
        (math.nan, 1.0, 1.0, 1e9, "different"),
        (math.inf, math.inf, 0.0, 0.0, "identical"),
        (math.inf, -math.inf, 1.0, 1e9, "different"),
        (math.inf, 1e308, 0.5, 1e9, "different"),
    ],
)
def test_tolerances_decide(
    tmp_path: Path, old: float, new: float, rtol: float, atol: float, outcome: str
) -> None:
    """Relative to the larger value, or absolute; what is no number is equal to itself only."""
    verdict = compare(tmp_path, curve(old), curve(new), Tolerance(rtol=rtol, atol=atol))

    assert verdict.outcome == outcome


def test_every_nan_is_the_same(tmp_path: Path) -> None:
    """Which bits a NaN has says nothing about the result."""
    run = recorded(tmp_path, "a", curve(math.nan))
    other = msgspec.structs.replace(run, points={"val_loss": [(0, -math.nan)]})

    assert compare_results(run, other, EXACT).outcome == "identical"


def test_what_only_one_run_has_differs(tmp_path: Path) -> None:
    """A missing step, a repeated step, a missing metric."""
    assert str(compare(tmp_path / "1", curve(1, 2, 3), curve(1, 2)).differences[0]) == (
        "val_loss at step 2: 3.0 was, nothing is"
    )
    assert compare(tmp_path / "2", curve(1), [*curve(1), *curve(1)]).outcome == "different"
    assert compare(tmp_path / "3", curve(1), [*curve(1), *curve(1, key="more")]).outcome == "different"


def test_a_run_that_did_not_finish_is_compared_as_far_as_it_came(tmp_path: Path) -> None:
    """The common steps count, and the verdict says that it is about them only."""
    same = compare(tmp_path / "1", curve(1, 2), curve(1, 2, 3), status=None)
    other = compare(tmp_path / "2", curve(1, 5), curve(1, 2, 3), status="killed")

    assert (same.outcome, same.points, same.is_prefix) == ("identical", 2, True)
    assert "as far as both came" in str(same)
    assert other.outcome == "different"


def test_finals_and_evaluations_count_and_texts_do_not(tmp_path: Path) -> None:
    """Everything that is a result is compared."""

    def events(final: float, score: float, text: str) -> list[Event]:
        return [
            Summary(data={"best": {"f1": final}, "path": text, "done": True}),
            Evaluation(benchmark="gsm8k", step=3, metrics={"accuracy": score}),
        ]

    assert compare(tmp_path / "1", events(1, 2, "a"), events(1, 2, "b")).points == 2
    assert [d.key for d in compare(tmp_path / "2", events(1, 2, "a"), events(9, 8, "a")).differences] == [
        "best.f1",
        "gsm8k/accuracy",
    ]


def test_final_value_of_a_metric_is_compared_besides_its_curve(tmp_path: Path) -> None:
    """A summary of the same name is another fact."""
    old = [*curve(1, 2), Summary(data={"val_loss": 1.0})]
    new = [*curve(1, 2), Summary(data={"val_loss": 2.0})]

    assert [d.key for d in compare(tmp_path, old, new).differences] == ["val_loss (final)"]


def test_times_are_ignored_unless_they_are_named(tmp_path: Path) -> None:
    """No two runs share them; whoever asks for one gets it."""
    old = [*curve(1), *curve(5, key="train/step_time"), *curve(5, key="tokens_per_second")]
    new = [*curve(1), *curve(6, key="train/step_time"), *curve(7, key="tokens_per_second")]

    usual = compare(tmp_path / "1", old, new, Tolerance())
    asked = compare(tmp_path / "2", old, new, Tolerance(metrics=["train/step_time"]))
    more = compare(tmp_path / "3", old, new, Tolerance(ignore=["*"]))

    assert (usual.outcome, usual.ignored) == ("identical", ["tokens_per_second", "train/step_time"])
    assert (asked.outcome, asked.series) == ("different", 1)
    assert (more.outcome, more.is_good) == ("nothing", False)


def test_runs_without_results_have_nothing_to_compare(tmp_path: Path) -> None:
    """That is not success."""
    verdict = compare(tmp_path, [], [])

    assert (verdict.outcome, verdict.is_good) == ("nothing", False)
    assert "nothing to compare" in str(verdict)


def test_a_verdict_is_json_also_with_nan(tmp_path: Path) -> None:
    """What goes to programs can be read by them."""
    import json

    from eventlog.cli.render import plain

    verdict = compare(tmp_path, curve(math.nan), curve(math.inf))

    assert json.loads(json.dumps(plain(verdict.to_dict()), allow_nan=False))["outcome"] == "different"
