"""Checkpoints: places in a log, compared."""

from __future__ import annotations

from eventlog.storage.cursor import Checkpoint, Cursor
from tests.logs import WRITER_A, WRITER_B


def cursor(seq: int, segment: int = 1) -> Cursor:
    """Return a cursor before event *seq*."""
    return Cursor(segment=segment, offset=seq * 100, seq=seq, crc="0000abcd")


def test_later_of_two_checkpoints_is_taken_writer_by_writer() -> None:
    """Each writer's later cursor counts; a writer that one of them lacks is kept."""
    mine = Checkpoint(cursors={WRITER_A: cursor(5)})
    other = Checkpoint(cursors={WRITER_A: cursor(3), WRITER_B: cursor(7)})

    assert mine.later(other).cursors == {WRITER_A: cursor(5), WRITER_B: cursor(7)}
    assert other.later(mine).cursors == {WRITER_A: cursor(5), WRITER_B: cursor(7)}
    assert mine.later(None) == mine
