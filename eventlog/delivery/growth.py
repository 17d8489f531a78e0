"""Tells, with a few calls of stat, whether a log may hold something new.

Sizes decide, never a notification. The time of the log's directory says that files came or went; because two
changes can fall into one tick of that clock, a directory that changed a moment ago is listed once more, and
every directory is listed again after half a minute whatever its time says.
"""

from __future__ import annotations

import os
from pathlib import Path

from eventlog.storage.layout import is_network_file_system, log_directory, parse_segment

SETTLED_S = 2.0
RELIST_S = 30.0
RELIST_UNSETTLED_S = 0.5


class Growth:
    """What is known of the files of one log. Not safe for several threads."""

    def __init__(self, run: Path) -> None:
        self._directory = os.fspath(log_directory(run))
        self._is_network = is_network_file_system(log_directory(run))
        self._mtime_ns = -1
        self._list_at = 0.0
        self._sizes: dict[str, int] = {}
        self._newest: dict[str, str] = {}

    def look(self, now: float) -> bool:
        """Tell whether anything has changed since the last look; True at the first one.

        Args:
            now: monotonic seconds.
        """
        try:
            mtime_ns = os.stat(self._directory).st_mtime_ns  # noqa: PTH116 - thousands of times a second
        except FileNotFoundError:
            return False
        if self._is_network or mtime_ns != self._mtime_ns or now >= self._list_at:
            return self._list(now, mtime_ns)
        changed = False
        for path in self._newest.values():
            size = _size(path)
            if size != self._sizes.get(path):
                self._sizes[path] = size
                changed = True
        return changed

    def _list(self, now: float, mtime_ns: int) -> bool:
        settles = mtime_ns != self._mtime_ns
        self._list_at = now + (RELIST_UNSETTLED_S if settles else RELIST_S)
        self._mtime_ns = mtime_ns
        newest: dict[str, tuple[int, str]] = {}
        sizes: dict[str, int] = {}
        for entry in os.scandir(self._directory):
            name = parse_segment(entry.name)
            if name is None:
                continue
            sizes[entry.path] = _size(entry.path)
            newest[name.writer] = max(newest.get(name.writer, (0, "")), (name.segment, entry.path))
        changed = sizes != self._sizes
        self._sizes = sizes
        self._newest = {writer: path for writer, (_, path) in newest.items()}
        return changed


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - see above
    except FileNotFoundError:
        return -1
