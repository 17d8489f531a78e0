"""Reads a run: its writers merged into one stream.

Writers are merged by the time of their events and then by writer id, each writer in its own order: the
same files give the same stream.

Not safe for concurrent use; any number of readers may read one run, also while it is written.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import BadValueError
from eventlog.events import AnyEvent, Metrics
from eventlog.storage.artifacts import resolve
from eventlog.storage.block import Block, Finding
from eventlog.storage.cursor import Checkpoint, Cursor
from eventlog.storage.layout import SegmentName, list_segments, log_directory
from eventlog.storage.reader import Policy, WriterReader
from eventlog.storage.system import SYSTEM, System


class Slice(NamedTuple):
    """Consecutive events of one writer in the merged stream: a part of *block*."""

    writer: str
    rank: int
    events: list[AnyEvent]
    block: Block
    stop: int

    @property
    def cursor(self) -> Cursor:
        """Return the place after the last event."""
        return self.block.cursor_after(self.stop)


class RunReader:
    """A run's writers, merged.

    Attributes:
        checkpoint: the place after everything that was yielded.
    """

    def __init__(
        self,
        run: Path,
        *,
        start: Checkpoint | None = None,
        policy: Policy = "salvage",
        waits_on_nul: bool = False,
        system: System = SYSTEM,
    ) -> None:
        self.run, self.policy = run, policy
        self._system = system
        self.writers: dict[str, WriterReader] = {}
        self._log_dir = log_directory(run)
        self._start: Mapping[str, Cursor] = start.cursors if start else {}
        self._waits_on_nul = waits_on_nul
        self._listed: Mapping[str, list[SegmentName]] | None = None

    def slices(self, *, relist: bool = True) -> Iterator[Slice]:
        """Yield what is new since the last call, merged over the writers.

        Args:
            relist: look for new files too; False if the caller knows that there are none.

        Raises:
            CorruptSegmentError: under ``strict``, at the first thing that is wrong.
            OSError: a segment cannot be read.
        """
        streams = [
            _WriterStream(self.run, self.writer(writer), segments, self._system)
            for writer, segments in self._segments(relist=relist).items()
        ]
        yield from _merge([stream for stream in streams if stream.advance()])

    def _segments(self, *, relist: bool) -> Mapping[str, list[SegmentName]]:
        if relist or self._listed is None:
            self._listed = list_segments(self._log_dir, self._system)
        return self._listed

    def take(self, parts: Sequence[tuple[str, int]]) -> Iterator[Slice]:
        """Yield events in a given order: each part is a writer and the seq before which it ends.

        For a reader that has yielded nothing yet; open another one to go on after the parts.
        """
        segments = list_segments(self._log_dir, self._system)
        streams: dict[str, _WriterStream] = {}
        for writer, end_seq in parts:
            if writer not in streams:
                mine = segments.get(writer, [])
                streams[writer] = _WriterStream(self.run, self.writer(writer), mine, self._system)
            stream = streams[writer]
            while stream.advance() and stream.events[stream.at].seq < end_seq:
                yield stream.take_before(end_seq)

    def known_writers(self) -> list[str]:
        """Return the writers that have segments, sorted."""
        return list(list_segments(self._log_dir, self._system))

    def writer(self, writer: str) -> WriterReader:
        """Return the reader of one writer, which goes on where it was."""
        if writer not in self.writers:
            self.writers[writer] = WriterReader(
                self._log_dir,
                writer,
                start=self._start.get(writer),
                policy=self.policy,
                waits_on_nul=self._waits_on_nul,
                system=self._system,
            )
        return self.writers[writer]

    @property
    def findings(self) -> list[Finding]:
        """Return everything wrong so far, by writer."""
        return [finding for writer in sorted(self.writers) for finding in self.writers[writer].findings]


class _WriterStream:
    """The blocks of one writer, decoded one at a time, with a place in the current one."""

    def __init__(self, run: Path, reader: WriterReader, segments: list[SegmentName], system: System) -> None:
        self._system = system
        self.writer, self.rank = reader.writer, reader.rank
        self.events: list[AnyEvent] = []
        self.block: Block | None = None
        self.at = 0
        self._run, self._reader = run, reader
        self._blocks = reader.blocks(segments)

    def advance(self) -> bool:
        """Make sure that there is a next event; tell whether there is one."""
        while self.at >= len(self.events):
            block = next(self._blocks, None)
            if block is None:
                return False
            events = block.events()
            # Nearly all blocks are metrics that lie in their lines; one pass tells.
            if any(type(event) is not Metrics or event.payload is not None for event in events):
                events = [self._resolved(event, block) for event in events]
            self.block, self.events, self.at = block, events, 0
        return True

    def _resolved(self, event: AnyEvent, block: Block) -> AnyEvent:
        """Return *event* with its payload; one whose payload is lost stays, and is reported."""
        try:
            return resolve(self._run, event, self._system)
        except (OSError, BadValueError, msgspec.MsgspecError) as error:
            self._reader.note_payload(block, event.seq, str(error))
            return event

    @property
    def key(self) -> tuple[int, str]:
        return (self.events[self.at].ts, self.writer)

    def take_until(self, limit: tuple[int, str] | None) -> Slice:
        """Return the events from here on that come before *limit*, at least one."""
        assert self.block is not None
        begin, end, events, writer = self.at, self.at + 1, self.events, self.writer
        if limit is None:
            end = len(events)
        else:
            while end < len(events) and (events[end].ts, writer) < limit:
                end += 1
        self.at = end
        part = events if begin == 0 and end == len(events) else events[begin:end]
        return Slice(writer, self.rank, part, self.block, end)

    def take_before(self, end_seq: int) -> Slice:
        """Return the events from here on that have a smaller seq; the first one has."""
        assert self.block is not None
        begin = self.at
        self.at = min(len(self.events), begin + end_seq - self.events[begin].seq)
        return Slice(self.writer, self.rank, self.events[begin : self.at], self.block, self.at)


def _merge(streams: list[_WriterStream]) -> Iterator[Slice]:
    if len(streams) == 1:
        yield streams[0].take_until(None)
        while streams[0].advance():
            yield streams[0].take_until(None)
        return
    heap = [(stream.key, stream) for stream in streams]
    heapq.heapify(heap)
    while heap:
        _, stream = heapq.heappop(heap)
        yield stream.take_until(heap[0][0] if heap else None)
        if stream.advance():
            heapq.heappush(heap, (stream.key, stream))
