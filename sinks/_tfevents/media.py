"""Tells which files TensorBoard shows, and how large an image is."""

from __future__ import annotations

import mimetypes
import struct
from typing import Literal, NamedTuple

from eventlog.events import Media

MAX_MEDIA_BYTES = 32 << 20
"""Larger files are only named: TensorBoard holds what it shows in memory."""

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/bmp", "image/webp"})
"""What browsers show without being told the type: TensorBoard does not know them all."""


class Size(NamedTuple):
    """Of an image, in pixels."""

    width: int
    height: int


def mime_type(event: Media) -> str:
    """Return what kind of file *event* names: as it says, or by the file's ending."""
    return event.mime_type or mimetypes.guess_type(event.path or "")[0] or ""


def kind_of(event: Media) -> Literal["image", "audio"] | None:
    """Return as what TensorBoard shows the file of *event*; None if it cannot, or the file is too large."""
    if event.path is None or (event.size_bytes or 0) > MAX_MEDIA_BYTES:
        return None
    if event.media_type == "image":
        return "image" if mime_type(event) in IMAGES else None
    return "audio" if event.media_type == "audio" else None


def image_size(data: bytes) -> Size:
    """Return the size of a PNG, JPEG, GIF, BMP or WebP image; zeros if that cannot be told."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return Size(*_unpack(">II", data, 16))
    if data.startswith((b"GIF87a", b"GIF89a")):
        return Size(*_unpack("<HH", data, 6))
    if data.startswith(b"BM"):
        width, height = _unpack("<ii", data, 18)
        return Size(width, abs(height))  # a negative one: the rows stand from top to bottom
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    return Size(0, 0)


def _unpack(layout: str, data: bytes, at: int) -> tuple[int, int]:
    try:
        first, second = struct.unpack_from(layout, data, at)
    except struct.error:
        return 0, 0
    return first, second


def _jpeg(data: bytes) -> Size:
    """Walk the segments to the frame header (SOF0 to SOF15 without DHT, JPG and DAC)."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = _unpack(">HH", data, at + 5)
            return Size(width, height)
        if marker == 0xFF:
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return Size(0, 0)


def _webp(data: bytes) -> Size:
    kind = data[12:16]
    if kind == b"VP8X":
        return Size(1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return Size(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    width, height = _unpack("<HH", data, 26)
    return Size(width & 0x3FFF, height & 0x3FFF)
