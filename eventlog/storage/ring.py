"""The ring: the last N bytes of a writer's stream, in memory that outlives the process.

Byte *x* of the stream lies at *x mod N*. Nothing else is kept in it, no pointers and no framing: where
the valid bytes begin is known from the last segment, and where they end from the crc chain.

A file ring is a preallocated ``MAP_SHARED`` file beside the segments, so what a SIGKILLed process put
into it stays in the page cache. It carries the lock that tells whether its writer lives: the kernel
releases it with the process. The lock has a descriptor of its own, which a forked child closes.

Not safe for concurrent use: the buffer holds its lock around `put`.
"""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

from eventlog.storage.system import SYSTEM, Memory, System

YOUNG_SUFFIX = ".ring-new"
MUCH_BYTES = 64 << 10
"""Who appends as much between two looks will reach all pages soon."""


class Ring:
    """A circular view of a stream."""

    def __init__(
        self, size_bytes: int, mapping: Memory, path: Path | None, lock_fd: int | None, system: System
    ) -> None:
        self.size_bytes = size_bytes
        self.mapping = mapping
        self.path = path
        self._lock_fd = lock_fd
        self._system = system
        self._is_ready = False
        self._seen: int | None = None

    @classmethod
    def in_memory(cls, size_bytes: int) -> Ring:
        """Make a ring that dies with the process."""
        return cls(size_bytes, mmap.mmap(-1, size_bytes), None, None, SYSTEM)

    @classmethod
    def in_file(cls, path: Path, size_bytes: int, system: System = SYSTEM) -> Ring:
        """Make a ring that outlives the process, at *path*, which must not exist.

        Raises:
            OSError: no space, or the file system cannot map or lock.
        """
        # Locked under another name first: a ring that somebody finds has an owner or a dead one.
        young = path.with_suffix(YOUNG_SUFFIX)
        mapping, lock_fd = None, None
        try:
            mapping = system.map(young, size_bytes)
            lock_fd = system.lock(young)
            if lock_fd is None:
                raise OSError(f"{young}: somebody else holds the lock of a file that was just made")
            system.rename(young, path)
            return cls(size_bytes, mapping, path, lock_fd, system)
        except BaseException:
            if lock_fd is not None:
                with contextlib.suppress(OSError):
                    system.close(lock_fd)
            if mapping is not None:
                mapping.close()
            with contextlib.suppress(OSError):
                system.unlink(young)
            raise

    def put(self, position: int, data: bytes) -> None:
        """Put *data* at stream *position*."""
        start = position % self.size_bytes
        end = start + len(data)
        if end <= self.size_bytes:
            self.mapping[start:end] = data
        else:
            first = self.size_bytes - start
            self.mapping[start:] = data[:first]
            self.mapping[: len(data) - first] = data[first:]

    def get(self, position: int, size: int) -> bytes:
        """Return *size* bytes from stream *position*."""
        start = position % self.size_bytes
        end = start + size
        if end <= self.size_bytes:
            return self.mapping[start:end]
        return self.mapping[start:] + self.mapping[: end - self.size_bytes]

    def look(self, position: int) -> int:
        """Have all pages ready as soon as much is logged: each new one costs the call that meets it 3 µs.

        A writer that logs little leaves most of them clean.

        Args:
            position: what callers have reached.

        Returns:
            The position at which to look again.
        """
        came = position - (position if self._seen is None else self._seen)
        self._seen = position
        if came >= MUCH_BYTES and not self._is_ready:
            self._is_ready = True
            self._system.populate(self.mapping)
        return position + (self.size_bytes if self._is_ready else MUCH_BYTES)

    def remove(self) -> None:
        """Give everything back and remove the file: all that it held lies in segments."""
        path, self.path = self.path, None
        if path is not None:
            # The name goes before the lock: nobody may find a ring without an owner and recover it.
            with contextlib.suppress(OSError):
                self._system.unlink(path)
        self.abandon()

    def abandon(self) -> None:
        """Let go of mapping and lock without touching the file (in a forked child, or for recovery)."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                self._system.close(fd)
        with contextlib.suppress(BufferError):
            self.mapping.close()


def lock_file(path: Path) -> int | None:
    """Return a descriptor that holds the exclusive lock of *path*, or None if another one holds it.

    Closing the descriptor, or the end of the process, releases the lock.

    Raises:
        OSError: there is no such file, or the file system knows no locks.
    """
    return SYSTEM.lock(path)
