"""The pages of a mapped file, made present before a call meets one that is new.

Not by `mmap.madvise`, which keeps the interpreter from all other threads while it lasts.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable

_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, since Linux 5.14; older ones refuse it


def find_populate() -> Callable[[mmap.mmap], None]:
    """Return what makes all pages of a mapping present and writable, or `leave` where nothing can."""
    if sys.platform != "linux":
        return leave
    try:
        import ctypes

        madvise = ctypes.CDLL(None).madvise
    except (ImportError, OSError, AttributeError):  # a Python that was built without, a strange libc
        return leave

    def populate(memory: mmap.mmap) -> None:
        first = ctypes.c_char.from_buffer(memory)
        madvise(ctypes.byref(first), ctypes.c_size_t(len(memory)), _POPULATE_WRITE)

    return populate


def leave(memory: mmap.mmap) -> None:
    """Let calls get the pages of *memory* one by one."""


populate = find_populate()
