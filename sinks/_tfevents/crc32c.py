"""CRC-32C (Castagnoli), which event files use and the standard library lacks.

The checksum is linear: that of a message is the one of the message with some bytes zeroed, XORed with
what each of those bytes adds, and that depends only on the byte and on how many bytes follow it. So what
is constant is summed once, and of many messages with the same constant part all are summed at once, a
byte's place at a time (`columns`).

Source: RFC 3720, appendix B.4, for the polynomial; the mask is TensorFlow's (tsl/lib/hash/crc32c.h).
"""

from __future__ import annotations

from array import array
from functools import cache

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_LONG = 4096
"""From this many bytes on, a table for two bytes at once is worth its making (15 ms, once)."""


def _one(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_one(byte) for byte in range(256)]


@cache
def _pairs() -> list[int]:
    """Return the table for two bytes at once."""
    table = _TABLE
    first = (table[pair & 255] ^ pair >> 8 for pair in range(1 << 16))
    return [table[crc & 255] ^ crc >> 8 for crc in first]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of *data*."""
    crc = 0xFFFFFFFF
    if len(data) >= _LONG:
        pairs, even = _pairs(), len(data) & ~1
        words = array("H", data[:even])
        if _is_big_endian():
            words.byteswap()
        for word in words:
            crc = pairs[(crc ^ word) & 0xFFFF] ^ crc >> 16
        data = data[even:]
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Return *crc* as it stands in a record."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def masked_lanes(crcs: int, ones: int) -> int:
    """Return many sums masked at once.

    Args:
        crcs: each in the low half of 64 bits of one large number.
        ones: the number whose 64-bit parts are all 1.
    """
    rotated = (crcs >> 15 & 0x1FFFF * ones) | (crcs << 17 & 0xFFFE0000 * ones)
    return (rotated + _MASK_DELTA * ones) & 0xFFFFFFFF * ones


@cache
def effects(following: int) -> list[int]:
    """Return what each byte, with *following* bytes after it, adds to a sum."""
    if not following:
        return _TABLE
    return [_TABLE[crc & 255] ^ crc >> 8 for crc in effects(following - 1)]


@cache
def effect_bytes(following: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return `effects` as four tables for `bytes.translate`, one for each byte of the sum."""
    table = effects(following)
    low, second, third, high = (bytes(crc >> shift & 255 for crc in table) for shift in (0, 8, 16, 24))
    return low, second, third, high


def _is_big_endian() -> bool:
    return array("H", b"\x01\x00")[0] != 1
