"""What holds for every event."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from eventlog.codec import decode, encode_line, seq_of, verifies
from eventlog.events import Event
from eventlog.ids import check_name, safe_name
from tests.strategies import any_event


@given(event=any_event(), seq=st.integers(0, 2**62), ts=st.integers(0, 2**62), seed=st.integers(0, 2**32 - 1))
def test_decoded_line_is_the_encoded_event(event: Event, seq: int, ts: int, seed: int) -> None:
    """An event of any type comes back as it was, with the seq and the time of its line."""
    line, crc = encode_line(event, seq=seq, ts=ts, seed=seed)

    again = decode(line[:-1])

    assert isinstance(again, type(event))
    assert (again.seq, again.ts) == (seq, ts)
    assert encode_line(again, seq=seq, ts=ts, seed=seed) == (line, crc)
    assert all(
        getattr(again, name) == getattr(event, name)
        for name in event.__struct_fields__
        if name not in {"seq", "ts"}
    )


@given(event=any_event(), seq=st.integers(0, 2**62), seed=st.integers(0, 2**32 - 1))
def test_line_is_one_line_of_plain_json(event: Event, seq: int, seed: int) -> None:
    """Any tool can read it: no newline and no NUL inside, seq first, crc last, checked by slicing."""
    line, crc = encode_line(event, seq=seq, ts=0, seed=seed)

    fields = json.loads(line)
    assert line.count(b"\n") == 1
    assert b"\0" not in line
    assert next(iter(fields)) == "seq"
    assert list(fields)[-1] == "crc"
    assert (fields["seq"], fields["crc"]) == (seq, f"{crc:08x}")
    assert seq_of(line) == seq
    assert verifies(line[:-1], seed)


@given(line=st.binary(max_size=60))
def test_bytes_that_are_no_line_do_not_verify(line: bytes) -> None:
    """Noise is never taken for an event."""
    assert not verifies(line, 0)


@given(text=st.text(st.characters(), max_size=300))
def test_derived_name_is_always_good(text: str) -> None:
    """Whatever the text, the name that is derived from it passes the check."""
    assert check_name("name", safe_name(text))
