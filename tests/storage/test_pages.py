"""Pages that are made present before a call meets them."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventlog.storage import pages
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.ring import MUCH_BYTES, Ring
from eventlog.storage.system import SYSTEM, Memory
from tests.faults import WatchedSystem

SIZE_BYTES = 512 * mmap.PAGESIZE


def knows_how() -> bool:
    """Tell whether this system is Linux 5.14 or younger."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release) if sys.platform == "linux" else None
    return found is not None and (int(found[1]), int(found[2])) >= (5, 14)


def new_pages(memory: Memory) -> int:
    """Change a byte of each page but the first; return how many of them were new to this thread."""
    import resource

    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for at in range(mmap.PAGESIZE, SIZE_BYTES, mmap.PAGESIZE):
        memory[at : at + 1] = b"7"
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@pytest.mark.skipif(not knows_how(), reason="pages are made present on request by Linux from 5.14 on")
@pytest.mark.parametrize("is_file", [True, False])
def test_pages_that_are_ready_are_new_to_no_call(tmp_path: Path, is_file: bool) -> None:
    """And what lies in them stays; without that nearly each of them is new."""
    new, ready = (
        Ring.in_file(tmp_path / f"{name}.ring", SIZE_BYTES) if is_file else Ring.in_memory(SIZE_BYTES)
        for name in ("new", "ready")
    )
    ready.put(0, b"kept")

    SYSTEM.populate(ready.mapping)

    assert new_pages(ready.mapping) < 50
    assert ready.get(0, 4) == b"kept"
    assert is_file is False or new_pages(new.mapping) > 400
    ready.remove()  # nobody else holds its memory
    assert ready.mapping.closed  # type: ignore[attr-defined]  # a mapping of the system
    new.remove()


@pytest.mark.skipif(sys.platform != "linux", reason="pages are made present on request by Linux")
def test_all_pages_are_asked_for_as_linux_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """MADV_POPULATE_WRITE is 23: 22 only reads, and where writing is watched each page costs again."""
    asked: list[tuple[int, int]] = []

    def madvise(_: object, size: ctypes.c_size_t, advice: int) -> int:
        asked.append((size.value, advice))
        return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(madvise=madvise))
    ring = Ring.in_memory(SIZE_BYTES)
    assert isinstance(ring.mapping, mmap.mmap)

    pages.find_populate()(ring.mapping)

    assert asked == [(SIZE_BYTES, 23)]


@pytest.mark.parametrize("lack", ["darwin", "win32", "no ctypes", "no madvise"])
def test_pages_are_left_where_nothing_is_known(lack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls get them one by one, as before."""
    if not lack.startswith("no"):
        monkeypatch.setattr(sys, "platform", lack)
    else:
        libc = SimpleNamespace(CDLL=lambda _: SimpleNamespace())
        monkeypatch.setitem(sys.modules, "ctypes", None if lack == "no ctypes" else libc)
    ring = Ring.in_memory(SIZE_BYTES)
    ring.put(0, b"kept")

    populate = pages.find_populate()
    assert isinstance(ring.mapping, mmap.mmap)
    populate(ring.mapping)

    assert ring.get(0, 4) == b"kept"
    assert populate is pages.leave


@pytest.mark.parametrize(("calls_at_once", "times"), [(100, 0), (2000, 1)])
def test_writer_has_its_pages_ready_when_much_is_logged(
    tmp_path: Path, calls_at_once: int, times: int
) -> None:
    """Not before: one that logs little leaves most pages of its ring clean."""
    system = WatchedSystem()
    buffer = LogBuffer(tmp_path, run_id="r", project="p", system=system)
    buffer.open()
    line = b'{"loss":0.5,"accuracy":0.25}'
    size = 0

    for begin in range(0, 6000, calls_at_once):
        for step in range(begin, begin + calls_at_once):
            assert buffer.append_fields(
                b'{"type":"metrics","step":%d,"data":%b}' % (step, line), "metrics", sync=False
            )
        assert buffer.sync()
        place = buffer.stream.place()
        assert place is not None
        size = place.position

    assert size > 5 * MUCH_BYTES
    assert len(system.populated) == times
    assert buffer.close()
