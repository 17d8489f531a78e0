"""Curves: what is drawn of runs and groups, and what is left out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.analysis.plots.curves import Curve, curves
from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.errors import EvlogError
from tests.analysis.support_statistics import log_run
from tests.logs import LogMaker, put

SECOND = 1_000_000
START = 1_763_700_000 * SECOND


def of(
    values: list[float], *, key: str = "loss", start: int = 0
) -> list[tuple[int | None, dict[str, float]]]:
    """Return the points of a metric at consecutive steps."""
    return [(step, {key: value}) for step, value in enumerate(values, start)]


def put_run(run: Path, points: list[tuple[float, int | None, float]], *, start_s: float = 0.0) -> Path:
    """Write a run whose points (seconds, step, value) have the times that the test wants."""
    events: list[ev.Event] = [ev.RunStarted(ts=START + int(start_s * SECOND), name=run.name)]
    events += [
        ev.Metrics(ts=START + int(at * SECOND), step=step, data={"loss": value}) for at, step, value in points
    ]
    put(run, 1, b"".join(LogMaker(start_ts=START).segment(events)))
    return run


def only(found: object) -> Curve:
    """Return the one curve."""
    (curve,) = found.curves  # type: ignore[attr-defined]
    assert isinstance(curve, Curve)
    return curve


# --- one run ---------------------------------------------------------------------------------------


def test_curve_has_the_points_of_the_run(tmp_path: Path) -> None:
    """Steps and values as they were logged; the key may be the end of its name."""
    run = log_run(tmp_path, "a", points=of([3.0, 2.0, 1.0], key="train/loss"))

    found = curves([run], ["loss"], root=tmp_path)

    assert (found.keys, only(found).xs, only(found).ys) == (["train/loss"], [0, 1, 2], [3, 2, 1])
    assert only(found).label == "a"


def test_curves_are_the_same_from_the_cache_and_from_the_log(tmp_path: Path) -> None:
    """With a root the query cache answers, without it the log is replayed."""
    runs = [log_run(tmp_path, name, points=of([1.0, math.nan, 3.0, math.inf])) for name in "ab"]

    for x in ("step", "time", "relative"):
        cached, replayed = curves(runs, root=tmp_path, x=x), curves(runs, x=x)
        assert repr(cached) == repr(replayed)


def test_last_value_of_a_step_counts(tmp_path: Path) -> None:
    """A resumed run repeats steps: what it says later is right."""
    run = put_run(tmp_path / "p" / "a", [(1, 0, 9.0), (2, 1, 8.0), (3, 2, 7.0), (4, 1, 0.5), (5, 2, 0.4)])

    assert (only(curves([run])).xs, only(curves([run])).ys) == ([0, 1, 2], [9.0, 0.5, 0.4])


def test_points_without_steps_are_numbered(tmp_path: Path) -> None:
    """In the order of their times; beside points with steps they are left out and counted."""
    without = put_run(tmp_path / "p" / "a", [(1, None, 3.0), (2, None, 2.0), (3, None, 1.0)])
    mixed = put_run(tmp_path / "p" / "b", [(1, None, 3.0), (2, 5, 2.0)])

    assert only(curves([without])).xs == [0, 1, 2]
    assert only(curves([mixed])).xs == [5]
    assert "1 points of loss have no step" in curves([mixed]).notes[0]


def test_curves_over_time_begin_at_the_start_of_the_run(tmp_path: Path) -> None:
    """Relative: seconds since the run began; time: seconds since the epoch."""
    run = put_run(tmp_path / "p" / "a", [(12.5, 0, 3.0), (15.0, 1, 2.0)], start_s=10.0)

    assert only(curves([run], x="relative")).xs == [2.5, 5.0]
    assert only(curves([run], x="time")).xs == [START / SECOND + 12.5, START / SECOND + 15.0]


def test_times_that_no_calendar_has_are_left_out(tmp_path: Path) -> None:
    """A broken clock makes a note, not an error."""
    run = put_run(tmp_path / "p" / "a", [(1, 0, 3.0), (8e12, 1, 2.0)])

    found = curves([run], x="time")

    assert only(found).ys == [3.0]
    assert "1 points of loss have no time" in found.notes[0]


def test_rubbish_among_values_is_no_point(tmp_path: Path) -> None:
    """What another program wrote into a metric as text is passed over, with a root and without."""
    run = tmp_path / "demo" / "a"
    events = [ev.Metrics(step=0, data={"loss": "x"}), ev.Metrics(step=1, data={"loss": 2.0})]
    put(run, 1, b"".join(LogMaker().segment(events)))

    assert only(curves([run])).ys == only(curves([run], root=tmp_path)).ys == [2.0]


def test_nan_and_infinities_are_gaps_that_are_told(tmp_path: Path) -> None:
    """A diverged loss does not vanish: a gap in the curve and a note."""
    run = log_run(tmp_path, "a", points=of([1.0, math.nan, 3.0, -math.inf, 5.0]))

    found = curves([run])

    assert [y == y for y in only(found).ys] == [True, False, True, False, True]
    assert (only(found).not_finite, only(found).first_not_finite) == (2, 1)
    assert found.notes == ["NaN or infinite values of loss are gaps: a (2, first at 1)"]


def test_smoothing_averages_the_past(tmp_path: Path) -> None:
    """An exponential moving average whose start is corrected; gaps do not count."""
    run = log_run(tmp_path, "a", points=of([4.0, 2.0, math.nan, 2.0]))

    curve = only(curves([run], smooth=0.5))

    assert curve.ys[0] == 4.0
    assert curve.ys[1] == pytest.approx((0.5 * 2 + 0.25 * 4) / 0.75)
    assert math.isnan(curve.ys[2])
    assert curve.ys[3] == pytest.approx((0.5 * 2 + 0.25 * 2 + 0.125 * 4) / 0.875)
    assert curve.raw is not None
    assert curve.raw[:2] == [4.0, 2.0]


def test_ranks_have_curves_of_their_own(tmp_path: Path) -> None:
    """rank1/loss is what rank 1 logged, loss what rank 0 did."""
    run = tmp_path / "demo" / "a"
    for rank, value in ((0, 1.0), (1, 2.0)):
        maker = LogMaker(f"r{rank}-01KAHCZG000000000000000A00")
        put(run, 1, b"".join(maker.segment([ev.Metrics(step=0, data={"loss": value})])), writer=maker.writer)

    for root in (tmp_path, None):
        found = curves([run], ["loss", "rank1/loss"], root=root)
        assert [curve.ys for curve in found.curves] == [[1.0], [2.0]]


def test_long_curves_are_thinned_and_keep_their_spikes(tmp_path: Path) -> None:
    """Few points remain; first, last, smallest, largest and gaps among them."""
    values = [math.sin(i / 50) for i in range(5000)]
    values[1234], values[3210], values[4000] = 100.0, -100.0, math.nan
    run = log_run(tmp_path, "a", points=of(values))

    curve = only(curves([run], most_points=200))

    assert len(curve.xs) <= 210
    assert curve.points == 5000
    assert {0, 1234, 3210, 4000, 4999} <= set(curve.xs)
    assert curve.xs == sorted(curve.xs)


def test_runs_without_the_metric_are_told(tmp_path: Path) -> None:
    """They have no curve; the note names them."""
    a = log_run(tmp_path, "a", points=of([1.0]))
    b = log_run(tmp_path, "b", points=of([1.0], key="acc"))

    found = curves([a, b], ["loss"])

    assert [curve.label for curve in found.curves] == ["a"]
    assert found.notes == ["no loss in b"]


def test_metric_must_be_one_that_is_there(tmp_path: Path) -> None:
    """Unknown names and none at all: the message lists what there is."""
    run = log_run(tmp_path, "a", points=[(0, {"loss": 1.0, "acc": 0.5})])
    empty = log_run(tmp_path, "empty")

    for keys, runs, message in (
        ((), [run], "acc, loss"),
        (("lss",), [run], "loss"),
        (("loss",), [empty], "none"),
        ((), [empty], "evlog show"),
    ):
        with pytest.raises(EvlogError, match=message):
            curves(runs, keys)


def test_curves_refuse_options_that_do_not_exist(tmp_path: Path) -> None:
    """The message says what there is instead."""
    run = log_run(tmp_path, "a", points=of([1.0]))

    for options in ({"x": "epoch"}, {"smooth": 1.0}, {"smooth": -0.1}, {"groups": {"g": [run]}, "x": "time"}):
        with pytest.raises(StatisticsError):
            curves([run], **options)
    with pytest.raises(StatisticsError, match="no runs"):
        curves([])


# --- groups ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_group_of_runs_that_went_to_the_largest_numbers_is_drawn(tmp_path: Path) -> None:
    """Their squares are no numbers any more: the band has no end, and nobody is warned about that."""
    a, b = (log_run(tmp_path, name, points=of([1.0, sign * 1e300])) for name, sign in (("a", 1), ("b", -1)))

    curve = only(curves([a, b], groups={"g": [a, b]}, root=tmp_path))

    assert curve.ys == [1.0, 0.0]
    assert curve.high == [1.0, math.inf]


def test_group_is_mean_and_standard_deviation_over_its_runs(tmp_path: Path) -> None:
    """At steps of two runs or more; nothing is interpolated, and a single run's steps are left out."""
    a = log_run(tmp_path, "a", points=of([1.0, 2.0, 3.0, 9.0]))
    b = log_run(tmp_path, "b", points=of([3.0, 4.0, math.nan]))
    c = log_run(tmp_path, "c", points=of([5.0], start=1))

    curve = only(curves([a, b, c], groups={"g": [a, b, c]}, root=tmp_path))

    assert curve.xs == [0, 1]
    assert curve.ys == pytest.approx([2.0, 11 / 3])
    assert curve.low is not None
    assert curve.high is not None
    assert curve.high == pytest.approx([2 + math.sqrt(2), 11 / 3 + math.sqrt(7 / 3)])
    assert curve.low == pytest.approx([2 - math.sqrt(2), 11 / 3 - math.sqrt(7 / 3)])
    assert (curve.label, curve.runs, curve.not_finite) == ("g (n=3)", 3, 1)


def test_group_of_one_run_has_no_band(tmp_path: Path) -> None:
    """It is the run's curve, and that is said."""
    a = log_run(tmp_path, "a", points=of([1.0, 2.0]))

    found = curves([a], groups={"g": [a]})

    assert (only(found).ys, only(found).low) == ([1.0, 2.0], None)
    assert "no band" in found.notes[0]


def test_group_without_common_steps_says_what_to_do(tmp_path: Path) -> None:
    """Nothing is invented between steps."""
    a, b = (log_run(tmp_path, name, points=of([1.0, 2.0], start=s)) for name, s in (("a", 0), ("b", 9)))

    found = curves([a, b], groups={"g": [a, b]})

    assert only(found).ys == []
    assert "relative" in found.notes[0]


def test_group_over_time_takes_each_runs_last_value(tmp_path: Path) -> None:
    """Between its first and last point a run counts with what it had last."""
    a = put_run(tmp_path / "p" / "a", [(0, 0, 1.0), (10, 1, 3.0)])
    b = put_run(tmp_path / "p" / "b", [(0, 0, 5.0), (5, 1, 7.0), (10, 2, 9.0)])

    curve = only(curves([a, b], groups={"g": [a, b]}, x="relative"))

    at = dict(zip(curve.xs, curve.ys, strict=True))
    assert (at[0], at[10]) == (3.0, 6.0)
    assert {y for x, y in at.items() if 0 <= x < 5} == {3.0}
    assert {y for x, y in at.items() if 5 < x < 10} == {4.0}


def test_long_groups_keep_the_edges_of_their_band(tmp_path: Path) -> None:
    """Thinning looks at the mean and at both edges."""
    spike = [0.0] * 3000
    spike[1500] = 50.0
    a, b = (
        log_run(tmp_path, name, points=of(values)) for name, values in (("a", spike), ("b", [0.0] * 3000))
    )

    curve = only(curves([a, b], groups={"g": [a, b]}, most_points=100))

    assert len(curve.xs) < 200
    assert curve.high is not None
    assert max(curve.high) == pytest.approx(25 + 50 / math.sqrt(2))


def test_curves_become_builtins(tmp_path: Path) -> None:
    """What a program gets has the keys and the points."""
    run = log_run(tmp_path, "a", points=of([1.0]))

    found = curves([run]).to_dict()

    assert found["keys"] == ["loss"]
    assert found["curves"][0]["ys"] == [1.0]  # type: ignore[index]
