"""Makes text of the bytes of a log."""

from __future__ import annotations

import codecs

_SAMPLE_BYTES = 4096


def decode(data: bytes) -> str:
    """Return *data* as text: UTF-16 where it looks so, else UTF-8; lines that are neither are Latin."""
    wide = _wide_encoding(data[:_SAMPLE_BYTES])
    if wide is not None:
        return data.decode(wide, errors="replace").lstrip("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "\n".join(map(_line, data.removeprefix(codecs.BOM_UTF8).split(b"\n")))


def _wide_encoding(sample: bytes) -> str | None:
    if sample.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le"
    if sample.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be"
    # Without a mark: every other byte of what is mostly ASCII is NUL.
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if len(zeros) > 8 and zeros.count(0) > 0.7 * len(zeros):
            return encoding
    return None


def _line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")
