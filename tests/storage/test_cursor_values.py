"""Cursors and checkpoints as values."""

from __future__ import annotations

import msgspec
import pytest

from eventlog.storage.cursor import NO_CRC, Checkpoint, Cursor
from tests.logs import WRITER_A

CURSOR = Cursor(segment=1, offset=100, seq=1, crc="0000abcd")


@pytest.mark.parametrize("value", [CURSOR, Checkpoint()])
def test_place_cannot_be_changed(value: msgspec.Struct) -> None:
    """Whoever holds a place holds it: a reader that goes on makes a new one."""
    with pytest.raises(AttributeError):
        setattr(value, value.__struct_fields__[0], 2)


def test_checkpoint_of_nothing_is_an_empty_object() -> None:
    """What has its default is left out of the file."""
    assert msgspec.json.encode(Checkpoint()) == b"{}"


def test_place_that_both_have_stays_mine() -> None:
    """Of two equal places neither is later, whatever the other one says of its crc."""
    mine = Checkpoint(cursors={WRITER_A: CURSOR})
    other = Checkpoint(cursors={WRITER_A: msgspec.structs.replace(CURSOR, crc=NO_CRC)})

    assert mine.later(other) == mine


@pytest.mark.parametrize("later", [{"segment": 2, "offset": 9}, {"offset": 150}, {"seq": 2, "segment": 0}])
def test_later_place_counts_seq_before_segment_before_offset(later: dict[str, int]) -> None:
    """A segment that repeats events is later than the one that it repeats."""
    mine = Checkpoint(cursors={WRITER_A: CURSOR})
    other = Checkpoint(cursors={WRITER_A: msgspec.structs.replace(CURSOR, **later)})

    assert mine.later(other) == other
    assert other.later(mine) == other
