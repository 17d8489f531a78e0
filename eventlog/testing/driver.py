"""Does by hand what the pump does, so that a test can kill it where it likes and go on otherwise."""

from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from eventlog.errors import SinkRejectedError
from eventlog.events import RunStarted
from eventlog.sink import Batch, Entry, KeepsState, Point, RunInfo, RunStatus, Sink
from eventlog.storage.merge import RunReader, Slice

Order = Literal["merged", "by writer", "in turns"]
"""How the writers are interleaved; each one's own order is always kept."""


class Killed(BaseException):
    """The delivering process ended here: its sink object is never called again."""


class Courier:
    """Delivers one run to one destination over any number of lives.

    Attributes:
        state, positions: what was saved last: the sink's state, and the next seq of each writer.
        refused: writer and seq of the events that the sink rejected.
    """

    def __init__(self, run: Path, make_sink: Callable[[], Sink], *, generation: int = 0) -> None:
        self.run, self.generation = run, generation
        self._make_sink = make_sink
        self.state: dict[str, object] = {}
        self.positions: dict[str, int] = {}
        self.refused: set[tuple[str, int]] = set()
        self._begun: list[Slice] = []

    @property
    def info(self) -> RunInfo:
        """Return what a sink is opened with."""
        started = (e.event for e in entries_of(self.run) if isinstance(e.event, RunStarted))
        return RunInfo(
            project=self.run.parent.name,
            run_id=self.run.name,
            path=self.run,
            started=next(started, None),
            state=self.state,
            generation=self.generation,
        )

    def deliver(
        self,
        *,
        size: int = 7,
        order: Order = "merged",
        kill_in: int | None = None,
        kill_after_save: bool = False,
        save_every: int = 1,
        status: str | None = "finished",
        sink: Sink | None = None,
    ) -> Sink:
        """Deliver what was not saved yet, in batches of *size* events; return the sink's object.

        Args:
            kill_in: end the process after this batch of this life, from 0, was delivered and before that
                was saved. -1: after closing.
            kill_after_save: end it after that was saved.
            save_every: save after so many batches; a sink with fixed batches has each saved.
            status: to close with; None as when the pump stops.
            sink: an object to use again.

        Raises:
            Killed: as *kill_in* says.
        """
        sink = self._make_sink() if sink is None else sink
        traits = sink.traits
        if traits.is_projection:
            self.positions, self.state, self._begun = {}, {}, []
        own = sink.open(self.info)
        skip = {writer: cursor.seq for writer, cursor in own.cursors.items()} if own else {}
        batches = list(self._batches(min(size, traits.batch_events), order))
        every = 1 if traits.fixed_batches else save_every
        unsaved: list[Slice] = []
        for number, parts in enumerate(batches):
            if traits.fixed_batches:
                self._begun = parts
            self._write(sink, [part for part in parts if part.events[-1].seq >= skip.get(part.writer, 0)])
            unsaved += parts
            is_last = number == kill_in
            if is_last and not kill_after_save:
                raise Killed
            if is_last or (number + 1) % every == 0:
                self._save(sink, unsaved)
                unsaved = []
            if is_last:
                raise Killed
        sink.close(None if status is None else RunStatus(status=status))
        if kill_in is not None:
            raise Killed
        self._save(sink, unsaved)
        return sink

    def _batches(self, size: int, order: Order) -> Iterator[list[Slice]]:
        begun, self._begun = self._begun, []
        positions = dict(self.positions)
        if begun:
            yield begun
            positions |= {part.writer: part.events[-1].seq + 1 for part in begun}
        units = [u for u in arranged(units_of(self.run), order) if _seq(u) >= positions.get(u.writer, 0)]
        for start in range(0, len(units), size):
            yield joined(units[start : start + size])

    def _write(self, sink: Sink, parts: Sequence[Slice]) -> None:
        """Write, halving what is rejected without a name, as the pump does."""
        if not parts:
            return
        try:
            sink.write(Batch(list(parts)))
        except SinkRejectedError as error:
            _check_pickles(error)
            units = [unit for part in parts for unit in split(part)]
            if error.events or len(units) == 1:
                self.refused |= set(error.events) or {(units[0].writer, _seq(units[0]))}
                return
            middle = len(units) // 2
            self._write(sink, joined(units[:middle]))
            self._write(sink, joined(units[middle:]))

    def _save(self, sink: Sink, parts: Iterable[Slice]) -> None:
        for part in parts:
            self.positions[part.writer] = part.events[-1].seq + 1
        self._begun = []
        if isinstance(sink, KeepsState):
            state = sink.state()
            kept = json.loads(json.dumps(state))
            assert kept == state, f"the state is not what JSON gives back: {state!r} became {kept!r}"
            self.state = kept

    def delivered_entries(self) -> list[Entry]:
        """Return the events that the destination should hold when everything was delivered."""
        return [e for e in entries_of(self.run) if (e.writer, e.event.seq) not in self.refused]


def _check_pickles(error: SinkRejectedError) -> None:
    again = pickle.loads(pickle.dumps(error))
    told, heard = (str(error), error.events), (str(again), again.events)
    assert heard == told, f"{error!r} does not survive pickling: it becomes {again!r}"


# --- slices ------------------------------------------------------------------------------------------


def entries_of(run: Path) -> list[Entry]:
    """Return a run's events in the order in which replay has them."""
    return list(Batch(list(RunReader(run).slices())).entries())


def units_of(run: Path) -> list[Slice]:
    """Return a run as slices of one event each."""
    return [unit for part in RunReader(run).slices() for unit in split(part)]


def split(part: Slice) -> list[Slice]:
    """Return *part* as slices of one event each."""
    first = part.stop - len(part.events) + 1
    return [part._replace(events=[event], stop=first + i) for i, event in enumerate(part.events)]


def joined(units: Iterable[Slice]) -> list[Slice]:
    """Return slices of one event each as the slices that a reader gives."""
    parts: list[Slice] = []
    for unit in units:
        last = parts[-1] if parts else None
        if last is not None and last.block is unit.block and last.stop + 1 == unit.stop:
            parts[-1] = last._replace(events=[*last.events, *unit.events], stop=unit.stop)
        else:
            parts.append(unit)
    return parts


def arranged(units: list[Slice], order: Order) -> list[Slice]:
    """Return *units* with their writers interleaved otherwise."""
    if order == "merged":
        return units
    writers: dict[str, list[Slice]] = {}
    for unit in units:
        writers.setdefault(unit.writer, []).append(unit)
    queues = [writers[writer] for writer in sorted(writers, reverse=True)]
    if order == "by writer":
        return [unit for queue in queues for unit in queue]
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]


def _seq(unit: Slice) -> int:
    return unit.events[0].seq


# --- comparing -----------------------------------------------------------------------------------------


def describe_difference(expected: Iterable[Point], held: Iterable[Point], *, merges: bool = False) -> str:
    """Return what is missing, and what is too much, in few lines; empty if both are the same.

    Args:
        merges: several equal points count as one.
    """
    wanted, found = Counter(map(_key, expected)), Counter(map(_key, held))
    if merges:
        wanted, found = Counter(set(wanted)), Counter(set(found))
    lines = [f"missing {n}x {key}" for key, n in (wanted - found).items()]
    lines += [f"too much {n}x {key}" for key, n in (found - wanted).items()]
    return "\n".join(lines[:10] + ([f"… and {len(lines) - 10} more"] if len(lines) > 10 else []))


def _key(point: Point) -> tuple[str, int | None, str, int | None]:
    value = point.value
    if not isinstance(value, str):
        number = float(value)
        value = "NaN" if math.isnan(number) else repr(number)
    return (point.series, point.step, value, point.time)
