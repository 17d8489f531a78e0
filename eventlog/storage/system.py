"""What the log asks of the operating system, behind one small protocol.

Every file of a log and of a checkpoint is made, changed, read and listed through a `System`, so that the
tests can put one in its place that fails, lies or stops at any call, and that knows what a power cut leaves.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import sys
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from eventlog.storage import mounts, pages, processes
from eventlog.storage.modes import is_room_elsewhere, mode_for
from eventlog.storage.processes import Process
from eventlog.storage.processes import host_name as host_name

_COMMON_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
# A link among the files of a log leads elsewhere, and a pipe would never open; no file of ours is either.
_READ_FLAGS = os.O_RDONLY | _COMMON_FLAGS | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# A file system that says one of these of a directory keeps its names by itself, or cannot be asked to.
_KNOWS_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS})


class FileStat(NamedTuple):
    """What a look at a file tells; the time is seconds since the epoch by its file system's clock."""

    size_bytes: int
    modified_s: float
    inode: int = 0


class Memory(Protocol):
    """Memory that is a file's content. Slices have no step."""

    def __getitem__(self, part: slice, /) -> bytes: ...
    def __setitem__(self, part: slice, data: bytes, /) -> None: ...
    def close(self) -> None:
        """Let go of it; the file keeps what was put into it."""


class System(Protocol):
    """What storage needs. Every method raises OSError as the call of the same name would."""

    # --- making and changing files ------------------------------------------------------

    def create(self, path: Path) -> int:
        """Create *path*, which must not exist, for appending; return its descriptor."""

    def write(self, fd: int, data: bytes) -> int:
        """Append *data*; return how many bytes were taken, which may be fewer."""

    def sync(self, fd: int) -> None:
        """Return when the data of *fd* are on the disk."""

    def close(self, fd: int) -> None:
        """Close *fd*, and give back the lock that it holds."""

    def preallocate(self, fd: int, size_bytes: int) -> None:
        """Make *size_bytes* of the file real, so that no later write to them needs space."""

    def map(self, path: Path, size_bytes: int) -> Memory:
        """Create *path*, which must not exist, preallocated, and return its content as shared memory."""

    def populate(self, memory: Memory) -> None:
        """Make all pages of *memory* present and writable, if that can be done now; never raises."""

    def make_read_only(self, path: Path) -> None:
        """Take away the permission to write from everybody."""

    def touch(self, path: Path) -> None:
        """Let *path* count as changed now, by its file system's clock."""

    # --- names --------------------------------------------------------------------------

    def make_directory(self, path: Path) -> bool:
        """Create the directory *path*; tell whether it was not there before."""

    def sync_directory(self, path: Path) -> None:
        """Return when the names in *path* are on the disk."""

    def rename(self, source: Path, target: Path) -> None:
        """Give *source* the name *target*, replacing what has it."""

    def link(self, source: Path, target: Path) -> None:
        """Give *source* a second name *target*, which must not exist."""

    def unlink(self, path: Path) -> None:
        """Remove the name *path*; one that is not there is no error."""

    def list_directory(self, path: Path) -> list[str]:
        """Return the names in *path*, in any order."""

    # --- reading ------------------------------------------------------------------------

    def open(self, path: Path | str) -> int:
        """Open *path* for reading and return its descriptor."""

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Return at most *size* bytes from *offset* on; none at the end of the file."""

    def stat(self, path: Path) -> FileStat:
        """Return size and time of the file at *path*."""

    # --- who is there -------------------------------------------------------------------

    def lock(self, path: Path) -> int | None:
        """Return a descriptor that holds the exclusive lock of *path*, or None if another one holds it.

        Closing the descriptor, or the end of the process, releases the lock.
        """

    def is_locked(self, path: Path) -> bool:
        """Tell whether somebody holds the exclusive lock of *path*. Takes a shared one for a moment."""

    def is_at(self, fd: int, path: Path) -> bool:
        """Tell whether *path* names the file that *fd* has open."""

    def file_system(self, path: Path) -> str:
        """Return the type of the file system that holds *path* (``ext4``, ``nfs4``, …), or ``unknown``."""

    def this_process(self) -> Process:
        """Return the process that asks."""

    def is_running(self, process: Process) -> bool | None:
        """Tell whether *process* is there; None if that cannot be known from here."""

    # --- time ---------------------------------------------------------------------------

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


def _open_file(path: Path | str, flags: int) -> int:
    """Open a file; what else may have its name (a folder, a pipe, a device) has no end, or no bytes."""
    fd = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return fd


class RealSystem:
    """The operating system below us.

    macOS and Windows have their own paths here, which are type-checked but were never run.
    """

    def create(self, path: Path) -> int:
        """Create *path*, which must not exist, for appending; return its descriptor."""
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _COMMON_FLAGS, mode_for(path, 0o666)
        )

    def write(self, fd: int, data: bytes) -> int:
        """Append *data*; return how many bytes were taken, which may be fewer."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Return when the data of *fd* are on the disk."""
        if sys.platform == "darwin":
            import fcntl

            # fsync leaves the data in the drive's cache there; some network volumes know only fsync.
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
                return
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:
            os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close *fd*, and give back the lock that it holds."""
        os.close(fd)

    def preallocate(self, fd: int, size_bytes: int) -> None:
        """Make *size_bytes* of the file real, so that no later write to them needs space."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size_bytes)
            return
        zeros = bytes(1 << 20)
        for offset in range(0, size_bytes, len(zeros)):
            os.write(fd, zeros[: size_bytes - offset])

    def map(self, path: Path, size_bytes: int) -> Memory:
        """Create *path*, which must not exist, preallocated, and return its content as shared memory."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _COMMON_FLAGS, mode_for(path, 0o666))
        try:
            self.preallocate(fd, size_bytes)
            return mmap.mmap(fd, size_bytes)
        finally:
            os.close(fd)

    def populate(self, memory: Memory) -> None:
        """Make all pages of *memory* present and writable, if that can be done now; never raises."""
        if isinstance(memory, mmap.mmap):
            pages.populate(memory)

    def make_read_only(self, path: Path) -> None:
        """Take away the permission to write from everybody."""
        path.chmod(path.stat().st_mode & 0o555)

    def touch(self, path: Path) -> None:
        """Let *path* count as changed now, by its file system's clock."""
        os.utime(path)

    def make_directory(self, path: Path) -> bool:
        """Create the directory *path*; tell whether it was not there before."""
        try:
            path.mkdir(mode_for(path, 0o777))
        except FileExistsError:
            if not path.is_dir() or is_room_elsewhere(path):
                raise
            return False
        return True

    def sync_directory(self, path: Path) -> None:
        """Return when the names in *path* are on the disk."""
        if sys.platform == "win32":
            return  # NTFS journals names, and a directory cannot be opened
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in _KNOWS_NO_DIRECTORY_SYNC:
                raise
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give *source* the name *target*, replacing what has it."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give *source* a second name *target*, which must not exist."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        """Remove the name *path*; one that is not there is no error."""
        path.unlink(missing_ok=True)

    def list_directory(self, path: Path) -> list[str]:
        """Return the names in *path*, in any order."""
        return os.listdir(path)  # noqa: PTH208 - names are wanted, not paths

    def open(self, path: Path | str) -> int:
        """Open *path* for reading and return its descriptor."""
        return _open_file(path, _READ_FLAGS)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Return at most *size* bytes from *offset* on; none at the end of the file."""
        if sys.platform == "win32":
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size)
        return os.pread(fd, size, offset)

    def stat(self, path: Path) -> FileStat:
        """Return size and time of the file at *path*."""
        found = path.stat()
        return FileStat(found.st_size, found.st_mtime, found.st_ino)

    def lock(self, path: Path) -> int | None:
        """Return a descriptor that holds the exclusive lock of *path*, or None if another one holds it."""
        fd = _open_file(path, os.O_RDWR | _COMMON_FLAGS | getattr(os, "O_NOFOLLOW", 0))
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def is_locked(self, path: Path) -> bool:
        """Tell whether somebody holds the exclusive lock of *path*. Takes a shared one for a moment."""
        fd = os.open(path, _READ_FLAGS)
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(fd, msvcrt.LK_NBRLCK, 1)
            else:
                import fcntl

                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def is_at(self, fd: int, path: Path) -> bool:
        """Tell whether *path* names the file that *fd* has open."""
        try:
            return os.fstat(fd).st_ino == path.stat().st_ino
        except FileNotFoundError:
            return False

    def file_system(self, path: Path) -> str:
        """Return the type of the file system that holds *path* (``ext4``, ``nfs4``, …), or ``unknown``."""
        return mounts.file_system_of(path)

    def this_process(self) -> Process:
        """Return the process that asks."""
        return processes.this_process()

    def is_running(self, process: Process) -> bool | None:
        """Tell whether *process* is there; None if that cannot be known from here."""
        return processes.is_running(process)

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


SYSTEM = RealSystem()


def write_all(system: System, fd: int, data: bytes) -> None:
    """Write all of *data*, however few bytes each call takes."""
    done = 0
    while done < len(data):
        done += system.write(fd, data[done:] if done else data)


def replace_file(path: Path, data: bytes, system: System = SYSTEM) -> None:
    """Put *data* at *path* so that a crash leaves the old or the new content, on the disk, whole.

    Raises:
        OSError: one of the two is there, whole, but which of them after a power cut is not known.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(3).hex()}.tmp")
    fd = system.create(temporary)
    try:
        try:
            write_all(system, fd, data)
            system.sync(fd)
        finally:
            system.close(fd)
        system.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            system.unlink(temporary)
        raise
    # Sync the directory too: after a power cut the new name may be lost although the file is not.
    system.sync_directory(path.parent)
