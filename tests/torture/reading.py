"""What a reader says of a damaged log: by a look at the damaged place only, and by reading real files."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from eventlog.codec import seq_of
from eventlog.storage.block import Finding
from eventlog.storage.cursor import Checkpoint, Cursor
from eventlog.storage.layout import SegmentName
from eventlog.storage.merge import RunReader
from eventlog.storage.reader import WriterReader
from tests.logs import WRITER_A, put
from tests.torture.memory import MemoryFiles, Piece
from tests.torture.specimen import Log, Segment

_LOG = Path("log")


class Verdict(NamedTuple):
    """What was read of a damaged log.

    Attributes:
        lost: seqs that are not there any more.
        wrong: seqs that are there and should not be, are there twice, or are not what was written.
        findings: what the reader says.
    """

    lost: frozenset[int]
    wrong: tuple[int, ...]
    findings: tuple[Finding, ...]

    @property
    def places(self) -> frozenset[tuple[object, ...]]:
        """Return what the findings say, but for their words and ends."""
        return frozenset(
            (finding.problem, finding.segment, finding.start, finding.first_seq, finding.last_seq)
            for finding in self.findings
        )

    @property
    def named(self) -> frozenset[int]:
        """Return the seqs that the findings name as lost."""
        return frozenset(
            seq
            for finding in self.findings
            if finding.first_seq is not None and finding.last_seq is not None
            for seq in range(finding.first_seq, finding.last_seq + 1)
        )


def judge(expected: Mapping[int, bytes], read: Iterable[bytes], findings: Iterable[Finding]) -> Verdict:
    """Compare lines that were *read* with those that were written, by seq."""
    seen: set[int] = set()
    wrong = []
    for line in read:
        seq = seq_of(line)
        if seq in seen or expected.get(seq) != line:
            wrong.append(seq)
        seen.add(seq)
    return Verdict(frozenset(expected.keys() - seen), tuple(wrong), tuple(findings))


class Window(NamedTuple):
    """A damaged place: what lies around it in one or two segments, and nothing else of the log.

    Attributes:
        files: the parts that are looked at, by number of the segment.
        start: where the reader begins.
        expected: the lines that were written there, by seq.
    """

    files: dict[int, Piece]
    start: Cursor | None
    expected: dict[int, bytes]

    def verdict(self) -> Verdict:
        """Return what a reader says of the window."""
        system = MemoryFiles({_path(number): piece for number, piece in self.files.items()})
        reader = WriterReader(_LOG, WRITER_A, start=self.start, system=system)
        names = [SegmentName(WRITER_A, number) for number in sorted(self.files)]
        read = [line for block in reader.blocks(names) for line in block.lines]
        return judge(self.expected, read, [*reader.findings, *reader.tail_findings()])


@functools.cache
def _path(number: int) -> str:
    return str(SegmentName(WRITER_A, number).path(_LOG))


def window(segment: Segment, data: bytes, *, line: int, after: int, following: Segment | None) -> Window:
    """Return the place in which *data* stand instead of the lines from *line* to *after* of *segment*.

    Args:
        line: at least 1; the reader begins one line earlier, for a cursor also proves what stands behind it.
        after: the line that comes next there; the window ends before it.
        following: the next segment, if its beginning is to be seen, too.
    """
    begin = max(1, line - 1)
    before = b"".join(segment.lines[begin - 1 : line])
    files = {segment.number: Piece(segment.starts[begin - 1], before + data, segment.lines[0])}
    expected = events_of(segment, begin, after)
    if following is not None:
        files[following.number] = Piece(0, b"".join(following.lines[:4]))
        expected |= events_of(following, 1, 4)
    return Window(files, segment.cursor(begin), expected)


def events_of(segment: Segment, begin: int, end: int) -> dict[int, bytes]:
    """Return the events among the lines from *begin* to *end*, without newlines, by seq."""
    return {segment.seqs[at]: segment.lines[at][:-1] for at in range(begin, end) if segment.is_event(at)}


def on_disk(run: Path, log: Log, changed: Mapping[int, bytes | None], start: Cursor | None = None) -> Verdict:
    """Return what `RunReader` says of real files.

    Args:
        run: a directory that holds what an earlier call left, or nothing.
        changed: content of segments that are not as they were, by number; None takes one away.
        start: a consumer's cursor; what lies before it is not read, and not missed.
    """
    for segment in log.segments:
        data = changed.get(segment.number, segment.data)
        if data is None:
            SegmentName(WRITER_A, segment.number).path(run / "log").unlink(missing_ok=True)
        else:
            put(run, segment.number, data)
    return read_run(run, log, start)


def read_run(run: Path, log: Log, start: Cursor | None = None) -> Verdict:
    """Return what `RunReader` says of the run that lies there; its events are compared decoded, too."""
    reader = RunReader(run, start=Checkpoint(cursors={WRITER_A: start}) if start else None)
    lines: list[bytes] = []
    decoded: list[int] = []
    for part in reader.slices():
        count = len(part.events)
        lines += part.block.lines[part.stop - count : part.stop]
        decoded += [event.seq for event in part.events]
    tails = [finding for one in reader.writers.values() for finding in one.tail_findings()]
    expected = {seq: line for seq, line in log.lines.items() if start is None or seq >= start.seq}
    found = judge(expected, lines, reader.findings + tails)
    return found._replace(wrong=found.wrong + tuple(_differing(decoded, lines)))


def _differing(decoded: list[int], lines: list[bytes]) -> list[int]:
    return [seq for seq, line in zip(decoded, lines, strict=True) if seq != seq_of(line)]
