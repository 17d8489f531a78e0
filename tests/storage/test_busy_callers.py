"""A writer whose callers go on logging while its disk fails or its segment is full."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import encode_fields, seq_of, verifies
from eventlog.events import Metrics, Note
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.rewrite import LOCKED_BYTES, Rewrite
from eventlog.storage.ring import Ring
from eventlog.storage.stream import Place, Stream
from tests.faults import Call, WatchedSystem
from tests.logs import MANUAL, headers, open_buffer, read_back

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

NOTE = encode_fields(Note(text="x" * 400))


class BusyCallers:
    """Decides for a `WatchedSystem`: at the first call that *when* picks, others append *count* notes.

    Attributes:
        buffer: to which they append; None until they may, and when they have.
    """

    def __init__(self, when: Callable[[Call], bool], count: int) -> None:
        self.buffer: LogBuffer | None = None
        self._when, self._count = when, count

    def __call__(self, call: Call) -> None:
        if self.buffer is None or not self._when(call):
            return
        stream, self.buffer = self.buffer.stream, None
        for _ in range(self._count):
            assert stream.append(NOTE, "note", max_block_s=0)


def stream_with(count: int, ring_bytes: int = 1 << 18) -> tuple[Stream, Ring, int]:
    """Return a stream of *count* notes, its ring, and the position of the first."""
    stream, ring = Stream(), Ring.in_memory(ring_bytes)
    with stream.changing():
        begin = stream.begin(ring, 0, b"header\n", 0, 0).position
    for _ in range(count):
        assert stream.append(NOTE, "note", max_block_s=0)
    return stream, ring, begin


def test_more_than_is_copied_at_once_moves_in_order() -> None:
    """The bulk is copied before callers have to wait; seqs stay, and the chain is whole."""
    stream, old, begin = stream_with(200)
    assert stream.place() is not None
    new = Ring.in_memory(1 << 18)

    moved = Rewrite(new, 1 << 18, b"anew\n", crc=0, seq=0).move(stream, old, begin)

    place = stream.place()
    assert moved
    assert place is not None
    assert place.position - begin > LOCKED_BYTES
    lines = new.get(1 << 18, place.position - (1 << 18)).split(b"\n")[1:-1]
    assert [seq_of(line) for line in lines] == list(range(200))
    seeds = [0, *(int(line[-10:-2], 16) for line in lines)]
    assert all(verifies(line, seed) for line, seed in zip(lines, seeds, strict=False))
    assert (stream.ring, place.crc, place.seq) == (new, seeds[-1], 200)


def test_ring_that_is_too_small_is_not_moved_to() -> None:
    """The stream stays where it is, with all that it has."""
    stream, old, begin = stream_with(200)
    before = stream.place()

    assert not Rewrite(Ring.in_memory(1 << 14), 1 << 14, b"anew\n", crc=0, seq=0).move(stream, old, begin)

    assert (stream.ring, stream.place()) == (old, before)


def test_ring_that_callers_fill_at_the_last_moment_is_not_moved_to() -> None:
    """What was appended between the last look and the lock counts, too."""
    stream, old, begin = stream_with(10)
    lock, others = stream.lock, iter(range(100))

    class Late:
        def __enter__(self) -> None:
            stream.lock = lock
            assert all(stream.append(NOTE, "note", max_block_s=0) for _ in others)
            lock.__enter__()

        def __exit__(self, *_: object) -> None:
            lock.__exit__(None, None, None)

    def look() -> Place | None:
        del stream.place
        place = stream.place()
        stream.lock = Late()
        return place

    stream.place = look  # type: ignore[method-assign]

    assert not Rewrite(Ring.in_memory(1 << 14), 1 << 14, b"anew\n", crc=0, seq=0).move(stream, old, begin)

    place = stream.place()
    assert stream.ring is old
    assert place is not None
    assert place.seq == 110


def test_callers_that_fill_the_ring_during_a_rewrite_lose_nothing(tmp_path: Path) -> None:
    """A ring with room for what waited when it was made may be too small when it is ready."""
    rings: list[Call] = []
    busy = BusyCallers(lambda call: call.name == "preallocate" and len(rings) > 2, 131)  # 62 of 64 KiB

    def decide(call: Call) -> None:
        rings.extend([call] * (call.name == "preallocate"))
        busy(call)
        if call.name == "sync" and len(rings) == 2:
            raise OSError(errno.EIO, "the disk fails until there is another ring")

    buffer = open_buffer(tmp_path, system=WatchedSystem(decide))
    busy.buffer = buffer
    buffer.append(Metrics(step=1), sync=True)

    assert buffer.close()

    read = read_back(tmp_path)
    assert [event.seq for event in read.events] == list(range(132))
    assert [header.origin for header in headers(tmp_path)] == ["writer", "rewrite"]


def test_full_segment_is_sealed_when_its_callers_let_it(tmp_path: Path) -> None:
    """What came while a full segment was written goes into it first, if callers would wait for its hash."""
    options = msgspec.structs.replace(MANUAL, segment_bytes=30_000, ring_bytes=1 << 18)
    busy = BusyCallers(lambda call: call.name == "write", 80)  # more than is hashed while callers wait
    buffer = open_buffer(tmp_path, options=options, system=WatchedSystem(busy))
    for step in range(200):
        buffer.append(Metrics(step=step, data={"loss": "x" * 150}), sync=False)
    busy.buffer = buffer
    buffer.append(Metrics(step=200), sync=True)

    assert buffer.close()

    read = read_back(tmp_path)
    assert read.is_clean
    assert len(read.events) == 281
    assert read.reports[0].events == 281


def test_rewrite_without_memory_for_a_ring_waits_for_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old ring stays as it is until there is another one, and nothing of it is lost."""
    failed: list[Call] = []

    def decide(call: Call) -> None:
        if call.name == "sync" and not failed:
            failed.append(call)
            monkeypatch.setattr("eventlog.storage.ring.Ring.in_memory", no_memory)
            raise OSError(errno.EIO, "the disk fails")
        if call.name == "preallocate" and len(failed) == 1:
            failed.append(call)
            raise OSError(errno.ENOSPC, "no space for another ring")

    def no_memory(_size: int) -> Ring:
        monkeypatch.undo()
        raise OSError(errno.ENOMEM, "no memory for another ring")

    options = msgspec.structs.replace(MANUAL, write_interval_s=0.005)
    buffer = open_buffer(tmp_path, options=options, system=WatchedSystem(decide))
    buffer.append(Metrics(step=1), sync=True)

    assert buffer.close()

    assert len(failed) == 2
    assert read_back(tmp_path).steps == [1]


class Weighing(Rewrite):
    """A rewrite that notes how much it copies while callers have to wait."""

    def __init__(self, stream: Stream, ring: Ring, begin: int) -> None:
        super().__init__(ring, begin, b"anew\n", crc=0, seq=0)
        self._stream = stream
        self.copied: list[tuple[bool, int]] = []

    def take(self, data: bytes) -> None:
        is_locked = self._stream.place() is None  # as this thread is in the middle of a change then
        self.copied.append((is_locked, len(data)))
        super().take(data)


def test_callers_wait_only_for_the_last_bit() -> None:
    """Millions of bytes would take long; they are copied before."""
    stream, old, begin = stream_with(200)
    rewrite = Weighing(stream, Ring.in_memory(1 << 18), 1 << 18)

    assert rewrite.move(stream, old, begin)

    assert [is_locked for is_locked, _ in rewrite.copied] == [False, True]
    assert rewrite.copied[0][1] > LOCKED_BYTES >= rewrite.copied[1][1]
