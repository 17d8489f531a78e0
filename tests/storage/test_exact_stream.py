"""What a stream promises to the byte: times, reasons, when it wakes the flusher, and when nobody waits."""

from __future__ import annotations

from typing import NoReturn

import pytest

from eventlog.codec import decode
from eventlog.events import AnyEvent, Dropped
from eventlog.storage.ring import Ring
from eventlog.storage.stream import LATER, MOST_DEFERRED, Place, Stream

RING_BYTES = 4096
QUARTER = RING_BYTES // 4
METRIC = b'{"type":"metrics","step":1,"data":{"loss":0.5}}'
NOTE = b'{"type":"note","text":"rare"}'
NOW_NS = 1_763_700_000_123_456_789


def open_stream(position: int = 0) -> Stream:
    """Return a stream that has begun at *position* without a header, and whose clock stands."""
    stream = Stream(lambda: NOW_NS)
    with stream.changing():
        stream.begin(Ring.in_memory(RING_BYTES), position, b"", 0, 0)
    return stream


def end_of(stream: Stream) -> Place:
    """Return the place after the newest line."""
    place = stream.place()
    assert place is not None
    return place


def events_in(stream: Stream, start: int = 0) -> list[AnyEvent]:
    """Return the events in the ring from *start* on."""
    assert stream.ring is not None
    return [decode(line) for line in stream.ring.get(start, end_of(stream).position - start).splitlines()]


def fill(stream: Stream) -> None:
    """Append notes until one is dropped; none of the calls waits."""
    while stream.append(NOTE, "note", max_block_s=0) is not None:
        pass


def ends_until_wake(stream: Stream, *, is_fast: bool) -> tuple[int, int]:
    """Append until the flusher is woken; return where the last line but one ended, and the last one."""
    while True:
        before = end_of(stream).position
        if is_fast:
            assert stream.append_metrics(1, b"{}")
        else:
            assert stream.append(NOTE, "note", max_block_s=0)
        if stream.wake.wait(0):
            return before, end_of(stream).position


def test_event_has_its_time_in_microseconds_on_either_path() -> None:
    """The clock tells nanoseconds; what is less than a microsecond is left out, not rounded."""
    stream = open_stream()

    assert stream.append_metrics(1, b"{}")
    assert stream.append(NOTE, "note", max_block_s=0)

    assert [event.ts for event in events_in(stream)] == [1_763_700_000_123_456] * 2


def test_note_of_a_loss_tells_that_the_ring_was_full() -> None:
    """Whoever reads the log learns why events are missing."""
    stream = open_stream()
    fill(stream)
    place = end_of(stream)

    stream.release(place.position)
    assert stream.append(NOTE, "note", max_block_s=0)

    dropped, _ = events_in(stream, place.position)
    assert isinstance(dropped, Dropped)
    assert (dropped.counts, dropped.reason) == ({"note": 1}, "the ring was full")


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("position", [0, QUARTER, 7 * RING_BYTES + 1000])
def test_flusher_is_woken_when_a_quarter_of_the_ring_waits(position: int, is_fast: bool) -> None:
    """By the line that goes beyond it and by none before, on either path, wherever the stream begins."""
    stream = open_stream(position)

    before, after = ends_until_wake(stream, is_fast=is_fast)

    assert before <= position + QUARTER < after


@pytest.mark.parametrize("is_fast", [True, False])
def test_flusher_that_has_written_is_woken_when_another_quarter_waits(is_fast: bool) -> None:
    """The quarter is counted from what is written, so that a busy stream does not wake it for every line."""
    stream = open_stream()
    ends_until_wake(stream, is_fast=is_fast)
    written = end_of(stream).position

    stream.written(written, written + RING_BYTES)

    before, after = ends_until_wake(stream, is_fast=is_fast)
    assert before <= written + QUARTER < after


@pytest.mark.parametrize("is_fast", [True, False])
def test_flusher_that_has_to_look_sooner_is_woken_sooner(is_fast: bool) -> None:
    """By the line that goes beyond the place that it named."""
    stream = open_stream()
    look_at = end_of(stream).position + 300

    stream.written(end_of(stream).position, look_at)

    before, after = ends_until_wake(stream, is_fast=is_fast)
    assert before <= look_at < after


def test_metric_after_a_loss_does_not_go_before_the_note_of_it() -> None:
    """The fast way knows no notes, so it takes nothing until the loss is told, room or not."""
    stream = open_stream()
    fill(stream)
    place = end_of(stream)
    stream.release(place.position)
    stream.written(place.position, place.position + RING_BYTES)

    is_taken = stream.append_metrics(1, b"{}")

    assert not is_taken
    assert end_of(stream) == place
    assert stream.append(METRIC, "metrics", max_block_s=0)
    assert [type(event).__name__ for event in events_in(stream, place.position)] == ["Dropped", "Metrics"]


def test_frame_may_fill_the_ring_to_its_last_byte_and_no_further() -> None:
    """A frame never writes over what is not released, and wastes no room."""
    stream = open_stream()

    with stream.changing():
        most = stream.put_frame(b"x" * (RING_BYTES - 1), 5)
        last = stream.put_frame(b"y", 6)
        beyond = stream.put_frame(b"z", 7)

    assert (most, last, beyond) == (Place(RING_BYTES - 1, 5, 0), Place(RING_BYTES, 6, 0), None)
    assert end_of(stream) == last
    assert stream.ring is not None
    assert stream.ring.get(0, RING_BYTES) == b"x" * (RING_BYTES - 1) + b"y"


def never_wait(timeout: float | None = None) -> NoReturn:
    """Stand for the wait of a call that must not wait."""
    raise AssertionError(f"a call waits for {timeout} s")


def test_call_after_the_end_does_not_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a call may wait: there will never be room again."""
    stream = open_stream()
    stream.close()
    monkeypatch.setattr(stream._room, "wait", never_wait)

    assert stream.append(NOTE, "note", max_block_s=60) is None

    assert stream.dropped == {"note": 1}


def test_call_without_time_or_hope_does_not_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that may not wait keeps the lock; until the disk moves, no call after it waits either."""
    stream = open_stream()
    monkeypatch.setattr(stream._room, "wait", never_wait)

    fill(stream)
    assert stream.append(NOTE, "note", max_block_s=60) is None

    assert stream.dropped == {"note": 2}


def test_call_waits_for_room_if_nobody_before_it_waited_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk is taken to move until one call has waited for it; from then on no call waits."""
    stream = open_stream()
    waits: list[float | None] = []
    monkeypatch.setattr(stream._room, "wait", waits.append)

    while stream.append(NOTE, "note", max_block_s=60) is not None:
        pass
    assert stream.append(NOTE, "note", max_block_s=60) is None

    assert len(waits) == 1
    assert stream.dropped == {"note": 2}


def test_note_of_a_handlers_loss_tells_why() -> None:
    """What a handler logged is dropped for want of room, or because the run ends; the note says which."""
    full, ended = open_stream(), open_stream()
    while full.append_metrics(1, b"{}"):
        pass
    with full.changing():
        for _ in range(MOST_DEFERRED + 1):
            assert full.append(METRIC, "metrics", max_block_s=0) is LATER
    with ended.changing():
        assert ended.append(METRIC, "metrics", max_block_s=0) is LATER
        ended.is_closed = True

    assert (full._drop_reason, ended._drop_reason) == ("the ring was full", "the run has ended")
    assert full.dropped == ended.dropped == {"metrics": 1}
