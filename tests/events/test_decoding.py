"""Lines that are not quite what this version writes."""

from __future__ import annotations

import msgspec
import pytest

from eventlog.codec import (
    MAX_LINE_BYTES,
    decode,
    decode_lines,
    encode_fields,
    encode_line,
    seq_of,
    stored_crc,
)
from eventlog.events import FORMAT, Note, UnknownEvent


@pytest.mark.parametrize(("seq", "ts"), [(3, 5), (0, 0), (-1, 5), (-2, 0), (-1, 1), (-1, -1)])
def test_event_that_was_read_has_the_fields_of_a_new_one(seq: int, ts: int) -> None:
    """Seq and time belong to the line, so an event may be logged again as it was read."""
    assert encode_fields(Note(seq=seq, ts=ts, text="a")) == encode_fields(Note(text="a"))


def test_line_carries_the_seed_of_the_next_one() -> None:
    """What a writer chains with is what a reader finds on the line."""
    line, crc = encode_line(Note(text="a"), seq=0, ts=5, seed=0xABCDEF01)

    assert stored_crc(line[:-1]) == crc


@pytest.mark.parametrize("changed", [b"X", b"", b"ABCDEF01", b"1234567g", b"123456789"])
def test_line_whose_suffix_is_not_exact_carries_no_checksum(changed: bytes) -> None:
    """Eight lower-case digits in their place, or none."""
    line = b'{"seq":0,"ts":5,"type":"note","crc":"%b"}' % changed

    assert stored_crc(line) is None
    assert stored_crc(b'{"seq":0,"ts":5,"type":"note","crc":"12345678"} ') is None


def test_whole_lines_decode_at_once_as_each_alone() -> None:
    """The quick way over many lines gives what the slow one does."""
    lines = [encode_line(Note(text=str(seq)), seq=seq, ts=5, seed=seq)[0][:-1] for seq in range(3)]

    assert decode_lines(lines) == [decode(line) for line in lines]


@pytest.mark.parametrize(
    "line",
    [
        b'{"seq":0,"ts":5,"type":"note","text":"\xff"}',
        b'{"seq":0,"ts":5,"type":"params","data":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    ],
    ids=["no text", "nested deeply"],
)
def test_what_the_library_cannot_read_is_no_event(line: bytes) -> None:
    """However strange the bytes are, they are one kind of error."""
    with pytest.raises(msgspec.DecodeError):
        decode(line)


def test_line_of_a_newer_format_is_read_as_far_as_it_is_known() -> None:
    """Shapes that did not change are events; of the others the type is known, and the bytes."""
    known, other = b'{"seq":0,"ts":5,"type":"note","text":"a"}', b'{"seq":1,"ts":5,"type":"note","text":[1]}'

    events = decode_lines([known, other], from_format=FORMAT + 1)

    assert events == [Note(seq=0, ts=5, text="a"), UnknownEvent(seq=1, ts=5, type="note", raw=other)]
    assert [decode(line, from_format=FORMAT + 1) for line in (known, other)] == events


def test_object_that_goes_on_in_the_next_line_is_no_event() -> None:
    """Each line counts for itself, whatever a broken writer made of two."""
    lines = [b'{"seq":7,"ts":5,"type":"note"', b',"text":"a"}']

    assert decode_lines(lines) == [
        UnknownEvent(seq=7, ts=0, type="?", raw=lines[0]),
        UnknownEvent(seq=-1, ts=0, type="?", raw=lines[1]),
    ]


def test_line_and_its_seq_are_no_larger_than_the_format_says() -> None:
    """A line has at most 1 MiB, and a seq fits the integers of other languages."""
    assert MAX_LINE_BYTES == 1_048_576
    assert seq_of(b'{"seq":9223372036854775807,"ts":5') == 9223372036854775807
    with pytest.raises(ValueError, match="does not begin with its seq"):
        seq_of(b'{"seq":9223372036854775808,"ts":5')


@pytest.mark.parametrize(
    "line", [b'{"seq":12}', b'{"seq":1', b'{"seq":,"ts":5', b'{"seq":000000000000000000000000000001,']
)
def test_seq_ends_with_a_comma_near_by(line: bytes) -> None:
    """A line that is nothing but its seq was cut, and one with so many digits is nobody's."""
    with pytest.raises(ValueError, match="does not begin with its seq"):
        seq_of(line)
