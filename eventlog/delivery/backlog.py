"""How much of a log a destination does not have yet, told from the ends of its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from eventlog.storage.cursor import Cursor
from eventlog.storage.ends import last_lines
from eventlog.storage.frames import seq_if_any
from eventlog.storage.layout import SegmentName, list_segments, log_directory

_TS = re.compile(rb'^\{"seq":\d+,"ts":(\d+)')


class Backlog(NamedTuple):
    """What waits: events, and the time of the newest one in the log (microseconds, None for none)."""

    events: int
    last_ts: int | None


def backlog(run: Path, cursors: Mapping[str, Cursor]) -> Backlog:
    """Return what the log of *run* holds beyond *cursors*; exact where no event is missing."""
    log_dir = log_directory(run)
    events, newest = 0, None
    for writer, segments in list_segments(log_dir).items():
        end = _end(log_dir, segments)
        if end is None:
            continue
        next_seq, ts = end
        done = cursors.get(writer)
        events += max(0, next_seq - (done.seq if done else 0))
        newest = ts if newest is None else max(newest, ts)
    return Backlog(events, newest)


def _end(log_dir: Path, segments: list[SegmentName]) -> tuple[int, int] | None:
    """Return the seq that comes next and the time of the last line, None if there is no line."""
    for name in reversed(segments):
        for line in reversed(last_lines(name.path(log_dir))):
            match = _TS.match(line)
            seq = seq_if_any(line)
            if match and seq is not None:
                # A frame carries the seq of the event that comes next.
                is_frame = b'"type":"segment_' in line[:80]
                return seq + (0 if is_frame else 1), int(match[1])
    return None
