"""Identifiers and the rules for names that become file names."""

from __future__ import annotations

import os
import re
import time

from eventlog.errors import InvalidNameError

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_WINDOWS_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{device}{digit}" for device in ("com", "lpt") for digit in "123456789¹²³"]
)
# Room for a numeric suffix and an extension below the 255 bytes that file systems allow.
MAX_NAME_BYTES = 200
_WRITER = re.compile(r"r(\d{1,9})-[0-9A-HJKMNP-TV-Z]{26}")


def new_ulid() -> str:
    """Return 26 characters: 48 bits of milliseconds, then 80 random bits, in Crockford's base 32.

    Source: the ULID specification, github.com/ulid/spec. Two ids of one millisecond are unordered.
    """
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def new_writer_id(rank: int) -> str:
    """Return the id of a new incarnation: ``r<rank>-<ULID>``."""
    return f"r{rank}-{new_ulid()}"


def writer_rank(writer: str) -> int | None:
    """Return the rank that a writer id names, or None if it is not a writer id."""
    match = _WRITER.fullmatch(writer)
    return int(match[1]) if match else None


def check_name(kind: str, name: str) -> str:
    """Return *name* if it is one path component on Linux, macOS and Windows.

    Raises:
        InvalidNameError: it could leave its directory, or some file system would refuse or change it.
    """
    if not isinstance(name, str):
        raise InvalidNameError(kind, repr(name), f"it is a {type(name).__name__}, not text")
    reason = _why_not_a_component(name)
    if reason:
        raise InvalidNameError(kind, name, reason)
    return name


def check_relative_name(kind: str, name: str) -> str:
    """Return *name* if it is a relative path of good components joined by ``/`` (``plots/loss.png``).

    Raises:
        InvalidNameError: as `check_name`, for any component.
    """
    if not isinstance(name, str):
        raise InvalidNameError(kind, repr(name), f"it is a {type(name).__name__}, not text")
    for part in name.split("/"):
        reason = _why_not_a_component(part)
        if reason:
            raise InvalidNameError(kind, name, reason)
    return name


def _why_not_a_component(name: str) -> str | None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair"
    if not name:
        return "it is empty"
    if name in {".", ".."}:
        return "it names a directory above or the same one"
    if any(c in '/\\:*?"<>|' for c in name):
        return 'it holds one of / \\ : * ? " < > |'
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "it holds a control character"
    if size > MAX_NAME_BYTES:
        return f"it has {size} bytes, more than {MAX_NAME_BYTES}"
    if name.startswith("."):
        return "it begins with a dot, which is kept for evlog's own files"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a space, or ends with a dot"
    if name.split(".")[0].strip().lower() in _WINDOWS_RESERVED:
        return "Windows reserves it for a device"
    return None


def safe_name(text: str) -> str:
    """Return a good name that resembles *text*, for names that evlog itself derives."""
    name = _trim(re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]+', "-", text))
    if not name:
        return "unnamed"
    return name if _why_not_a_component(name) is None else _trim(f"x-{name}")


def _trim(name: str) -> str:
    """Return *name* within `MAX_NAME_BYTES`, without the dots and white space at its ends."""
    at_ends = re.compile(r"\A[\s.]+|[\s.]+\Z")
    return at_ends.sub("", at_ends.sub("", name).encode()[:MAX_NAME_BYTES].decode(errors="ignore"))
