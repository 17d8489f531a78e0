"""Room that a writer sets aside, so that the end of its log fits on a disk that others have filled."""

from __future__ import annotations

import contextlib
from pathlib import Path

from eventlog.storage.layout import reserve_path
from eventlog.storage.system import System


class Reserve:
    """A file that holds nothing but its size. Not safe for concurrent use."""

    def __init__(self, log_dir: Path, writer: str, size_bytes: int, system: System) -> None:
        self._path = reserve_path(log_dir, writer)
        self._size_bytes, self._system = size_bytes, system
        self._is_made = False

    def make(self) -> None:
        """Set the room aside, as far as there is any."""
        with contextlib.suppress(OSError):
            fd = self._system.create(self._path)
            self._is_made = True
            try:
                self._system.preallocate(fd, self._size_bytes)
            finally:
                self._system.close(fd)

    def release(self) -> None:
        """Give the room up."""
        if self._is_made:
            self._is_made = False
            with contextlib.suppress(OSError):
                self._system.unlink(self._path)
