"""Looks at the two ends of a segment without reading what lies between, and without verifying it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.codec import MAX_LINE_BYTES, decode
from eventlog.events import SegmentOpened
from eventlog.storage.files import first_line, opened, read_from
from eventlog.storage.system import SYSTEM, System

_TAIL_BYTES = 16 * 1024


class Ends(NamedTuple):
    """The header, if it is a good one, and whether the last line is a seal."""

    header: SegmentOpened | None
    is_sealed: bool


def ends_of(path: Path, system: System = SYSTEM) -> Ends:
    """Return what the first and the last line of the segment at *path* say."""
    header = None
    try:
        with opened(path, system) as fd:
            event = decode(first_line(fd, system, at_most=MAX_LINE_BYTES).rstrip(b"\n"))
        header = event if isinstance(event, SegmentOpened) else None
    except (OSError, msgspec.MsgspecError):
        pass  # no header: then nobody can say who writes here
    return Ends(header, b'"type":"segment_sealed"' in last_line(path, system)[:80])


def last_line(path: Path, system: System = SYSTEM) -> bytes:
    """Return the last complete line without its newline; empty if there is none, or no file."""
    lines = last_lines(path, system)
    return lines[-1] if lines else b""


def last_lines(path: Path, system: System = SYSTEM) -> list[bytes]:
    """Return some complete lines at the end, without their newlines; at least one if there is any."""
    tail = _TAIL_BYTES
    while True:
        try:
            with opened(path, system) as fd:
                size = system.stat(path).size_bytes
                data = read_from(fd, system, offset=max(0, size - tail), at_most=tail)
        except FileNotFoundError:
            return []
        lines = data[: data.rfind(b"\n") + 1].split(b"\n")
        # The first piece may be the end of a longer line; then look at more.
        whole = lines[:-1] if size <= tail else lines[1:-1]
        if whole or size <= tail or tail > MAX_LINE_BYTES:
            return whole
        tail *= 16
