"""What a process notes of its calls, in memory that outlives it and that all its children share.

Each actor (a thread, a signal handler, a finalizer, a child) marks its calls by number, before and after. At
`freeze` the marks are copied: only what had returned before is promised, because then the log began to end.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import NamedTuple

ACTORS, CALLS = 160, 256
MAIN, HANDLER, FINALIZER, COLLECTOR, AT_EXIT = range(5)
FIRST_THREAD, FIRST_CHILD = 8, 80
FORKS, ACTORS_PER_FORK = 3, 4
BEGUN, RETURNED = 1, 2
_MARKS = ACTORS * CALLS
_META = 256
SIZE_BYTES = 2 * _MARKS + _META


class Expected(NamedTuple):
    """How a process should end.

    Attributes:
        code: its exit code, negative for a signal; None for any.
        statuses: what its run may say of its end.
    """

    code: int | None
    statuses: frozenset[str]


class Notes:
    """The marks of one round, in the file *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, SIZE_BYTES)
        self._memory = mmap.mmap(fd, SIZE_BYTES)
        os.close(fd)
        self.marks = memoryview(self._memory)

    def clear(self) -> None:
        """Forget everything."""
        self._memory[:] = bytes(SIZE_BYTES)

    def freeze(self) -> None:
        """Let nothing count as promised that returns after this; the second call does nothing."""
        if not self.is_frozen:
            self._memory[_MARKS : 2 * _MARKS] = self._memory[:_MARKS]
            self._memory[2 * _MARKS] = 1

    @property
    def is_frozen(self) -> bool:
        """Tell whether `freeze` was called."""
        return self._memory[2 * _MARKS] != 0

    @property
    def is_ready(self) -> bool:
        """Tell whether a signal may come."""
        return self._memory[2 * _MARKS + 1] != 0

    def set_ready(self, is_ready: bool) -> None:
        """Let a signal come, or say that it came."""
        self._memory[2 * _MARKS + 1] = is_ready

    def expect(self, code: int | None, *statuses: str) -> None:
        """Note how the process is about to end."""
        text = f"{'' if code is None else code} {' '.join(statuses)}".encode()
        self._memory[2 * _MARKS + 2 : 2 * _MARKS + _META] = text.ljust(_META - 2, b"\0")

    def expected(self) -> Expected:
        """Return what was noted last."""
        text = self._memory[2 * _MARKS + 2 : 2 * _MARKS + _META].rstrip(b"\0").decode()
        code, _, statuses = text.partition(" ")
        return Expected(int(code) if code else None, frozenset(statuses.split()))

    def calls(self) -> int:
        """Return how many calls have returned."""
        return self._memory[:_MARKS].count(RETURNED)

    def forked(self) -> int:
        """Return how many children of `process_lives.forks` have logged."""
        width = ACTORS_PER_FORK * CALLS
        first = FIRST_CHILD * CALLS
        return sum(any(self._memory[at : at + width]) for at in range(first, first + FORKS * width, width))

    def promised(self) -> set[tuple[int, int]]:
        """Return actor and number of the calls that have to be in the log."""
        return self._marked(_MARKS if self.is_frozen else 0, RETURNED)

    def begun(self) -> set[tuple[int, int]]:
        """Return actor and number of the calls that may be in the log."""
        return self._marked(0, BEGUN)

    def _marked(self, start: int, least: int) -> set[tuple[int, int]]:
        found = set[tuple[int, int]]()
        for actor in range(ACTORS):
            at = start + actor * CALLS
            marks = self._memory[at : at + CALLS].rstrip(b"\0")
            found.update((actor, number) for number, mark in enumerate(marks) if mark >= least)
        return found
