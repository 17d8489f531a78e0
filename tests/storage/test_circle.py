"""A ring's file, read in pieces from any place, once around."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from eventlog.storage.circle import LONGEST_LINE_BYTES, RingFile
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


@pytest.fixture
def lines() -> list[bytes]:
    """Return lines of many lengths."""
    return [b"x" * (size * 7919 % 3001) for size in range(400)]


@pytest.mark.parametrize("step", [-1, 1, -37, 41])
def test_ring_is_read_at_any_offset_in_any_order(lines: list[bytes], step: int, tmp_path: Path) -> None:
    """Each line is the same whether it is read forwards, backwards, twice, or with others between."""
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    (tmp_path / "ring").write_bytes(b"\n".join(lines) + b"\n")
    chosen = list(zip(starts, lines, strict=False))[::step]

    with opened(tmp_path / "ring") as fd:
        ring = RingFile(fd, starts[-1], SYSTEM)
        read = [(ring.line_at(start), ring.line_at(start)) for start, _ in chosen]

        assert read == [(line, line) for _, line in chosen]
        assert ring.line_at(starts[-1] + 5) is None
        assert ring.read(starts[-1] + 5, 10) == b""
        assert ring.read(starts[-1] - 5, 10) == (b"\n".join(lines) + b"\n")[-5:]


@pytest.mark.parametrize(
    ("size", "is_ours"), [(LONGEST_LINE_BYTES - 1, True), (LONGEST_LINE_BYTES * 2, False)]
)
def test_line_longer_than_any_is_none(size: int, is_ours: bool, tmp_path: Path) -> None:
    """It is not read to its end, which may be far."""
    (tmp_path / "ring").write_bytes(b"x" * size + b"\n")

    with opened(tmp_path / "ring") as fd:
        ring = RingFile(fd, size + 1, SYSTEM)
        ring.begin_at(0, size + 1)

        assert (ring.line_at(0) is not None) == is_ours
        assert not ring.is_empty()


@pytest.mark.parametrize(
    ("size", "at", "is_empty"), [(1 << 20, None, True), (1 << 20, 700_001, False), (5, 4, False)]
)
def test_ring_is_empty_if_every_byte_is_nul(
    size: int, at: int | None, is_empty: bool, tmp_path: Path
) -> None:
    """Wherever the one byte lies that is not."""
    data = bytearray(size)
    if at is not None:
        data[at] = 1
    (tmp_path / "ring").write_bytes(data)

    with opened(tmp_path / "ring") as fd:
        assert RingFile(fd, size, SYSTEM).is_empty() == is_empty
