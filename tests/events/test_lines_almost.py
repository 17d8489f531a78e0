"""Lines that differ in one byte from what every line begins or ends with."""

from __future__ import annotations

import pytest

from eventlog.codec import encode_fields, seq_of, stored_crc
from eventlog.events import Note
from eventlog.storage.frames import seq_if_any

LINE = b'{"seq":12,"ts":5,"type":"note","crc":"1234abcd"}'


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("at", [*range(7), 9, *range(len(LINE) - 18, len(LINE) - 10), -2, -1])
def test_line_with_another_byte_in_a_fixed_place_is_none(at: int, change: int) -> None:
    """It is larger or smaller than what should stand there: either way no seq, or no checksum."""
    data = bytearray(LINE)
    data[at] += change
    line = bytes(data)

    if 0 <= at < 10:
        with pytest.raises(ValueError, match="does not begin with its seq"):
            seq_of(line)
        assert seq_if_any(line) is None
    else:
        assert stored_crc(line) is None


def test_line_with_every_byte_in_its_place_is_one() -> None:
    """What the others are compared with."""
    assert (seq_of(LINE), stored_crc(LINE)) == (12, 0x1234ABCD)


@pytest.mark.parametrize("at", range(len(LINE) - 10, len(LINE) - 2))
def test_digit_of_a_checksum_is_lower_case(at: int) -> None:
    """In each of the eight places."""
    data = bytearray(LINE)
    data[at] = ord("F")

    assert stored_crc(bytes(data)) is None


@pytest.mark.parametrize(("seq", "ts"), [(1, 0), (-1, 2), (2, 0), (-3, -2)])
def test_fields_hold_neither_seq_nor_time(seq: int, ts: int) -> None:
    """Whichever of the two an event has, it is left out."""
    assert encode_fields(Note(seq=seq, ts=ts)) == b'{"type":"note"}'
