"""Events to lines and back."""

from __future__ import annotations

from zlib import crc32

import msgspec
import pytest

from eventlog.codec import (
    SUFFIX_BYTES,
    decode,
    decode_lines,
    encode_fields,
    encode_line,
    seq_of,
    stored_crc,
    verifies,
)
from eventlog.events import KNOWN, Metrics, Note, UnknownEvent, type_name

LINE = b'{"seq":3,"ts":5,"type":"metrics","step":1,"data":{"loss":0.5}'


def test_line_is_json_with_seq_first_and_crc_last() -> None:
    """The exact bytes of a line are the format."""
    line, crc = encode_line(Metrics(step=1, data={"loss": 0.5}), seq=3, ts=5, seed=7)

    assert line == LINE + b',"crc":"%08x"}\n' % crc
    assert crc == crc32(LINE, 7)


def test_suffix_has_a_fixed_size() -> None:
    """A reader verifies by slicing: 18 bytes before the newline, leading zeros included."""
    for seed in range(200):
        line, crc = encode_line(Note(), seq=0, ts=0, seed=seed)
        assert line[-SUFFIX_BYTES - 1 :] == b',"crc":"%08x"}\n' % crc


def test_fields_leave_out_defaults_seq_and_time() -> None:
    """What an event does not say takes no room."""
    assert encode_fields(Metrics(seq=4, ts=9)) == b'{"type":"metrics"}'


@pytest.mark.parametrize("digits", [b"ABCDEF01", b"abcdef0", b"abcdef0g", b" bcdef01", b"+bcdef01"])
def test_crc_is_compared_as_bytes(digits: bytes) -> None:
    """`int(x, 16)` would take A for a, a sign and a space: none of them is a crc."""
    assert stored_crc(b'{"seq":0,"crc":"' + digits + b'"}') is None


def test_line_verifies_with_its_own_seed_only() -> None:
    """The seed chains a line to the one before."""
    line, _ = encode_line(Note(text="a"), seq=0, ts=0, seed=7)

    assert verifies(line[:-1], 7)
    assert not verifies(line[:-1], 8)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"ts":0}', b'{"seq":}', b'{"seq":-1,"ts":0}', b'{"seq":1.5,'])
def test_seq_that_is_not_a_number_is_an_error(line: bytes) -> None:
    """Only a line that begins with a whole, non-negative seq is one of ours."""
    with pytest.raises(ValueError, match="does not begin with its seq"):
        seq_of(line)


def test_unknown_type_is_kept_raw() -> None:
    """An event of a later version is passed on as the bytes that lie in the log."""
    raw = b'{"seq":3,"ts":5,"type":"telepathy","thought":"x"}'

    assert decode(raw) == UnknownEvent(seq=3, ts=5, type="telepathy", raw=raw)


def test_known_type_of_another_shape_is_kept_raw() -> None:
    """A shape that a later version gave to a known type stops nobody."""
    raw = b'{"seq":3,"ts":5,"type":"metrics","data":[1]}'

    assert decode(raw) == UnknownEvent(seq=3, ts=5, type="metrics", raw=raw)


def test_unknown_field_is_passed_over() -> None:
    """A field may be added by a later version; older readers do not mind."""
    assert decode(b'{"seq":3,"ts":5,"type":"note","text":"a","mood":"good"}') == Note(seq=3, ts=5, text="a")


@pytest.mark.parametrize("line", [b"", b"{", b"null", b"[]", b'{"seq":0}'])
def test_what_is_no_event_is_an_error(line: bytes) -> None:
    """Decoding a single line that is no event says so."""
    with pytest.raises(msgspec.MsgspecError):
        decode(line)


def test_many_lines_decode_as_each_alone() -> None:
    """One strange line among many changes nothing for the others."""
    lines = [b'{"seq":%d,"ts":5,"type":"note"}' % i for i in range(3)]
    lines.insert(1, b'{"seq":9,"ts":5,"type":"telepathy"}')
    lines.append(b'{"seq":10,"what":1}')

    events = decode_lines(lines)

    assert events[:4] == [decode(line) for line in lines[:4]]
    assert events[4] == UnknownEvent(seq=10, ts=0, type="?", raw=lines[4])


def test_types_have_names_of_their_own() -> None:
    """A name on disk means one struct for ever."""
    tags = [str(kind.__struct_config__.tag) for kind in KNOWN]

    assert len(set(tags)) == len(tags)
    assert type_name(Note()) == "note"
