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
    """What is known of the files of one log. Not safe for several threads.

    Attributes:
        is_gone: there was a log, and there is none any more.
        has_new_files: files came or went; whoever has taken note of that sets it back.
        is_network: other hosts may write here; then bytes may come later than the size that counts them.
    """

    def __init__(self, run: Path) -> None:
        self._log = log_directory(run)
        self._directory = os.fspath(self._log)
        self.is_network = is_network_file_system(self._log)
        self.is_gone = False
        self.has_new_files = True
        self._mtime_ns = -1
        self._changed_at = self._list_at = 0.0
        self._sizes: dict[str, int] = {}
        self._newest: dict[str, str] = {}

    def look(self, now: float) -> bool:
        """Tell whether anything has changed since the last look; at the first one, whether there is anything.

        Args:
            now: monotonic seconds.

        Raises:
            OSError: the log cannot be looked at.
        """
        try:
            mtime_ns = os.stat(self._directory).st_mtime_ns  # noqa: PTH116 - thousands of times a second
            if self.is_network or mtime_ns != self._mtime_ns or now >= self._list_at:
                return self._list(now, mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            self.is_gone = self._mtime_ns != -1
            self._sizes, self._newest = {}, {}
            self._list_at = 0.0
            return False
        changed = False
        for path in self._newest.values():
            size = _size(path)
            if size != self._sizes.get(path):
                self._sizes[path] = size
                changed = True
        return changed

    def _list(self, now: float, mtime_ns: int) -> bool:
        names = os.listdir(self._directory)  # noqa: PTH208 - as above
        self.is_gone = False
        if mtime_ns != self._mtime_ns:
            self._mtime_ns, self._changed_at = mtime_ns, now
        has_settled = now - self._changed_at > SETTLED_S
        self._list_at = now + (RELIST_S if has_settled else RELIST_UNSETTLED_S)
        newest: dict[str, tuple[int, str]] = {}
        sizes: dict[str, int] = {}
        for name in map(parse_segment, names):
            if name is None:
                continue
            path = os.fspath(name.path(self._log))
            sizes[path] = _size(path)
            newest[name.writer] = max(newest.get(name.writer, (0, "")), (name.segment, path))
        changed = sizes != self._sizes
        self.has_new_files |= sizes.keys() != self._sizes.keys()
        self._sizes = sizes
        self._newest = {writer: path for writer, (_, path) in newest.items()}
        return changed


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - see above
    except FileNotFoundError:
        return -1
