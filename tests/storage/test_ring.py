"""The ring as a circular file with an owner."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from eventlog.storage.ring import Ring, lock_file
from tests.faults import WatchedSystem, failing


@pytest.mark.parametrize("position", [0, 5, 4090, 4095, 4096, 3 * 4096 - 1, 10**12])
def test_ring_returns_what_was_put_at_any_position(position: int) -> None:
    """A position counts from the start of the stream; the ring wraps it by itself."""
    ring = Ring.in_memory(4096)

    ring.put(position, b"0123456789")

    assert ring.get(position, 10) == b"0123456789"


def test_ring_lays_byte_x_at_x_modulo_its_size(tmp_path: Path) -> None:
    """The file holds the stream's bytes and nothing else: byte x at x mod N."""
    ring = Ring.in_file(tmp_path / "a.ring", 4096)

    ring.put(2 * 4096 - 3, b"abcdef")

    data = (tmp_path / "a.ring").read_bytes()
    assert (data[-3:], data[:3], data[3:-3].strip(b"\0")) == (b"abc", b"def", b"")


def test_ring_file_keeps_its_bytes_when_the_owner_is_gone(tmp_path: Path) -> None:
    """What was put into a file ring is in the page cache, whatever becomes of the process."""
    ring = Ring.in_file(tmp_path / "a.ring", 4096)
    ring.put(0, b"kept")

    ring.abandon()

    assert (tmp_path / "a.ring").read_bytes()[:4] == b"kept"


def test_ring_is_locked_as_long_as_its_owner_has_it(tmp_path: Path) -> None:
    """The lock tells whether the writer lives; giving the ring up releases it."""
    ring = Ring.in_file(tmp_path / "a.ring", 4096)

    while_held = lock_file(tmp_path / "a.ring")
    ring.abandon()
    afterwards = lock_file(tmp_path / "a.ring")

    assert while_held is None
    assert afterwards is not None


def test_ring_that_is_removed_leaves_no_file(tmp_path: Path) -> None:
    """A ring whose bytes all lie in segments takes its file with it."""
    ring = Ring.in_file(tmp_path / "a.ring", 4096)

    ring.remove()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["preallocate", "rename"])
def test_ring_that_cannot_be_made_leaves_no_file(tmp_path: Path, name: str) -> None:
    """A ring is there whole or not at all."""
    system = WatchedSystem(failing(name, 1, errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        Ring.in_file(tmp_path / "a.ring", 4096, system)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("begin", [0, 100, 7 * (8 << 20) + 5])
def test_ring_has_its_pages_ready_when_much_is_logged(tmp_path: Path, begin: int) -> None:
    """Once, as soon as 64 KiB came between two looks; until then it asks for the next look as soon."""
    system = WatchedSystem()
    ring = Ring.in_file(tmp_path / "a.ring", 8 << 20, system)

    little = [ring.look(begin + at) for at in (0, 65535, 131070)]
    before = len(system.populated)
    much = [ring.look(begin + at) for at in (196606, 400_000, 400_001)]

    assert before == 0
    assert little == [begin + at + 65536 for at in (0, 65535, 131070)]
    assert system.populated == [ring.mapping]
    assert much == [begin + at + (8 << 20) for at in (196606, 400_000, 400_001)]
