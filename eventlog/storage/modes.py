"""Who may read what is made in a run, and what may lead out of it.

Everything follows the umask, but for a private run, which is known by its directory: nobody else has a right
to it. What is made below such a directory, by whatever process, is its owner's alone too, for a copy of the
files (``cp``, ``tar``) loses the directory.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

LOG_DIRECTORY = "log"
ARTIFACTS_DIRECTORY = "artifacts"
STATE_DIRECTORY = ".evlog"

_ROOMS = frozenset({LOG_DIRECTORY, ARTIFACTS_DIRECTORY, STATE_DIRECTORY})
_OTHERS = 0o077
# Between a run and a file that a sink makes in it.
_MAX_DEPTH = 4
MAX_READ_BYTES = 1 << 30
"""Of a file that is read into memory at once."""
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_promised: set[Path] = set()


def keep_private(run: Path) -> None:
    """Let the directory *run*, which may not be there yet, be private when this process makes it."""
    _promised.add(run)


def is_private(run: Path) -> bool:
    """Tell whether the directory *run* is closed to others."""
    try:
        return not run.stat().st_mode & _OTHERS
    except OSError:
        return False


def is_ours(path: Path) -> bool:
    """Tell whether *path* belongs to the user of this process; yes where there are no users.

    Raises:
        OSError: it is not there.
    """
    return not hasattr(os, "geteuid") or path.stat().st_uid == os.geteuid()


def close_to_others(directory: Path) -> None:
    """Take the rights of everybody but its owner from *directory*.

    Raises:
        OSError: it is not there, or somebody else's.
    """
    mode = directory.stat().st_mode
    if mode & _OTHERS:
        directory.chmod(stat.S_IMODE(mode) & ~_OTHERS)


def mode_for(path: Path, usual: int) -> int:
    """Return the mode with which *path* is to be made: *usual*, which the umask cuts, or its owner's part.

    Raises:
        OSError: *path* lies in a room of a run that is a link, so that it would be made elsewhere.
    """
    # No higher up: a root may lie below any link. What lies deeper in `artifacts/` is looked at there.
    room = next((one for one in path.parents[:2] if one.name in _ROOMS), None)
    if room is not None and room.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which may lead out of the run", str(room))
    if _promised and not _promised.isdisjoint((path, *path.parents)):
        return usual & ~_OTHERS
    run = _run_of(path)
    return usual & ~_OTHERS if run is not None and is_private(run) else usual


def _run_of(path: Path) -> Path | None:
    """Return the run that *path* lies in, if it does."""
    for depth, one in enumerate((path, *path.parents)):
        if one.name in _ROOMS:
            return one.parent
        if 0 < depth <= _MAX_DEPTH and (one / LOG_DIRECTORY).is_dir():
            return one
    return None


def is_room_elsewhere(path: Path) -> bool:
    """Tell whether *path* is a room of a run and a link, so that what is made in it would lie elsewhere."""
    return path.name in _ROOMS and path.is_symlink()


def opener(path: str, flags: int) -> int:
    """Open *path* for `open(…, "wb" or "ab", opener=opener)`: with the right mode, never through a link."""
    return os.open(path, flags | _NO_FOLLOW, mode_for(Path(path), 0o666))


def make_directory(path: Path) -> None:
    """Make *path* and what is missing above it, with the right modes; one that is there stays.

    Raises:
        OSError: it cannot be made, or is a room of a run that a link leads out of.
    """
    if is_room_elsewhere(path):
        raise NotADirectoryError(errno.ENOTDIR, "it is a link, which may lead out of the run", str(path))
    for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
        missing.mkdir(mode_for(missing, 0o777), exist_ok=True)
    path.mkdir(exist_ok=True)  # raises if it is a file


def open_inside(run: Path, name: str) -> int:
    """Open the file *name* below *run* for reading, step by step, so that no link is followed.

    Raises:
        OSError: it is not there, is no regular file, or a link, or lies outside.
    """
    parts = name.split("/")
    if "\0" in name or any(part in {"", ".", ".."} for part in parts) or Path(name).is_absolute():
        raise OSError(errno.EINVAL, "it is no name below the run", name)
    if sys.platform == "win32" or os.open not in os.supports_dir_fd:
        return _open_checked(run, name)
    fd = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, part in enumerate(parts):
        kind = os.O_DIRECTORY if number < len(parts) - 1 else 0
        try:
            inner = os.open(part, os.O_RDONLY | kind | _NO_FOLLOW, dir_fd=fd)
        except OSError as error:
            raise _told(error, run / name) from None
        finally:
            os.close(fd)
        fd = inner
    return _regular(fd, run / name)


def check_inside(run: Path, name: str) -> Path:
    """Return the path of the file *name* below *run*, for those who open by path.

    Raises:
        OSError: as `open_inside`. Who swaps a directory for a link after this look is not noticed.
    """
    os.close(open_inside(run, name))
    return run / name


def read_inside(run: Path, name: str, *, at_most: int = MAX_READ_BYTES) -> bytes:
    """Return the content of the file *name* below *run*.

    Raises:
        OSError: as `open_inside`, or it is larger than *at_most*.
    """
    with open(open_inside(run, name), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > at_most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, more than {at_most}", str(run / name))
        return file.read(at_most)


def _open_checked(run: Path, name: str) -> int:
    """Open as `open_inside` where the system cannot go step by step."""
    path = run / name
    if not path.resolve().is_relative_to(run.resolve()):
        raise OSError(errno.ELOOP, "it lies outside of the run", str(path))
    return _regular(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), path)


def _regular(fd: int, path: Path) -> int:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def _told(error: OSError, path: Path) -> OSError:
    if error.errno in {errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP)}:
        return OSError(
            error.errno, "a link or a file stands where a directory or file of the run should", str(path)
        )
    return type(error)(error.errno, error.strerror, str(path))
