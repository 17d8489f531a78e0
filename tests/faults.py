"""Operating systems that fail, lie or stop at a chosen call.

Each is a `System` of its own for `eventlog.storage`; what it does not spoil goes to the real one.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventlog.storage.system import Memory, RealSystem


class Killed(BaseException):
    """The process ended here: nothing that follows in it happens."""


class Call(NamedTuple):
    """One request to the operating system.

    Attributes:
        number: of this call among all calls, from 1.
        of_name: of this call among those with the same name, from 1.
    """

    name: str
    path: Path | None
    number: int
    of_name: int

    @property
    def is_on_segment(self) -> bool:
        """Tell whether the call touches a segment's file."""
        return self.path is not None and self.path.suffix == ".jsonl"


class WatchedSystem(RealSystem):
    """The real system, with every call noted and shown to *decide* first, which may raise.

    Attributes:
        populated: memory whose pages were made ready; no call, as that changes no file and never fails.
    """

    def __init__(self, decide: Callable[[Call], None] | None = None) -> None:
        self.calls: list[Call] = []
        self.paths: dict[int, Path] = {}
        self.populated: list[Memory] = []
        self._decide = decide
        self._counts: Counter[str] = Counter()

    def begin(self, name: str, path: Path | None) -> Call:
        """Note a call and let it fail if it should."""
        self._counts[name] += 1
        call = Call(name, path, len(self.calls) + 1, self._counts[name])
        self.calls.append(call)
        if self._decide is not None:
            self._decide(call)
        return call

    def create(self, path: Path) -> int:
        self.begin("create", path)
        fd = super().create(path)
        self.paths[fd] = path
        return fd

    def write(self, fd: int, data: bytes) -> int:
        self.begin("write", self.paths.get(fd))
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        self.begin("sync", self.paths.get(fd))
        super().sync(fd)

    def close(self, fd: int) -> None:
        # What was opened for reading or for its lock is closed unseen: no fault of it costs anything.
        if fd in self.paths:
            self.begin("close", self.paths.pop(fd))
        super().close(fd)

    def sync_directory(self, path: Path) -> None:
        self.begin("sync_directory", path)
        super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self.begin("rename", target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self.begin("unlink", path)
        super().unlink(path)

    def populate(self, memory: Memory) -> None:
        self.populated.append(memory)
        super().populate(memory)

    def make_read_only(self, path: Path) -> None:
        self.begin("make_read_only", path)
        super().make_read_only(path)

    def preallocate(self, fd: int, size_bytes: int) -> None:
        self.begin("preallocate", None)
        super().preallocate(fd, size_bytes)


def failing(name: str, at: int, code: int = errno.EIO, *, times: int = 1) -> Callable[[Call], None]:
    """Return what makes the calls *name* number *at* and the *times* - 1 after it fail with *code*."""

    def decide(call: Call) -> None:
        if call.name == name and at <= call.of_name < at + times:
            raise OSError(code, os.strerror(code))

    return decide


def killed_at(number: int) -> Callable[[Call], None]:
    """Return what ends the process before call *number*, whatever that is."""

    def decide(call: Call) -> None:
        if call.number >= number:
            raise Killed(call)

    return decide


class LosingSystem(WatchedSystem):
    """A disk on which sync number *at* fails once, and what was not synced then reads as zeros.

    Later syncs of the same file succeed although the data are gone: so do Linux's.
    """

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at
        self._synced_bytes: dict[int, int] = {}

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._synced_bytes[fd] = 0
        return fd

    def sync(self, fd: int) -> None:
        call = self.begin("sync", self.paths[fd])
        size = os.fstat(fd).st_size
        if call.of_name == self._at:
            other = os.open(self.paths[fd], os.O_WRONLY)
            try:
                os.pwrite(other, bytes(size - self._synced_bytes[fd]), self._synced_bytes[fd])
            finally:
                os.close(other)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._synced_bytes[fd] = size


class SmallDisk(WatchedSystem):
    """A disk with room for *free_bytes* of files written through it; reserves are made of the same room."""

    def __init__(self, free_bytes: int) -> None:
        super().__init__()
        self.free_bytes = free_bytes
        self._reserved: dict[Path, int] = {}

    def write(self, fd: int, data: bytes) -> int:
        self.begin("write", self.paths.get(fd))
        if not self.free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # A call takes what fits, as Linux does, and a part of what it could: short writes are allowed.
        taken = os.write(fd, data[: max(1, min(len(data) // 2, self.free_bytes))])
        self.free_bytes -= taken
        return taken

    def preallocate(self, fd: int, size_bytes: int) -> None:
        self.begin("preallocate", self.paths.get(fd))
        path = self.paths.get(fd)
        if path is None or path.suffix != ".reserve":
            RealSystem.preallocate(self, fd, size_bytes)
            return
        if size_bytes > self.free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.free_bytes -= size_bytes
        self._reserved[path] = size_bytes

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.free_bytes += self._reserved.pop(path, 0)


class KilledAfter(WatchedSystem):
    """Ends the process right after call *number* took effect, as far as the disk is concerned."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def _end(self) -> None:
        if len(self.calls) >= self._number:
            raise Killed(self.calls[-1])

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._end()
        return fd

    def write(self, fd: int, data: bytes) -> int:
        if len(self.calls) + 1 >= self._number:
            data = data[: len(data) // 2]
        taken = super().write(fd, data)
        self._end()
        return taken

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._end()

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._end()

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self._end()
