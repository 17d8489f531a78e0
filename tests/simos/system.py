"""A process on a simulated machine: a `System` that does what it is told at a chosen call."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventlog.storage.processes import Process
from eventlog.storage.system import FileStat, Memory
from eventlog.storage.writer import NO_SPACE
from tests.simos.disk import Directory, Disk, File, error

CHANGING = frozenset(
    (
        *("create", "write", "sync", "close", "preallocate", "map", "make_read_only", "touch"),
        *("make_directory", "sync_directory", "rename", "link", "unlink", "lock"),
    )
)
"""Calls after which the machine is not as it was before."""


class Killed(BaseException):
    """The process has ended: whatever it asks for from now on does not happen."""


class Call(NamedTuple):
    """A request of a process; *number* counts its changing calls, or all of them if it changes nothing."""

    number: int
    name: str
    path: Path | None

    def __str__(self) -> str:
        return f"{self.number} {self.name} {self.path.name if self.path else ''}".rstrip()


class _Open(NamedTuple):
    file: File
    path: Path
    is_written: bool


class SimMemory:
    """A file's content as memory."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __getitem__(self, part: slice, /) -> bytes:
        return bytes(self._file.cached[part])

    def __setitem__(self, part: slice, data: bytes, /) -> None:
        assert part.indices(len(self._file.cached))[1] - (part.start or 0) == len(data)
        self._file.cached[part] = data

    def close(self) -> None:
        """The file keeps everything."""


class SimSystem:
    """One process's view of a disk.

    Attributes:
        calls: what it has asked for.
        changes: how many of those change something.
        at_call: called before each call; may raise, advance the clock or kill the process.
        guard: says whether a lock is held under which nobody may ask for anything.
        host, kind: the machine's name and what it takes the file system for: ``ext4``, ``nfs4``, ….
    """

    _pids = 1000

    def __init__(
        self, disk: Disk, *, host: str = "here", kind: str = "ext4", boot: str | None = None
    ) -> None:
        SimSystem._pids += 1
        self.disk, self.host, self.kind = disk, host, kind
        self.pid = SimSystem._pids
        self.boot = boot or f"boot-{disk.cuts}"
        self.calls: list[Call] = []
        self.at_call: Callable[[Call], None] | None = None
        self.guard: Callable[[], bool] = lambda: False
        self.is_dead = False
        self.short_write = False
        self.lie = ""
        self._open: dict[int, _Open] = {}
        self.changes = 0
        self._numbers = 100
        disk.living.add((host, self.boot, self.pid))

    def end(self) -> None:
        """End by itself; what it has opened it has closed."""
        assert self.is_dead or not self._open, f"left open: {[one.path for one in self._open.values()]}"
        self.die()

    def die(self) -> None:
        """End as SIGKILL does: descriptors and locks are gone, the cache keeps what it has."""
        self.is_dead = True
        for fd in list(self._open):
            self._let_go(fd)
        self.disk.living.discard((self.host, self.boot, self.pid))

    def _begin(self, name: str, path: Path | None) -> None:
        if self.is_dead:
            raise Killed
        assert not self.guard(), f"{name} {path} while callers are kept waiting by a lock"
        self.changes += name in CHANGING
        call = Call(self.changes if name in CHANGING else len(self.calls) + 1, name, path)
        self.calls.append(call)
        if self.at_call is not None:
            self.at_call(call)
        if self.is_dead:
            raise Killed

    def _take_room(self, size_bytes: int) -> None:
        if size_bytes > self.disk.free_bytes:
            raise error(errno.ENOSPC)
        self.disk.free_bytes -= size_bytes

    def _new(self, path: Path, *, is_written: bool) -> tuple[int, File]:
        directory = self.disk.directory(path.parent)
        if path.name in directory.names:
            raise error(errno.EEXIST, path)
        file = self.disk.new_file()
        directory.change({path.name: file})
        return self._descriptor(file, path, is_written=is_written), file

    def _descriptor(self, file: File, path: Path, *, is_written: bool = False) -> int:
        self._numbers += 1
        self._open[self._numbers] = _Open(file, path, is_written)
        return self._numbers

    def _of(self, fd: int) -> _Open:
        if self.is_dead:
            raise Killed
        if fd not in self._open:
            raise error(errno.EBADF)
        return self._open[fd]

    def _let_go(self, fd: int) -> None:
        one = self._open.pop(fd)
        if one.file.lock.get(self._locks_of) == (self, fd):
            del one.file.lock[self._locks_of]

    @property
    def _locks_of(self) -> str:
        """Return whose locks this process sees: a network's do not meet those of the disk's own machine."""
        return "local" if self.kind == "ext4" else self.kind

    # --- making and changing files ------------------------------------------------------

    def create(self, path: Path) -> int:
        self._begin("create", path)
        return self._new(path, is_written=True)[0]

    def write(self, fd: int, data: bytes) -> int:
        one = self._of(fd)
        assert not one.file.is_given_up, f"{one.path} is written to after it has failed"
        self.short_write = False
        try:
            self._begin("write", one.path)
        except (OSError, Killed) as problem:
            if not self.short_write:
                one.file.is_given_up = isinstance(problem, OSError) and problem.errno not in NO_SPACE
                raise
            # The call took a part; what went wrong is told by the next one, or by nobody.
            data = data[: len(data) // 2]
            if self.is_dead:
                one.file.append(data)
                raise
        room = min(len(data), self.disk.free_bytes)
        if data and not room:
            raise error(errno.ENOSPC, one.path)
        self.disk.free_bytes -= room
        one.file.append(data[:room])
        one.file.modified_s = self.disk.clock_s
        return room

    def sync(self, fd: int) -> None:
        one = self._of(fd)
        assert not (one.is_written and one.file.is_given_up), f"{one.path} is synced after it has failed"
        self.lie = ""
        try:
            self._begin("sync", one.path)
        except OSError:
            if self.lie:
                one.file.forget_writes(is_seen=self.lie == "seen")
            raise
        one.file.sync()

    def close(self, fd: int) -> None:
        if self.is_dead:
            return  # what a killed process had open is closed; here its generators are told so later
        one = self._of(fd)
        try:
            self._begin("close" if one.is_written else "close_read", one.path)
        except OSError:
            if one.is_written:
                one.file.fail_late()
            self._let_go(fd)
            raise
        self._let_go(fd)

    def preallocate(self, fd: int, size_bytes: int) -> None:
        one = self._of(fd)
        self._begin("preallocate", one.path)
        self._take_room(size_bytes)
        one.file.append(bytes(size_bytes))

    def map(self, path: Path, size_bytes: int) -> SimMemory:
        self._begin("map", path)
        self._take_room(size_bytes)
        fd, file = self._new(path, is_written=False)
        file.append(bytes(size_bytes))
        file.is_mapped = True
        self._let_go(fd)
        return SimMemory(file)

    def populate(self, memory: Memory) -> None:
        self._begin("populate", None)

    def make_read_only(self, path: Path) -> None:
        self._begin("make_read_only", path)
        self.disk.file(path).is_read_only = True

    def touch(self, path: Path) -> None:
        self._begin("touch", path)
        self.disk.file(path).modified_s = self.disk.clock_s

    # --- names --------------------------------------------------------------------------

    def make_directory(self, path: Path) -> bool:
        self._begin("make_directory", path)
        above = self.disk.directory(path.parent)
        if path.name in above.names:
            self.disk.directory(path)
            return False
        above.change({path.name: Directory()})
        return True

    def sync_directory(self, path: Path) -> None:
        self._begin("sync_directory", path)
        self.disk.directory(path).sync()

    def rename(self, source: Path, target: Path) -> None:
        self._begin("rename", target)
        assert source.parent == target.parent
        file, directory = self.disk.file(source), self.disk.directory(source.parent)
        directory.change({source.name: None, target.name: file})

    def link(self, source: Path, target: Path) -> None:
        self._begin("link", target)
        directory = self.disk.directory(target.parent)
        if target.name in directory.names:
            raise error(errno.EEXIST, target)
        directory.change({target.name: self.disk.file(source)})

    def unlink(self, path: Path) -> None:
        self._begin("unlink", path)
        directory = self.disk.directory(path.parent)
        node = directory.names.get(path.name)
        if isinstance(node, File):
            self.disk.free_bytes += len(node.cached)
            directory.change({path.name: None})

    def list_directory(self, path: Path) -> list[str]:
        self._begin("list_directory", path)
        return list(self.disk.directory(path).names)

    # --- reading ------------------------------------------------------------------------

    def open(self, path: Path | str) -> int:
        path = Path(path)
        self._begin("open", path)
        return self._descriptor(self.disk.file(path), path)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        one = self._of(fd)
        self._begin("read", one.path)
        return bytes(one.file.cached[offset : offset + size])

    def stat(self, path: Path) -> FileStat:
        self._begin("stat", path)
        file = self.disk.file(path)
        return FileStat(len(file.cached), file.modified_s, file.number)

    # --- who is there -------------------------------------------------------------------

    def lock(self, path: Path) -> int | None:
        self._begin("lock", path)
        file = self.disk.file(path)
        if self._locks_of in file.lock:
            return None
        fd = self._descriptor(file, path)
        file.lock[self._locks_of] = (self, fd)
        return fd

    def is_locked(self, path: Path) -> bool:
        self._begin("is_locked", path)
        return self._locks_of in self.disk.file(path).lock

    def is_at(self, fd: int, path: Path) -> bool:
        self._begin("is_at", path)
        try:
            return self.disk.file(path) is self._of(fd).file
        except FileNotFoundError:
            return False

    def file_system(self, path: Path) -> str:
        return self.kind

    def this_process(self) -> Process:
        return Process(self.host, self.pid, f"{self.pid}@{self.boot}")

    def is_running(self, process: Process) -> bool | None:
        boot = process.started.partition("@")[2]
        if (process.host, boot) != (self.host, self.boot):
            return None
        return (process.host, boot, process.pid) in self.disk.living

    # --- time ---------------------------------------------------------------------------

    def now_ns(self) -> int:
        return int(self.disk.clock_s * 1e9)

    def monotonic_s(self) -> float:
        return self.disk.clock_s

    def sleep(self, seconds: float) -> None:
        self.disk.advance(seconds)
