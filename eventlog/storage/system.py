"""The few things that the log asks of the operating system, behind one small protocol.

Everything that changes a file of the log goes through a `System`, so that the tests can put one in its
place that fails, lies or stops at any call.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Protocol


class System(Protocol):
    """What storage needs. Every method raises OSError as the call of the same name would."""

    def create(self, path: Path) -> int:
        """Create *path*, which must not exist, for appending; return its descriptor."""

    def write(self, fd: int, data: bytes) -> int:
        """Append *data*; return how many bytes were taken, which may be fewer."""

    def sync(self, fd: int) -> None:
        """Return when the data of *fd* are on the disk."""

    def close(self, fd: int) -> None:
        """Close *fd*."""

    def sync_directory(self, path: Path) -> None:
        """Return when the names in *path* are on the disk."""

    def rename(self, source: Path, target: Path) -> None:
        """Give *source* the name *target*, replacing what has it."""

    def unlink(self, path: Path) -> None:
        """Remove the name *path*; one that is not there is no error."""

    def make_read_only(self, path: Path) -> None:
        """Take away the permission to write from everybody."""

    def preallocate(self, fd: int, size_bytes: int) -> None:
        """Make *size_bytes* of the file real, so that no later write to them needs space."""


class RealSystem:
    """The operating system below us.

    macOS and Windows have their own paths here, which are type-checked but were never run.
    """

    def create(self, path: Path) -> int:
        """Create *path*, which must not exist, for appending; return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
        return os.open(path, flags, 0o666)

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
        """Close *fd*."""
        os.close(fd)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in *path* are on the disk."""
        if sys.platform == "win32":
            return  # NTFS journals names, and a directory cannot be opened
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give *source* the name *target*, replacing what has it."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove the name *path*; one that is not there is no error."""
        path.unlink(missing_ok=True)

    def make_read_only(self, path: Path) -> None:
        """Take away the permission to write from everybody."""
        path.chmod(path.stat().st_mode & 0o555)

    def preallocate(self, fd: int, size_bytes: int) -> None:
        """Make *size_bytes* of the file real, so that no later write to them needs space."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size_bytes)
            return
        zeros = bytes(1 << 20)
        for offset in range(0, size_bytes, len(zeros)):
            os.write(fd, zeros[: size_bytes - offset])


SYSTEM = RealSystem()


def host_name() -> str:
    """Return the name of this machine."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def write_all(system: System, fd: int, data: bytes) -> None:
    """Write all of *data*, however few bytes each call takes."""
    done = 0
    while done < len(data):
        done += system.write(fd, data[done:] if done else data)


def replace_file(path: Path, data: bytes, system: System = SYSTEM) -> None:
    """Put *data* at *path* so that a crash leaves the old or the new content, on the disk, whole.

    Raises:
        OSError: the old content is still there.
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
