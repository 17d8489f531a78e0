"""How much memory a query may take, and where it puts what is more."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

from eventlog.errors import QueryError

_UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)
_CGROUP = Path("/sys/fs/cgroup/memory.max")
MIN_BYTES = 128 << 20
"""With less, DuckDB cannot even read the cache of a few thousand runs."""


def parse_memory(text: str) -> int:
    """Return a size such as ``2GB``, ``512MiB`` or ``800M`` in bytes.

    Raises:
        QueryError: it is none, or too little.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise QueryError(f"{text!r} is no amount of memory. Say it as 2GB, 512MiB or 800M.")
    unit = match[2].upper()
    size = int(float(match[1]) * (_BINARY[unit] if match[3] and unit else _UNITS[unit]))
    if size < MIN_BYTES:
        raise QueryError(f"{text} of memory is too little: give at least {MIN_BYTES >> 20}MiB.")
    return size


def default_memory() -> int:
    """Return a quarter of the machine's memory, or of the container's, in bytes."""
    total = 4 << 30
    if sys.platform != "win32":
        with contextlib.suppress(OSError, ValueError):  # a system that does not say
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        total = min(total, int(_CGROUP.read_text()))
    return max(MIN_BYTES, total // 4)


def spill_directory(cache: Path) -> Path:
    """Return where a connection may put what does not fit into memory; DuckDB makes and removes it."""
    return cache / f".scratch-spill-{os.getpid()}-{os.urandom(4).hex()}"
