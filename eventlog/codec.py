"""Events to lines and back, and the checksum that chains the lines of a segment.

A line is the event as JSON without its closing brace (the *body*), then the suffix
``,"crc":"<8 hex digits>"}`` and a newline. The crc is ``zlib.crc32(body, seed)``, where the seed is the
crc *as stored* on the line before and 0 for a segment's first line. The suffix always has 18 bytes
before the newline, so a reader verifies by slicing, without parsing. Compare the digits as bytes: a
parsed integer would accept ``A`` for ``a``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any
from zlib import crc32

import msgspec

from eventlog.events import FORMAT, KNOWN, AnyEvent, Event, UnknownEvent
from eventlog.upcast import upcast

SUFFIX_BYTES = 18
MAX_LINE_BYTES = 1 << 20

_encoder = msgspec.json.Encoder()
_union = reduce(or_, KNOWN)
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_union)
# The library raises these as they are: bytes that are no text, and values nested thousands deep.
_NO_JSON = (UnicodeDecodeError, RecursionError)
_LARGEST_SEQ = (1 << 63) - 1
_KNOWN_TAGS = frozenset(str(kind.__struct_config__.tag) for kind in KNOWN)


class _Envelope(msgspec.Struct, gc=False):
    seq: int
    ts: int
    type: str


_envelope_decoder = msgspec.json.Decoder(_Envelope)


def encode_fields(event: Event) -> bytes:
    """Return *event* as a JSON object that begins with its type; seq and ts are left out.

    Raises:
        TypeError, ValueError, RecursionError: a field holds what JSON cannot.
    """
    if event.seq != -1 or event.ts != 0:
        event = msgspec.structs.replace(event, seq=-1, ts=0)
    return _encoder.encode(event)


def body_of(fields: bytes, seq: int, ts: int) -> bytes:
    """Return the body of a line: *fields* with seq and ts in front, without the closing brace."""
    return b'{"seq":%d,"ts":%d,%b' % (seq, ts, fields[1:-1])


def close_line(body: bytes, seed: int) -> tuple[bytes, int]:
    """Return the whole line, newline included, and its crc."""
    crc = crc32(body, seed)
    return b'%b,"crc":"%08x"}\n' % (body, crc), crc


def encode_line(event: Event, *, seq: int, ts: int, seed: int) -> tuple[bytes, int]:
    """Return the line of *event* and its crc, which is the seed of the next line."""
    return close_line(body_of(encode_fields(event), seq, ts), seed)


def stored_crc(line: bytes) -> int | None:
    """Return the crc that *line* (without its newline) carries, or None if it carries none."""
    if line[-SUFFIX_BYTES:-10] != b',"crc":"' or line[-2:] != b'"}':
        return None
    digits = line[-10:-2]
    if digits.strip(b"0123456789abcdef"):
        return None
    return int(digits, 16)


def verifies(line: bytes, seed: int) -> bool:
    """Tell whether *line* (without its newline) carries the crc of its own body, seeded with *seed*."""
    return line[-SUFFIX_BYTES:] == b',"crc":"%08x"}' % crc32(line[:-SUFFIX_BYTES], seed)


def seq_of(line: bytes) -> int:
    """Return the seq of a line, which is always its first field.

    Raises:
        ValueError: the line does not begin with one.
    """
    if line[:7] != b'{"seq":':
        raise ValueError("the line does not begin with its seq")
    end = line.find(b",", 7, 32)
    digits = line[7:end]
    if end < 0 or not digits.isdigit() or (seq := int(digits)) > _LARGEST_SEQ:
        raise ValueError("the line does not begin with its seq")
    return seq


def decode(line: bytes, *, from_format: int = FORMAT) -> AnyEvent:
    """Return the event of one line. A type that this version does not know is kept raw.

    Raises:
        msgspec.MsgspecError: not JSON, or not an event.
    """
    try:
        if from_format == FORMAT:
            try:
                event: AnyEvent = _decoder.decode(line)
                return event
            except msgspec.ValidationError:
                pass
        return _decode_slowly(line, from_format)
    except _NO_JSON as error:
        raise msgspec.DecodeError(str(error)) from error


def _decode_slowly(line: bytes, from_format: int) -> AnyEvent:
    envelope = _envelope_decoder.decode(line)
    if envelope.type in _KNOWN_TAGS or from_format < FORMAT:
        try:
            fields = upcast(msgspec.json.decode(line, type=dict[str, object]), from_format)
            event: AnyEvent = msgspec.convert(fields, _union)
            return event
        except msgspec.ValidationError:
            # A later version gave this type another shape: pass it on as it lies.
            pass
    return UnknownEvent(seq=envelope.seq, ts=envelope.ts, type=envelope.type, raw=line)


def decode_lines(lines: Sequence[bytes], *, from_format: int = FORMAT) -> list[AnyEvent]:
    """Return the events of *lines* (each verified, without its newline), as `decode` would, but faster.

    A line that is no event at all, which only a broken writer leaves, is kept raw with the type ``?``.
    """
    if from_format == FORMAT:
        try:
            events: list[AnyEvent] = _decoder.decode_lines(b"\n".join(lines))
        except (msgspec.MsgspecError, *_NO_JSON):
            pass
        else:
            # An object that a broken writer left open goes on in the next line; places are counted in lines.
            if len(events) == len(lines):
                return events
    return [_decode_or_keep(line, from_format) for line in lines]


def _decode_or_keep(line: bytes, from_format: int) -> AnyEvent:
    try:
        return decode(line, from_format=from_format)
    except msgspec.MsgspecError:
        return UnknownEvent(seq=_seq_if_any(line), ts=0, type="?", raw=line)


def _seq_if_any(line: bytes) -> int:
    try:
        return seq_of(line)
    except ValueError:
        return -1
