"""Small tools over a `System`: whole files, and directories with those above them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from eventlog.storage.system import SYSTEM, System

READ_BYTES = 1 << 20
# What is read without a limit of its own is a checkpoint, and those are small.
LARGEST_WHOLE_BYTES = 64 << 20


def read_file(path: Path, system: System = SYSTEM, *, at_most: int | None = None) -> bytes:
    """Return the content of *path*, or its first *at_most* bytes.

    Raises:
        OSError: it is not there, cannot be read, or has more than 64 MiB and *at_most* is None.
    """
    with opened(path, system) as fd:
        if at_most is not None:
            return read_from(fd, system, at_most=at_most)
        data = read_from(fd, system, at_most=LARGEST_WHOLE_BYTES + 1)
    if len(data) > LARGEST_WHOLE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return data


def read_from(fd: int, system: System = SYSTEM, *, offset: int = 0, at_most: int = sys.maxsize) -> bytes:
    """Return what *fd* holds from *offset* on, or the first *at_most* bytes of that."""
    parts, left = [], at_most
    while left and (part := system.read(fd, min(READ_BYTES, left), offset)):
        parts.append(part)
        offset += len(part)
        left -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def opened(path: Path | str, system: System = SYSTEM) -> Iterator[int]:
    """Open *path* for reading for the length of a block."""
    fd = system.open(path)
    try:
        yield fd
    finally:
        system.close(fd)


def make_directories(path: Path, system: System = SYSTEM, *, changed: list[Path] | None = None) -> list[Path]:
    """Make *path* and what is missing above it; return the directories in which new names stand.

    Those have to be synced before anything below *path* can be said to be on the disk.

    Args:
        changed: they are added to this list, so that they are known also if only some could be made.
    """
    changed = [] if changed is None else changed
    missing = []
    while True:
        try:
            is_new = system.make_directory(path)
        except FileNotFoundError:
            missing.append(path)
            path = path.parent
            continue
        break
    if is_new:
        changed.append(path.parent)
    for directory in reversed(missing):
        if system.make_directory(directory):
            changed.append(directory.parent)
    return changed


def sync_above(directories: Iterable[Path], system: System = SYSTEM) -> None:
    """Make the names in *directories*, which lead to a log, durable."""
    for directory in directories:
        with contextlib.suppress(PermissionError):  # somebody else's, and older than what we have made
            system.sync_directory(directory)


def directories_above(directory: Path) -> list[Path]:
    """Return *directory* and four above it, which for anything in a run leads to above the root.

    Whoever made them may have been killed before their names were durable.
    """
    return [directory, *directory.parents[:4]]


def first_line(fd: int, system: System = SYSTEM, *, at_most: int) -> bytes:
    """Return the first line of *fd* with its newline, or as much of it as *at_most* bytes are."""
    data, wanted = b"", min(at_most, 4096)
    while len(data) < at_most and (part := system.read(fd, wanted, len(data))):
        data += part
        end = part.find(b"\n") + 1
        if end:
            return data[: len(data) - len(part) + end]
        wanted = min(READ_BYTES, at_most - len(data))
    return data
