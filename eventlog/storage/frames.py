"""Tells the first and the last line of a segment, the frames, from the events between them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventlog.codec import decode, seq_of, stored_crc, verifies
from eventlog.events import AnyEvent, SegmentOpened, SegmentSealed, UnknownEvent

FRAME_MARK = b'"type":"segment_'
# Within this a line says its type: behind a seq and a time of at most 20 digits each.
_HEAD_BYTES = 100
_FRAMES = frozenset({"segment_opened", "segment_sealed"})


def frame_of(line: bytes) -> SegmentOpened | SegmentSealed | UnknownEvent | None:
    """Return the frame on *line*, unknown if it lacks what a frame needs; None if it is an event or nothing.

    A user's value may hold the same text as a frame, further on.
    """
    if FRAME_MARK not in line[:_HEAD_BYTES]:
        return None
    event = _decoded(line)
    if isinstance(event, (SegmentOpened, SegmentSealed)):
        return event
    return event if isinstance(event, UnknownEvent) and event.type in _FRAMES else None


def header_of(line: bytes) -> SegmentOpened | None:
    """Return the first line of a segment if it is good: its checksum, if it has one, and what it says."""
    if stored_crc(line) is not None and not verifies(line, 0):
        return None
    frame = _decoded(line)
    return frame if isinstance(frame, SegmentOpened) and frame.format >= 1 else None


def _decoded(line: bytes) -> AnyEvent | None:
    try:
        return decode(line)
    except msgspec.MsgspecError:
        return None


def seq_if_any(line: bytes) -> int | None:
    """Return the seq of *line*, None if it does not begin with one."""
    try:
        return seq_of(line)
    except ValueError:
        return None


def size_of(lines: Sequence[bytes]) -> int:
    """Return how many bytes *lines* take, with their newlines."""
    return sum(map(len, lines)) + len(lines)
