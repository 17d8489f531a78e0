"""The proof finds what differs between a log and its destination: exactly that, and where."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.delivery import lease
from eventlog.delivery.ledger import ledger_path
from eventlog.delivery.proof import Proof, prove
from eventlog.delivery.pump import deliver_run
from eventlog.delivery.shaping import Shape
from eventlog.errors import SinkRejectedError
from eventlog.events import Event, Metrics, RunEnded, RunStarted
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.values import number_in_memory
from tests.delivery.fakes import fresh_breaker
from tests.logs import WRITER_A, WRITER_B, LogMaker, metrics, put

Number = int | float | str


class PointSink:
    """A destination of points, which a test may change."""

    def __init__(self, *, merges: bool = False, refuses: int | None = None) -> None:
        self.traits = Traits(merges_equal_points=merges)
        self.destination = "points"
        self.points: list[Point] = []
        self.refuses = refuses

    def open(self, run: RunInfo) -> Checkpoint | None:
        return None

    def write(self, batch: Batch) -> None:
        bad = [(e.writer, e.event.seq) for e in batch.entries() if e.event.seq == self.refuses]
        self.points += self.expected(e for e in batch.entries() if e.event.seq != self.refuses)
        if bad:
            raise SinkRejectedError("no", bad)

    def close(self, status: RunStatus | None) -> None:
        pass

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        for entry in entries:
            if isinstance(entry.event, Metrics):
                for key, value in entry.event.data.items():
                    yield Point(f"metric {entry.name(key)}", entry.event.step, number_in_memory(value))

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        yield from self.points


class OneWaySink:
    """A destination that nobody can read."""

    traits = Traits()
    destination = "away"

    def open(self, run: RunInfo) -> Checkpoint | None:
        return None

    def write(self, batch: Batch) -> None:
        pass

    def close(self, status: RunStatus | None) -> None:
        pass


def log(run: Path, events: list[Event], writer: str = WRITER_A) -> LogMaker:
    maker = LogMaker(writer)
    put(run, 1, b"".join(maker.segment(events)), writer=writer)
    return maker


def delivered(run: Path, sink: PointSink, shape: Shape | None = None) -> PointSink:
    fresh_breaker("points", sink.destination)
    deliver_run(run, sink, "points", shape=shape, timeout_s=0)
    return sink


def found(proof: Proof) -> dict[str, tuple[int, int]]:
    return {one.series: (one.expected, one.delivered) for one in proof.differences}


# Pairs of these have one hash in Python, and they are what a careless comparison takes for equal.
_NUMBERS = st.sampled_from(
    [-2, -1, 0, 1, 2, -2.0, -1.0, 0.5, 2**60, 1.5, 1e300, -0.0, 314159, *("NaN", "Infinity", "-Infinity")]
)
_NAMES = st.sampled_from(["loss", "train/acc", "ü"])
_STEPS = st.sampled_from([None, -2, -1, 0, 1, 2**40])
_EVENTS = st.lists(
    st.builds(
        lambda step, data: Metrics(step=step, data=data),
        _STEPS,
        st.dictionaries(_NAMES, _NUMBERS, min_size=1),
    ),
    min_size=1,
    max_size=8,
)
_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["remove", "double", "value", "step", "add"]),
        st.integers(0, 100), _NUMBERS, _STEPS, _NAMES,
    ),
    max_size=4,
)  # fmt: skip


def changed(points: list[Point], changes: list[tuple[str, int, Number, int | None, str]]) -> list[Point]:
    """Return *points* after somebody was there."""
    points = list(points)
    for what, at, value, step, name in changes:
        if what == "add":
            points.insert(at % (len(points) + 1), Point(f"metric {name}", step, number_in_memory(value)))
        elif points:
            at %= len(points)
            old = points[at]
            if what == "remove":
                del points[at]
            elif what == "double":
                points.insert(at, old)
            elif what == "value":
                points[at] = old._replace(value=number_in_memory(value))
            else:
                points[at] = old._replace(step=step)
    return points


def by_series(points: list[Point], *, merges: bool) -> dict[str, Counter[tuple[int | None, str]]]:
    """Return points in a form in which equal ones are equal, written without the code under test."""
    series: dict[str, Counter[tuple[int | None, str]]] = {}
    for point in points:
        number = float(point.value) + 0.0
        text = "nan" if math.isnan(number) else number.hex()
        counter = series.setdefault(point.series, Counter())
        counter[point.step, text] = 1 if merges else counter[point.step, text] + 1
    return series


@settings(deadline=None, max_examples=60)
@given(events=_EVENTS, others=_EVENTS, changes=_CHANGES, merges=st.booleans(), order=st.randoms())
def test_exactly_the_series_that_differ_are_found(
    events: list[Event],
    others: list[Event],
    changes: list[tuple[str, int, Number, int | None, str]],
    merges: bool,
    order: object,
) -> None:
    """Whatever was changed at the destination, in whatever order it gives its points."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "p" / "run"
        log(run, events)
        log(run, others, WRITER_B)
        sink = delivered(run, PointSink(merges=merges))
        before = by_series(sink.points, merges=merges)
        sink.points = changed(sink.points, changes)
        order.shuffle(sink.points)  # type: ignore[attr-defined]
        after = by_series(sink.points, merges=merges)

        proof = prove(run, sink, "points")

    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    none: Counter[tuple[int | None, str]] = Counter()
    assert found(proof) == {
        name: (before.get(name, none).total(), after.get(name, none).total()) for name in differing
    }
    assert proof.result == ("differs" if differing else "proven")
    assert all(one.detail for one in proof.differences)


def test_a_difference_says_what_is_missing_and_what_is_too_much(tmp_path: Path) -> None:
    """With the first points of each, and how many more."""
    run = tmp_path / "p" / "run"
    log(run, metrics(10))
    sink = delivered(run, PointSink())
    sink.points = [*sink.points[5:], Point("metric loss", 99, 7.0), Point("metric loss", 99, 7.0)]

    (difference,) = prove(run, sink, "points").differences

    assert (difference.expected, difference.delivered) == (10, 7)
    assert difference.detail == (
        "missing: step 0: 0.5, step 1: 1.5, step 2: 2.5 and 2 more; not in the log: step 99: 7 x2"
    )


def test_what_was_not_delivered_yet_is_counted_and_not_compared(tmp_path: Path) -> None:
    """The comparison is with what the ledger says."""
    run = tmp_path / "p" / "run"
    maker = LogMaker()
    put(run, 1, b"".join(maker.segment(metrics(3))))
    sink = delivered(run, PointSink())
    put(run, 2, b"".join(maker.segment(metrics(4, start=3))))

    proof = prove(run, sink, "points")

    assert (proof.result, proof.points, proof.undelivered) == ("proven", 3, 4)


def test_refused_events_are_counted_and_not_compared(tmp_path: Path) -> None:
    """They are in the dead letters, not at the destination."""
    run = tmp_path / "p" / "run"
    log(run, metrics(5))

    proof = prove(run, delivered(run, PointSink(refuses=2)), "points")

    assert (proof.result, proof.points, proof.refused) == ("proven", 4, 1)


@pytest.mark.parametrize(
    "shape", [Shape(every=3), Shape(max_points=4), Shape(rename={"loss": "l"}), Shape(exclude=("loss",))]
)
def test_the_shape_is_part_of_what_is_expected(tmp_path: Path, shape: Shape) -> None:
    """What was left out or renamed on the way is no difference; one point more is."""
    run = tmp_path / "p" / "run"
    log(run, [RunStarted(name="a"), *metrics(20), RunEnded(status="finished")])
    sink = delivered(run, PointSink(), shape)

    is_proven = prove(run, sink, "points").result == "proven"
    sink.points.append(Point("metric loss", 1, 1.5))

    assert is_proven
    assert found(prove(run, sink, "points")).keys() == {"metric loss"}


def test_ranks_have_series_of_their_own(tmp_path: Path) -> None:
    """The names are those that the sink makes."""
    run = tmp_path / "p" / "run"
    log(run, metrics(3))
    log(run, metrics(3), WRITER_B)
    sink = delivered(run, PointSink())
    sink.points = [point for point in sink.points if point.series != "metric rank1/loss"]

    assert found(prove(run, sink, "points")) == {"metric rank1/loss": (3, 0)}


def test_a_run_that_never_went_there_is_not_proven(tmp_path: Path) -> None:
    """With the command that brings it there."""
    run = tmp_path / "p" / "run"
    log(run, metrics(3))

    proof = prove(run, PointSink(), "points")

    assert proof.result == "not delivered"
    assert "evlog sync run --to points" in proof.message


def test_a_destination_that_cannot_be_read_is_not_proven(tmp_path: Path) -> None:
    """Nothing is claimed about it."""
    run = tmp_path / "p" / "run"
    log(run, metrics(3))

    assert prove(run, OneWaySink(), "away").result == "cannot be read"


def test_a_difference_while_somebody_delivers_says_so(tmp_path: Path) -> None:
    """The destination may be ahead of its ledger for a moment."""
    run = tmp_path / "p" / "run"
    log(run, metrics(3))
    sink = delivered(run, PointSink())
    sink.points.append(Point("metric loss", 3, 1.0))
    held = lease.acquire(ledger_path(run, "points", sink.destination).with_suffix(""))

    proof = prove(run, sink, "points")

    held.release()
    assert proof.result == "differs"
    assert "is delivering it at this moment" in proof.message
