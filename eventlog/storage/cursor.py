"""Places in a log, and the checkpoints in which consumers keep them."""

from __future__ import annotations

import msgspec

NO_CRC = "00000000"


class Cursor(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A place in one writer's log, between two lines.

    Attributes:
        segment: number of the segment, from 1.
        offset: bytes from the start of the segment.
        seq: seq of the event that comes next.
        crc: crc that stands on the line before, which proves the place with one read; `NO_CRC` at 0.
    """

    segment: int
    offset: int
    seq: int
    crc: str


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a consumer has come: a cursor for each writer."""

    cursors: dict[str, Cursor] = {}

    def later(self, other: Checkpoint | None) -> Checkpoint:
        """Return the later of both places, writer by writer."""
        if other is None:
            return self
        cursors = dict(self.cursors)
        for writer, cursor in other.cursors.items():
            mine = cursors.get(writer)
            if mine is None or (cursor.seq, cursor.segment, cursor.offset) > (
                mine.seq,
                mine.segment,
                mine.offset,
            ):
                cursors[writer] = cursor
        return Checkpoint(cursors=cursors)
