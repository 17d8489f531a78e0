"""A disk with two states: what the kernel shows, and what a power cut would leave.

Files keep their un-synced writes as a list, directories the changes of their names. A power cut lets each
of them through or not, within what real file systems do: any page of un-synced data may be there, be zeros or
be there in part; the size may have come without the data; a name may have come without the file's content, or
the other way round. What a sync has promised is always there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import PurePath

Choose = Callable[[int], int]
"""Returns a number from 0 to below its argument; it decides everything that is left to chance."""

# Small, so that a log of a few lines has several.
PAGE_BYTES = 256


class File:
    """A file's content, whatever its names.

    Attributes:
        cached: what a reader sees now.
        durable: what is on the disk for sure.
        writes: what was written since, (offset, data), oldest first.
        is_mapped: changed through memory as well, which leaves no list.
        is_given_up: a sync, a close or a write of it has failed for good: its writer may not touch it again.
        lock: who holds its lock, for each kind of view: a network's view has locks of its own.
    """

    def __init__(self, number: int, now_s: float) -> None:
        self.number = number
        self.cached = bytearray()
        self.durable = self._before = b""
        self.writes: list[tuple[int, bytes]] = []
        self.is_mapped = self.is_given_up = False
        self.is_read_only = False
        self.modified_s = now_s
        self.lock: dict[str, object] = {}

    def append(self, data: bytes) -> None:
        """Take *data* behind everything else."""
        self.writes.append((len(self.cached), data))
        self.cached += data

    def sync(self) -> None:
        """Make durable what was written; what a failed sync has forgotten stays forgotten."""
        self._before = self.durable
        self.durable = self._with(self.writes)
        self.writes = []

    def fail_late(self) -> None:
        """Forget at the close what was written, or what the sync right before it has promised."""
        if not (self.writes or self.is_given_up):
            self.durable = self._before
        self.forget_writes(is_seen=True)

    def forget_writes(self, *, is_seen: bool) -> None:
        """Fail as Linux does: the pages count as clean, are not on the disk, and no later sync tells.

        Args:
            is_seen: whether readers see zeros at once, or only when the cache is dropped.
        """
        self.is_given_up = True
        self.durable = self.durable.ljust(len(self.cached), b"\0")
        self.writes = []
        if is_seen:
            self.cached[:] = self.durable

    def _with(self, writes: list[tuple[int, bytes]]) -> bytes:
        content = bytearray(self.durable)
        for offset, data in writes:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        return bytes(content)

    def after_power_cut(self, choose: Choose) -> bytes:
        """Return what of the content has reached the disk."""
        if not self.is_mapped and not self.writes:
            return self.durable
        how = choose(4)
        if how == 0:
            return self.durable
        if how == 1 and not self.is_mapped:
            return self._with(self.writes[: choose(len(self.writes) + 1)])
        newest = bytes(self.cached) if self.is_mapped else self._with(self.writes)
        shortest, longest = sorted((len(self.durable), len(newest)))
        size = shortest + choose(longest - shortest + 1) if how == 2 else len(newest)
        return b"".join(
            self._page(newest[at : at + PAGE_BYTES], at, choose) for at in range(0, size, PAGE_BYTES)
        )[:size]

    def _page(self, newest: bytes, at: int, choose: Choose) -> bytes:
        old = self.durable[at : at + PAGE_BYTES].ljust(len(newest), b"\0")
        if old == newest:
            return old
        how = choose(3)
        if how == 0:
            return newest
        # A page may have been written out earlier, when it held the beginning only.
        cut = choose(len(newest) + 1) if how == 1 else 0
        same = _common(old, newest)
        return newest[: max(cut, same)] + old[max(cut, same) :]


def _common(a: bytes, b: bytes) -> int:
    """Return how many bytes at the beginning are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Directory:
    """Names, cached and durable.

    Attributes:
        changes: of names since the last sync, oldest first; each happens whole or not at all.
    """

    def __init__(self) -> None:
        self.names: dict[str, File | Directory] = {}
        self.durable: dict[str, File | Directory] = {}
        self.changes: list[dict[str, File | Directory | None]] = []

    def change(self, names: dict[str, File | Directory | None]) -> None:
        """Give names to files, or take them away (None)."""
        _apply(self.names, names)
        self.changes.append(names)

    def sync(self) -> None:
        """Make the names durable."""
        self.durable = dict(self.names)
        self.changes = []

    def after_power_cut(self, choose: Choose) -> Directory:
        """Return what of the names, and of everything below them, has reached the disk."""
        names, is_journalled = dict(self.durable), choose(2) == 0
        kept = choose(len(self.changes) + 1)
        for number, change in enumerate(self.changes):
            if number < kept if is_journalled else choose(2) == 0:
                _apply(names, change)
        left = Directory()
        for name, node in names.items():
            left.names[name] = left.durable[name] = _left_of(node, choose)
        return left


def _apply(names: dict[str, File | Directory], change: dict[str, File | Directory | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _left_of(node: File | Directory, choose: Choose) -> File | Directory:
    if isinstance(node, Directory):
        return node.after_power_cut(choose)
    left = File(node.number, node.modified_s)
    left.durable = node.after_power_cut(choose)
    left.cached = bytearray(left.durable)
    left.is_read_only = node.is_read_only
    return left


class Disk:
    """A tree of directories on one machine, with its clock.

    Attributes:
        clock_s: seconds since some epoch; only `advance` moves it.
        free_bytes: room for more.
        cuts: how often the power was cut, which is the machine's boot.
        living: host, boot and pid of every process, on all machines that see the disk.
    """

    def __init__(self, *, free_bytes: int = 1 << 40) -> None:
        self.root = Directory()
        self.clock_s = 1_763_700_000.0
        self.free_bytes = free_bytes
        self.cuts = 0
        self.living: set[tuple[str, str, int]] = set()
        self._numbers = 0
        self._pids = 1000

    def new_pid(self) -> int:
        """Return the number of a new process."""
        self._pids += 1
        return self._pids

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock_s += seconds

    def cut_power(self, choose: Choose) -> None:
        """Leave what a power cut leaves; all processes on the machine are gone, and so is its cache."""
        self.root = self.root.after_power_cut(choose)
        self.cuts += 1
        self.living.clear()

    def new_file(self) -> File:
        """Return a file without a name."""
        self._numbers += 1
        return File(self._numbers, self.clock_s)

    def directory(self, path: PurePath) -> Directory:
        """Return the directory at *path*.

        Raises:
            FileNotFoundError, NotADirectoryError: as the kernel would.
        """
        at: File | Directory = self.root
        for part in path.parts[1:]:
            if not isinstance(at, Directory):
                raise error(errno.ENOTDIR, path)
            if part not in at.names:
                raise error(errno.ENOENT, path)
            at = at.names[part]
        if not isinstance(at, Directory):
            raise error(errno.ENOTDIR, path)
        return at

    def file(self, path: PurePath) -> File:
        """Return the file at *path*."""
        node = self.directory(path.parent).names.get(path.name)
        if node is None:
            raise error(errno.ENOENT, path)
        if not isinstance(node, File):
            raise error(errno.EISDIR, path)
        return node

    def contents(self) -> dict[str, bytes]:
        """Return all files with what they hold, by path."""
        return dict(_walk(self.root, ""))


def _walk(directory: Directory, above: str) -> Iterator[tuple[str, bytes]]:
    for name, node in sorted(directory.names.items()):
        if isinstance(node, Directory):
            yield from _walk(node, f"{above}/{name}")
        else:
            yield f"{above}/{name}", bytes(node.cached)


def error(code: int, path: PurePath | None = None) -> OSError:
    """Return what a failing call raises."""
    return OSError(code, os.strerror(code), str(path) if path else None)
