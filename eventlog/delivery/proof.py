"""Compares what a destination holds with what the log says it should hold, point by point.

For each series (a metric, a param, …) both sides are reduced to a count and a sum of hashes, which do not
depend on the order; memory grows with the number of series, not of points. Only series that differ are read
again, to say where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from eventlog.delivery.batches import find_start
from eventlog.delivery.lease import holder_of
from eventlog.delivery.ledger import Ledger, ledger_path, load_ledger
from eventlog.delivery.letters import DeadLetters
from eventlog.delivery.shaping import Shaper
from eventlog.sink import Entry, Point, ReadsBack, RunInfo, Sink
from eventlog.storage.merge import RunReader

EXAMPLES = 3
_MASK = (1 << 64) - 1


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A series that is not the same on both sides.

    Attributes:
        expected, delivered: number of points.
        detail: the first points that only one side has.
    """

    series: str
    expected: int
    delivered: int
    detail: str = ""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one run at one destination.

    Attributes:
        result: ``proven``, ``differs``, ``not delivered`` or ``cannot be read`` (the sink knows no way back).
        points: on the side of the log, of so many *series*.
        undelivered: events of the log that were not delivered yet; they are not part of the comparison.
        refused: dead letters, likewise.
    """

    project: str
    run_id: str
    sink: str
    result: str
    points: int = 0
    series: int = 0
    undelivered: int = 0
    refused: int = 0
    differences: list[Difference] = []
    message: str = ""


def prove(run: Path, sink: Sink, sink_name: str) -> Proof:
    """Compare the destination of *sink* with the part of the log that was delivered to it.

    Raises:
        SinkUnavailableError: the destination cannot be read now.
        CheckpointError: the ledger cannot be read.
    """
    proof = Proof(project=run.parent.name, run_id=run.name, sink=sink_name, result="cannot be read")
    if not isinstance(sink, ReadsBack):
        return msgspec.structs.replace(proof, message=f"{sink_name} cannot be read back")
    path = ledger_path(run, sink_name, sink.destination)
    ledger = load_ledger(path)
    if ledger is None or not ledger.cursors:
        return msgspec.structs.replace(
            proof, result="not delivered", message=f"deliver it first: evlog sync {run.name} --to {sink_name}"
        )
    refused = {letter.key for letter in DeadLetters(path).read()}
    log = _Log(run, ledger, refused)
    info = RunInfo(
        project=run.parent.name,
        run_id=run.name,
        path=run,
        started=find_start(run),
        state=ledger.state,
        generation=ledger.generation,
    )
    reader = sink

    def expected() -> Iterator[Point]:
        return reader.expected(log.entries())

    def delivered() -> Iterator[Point]:
        return reader.delivered(info)

    once = sink.traits.merges_equal_points
    wanted, found = _tally(expected(), once=once), _tally(delivered(), once=once)
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    holder = holder_of(path.with_suffix("")) if differing else None
    return msgspec.structs.replace(
        proof,
        result="differs" if differing else "proven",
        # What was delivered and is not in the ledger yet looks like too much.
        message=f"{holder} is delivering it at this moment: compare again later" if holder else "",
        points=sum(tally.count for tally in wanted.values()),
        series=len(wanted),
        undelivered=log.undelivered,
        refused=len(refused),
        differences=_differences(differing, expected, delivered, once=once),
    )


class _Log:
    """The delivered part of a log, as it went to the sink."""

    def __init__(self, run: Path, ledger: Ledger, refused: set[tuple[str, int]]) -> None:
        self._run, self._ledger, self._refused = run, ledger, refused
        self.undelivered = 0

    def entries(self) -> Iterator[Entry]:
        """Yield the events; may be called again."""
        self.undelivered = 0
        counts = self._ledger.counts
        shaper = Shaper(self._ledger.shape)
        if counts is not None:
            shaper.counts.totals = counts.totals
        for part in RunReader(self._run).slices():
            cursor = self._ledger.cursors.get(part.writer)
            end = cursor.seq if cursor else 0
            events = [event for event in part.events if event.seq < end]
            self.undelivered += len(part.events) - len(events)
            for event in shaper.apply(part.writer, events):
                if (part.writer, event.seq) not in self._refused:
                    yield Entry(part.writer, part.rank, event)


class _Tally:
    """A series in three numbers, and the hashes seen if equal points count once."""

    __slots__ = ("count", "seen", "total")

    def __init__(self, *, once: bool) -> None:
        self.count = self.total = 0
        self.seen: set[int] | None = set() if once else None

    def add(self, key: tuple[object, ...]) -> None:
        """Take one point."""
        # Of the text: in Python -1 and -2 have one hash, and so have 0.5 and 2**60.
        code = hash(repr(key)) & _MASK
        if self.seen is not None:
            if code in self.seen:
                return
            self.seen.add(code)
        self.count += 1
        self.total = (self.total + code) & _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tally) and (self.count, self.total) == (other.count, other.total)

    __hash__ = None  # type: ignore[assignment]  # it changes


def _tally(points: Iterable[Point], *, once: bool) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = {}
    for point in points:
        tally = tallies.get(point.series)
        if tally is None:
            tally = tallies[point.series] = _Tally(once=once)
        tally.add(_key(point))
    return tallies


def _key(point: Point) -> tuple[object, ...]:
    value = point.value
    if isinstance(value, float):
        # NaN equals nothing, not even itself; and 1.0 is as good as 1 in most destinations.
        value = "NaN" if value != value else int(value) if value.is_integer() else value
    elif isinstance(value, bool):
        value = int(value)
    return (point.step, value, point.time)


def _differences(
    names: list[str],
    expected: Callable[[], Iterator[Point]],
    delivered: Callable[[], Iterator[Point]],
    *,
    once: bool,
) -> list[Difference]:
    if not names:
        return []
    wanted, found = _points(names, expected(), once=once), _points(names, delivered(), once=once)
    return [
        Difference(
            series=name,
            expected=wanted[name].total(),
            delivered=found[name].total(),
            detail="; ".join(
                [
                    *_examples("missing", wanted[name] - found[name]),
                    *_examples("not in the log", found[name] - wanted[name]),
                ]
            ),
        )
        for name in names
    ]


def _points(
    names: list[str], points: Iterable[Point], *, once: bool
) -> dict[str, Counter[tuple[object, ...]]]:
    found: dict[str, Counter[tuple[object, ...]]] = {name: Counter() for name in names}
    for point in points:
        counter = found.get(point.series)
        if counter is not None:
            key = _key(point)
            counter[key] = 1 if once else counter[key] + 1
    return found


def _examples(what: str, points: Counter[tuple[object, ...]]) -> Iterator[str]:
    if not points:
        return
    shown = []
    for (step, value, _), count in list(points.items())[:EXAMPLES]:
        times = f" x{count}" if count > 1 else ""
        shown.append((f"step {step}: " if step is not None else "") + f"{value}{times}")
    more = len(points) - len(shown)
    yield f"{what}: {', '.join(shown)}" + (f" and {more} more" if more else "")
