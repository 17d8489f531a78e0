"""An event file that is cut back to where a checkpoint says, and appended to.

Not safe for concurrent use by two writers; TensorBoard may read it at any time.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.storage import modes
from eventlog.storage.modes import mode_for, opener

_READ_WRITE = (
    os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
)


class EventFileLostError(EvlogError):
    """The event file does not hold what a checkpoint says was written to it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"{self.path} {self.reason}, so what was delivered before is not all there. Put it back, or "
            "write it anew from the first event: `evlog sync --restart`."
        )


class Position(NamedTuple):
    """How much of a file is known to be good.

    Attributes:
        length: bytes.
        tail: the last four of them in hexadecimal: the checksum of the last record.
    """

    length: int = 0
    tail: str = ""


class EventFile:
    """A file that is made at the first `append`.

    Attributes:
        path: where it lies.
        position: the end of what was appended.
    """

    def __init__(self, path: Path, position: Position) -> None:
        """Cut the file at *path* back to *position*; a position of 0 bytes removes it.

        Raises:
            EventFileLostError: it is shorter, gone, or another file.
            SinkUnavailableError: the file system refused.
        """
        self.path, self.position = path, position
        self._fd: int | None = None
        self._is_synced = True
        self._is_named = bool(position.length)
        with _told(path):
            if position.length:
                self._cut_back()
            else:
                path.unlink(missing_ok=True)

    def _cut_back(self) -> None:
        length, tail = self.position.length, bytes.fromhex(self.position.tail)
        try:
            fd = os.open(self.path, _READ_WRITE)
        except FileNotFoundError:
            raise EventFileLostError(self.path, "is gone") from None
        try:
            size = os.fstat(fd).st_size
            if size < length:
                raise EventFileLostError(self.path, f"has {size} bytes of the {length} that were written")
            os.lseek(fd, length - len(tail), os.SEEK_SET)
            if os.read(fd, len(tail)) != tail:
                raise EventFileLostError(self.path, f"holds something else before byte {length}")
            if size > length:
                os.ftruncate(fd, length)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def append(self, data: bytes) -> None:
        """Write *data* behind the good part, or leave the file as it was.

        Raises:
            SinkUnavailableError: it could not be written; use a new object for the next try.
        """
        if not data:
            return
        with _told(self.path):
            if self._fd is None:
                # Made here and not on opening, so that no reader meets an empty file.
                self._fd = os.open(
                    self.path, _READ_WRITE | os.O_CREAT | os.O_TRUNC, mode_for(self.path, 0o666)
                )
            self._is_synced = False
            try:
                _write_all(self._fd, data, self.position.length)
            except OSError:
                # Readers should not meet half a record; if this fails too, the next open does it.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self.position.length)
                raise
        self.position = Position(self.position.length + len(data), data[-4:].hex())

    def sync(self) -> None:
        """Bring to the disk what was appended.

        Raises:
            SinkUnavailableError: it may not be there, now and at every later call: after a failure the
                system may forget what it could not write and call the next try a success.
        """
        if self._is_synced:
            return
        if self._fd is None:
            raise SinkUnavailableError(f"{self.path} was closed before all of it was on the disk.")
        fd, self._fd = self._fd, None
        with _told(self.path):
            try:
                os.fsync(fd)
            except OSError:
                os.close(fd)
                raise
        self._fd, self._is_synced = fd, True
        if not self._is_named:
            sync_directory(self.path.parent)
            self._is_named = True

    def close(self) -> None:
        """Release the file; more than once is harmless."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):  # all that counts was synced
                os.close(fd)


def replace(path: Path, data: bytes) -> None:
    """Put *data* at *path* so that there is always the old or the new content; the same is left alone.

    Raises:
        SinkUnavailableError: the old content is still there.
    """
    with _told(path):
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == data:
                return
        # A name that TensorBoard does not take for an event file.
        young = path.with_name(".evlog-new.tmp")
        with open(young, "wb", opener=opener) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        young.replace(path)
        sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make *path* and what lies above it.

    Raises:
        SinkUnavailableError: the file system refused.
    """
    with _told(path):
        made = [part for part in (path, *path.parents) if not part.exists()]
        modes.make_directory(path)
        for part in made:
            sync_directory(part.parent)


def sync_directory(path: Path) -> None:
    """Bring the names in *path* to the disk, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    os.lseek(fd, offset, os.SEEK_SET)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell an OSError of the block as a destination that cannot be reached now."""
    try:
        yield
    except OSError as error:
        way_out = "Delivery goes on by itself once that is possible again."
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            way_out = "Make room on that disk; delivery then goes on by itself."
        raise SinkUnavailableError(
            f"{path} cannot be written: {error.strerror or error}. {way_out}"
        ) from error
