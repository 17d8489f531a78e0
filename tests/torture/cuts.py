"""A log cut at every byte, with zeros from every byte to the end, and with a sector of them."""

from __future__ import annotations

from collections.abc import Iterator

from eventlog.storage.block import Finding, Problem
from tests.torture.memory import Piece
from tests.torture.reading import Verdict, Window, events_of, judge, window
from tests.torture.specimen import Log, Segment, Standing

SECTOR_BYTES = 512
ZEROS = 64
"""Stands for all zeros to the end of the file: nothing but their being there is looked at."""
CONFIRMING = 4


class Cuts:
    """The cuts of one segment."""

    def __init__(self, log: Log, number: int) -> None:
        self.segment = log.segments[number - 1]
        self._following = log.segments[number] if number < len(log.segments) else None
        self._before = log.segments[number - 2] if number > 1 else None
        self._standing = Standing(self.segment)
        self._end = self.segment.cursor(len(self.segment.lines))

    @property
    def is_last(self) -> bool:
        """Tell whether no segment follows."""
        return self._following is None

    def cut(self, line: int, at: int, *, zeros: int = 0) -> Verdict:
        """Return what is read when the file ends after *at* bytes of a line, or is *zeros* from there on.

        Of what is lost, only the event of this line is expected in the verdict.
        """
        return self._window(line, self.segment.lines[line][:at] + bytes(zeros)).verdict()

    def at_a_cursor(self, line: int, at: int) -> Verdict:
        """Return what a consumer finds that had read everything before the cut."""
        data = self.segment.lines[line][:at]
        before = self.segment.lines[line - 1] if line else b""
        piece = Piece(self.segment.starts[line] - len(before), before + data, self.segment.lines[0])
        return Window({self.segment.number: piece}, self._end, {}).verdict()

    def _window(self, line: int, data: bytes) -> Window:
        if line:
            return window(self.segment, data, line=line, after=line + 1, following=self._following)
        before, files, expected = self._before, {self.segment.number: Piece(0, data)}, {}
        if self._following is not None:
            files[self._following.number] = Piece(0, b"".join(self._following.lines[:2]))
            expected = events_of(self._following, 1, 2)
        if before is None:
            return Window(files, None, expected)
        last, end = len(before.lines) - 2, len(before.lines)
        where = window(before, b"".join(before.lines[last:]), line=last, after=end, following=None)
        return Window(where.files | files, where.start, where.expected | expected)

    def hole(self, line: int, at: int) -> tuple[Verdict, int] | None:
        """Return what is read when a sector from *at* bytes into a line is zeros, and how many lines it hits.

        None where the segment ends so near that `cut` with zeros is the same.
        """
        segment = self.segment
        begin = segment.starts[line] + at
        after = line
        while after < len(segment.lines) and segment.starts[after] < begin + SECTOR_BYTES:
            after += 1
        end = after + CONFIRMING
        if line == 0 or end > len(segment.lines):
            return None
        region = b"".join(segment.lines[line:end])
        reader = self._standing.reader_at(
            line, region[:at] + bytes(SECTOR_BYTES) + region[at + SECTOR_BYTES :]
        )
        read = [one for block in reader.read() for one in block.lines]
        if not self._standing.is_back_at(reader, end):
            raise AssertionError("the reader is not where it would be without the damage")
        return judge(events_of(segment, line, end), read, reader.findings), after - line


def complaints(verdict: Verdict, cuts: Cuts, line: int, at: int, *, zeros: int = 0) -> Iterator[str]:
    """Yield what a reader should not say, or should have said, of a cut or of zeros to the end."""
    segment = cuts.segment
    if verdict.wrong:
        yield f"invented {verdict.wrong}"
    if verdict.lost != ({segment.seqs[line]} if segment.is_event(line) else set()):
        yield f"lost {sorted(verdict.lost)} of the event at the cut"
    if cuts.is_last:
        yield from _complaints_of_a_tail(verdict.findings, segment, line, at, zeros)
        return
    problems = {finding.problem for finding in verdict.findings if finding.segment == segment.number}
    if not problems & {Problem.CUT, Problem.DAMAGED, Problem.MISSING}:
        yield f"found only {sorted(problems)}"
    first, last = segment.seqs[line], segment.seqs[-1] - 1
    named = {(f.first_seq, f.last_seq) for f in verdict.findings if f.first_seq is not None}
    if named != ({(first, last)} if first <= last else set()):
        yield f"named {named}, lost {first} to {last}"


def _complaints_of_a_tail(
    findings: tuple[Finding, ...], segment: Segment, line: int, at: int, zeros: int
) -> Iterator[str]:
    if not at and not zeros:
        # Exactly behind a line: only who has seen more can know, see `Cuts.at_a_cursor`.
        return
    start = segment.starts[line]
    if len(findings) != 1 or (findings[0].problem, findings[0].start) != (Problem.TORN, start):
        yield f"no torn tail from {start}: {findings}"
    if zeros and not any("NUL" in finding.detail for finding in findings):
        yield f"zeros are not named: {findings}"


def complaints_of_a_cursor(verdict: Verdict) -> Iterator[str]:
    """Yield what is wrong when a consumer's cursor does not show that the log was cut."""
    if not any(finding.problem is Problem.CUT for finding in verdict.findings):
        yield f"a cursor does not show the cut: {verdict.findings}"


def complaints_of_a_hole(verdict: Verdict, hit: int) -> Iterator[str]:
    """Yield what a reader should not say, or should have said, of a sector of zeros that hits *hit* lines."""
    if verdict.wrong:
        yield f"invented {verdict.wrong}"
    if len(verdict.lost) > hit + 1:
        yield f"{len(verdict.lost)} events lost, {hit} were hit"
    if not any("NUL" in f.detail for f in verdict.findings) or verdict.named != verdict.lost:
        yield f"lost {sorted(verdict.lost)}, found {verdict.findings}"
