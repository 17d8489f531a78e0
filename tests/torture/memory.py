"""Files in memory, for what is tried millions of times: the reader's own code over bytes, without a disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from eventlog.storage.system import FileStat, RealSystem


class Piece(NamedTuple):
    """A file of which only a part is looked at.

    Attributes:
        base: offset of the part's first byte.
        data: the part; the file ends with it.
        head: its first line, which whoever begins at a cursor reads too.
    """

    base: int
    data: bytes
    head: bytes = b""

    def read(self, size: int, offset: int) -> bytes:
        """Return at most *size* bytes from *offset* on."""
        if offset < self.base:
            return self.head[offset : offset + size]
        return self.data[offset - self.base : offset - self.base + size]


class OneFile(RealSystem):
    """A system that knows one file, under every name."""

    def __init__(self) -> None:
        self.base, self.data = 0, b""

    def open(self, path: Path | str) -> int:
        return 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return self.data[offset - self.base : offset - self.base + size]

    def close(self, fd: int) -> None:
        pass


class MemoryFiles(RealSystem):
    """A system of files that are only read.

    Attributes:
        files: by their whole names.
        opened: names that somebody wanted to open, in order, there or not.
    """

    def __init__(self, files: dict[str, Piece] | None = None) -> None:
        self.files = {} if files is None else files
        self.opened: list[str] = []

    def open(self, path: Path | str) -> int:
        self.opened.append(os.fspath(path))
        if self.opened[-1] not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.opened[-1])
        return len(self.opened) - 1

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return self.files[self.opened[fd]].read(size, offset)

    def close(self, fd: int) -> None:
        pass

    def stat(self, path: Path) -> FileStat:
        piece = self.files.get(os.fspath(path))
        if piece is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return FileStat(piece.base + len(piece.data), 0.0)

    def list_directory(self, path: Path) -> list[str]:
        start = os.fspath(path) + os.sep
        return [name[len(start) :] for name in self.files if name.startswith(start)]
