"""Every bit of a log, flipped: found, confined, named. The reader looks at the lines around it only.

For a flip in the middle of a segment a reader is put before the damaged line, with everything that it
knows there, reads that line and the three behind it, and is then in exactly the state in which it would
be without the damage. From there on it reads the same, so the rest need not be read. At the ends of
segments the last lines of one and the first of the next are read, and `damage` compares both ways
with `RunReader` over real files.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.torture.memory import Piece
from tests.torture.reading import Verdict, Window, events_of, judge, window
from tests.torture.specimen import Log, Segment, Standing

AROUND = 4
"""A flip touches its line, and the next one if it hits a newline or the digits of a crc; then two confirm."""
WORST = 2
"""Events that a flip may cost where it takes a newline away or makes one; elsewhere it is one less."""


def has_room(segment: Segment, line: int) -> bool:
    """Tell whether *line* is an event with enough lines behind it in the same segment."""
    return 1 <= line <= len(segment.lines) - AROUND


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """Return *data* with one bit changed."""
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


class Flips:
    """The flips of one segment."""

    def __init__(self, log: Log, number: int) -> None:
        self.segment = log.segments[number - 1]
        self.following = log.segments[number] if number < len(log.segments) else None
        self._before = log.segments[number - 2] if number > 1 else None
        self._standing = Standing(self.segment)

    def verdict(self, line: int, at: int, bit: int) -> Verdict:
        """Return what is read when bit *bit* of byte *at* of a line is another."""
        if has_room(self.segment, line):
            return self._in_the_middle(line, at, bit)
        return self._at_an_end(line, at, bit)

    def _in_the_middle(self, line: int, at: int, bit: int) -> Verdict:
        segment = self.segment
        region = b"".join(segment.lines[line : line + AROUND])
        reader = self._standing.reader_at(line, flipped(region, at, bit))
        read = [one for block in reader.read() for one in block.lines]
        if not self._standing.is_back_at(reader, line + AROUND):
            raise AssertionError("the reader is not where it would be without the damage")
        return judge(events_of(segment, line, line + AROUND), read, reader.findings)

    def _at_an_end(self, line: int, at: int, bit: int) -> Verdict:
        segment = self.segment
        if line == 0:
            return self._in_the_header(at, bit)
        begin, end = len(segment.lines) - AROUND, len(segment.lines)
        data = b"".join(segment.lines[begin:])
        place = segment.starts[line] - segment.starts[begin] + at
        where = window(segment, flipped(data, place, bit), line=begin, after=end, following=self.following)
        return where.verdict()

    def _in_the_header(self, at: int, bit: int) -> Verdict:
        segment, before = self.segment, self._before
        lines = segment.lines[: 1 + AROUND]
        piece = Piece(0, flipped(b"".join(lines), at, bit))
        expected = events_of(segment, 1, 1 + AROUND)
        if before is None:
            return Window({segment.number: piece}, None, expected).verdict()
        begin, end = len(before.lines) - AROUND, len(before.lines)
        where = window(before, b"".join(before.lines[begin:]), line=begin, after=end, following=None)
        return Window(where.files | {segment.number: piece}, where.start, where.expected | expected).verdict()


def complaints(verdict: Verdict, segment: Segment, line: int, at: int, bit: int) -> Iterator[str]:
    """Yield what a reader should not say, or should have said, of a flip."""
    place = segment.starts[line] + at
    if not verdict.findings:
        yield "not found"
    if verdict.wrong:
        yield f"invented {verdict.wrong}"
    byte = segment.lines[line][at]
    is_newline = 0x0A in (byte, byte ^ 1 << bit)
    if len(verdict.lost) > (WORST if is_newline else WORST - 1):
        yield f"{len(verdict.lost)} events lost"
    if not any(f.segment == segment.number and f.start <= place < f.end for f in verdict.findings):
        yield "no finding covers the damaged byte"
    # At the end of a log nobody knows how many events the damaged bytes were.
    is_last = not segment.is_sealed and line >= len(segment.lines) - 2
    if verdict.named != verdict.lost and not is_last:
        yield f"lost {sorted(verdict.lost)}, named {sorted(verdict.named)}"
