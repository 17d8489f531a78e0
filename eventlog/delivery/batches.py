"""What is delivered next: the log's slices in batches, and what has to be known of a log before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from eventlog.errors import SinkRejectedError
from eventlog.events import RunStarted
from eventlog.sink import Batch, Entry
from eventlog.storage.layout import log_directory
from eventlog.storage.merge import RunReader, Slice


def find_start(run: Path) -> RunStarted | None:
    """Return how *run* began: the first such event of the first writer that has one."""
    reader = RunReader(run)
    for writer in reader.known_writers():
        block = next(reader.writer(writer).blocks(), None)
        if block is not None:
            head = block._replace(lines=block.lines[:8])
            found = next((event for event in head.events() if isinstance(event, RunStarted)), None)
            if found is not None:
                return found
    return None


def log_sizes(run: Path) -> dict[str, int]:
    """Return the bytes of each file of the log."""
    sizes: dict[str, int] = {}
    try:
        for path in log_directory(run).iterdir():
            sizes[path.name] = path.stat().st_size
    except FileNotFoundError:
        pass  # a ring that was removed meanwhile: then the sizes differ, and somebody looks again
    return sizes


def batches(slices: Iterable[Slice], limit: int) -> Iterator[list[Slice]]:
    """Gather slices into batches of at most *limit* events."""
    batch: list[Slice] = []
    room = limit
    for part in slices:
        rest = part
        while len(rest.events) > room:
            first, rest = _cut(rest, room)
            yield [*batch, first]
            batch, room = [], limit
        batch.append(rest)
        room -= len(rest.events)
        if room == 0:
            yield batch
            batch, room = [], limit
    if batch:
        yield batch


def halves(slices: Sequence[Slice]) -> Iterator[list[Slice]]:
    """Return *slices* in two parts of the same number of events."""
    count = sum(len(part.events) for part in slices)
    return batches(slices, (count + 1) // 2)


def named(batch: Batch, error: SinkRejectedError) -> list[Entry]:
    """Return the events of *batch* that *error* names."""
    names = set(error.events)
    return [entry for entry in batch.entries() if (entry.writer, entry.event.seq) in names]


def _cut(part: Slice, count: int) -> tuple[Slice, Slice]:
    """Return the first *count* events and the others."""
    begin = part.stop - len(part.events)
    return part._replace(events=part.events[:count], stop=begin + count), part._replace(
        events=part.events[count:]
    )
