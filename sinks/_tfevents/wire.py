"""Protobuf messages of event files, written by hand, and the few parts of them that are read again.

Fields may stand in any order in a message, and an optional one that has its default may be left out.

Source: tensorboard/compat/proto (event, summary, tensor) and tensorboard/plugins/hparams/plugin_data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from mmap import mmap
from typing import NamedTuple

from sinks._tfevents.crc32c import crc32c, masked

FILE_VERSION = b"brain.Event:1"
WRITER = b"evlog"
MAX_STEP, MIN_STEP = (1 << 63) - 1, -(1 << 63)
_UINT64 = (1 << 64) - 1
_HEAD, _DOUBLE, _FLOAT = struct.Struct("<QI"), struct.Struct("<d"), struct.Struct("<f")
_DT_FLOAT, _DT_DOUBLE, _DT_STRING = 1, 2, 7
_TENSOR, _BLOBS = 2, 3
_WAV = 11

Field = tuple[int, int | bytes]
"""Number of a field and what it holds: an int for a varint, bytes for all else."""


def varint(number: int) -> bytes:
    """Return *number* (64 bits, negative ones as in two's complement) as protobuf writes it."""
    number &= _UINT64
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def block(number: int, data: bytes) -> bytes:
    """Return a field that holds *data*: bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def whole(number: int, value: int) -> bytes:
    """Return a field that holds an int."""
    return varint(number << 3) + varint(value)


def double(number: int, value: float) -> bytes:
    """Return a field that holds a float of 64 bits."""
    return varint(number << 3 | 1) + struct.pack("<d", value)


def encoded(text: str) -> bytes:
    """Return *text* as UTF-8; halves of surrogate pairs as escapes."""
    return text.encode(errors="backslashreplace")


def framed(payload: bytes) -> bytes:
    """Return *payload* as a record."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (
            length,
            struct.pack("<I", masked(crc32c(length))),
            payload,
            struct.pack("<I", masked(crc32c(payload))),
        )
    )


# --- events --------------------------------------------------------------------------------------------


def version_event(t_us: int) -> bytes:
    """Return the first message of a file.

    Version 1 is meant: TensorBoard's Python reader then drops what a tag has at or after a step that comes
    again, tag by tag, as its data server always does. With version 2 it drops only on request, and then
    the later points of *all* tags (`_MaybePurgeOrphanedData` in its plugin_event_accumulator.py).
    """
    return double(1, t_us / 1e6) + block(3, FILE_VERSION) + block(10, block(1, WRITER))


def rewind_event(t_us: int) -> bytes:
    """Return a message without values, at the greatest step.

    After it, any event of the Python reader's is one whose step came back; see `version_event`. To
    everything else it means nothing.
    """
    return double(1, t_us / 1e6) + whole(2, MAX_STEP) + block(5, b"")


def value_event(tag: str, value: bytes, step: int, t_us: int) -> bytes:
    """Return a message that holds one value of a tag."""
    return double(1, t_us / 1e6) + whole(2, step) + block(5, block(1, block(1, encoded(tag)) + value))


# --- values: the fields of a `Summary.Value` besides its tag ---------------------------------------------


def text_value(text: bytes) -> bytes:
    """Return a text (UTF-8) for the Text page, which reads it as Markdown."""
    # Without dimensions: a vector of texts would be put into a table.
    return _metadata(b"text", b"") + block(8, whole(1, _DT_STRING) + block(2, b"") + block(8, text))


def histogram_cells(edges: Sequence[float], counts: Sequence[float]) -> bytes:
    """Return left edge, right edge and count of each bucket; ``len(edges) == len(counts) + 1``."""
    cells = [cell for bucket in zip(edges, edges[1:], counts, strict=False) for cell in bucket]
    return struct.pack(f"<{len(cells)}d", *cells)


def histogram_value(cells: bytes) -> bytes:
    """Return the buckets that `histogram_cells` made."""
    shape = block(2, block(2, whole(1, len(cells) // 24)) + block(2, whole(1, 3)))
    return _metadata(b"histograms", b"") + block(8, whole(1, _DT_DOUBLE) + shape + block(4, cells))


def image_value(data: bytes, width: int, height: int) -> bytes:
    """Return an image, encoded as it lies in its file."""
    return block(4, whole(1, height) + whole(2, width) + whole(3, 3) + block(4, data))


def audio_value(data: bytes, *, is_wav: bool) -> bytes:
    """Return a sound, encoded as it lies in its file.

    Not as a `Summary.Audio`: the data server would give that to browsers without a type.
    """
    shape = block(2, block(2, whole(1, 1)))
    encoding = whole(2, _WAV) if is_wav else b""
    return _metadata(b"audio", encoding, _BLOBS) + block(8, whole(1, _DT_STRING) + shape + block(8, data))


def _metadata(plugin: bytes, content: bytes, data_class: int = _TENSOR) -> bytes:
    return block(9, block(1, block(1, plugin) + block(2, content)) + whole(4, data_class))


# --- hparams ---------------------------------------------------------------------------------------------

START_TAG, END_TAG = "_hparams_/session_start_info", "_hparams_/session_end_info"


def session_start(hparams: Mapping[str, bool | float | str], t_us: int) -> bytes:
    """Return the value that says with which params a run began."""
    entries = b"".join(
        block(1, block(1, encoded(name)) + block(2, _struct_value(value))) for name, value in hparams.items()
    )
    return _hparams(block(3, entries + double(5, t_us / 1e6)))


def session_end(*, is_success: bool, t_us: int) -> bytes:
    """Return the value that says how a run ended."""
    return _hparams(block(4, whole(1, 1 if is_success else 2) + double(2, t_us / 1e6)))


def _hparams(content: bytes) -> bytes:
    nothing = block(8, whole(1, _DT_FLOAT) + block(2, block(2, whole(1, 0))))
    return _metadata(b"hparams", content) + nothing


def _struct_value(value: bool | float | str) -> bytes:
    if isinstance(value, bool):
        return whole(4, value)
    if isinstance(value, str):
        return block(3, encoded(value))
    return double(2, value)


def hparams_of(value: bytes) -> dict[str, bool | float | str]:
    """Return what `session_start` was given, from the whole `Summary.Value`."""
    found: dict[str, bool | float | str] = {}
    for number, entry in fields(_inside(value, 9, 1, 2, 3)):
        if number == 1 and isinstance(entry, bytes):
            pair = dict(fields(entry))
            name, content = pair.get(1, b""), pair.get(2, b"")
            assert isinstance(name, bytes)
            assert isinstance(content, bytes)
            found[name.decode()] = _plain(content)
    return found


def _plain(content: bytes) -> bool | float | str:
    for number, part in fields(content):
        if isinstance(part, int):
            return bool(part)
        return part.decode() if number == 3 else float(struct.unpack("<d", part)[0])
    return ""


def _inside(message: int | bytes, *path: int) -> bytes:
    for wanted in path:
        message = dict(fields(message)).get(wanted, b"") if isinstance(message, bytes) else b""
    return message if isinstance(message, bytes) else b""


# --- reading ----------------------------------------------------------------------------------------------


class DamagedRecordError(ValueError):
    """A record's checksum or structure is wrong, or its end is missing."""


def records(data: bytes | mmap, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield where each record from byte *at* on ends, and its payload, both checksums checked.

    Raises:
        DamagedRecordError: at the first that is not whole; those before it were yielded.
    """
    while at < len(data):
        if at + 16 > len(data):
            raise DamagedRecordError(f"the record at byte {at} is cut off")
        size, check = _HEAD.unpack_from(data, at)
        if masked(crc32c(data[at : at + 8])) != check:
            raise DamagedRecordError(f"the record at byte {at} has a damaged length")
        end = at + 12 + size
        if end + 4 > len(data):
            raise DamagedRecordError(f"the record at byte {at} is cut off")
        payload = data[at + 12 : end]
        if masked(crc32c(payload)) != int.from_bytes(data[end : end + 4], "little"):
            raise DamagedRecordError(f"the record at byte {at} is damaged")
        at = end + 4
        yield at, payload


def fields(message: bytes) -> Iterator[Field]:
    """Yield the fields of *message*; floats as their bytes."""
    at, size = 0, len(message)
    while at < size:
        key, at = read_varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = read_varint(message, at)
            yield key >> 3, value
            continue
        length = 8 if kind == 1 else 4
        if kind == 2:
            length, at = read_varint(message, at)
        yield key >> 3, message[at : at + length]
        at += length


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at byte *at* and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7


class ReadValue(NamedTuple):
    """One value of a tag, as it lies in a file.

    Attributes:
        kind: ``scalar``, ``text``, ``histogram``, ``image``, ``audio`` or empty.
        content: the number of a scalar; else the text, cells or file.
        raw: the whole `Summary.Value`.
    """

    kind: str
    tag: str
    step: int
    t_us: int
    content: float | bytes
    raw: bytes


def read_values(payload: bytes) -> Iterator[ReadValue]:
    """Yield the values of one event."""
    step, t_us = 0, 0
    found: list[bytes] = []
    for number, part in fields(payload):
        if isinstance(part, int):
            step = part - (1 << 64) if part > MAX_STEP else part
        elif number == 1:
            t_us = round(float(_DOUBLE.unpack(part)[0]) * 1e6)
        elif number == 5:
            found = [value for _, value in fields(part) if isinstance(value, bytes)]
    for raw in found:
        parts = dict(fields(raw))
        tag = parts[1]
        assert isinstance(tag, bytes)
        kind, content = _content(parts)
        yield ReadValue(kind, tag.decode(), step, t_us, content, raw)


def _content(parts: Mapping[int, int | bytes]) -> tuple[str, float | bytes]:
    """Return kind and content of a value."""
    number = parts.get(2)
    if isinstance(number, bytes):
        return "scalar", float(_FLOAT.unpack(number)[0])
    if 4 in parts:
        return "image", _inside(parts[4], 4)
    plugin, tensor = _inside(parts.get(9, b""), 1, 1), parts.get(8, b"")
    if plugin == b"histograms":
        return "histogram", _inside(tensor, 4)
    strings = [part for number, part in fields(tensor) if number == 8] if isinstance(tensor, bytes) else []
    if plugin in {b"text", b"audio"} and strings and isinstance(strings[0], bytes):
        return plugin.decode(), strings[0]
    return "", b""
