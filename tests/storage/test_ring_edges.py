"""The ring at its edges: where it wraps, how it is made, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.storage.ring import Ring
from tests.faults import WatchedSystem


@pytest.mark.parametrize(("position", "size"), [(5, 497), (495, 30), (0, 500), (499, 1), (1003, 498)])
def test_ring_of_any_size_wraps_anywhere(position: int, size: int) -> None:
    """Neither the size nor the place has to be a round number, and a line may be as long as the ring."""
    ring, data = Ring.in_memory(500), bytes(number % 251 for number in range(size))

    ring.put(position, data)

    assert ring.get(position, size) == data
    whole = ring.mapping[:]
    assert bytes(whole[(position + at) % 500] for at in range(size)) == data


def test_ring_that_is_given_back_twice_stays_given_back(tmp_path: Path) -> None:
    """The second time does nothing, also to a file that has the name by now."""
    ring, memory = Ring.in_file(tmp_path / "a.ring", 4096), Ring.in_memory(4096)
    ring.remove()
    (tmp_path / "a.ring").write_bytes(b"another one's")

    ring.remove()
    memory.remove()

    assert (tmp_path / "a.ring").read_bytes() == b"another one's"


def test_ring_whose_lock_another_one_holds_is_not_made(tmp_path: Path) -> None:
    """Without the lock nobody could tell that its writer lives."""

    class Taken(WatchedSystem):
        def lock(self, path: Path) -> int | None:
            return None

    with pytest.raises(OSError, match="somebody else holds the lock"):
        Ring.in_file(tmp_path / "a.ring", 4096, Taken())

    assert list(tmp_path.iterdir()) == []
