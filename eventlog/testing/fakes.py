"""Sinks without a destination outside of the process: one that keeps what it gets, one that fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from eventlog.events import Metrics
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.values import number_in_memory


class MemoryStore:
    """What outlives a sink that is killed: the destination of one or many `MemorySink`.

    Attributes:
        entries: by run and generation, then by writer and seq, as they came last.
        statuses: with which runs were closed, by run; also None.
    """

    def __init__(self) -> None:
        self.entries: dict[str, dict[tuple[str, int], Entry]] = {}
        self.statuses: dict[str, list[RunStatus | None]] = {}


def metric_points(entries: Iterable[Entry]) -> Iterator[Point]:
    """Yield a point for each value of each metric, as most destinations have them."""
    for entry in entries:
        if isinstance(entry.event, Metrics):
            for key, value in entry.event.data.items():
                yield Point(f"metric {entry.name(key)}", entry.event.step, number_in_memory(value))


class MemorySink:
    """Keeps events by writer and seq, so that a repeated one replaces itself.

    Attributes:
        batches: what this object was given.
    """

    traits: ClassVar[Traits] = Traits()

    def __init__(self, store: MemoryStore | None = None, *, name: str = "store") -> None:
        self.store = MemoryStore() if store is None else store
        self.destination = f"memory {name}"
        self.batches: list[Batch] = []
        self._place = ""

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Return None: there is no position of its own."""
        self._place = place_of(run)
        return None

    def write(self, batch: Batch) -> None:
        """Keep the events."""
        self.batches.append(batch)
        held = self.store.entries.setdefault(self._place, {})
        for entry in batch.entries():
            held[entry.writer, entry.event.seq] = entry

    def close(self, status: RunStatus | None) -> None:
        """Keep the status."""
        self.store.statuses.setdefault(self._place, []).append(status)

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield the values of the metrics."""
        return metric_points(entries)

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield the values of the metrics that are held."""
        return metric_points(self.store.entries.get(place_of(run), {}).values())


def place_of(run: RunInfo) -> str:
    """Return a name for one generation of a run."""
    return f"{run.project}/{run.run_id}/{run.generation}"


class FaultySink(MemorySink):
    """A `MemorySink` whose writes fail as told.

    Args:
        faults: for each write in turn the error to raise, or None; afterwards all go well.
        loses_replies: what fails was delivered nevertheless, as when an answer is lost on its way.
    """

    def __init__(
        self,
        faults: Iterable[Exception | None],
        store: MemoryStore | None = None,
        *,
        loses_replies: bool = False,
    ) -> None:
        super().__init__(store, name="faulty")
        self._faults = iter(faults)
        self._loses_replies = loses_replies

    def write(self, batch: Batch) -> None:
        """Keep the events, or raise what is next."""
        fault = next(self._faults, None)
        if fault is None or self._loses_replies:
            super().write(batch)
        if fault is not None:
            raise fault
