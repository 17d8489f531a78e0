"""A ring's file, read in pieces from any place, once around."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from eventlog.storage.circle import RingFile
from eventlog.storage.files import opened
from eventlog.storage.system import SYSTEM


@pytest.mark.parametrize("start", [0, 1, 299_999, 600_000, 1_000_000])
@pytest.mark.parametrize("missing", [0, 1000])
def test_ring_is_read_once_around(start: int, missing: int, tmp_path: Path) -> None:
    """Its lines are those of the bytes turned to begin there; what the file lacks is NUL."""
    generator, size = random.Random(start), 600_000
    data = b"\n".join(b"x" * generator.randrange(3000) for _ in range(500))[:size].ljust(size, b"y")
    data = data[: size - missing].ljust(size, b"\0")
    (tmp_path / "ring").write_bytes(data[: size - missing])
    turned = data[start % size :] + data[: start % size]

    with opened(tmp_path / "ring") as fd:
        ring = RingFile(fd, size - missing, SYSTEM)
        ring.begin_at(start, size)
        whole, lines, at = ring.read(0, size), [], 0
        while (line := ring.line_at(at)) is not None:
            lines.append(line)
            at += len(line) + 1

    assert whole == turned
    assert lines == turned.split(b"\n")[:-1]
