"""What reading a segment gives: blocks of verified lines, and findings of what is wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from eventlog.codec import decode_lines, stored_crc
from eventlog.events import AnyEvent
from eventlog.storage.cursor import NO_CRC, Cursor
from eventlog.storage.layout import SegmentName


class Problem(StrEnum):
    """What a reader can find wrong."""

    TORN = "torn tail"
    DAMAGED = "damaged range"
    MISSING = "missing events"
    CUT = "cut"
    UNSUPPORTED = "newer format"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with a log.

    Attributes:
        start, end: bytes of the segment, half open.
        first_seq, last_seq: the events that are lost by it, inclusive, if that is known and any are.
    """

    problem: Problem
    writer: str
    segment: int
    start: int
    end: int
    first_seq: int | None = None
    last_seq: int | None = None
    detail: str = ""

    @property
    def is_loss(self) -> bool:
        """Tell whether something that was there is not any more; a torn tail never was whole."""
        return self.problem is not Problem.TORN


class Block(NamedTuple):
    """Consecutive verified lines of one segment, without frames.

    Attributes:
        lines: without their newlines.
        end_offset: byte after the last line's newline.
        format: of the segment, for `eventlog.upcast`.
        is_verified: False if the segment carries no checksums.
    """

    name: SegmentName
    first_seq: int
    lines: list[bytes]
    end_offset: int
    format: int
    is_verified: bool

    @property
    def end_seq(self) -> int:
        """Return the seq after the last line."""
        return self.first_seq + len(self.lines)

    def events(self) -> list[AnyEvent]:
        """Return the decoded lines.

        Raises:
            msgspec.MsgspecError: a line verifies and is not an event; only a broken writer does that.
        """
        return decode_lines(self.lines, from_format=self.format)

    def cursor_after(self, count: int) -> Cursor:
        """Return the place after the first *count* lines, 1 to ``len(lines)``."""
        rest = sum(len(line) + 1 for line in self.lines[count:])
        crc = stored_crc(self.lines[count - 1])
        return Cursor(
            segment=self.name.segment,
            offset=self.end_offset - rest,
            seq=self.first_seq + count,
            crc=NO_CRC if crc is None else f"{crc:08x}",
        )

    def before(self, seq: int) -> Block:
        """Return the lines before *seq*."""
        keep = seq - self.first_seq
        if keep >= len(self.lines):
            return self
        cut = sum(len(line) + 1 for line in self.lines[max(0, keep) :])
        return self._replace(lines=self.lines[: max(0, keep)], end_offset=self.end_offset - cut)

    def after(self, seq: int) -> Block:
        """Return the lines from *seq* on."""
        skip = seq - self.first_seq
        if skip <= 0:
            return self
        return self._replace(first_seq=self.first_seq + skip, lines=self.lines[skip:])
