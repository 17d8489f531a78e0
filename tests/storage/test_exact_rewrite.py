"""What a rewrite takes over, to the byte: which lines, how much room they need, and where they go."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from eventlog.codec import encode_fields, verifies
from eventlog.events import Note
from eventlog.storage.rewrite import Rewrite, ring_size_for
from eventlog.storage.ring import Ring
from eventlog.storage.stream import Place, Stream

HEADER = b"header\n"
OLD_BYTES = 1 << 17
HEADROOM = 4096


def append(stream: Stream, size_bytes: int) -> None:
    """Append a note whose line has *size_bytes*."""
    before = stream.place()
    assert before is not None
    empty = len(b'{"seq":%d,"ts":1,"type":"note","text":"","crc":"01234567"}\n' % before.seq)
    fields = encode_fields(Note(text="x" * (size_bytes - empty)))
    after = stream.append(fields, "note", max_block_s=0)
    assert after is not None
    assert after.position - before.position == size_bytes


def open_stream(ring: Ring, *, synced_bytes: int) -> tuple[Stream, Place]:
    """Return a stream that has *synced_bytes* on the disk, and the place after them."""
    stream = Stream(lambda: 1000)
    with stream.changing():
        stream.begin(ring, 0, b"", 0, 0)
    append(stream, synced_bytes // 2)
    append(stream, synced_bytes - synced_bytes // 2)
    synced = stream.place()
    assert synced is not None
    return stream, synced


def begin_again(ring: Ring, begin: int, synced: Place) -> Rewrite:
    """Return a rewrite of what follows *synced*, of which the header is there."""
    return Rewrite(ring, begin, HEADER, crc=7, seq=synced.seq)


def bodies(data: bytes) -> list[bytes]:
    """Return the lines of *data* without their checksums, which another seed changes."""
    return [line[:-18] for line in data.splitlines()]


@pytest.mark.parametrize(
    ("waiting_bytes", "wanted_bytes", "size_bytes"),
    [
        (0, 8192, 8192),
        (4096, 8192, 8192),
        (4097, 8192, 16_384),
        (100_000, 8192, 131_072),
        (126_976, 8192, 131_072),
        (126_977, 8192, 262_144),
        (10_000, 9000, 18_000),
    ],
)
def test_new_ring_is_the_smallest_doubling_with_room(
    waiting_bytes: int, wanted_bytes: int, size_bytes: int
) -> None:
    """For what waits and 4096 bytes more, and never smaller than was asked for."""
    assert ring_size_for(waiting_bytes, wanted_bytes) == size_bytes


def test_rewrite_begins_with_its_header_in_a_ring_of_any_size() -> None:
    """The first line follows the header without a gap, also where a size is no power of two."""
    ring, header = Ring.in_memory(5000), b"h" * 699 + b"\n"

    again = Rewrite(ring, 5000, header, crc=7, seq=3)

    assert again.place == Place(5700, 7, 3)
    assert ring.get(5000, 700) == header


@pytest.mark.parametrize("count", [0, 1, 7, 8, 20])
def test_rewrite_takes_over_what_is_not_synced_and_nothing_else(count: int) -> None:
    """Every line after the synced ones once, with its seq and time, chained to the new header."""
    old, new = Ring.in_memory(OLD_BYTES), Ring.in_memory(OLD_BYTES)
    stream, synced = open_stream(old, synced_bytes=20_000)
    for _ in range(count):
        append(stream, 5000)
    lines = old.get(synced.position, count * 5000)
    again = begin_again(new, OLD_BYTES, synced)

    assert again.move(stream, old, synced.position)

    moved = new.get(OLD_BYTES + len(HEADER), again.place.position - OLD_BYTES - len(HEADER))
    assert bodies(moved) == bodies(lines)
    seeds = [7, *(int(line[-10:-2], 16) for line in moved.splitlines())]
    assert all(verifies(line, seed) for line, seed in zip(moved.splitlines(), seeds, strict=False))
    assert again.place == Place(OLD_BYTES + len(HEADER) + count * 5000, seeds[-1], synced.seq + count)
    assert (stream.ring, stream.place()) == (new, again.place)


@pytest.mark.parametrize("waiting_bytes", [12_288, 61_440])
def test_ring_has_room_for_its_size_less_what_the_header_may_need(waiting_bytes: int) -> None:
    """What fits exactly fits; one byte more does not, and is known before anything is copied."""
    old, new = Ring.in_memory(OLD_BYTES), Ring.in_memory(waiting_bytes + HEADROOM)
    stream, synced = open_stream(old, synced_bytes=20_000)
    append(stream, waiting_bytes)
    tight = Ring.in_memory(waiting_bytes + HEADROOM - 1)
    end = stream.place()

    is_moved_to_less = begin_again(tight, len(tight.mapping[:]), synced).move(stream, old, synced.position)

    assert not is_moved_to_less
    assert (stream.ring, stream.place()) == (old, end)
    assert tight.mapping[:].rstrip(b"\0") == HEADER
    assert begin_again(new, new.size_bytes, synced).move(stream, old, synced.position)
    assert stream.ring is new


class Busy(Ring):
    """A ring that callers append to while somebody reads it."""

    on_get: Callable[[], object] = staticmethod(lambda: None)

    def get(self, position: int, size: int) -> bytes:
        data = super().get(position, size)
        self.on_get()
        return data


@pytest.mark.parametrize(("more_bytes", "is_moved"), [(10_000, True), (20_000, True), (20_001, False)])
def test_what_callers_append_during_the_copy_is_taken_over_or_nothing_is(
    more_bytes: int, is_moved: bool
) -> None:
    """The room is looked at again at the end: a stream never moves into a ring that cannot hold it."""
    old, new = Busy.in_memory(OLD_BYTES), Ring.in_memory(60_000 + HEADROOM)
    assert isinstance(old, Busy)
    stream, synced = open_stream(old, synced_bytes=20_000)
    append(stream, 40_000)

    def append_once() -> None:
        old.on_get = lambda: None
        append(stream, more_bytes)

    old.on_get = append_once
    again = begin_again(new, new.size_bytes, synced)

    assert again.move(stream, old, synced.position) == is_moved

    assert stream.ring is (new if is_moved else old)
    if is_moved:
        newest = new.get(again.place.position - more_bytes, more_bytes)
        assert msgspec.json.decode(newest, type=Note).seq == synced.seq + 1
