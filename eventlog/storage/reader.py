"""Reads one writer: its segments in order, each event once.

Segments are joined by seq: what a rewritten or recovered segment repeats is dropped, what the next
header, the seal or a cursor says is missing is reported.

Not safe for concurrent use; any number of readers may read one run, also while it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from eventlog.errors import CorruptSegmentError
from eventlog.events import SegmentOpened
from eventlog.ids import writer_rank
from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.cursor import Cursor
from eventlog.storage.layout import SegmentName, list_segments
from eventlog.storage.repeats import Repeats, still_lost
from eventlog.storage.segment import SegmentReader
from eventlog.storage.system import SYSTEM, System

Policy = Literal["strict", "prefix", "salvage"]
"""``strict`` raises at anything that is not whole, ``prefix`` ends a writer at its first damage,
``salvage`` skips the damage, reports it and goes on."""


class State(StrEnum):
    """What a reader says of one segment."""

    COMPLETE = "complete"
    GROWING = "growing"
    TORN = "torn tail"
    DAMAGED = "damaged range"
    MISSING = "missing events"
    CUT = "cut"
    UNSUPPORTED = "newer format"


class SegmentReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one segment."""

    writer: str
    segment: int
    path: Path
    state: State
    is_sealed: bool
    is_verified: bool
    events: int
    size_bytes: int
    findings: list[Finding]


class WriterReader:
    """All segments of one writer, in order, each event once.

    Attributes:
        findings: everything wrong so far.
        next_seq: seq of the event that should come next.
        header: header of the newest segment that has a good one.
    """

    def __init__(
        self,
        log_dir: Path,
        writer: str,
        *,
        start: Cursor | None = None,
        policy: Policy = "salvage",
        waits_on_nul: bool = False,
        system: System = SYSTEM,
    ) -> None:
        self.log_dir, self.writer, self.policy = log_dir, writer, policy
        self._system = system
        self.rank = writer_rank(writer) or 0
        self.header: SegmentOpened | None = None
        self.next_seq = 0 if start is None else start.seq
        self.findings: list[Finding] = []
        self._start = start
        self._start_is_gone = False
        self._waits_on_nul = waits_on_nul
        self._readers: dict[int, SegmentReader] = {}
        self._over: set[int] = set()
        self._going_on: set[int] = set()
        self._counted: dict[int, int] = {}
        self._events: dict[int, int] = {}
        self._stopped = False

    def blocks(self, segments: list[SegmentName] | None = None) -> Iterator[Block]:
        """Yield what is new since the last call.

        Args:
            segments: the writer's segments, if the caller has just listed them.

        Raises:
            CorruptSegmentError: under ``strict``, at the first thing that is wrong.
            OSError: a segment cannot be read.
        """
        if segments is None:
            segments = list_segments(self.log_dir, self._system).get(self.writer, [])
        self._check_start(segments)
        for position, name in enumerate(segments):
            if self._stopped or (self._start is not None and name.segment < self._start.segment):
                continue
            reader = self._readers.get(name.segment)
            if reader is not None and (reader.seal is not None or name.segment in self._over):
                continue
            if reader is None:
                reader = self._open(name)
            yield from self._read(reader)
            if position < len(segments) - 2:
                # Read when two later ones were there already: nobody appends to it any more.
                self._over.add(name.segment)

    def _check_start(self, segments: list[SegmentName]) -> None:
        """Report, once, that the segment is gone in which the cursor stands."""
        start = self._start
        if start is None or self._start_is_gone or any(n.segment == start.segment for n in segments):
            return
        self._start_is_gone = True
        self._note(
            Finding(
                problem=Problem.CUT,
                writer=self.writer,
                segment=start.segment,
                start=0,
                end=start.offset,
                detail="the segment is gone that a checkpoint says was read",
            )
        )

    def _open(self, name: SegmentName) -> SegmentReader:
        path = name.path(self.log_dir)
        reader = SegmentReader(path, name, waits_on_nul=self._waits_on_nul, system=self._system)
        reader.next_seq = self.next_seq
        start = self._start
        if start is not None and name.segment == start.segment:
            if reader.start_at(start):
                self.header = reader.header
            else:
                self._note(
                    Finding(
                        problem=Problem.CUT,
                        writer=self.writer,
                        segment=name.segment,
                        start=start.offset,
                        end=start.offset,
                        detail="it does not hold what a checkpoint says was read from it",
                    )
                )
        self._readers[name.segment] = reader
        self._events[name.segment] = 0
        return reader

    def _read(self, reader: SegmentReader) -> Iterator[Block]:
        known = len(reader.findings)
        had_header = reader.header is not None
        repeats: Repeats | None = None
        for block in reader.read():
            if not had_header and reader.header is not None:
                had_header = True
                self._join(reader)
            if len(reader.findings) > known:
                again: list[Block] = []
                if block.first_seq > self.next_seq:
                    repeats = repeats or self._after(reader.name)
                    for part in repeats.take(self.next_seq, block.first_seq):
                        again.append(part)
                        self.next_seq = part.end_seq
                        yield part
                self._note(*still_lost(reader.findings[known:], again))
                known = len(reader.findings)
            if self._stopped:
                return
            self._events[block.name.segment] += len(block.lines)
            if block.end_seq > self.next_seq:
                fresh = block.after(self.next_seq)
                self.next_seq = fresh.end_seq
                yield fresh
        if not had_header and reader.header is not None:
            self._join(reader)
        if len(reader.findings) > known:
            self._note(*reader.findings[known:])
        if reader.seal is not None:
            self.next_seq = max(self.next_seq, reader.seal.seq)

    def _after(self, damaged: SegmentName) -> Repeats:
        names = list_segments(self.log_dir, self._system).get(self.writer, [])
        later = [name for name in names if name.segment > damaged.segment]
        return Repeats(self.log_dir, later, self._system, going_on=self._going_on)

    def _join(self, reader: SegmentReader) -> None:
        """Compare a segment's header with how the segment before it ended."""
        header = reader.header
        assert header is not None
        self.header = header
        previous = header.prev
        if previous is not None:
            self._counted.setdefault(previous.segment, previous.size_bytes)
        before = self._readers.get(previous.segment) if previous else None
        if previous is not None and before is None and self._start is None:
            self._lost(
                Problem.MISSING, previous.segment, 0, header.seq, f"segment {previous.segment} is not there"
            )
        elif previous is not None and before is not None and before.verified_end < previous.size_bytes:
            # What this segment repeats is not lost with the end of that one.
            self._lost(
                Problem.CUT,
                previous.segment,
                before.verified_end,
                min(previous.seq, header.seq),
                f"the next segment counts {previous.size_bytes} bytes in it",
            )
        elif header.seq > self.next_seq:
            self._lost(Problem.MISSING, reader.name.segment, 0, header.seq, "")

    def _lost(self, problem: Problem, segment: int, offset: int, next_seq: int, detail: str) -> None:
        lost = next_seq > self.next_seq
        self._note(
            Finding(
                problem=problem,
                writer=self.writer,
                segment=segment,
                start=offset,
                end=offset,
                first_seq=self.next_seq if lost else None,
                last_seq=next_seq - 1 if lost else None,
                detail=detail,
            )
        )
        self.next_seq = max(self.next_seq, next_seq)

    def _note(self, *findings: Finding) -> None:
        for finding in findings:
            self.findings.append(finding)
            if self.policy == "strict":
                path = SegmentName(self.writer, finding.segment).path(self.log_dir)
                raise CorruptSegmentError(path, finding.start, str(finding.problem))
            if self.policy == "prefix" and finding.is_loss:
                self._stopped = True

    def note_payload(self, block: Block, seq: int, detail: str) -> None:
        """Report an event whose payload file is not there or has changed."""
        self._note(
            Finding(
                problem=Problem.DAMAGED,
                writer=self.writer,
                segment=block.name.segment,
                start=block.end_offset,
                end=block.end_offset,
                first_seq=seq,
                last_seq=seq,
                detail=f"payload: {detail}",
            )
        )

    def reports(self, *, is_alive: bool) -> list[SegmentReport]:
        """Return what was found in each segment that was read, or that a later one or a cursor names.

        Args:
            is_alive: whether the writer may still write; then what is incomplete at the end is growing.
        """
        found: dict[int, list[Finding]] = {number: [] for number in self._readers}
        for finding in self.findings:
            found.setdefault(finding.segment, []).append(finding)
        last, end = max(self._readers, default=0), self._last_written()
        # What is not there comes first.
        numbers = sorted(found, key=lambda number: (number in self._readers, number))
        return [self._report(n, found[n], end, is_alive=is_alive and n == last) for n in numbers]

    def _report(
        self, number: int, findings: list[Finding], last_written: int, *, is_alive: bool
    ) -> SegmentReport:
        reader = self._readers.get(number)
        tail = self._tail(reader, last_written, is_alive=is_alive) if reader else None
        findings += [tail] if tail else []
        is_sealed = reader is not None and reader.seal is not None
        return SegmentReport(
            writer=self.writer,
            segment=number,
            path=SegmentName(self.writer, number).path(self.log_dir),
            state=_state(findings, is_growing=is_alive and not is_sealed),
            is_sealed=is_sealed,
            is_verified=reader is not None and reader.is_verified,
            events=self._events.get(number, 0),
            size_bytes=reader.size_bytes if reader else 0,
            findings=findings,
        )

    def _tail(self, reader: SegmentReader, last_written: int, *, is_alive: bool) -> Finding | None:
        """Return what is wrong with the end of a segment: torn, or damaged."""
        if not (reader.pending_bytes or reader.has_bad_tail or reader.pending_has_nul):
            return None
        counted = self._counted.get(reader.name.segment)
        is_torn = (not reader.has_bad_tail or reader.bad_tail_has_nul) and reader.seal is None
        detail = "NUL bytes" if reader.bad_tail_has_nul else ""
        if reader.is_nul_only:
            detail = "nothing but NUL bytes: the file has its size and none of its data"
            is_torn = reader.name.segment >= last_written
        if counted is not None:
            is_torn = reader.bad_tail_start >= counted
        if is_torn and is_alive:
            return None
        return Finding(
            problem=Problem.TORN if is_torn else Problem.DAMAGED,
            writer=self.writer,
            segment=reader.name.segment,
            start=reader.bad_tail_start,
            end=reader.size_bytes,
            detail=detail,
        )

    def _last_written(self) -> int:
        """Return the last segment that the writer went on in, instead of saying the same again."""
        return max(
            (
                number
                for number, reader in self._readers.items()
                if reader.verified_end and (reader.header is None or reader.header.origin == "writer")
            ),
            default=0,
        )

    def tail_findings(self) -> list[Finding]:
        """Return what is wrong at the ends of segments, for a writer that is dead."""
        end = self._last_written()
        tails = (self._tail(self._readers[n], end, is_alive=False) for n in sorted(self._readers))
        return [tail for tail in tails if tail]


def _state(findings: list[Finding], *, is_growing: bool) -> State:
    for problem in (Problem.UNSUPPORTED, Problem.DAMAGED, Problem.CUT, Problem.MISSING, Problem.TORN):
        if any(f.problem is problem for f in findings):
            return State(problem.value)
    return State.GROWING if is_growing else State.COMPLETE
