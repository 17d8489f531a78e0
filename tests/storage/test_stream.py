"""The caller's side of a writer, without a flusher: the test plays it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from eventlog.codec import decode, verifies
from eventlog.events import AnyEvent, Dropped, Metrics, Note
from eventlog.storage.ring import Ring
from eventlog.storage.stream import LATER, Stream
from tests.waiting import wait_until

RING_BYTES = 4096
METRIC = b'{"type":"metrics","step":1,"data":{"loss":0.5}}'
NOTE = b'{"type":"note","text":"rare"}'


class Clock:
    """Microseconds that the test holds; `on_call` runs inside of an append, as a signal handler would."""

    def __init__(self) -> None:
        self.t_us = 1
        self.on_call: Callable[[], object] = lambda: None

    def now_ns(self) -> int:
        """Return the time."""
        self.on_call()
        return self.t_us * 1000


def open_stream(clock: Clock) -> Stream:
    """Return a stream that has begun at position 0 without a header."""
    stream = Stream(clock.now_ns)
    with stream.changing():
        stream.begin(Ring.in_memory(RING_BYTES), 0, b"", 0, 0)
    return stream


def lines_in(stream: Stream, start: int = 0) -> list[bytes]:
    """Return the lines in the ring from *start* on, each checked against the chain."""
    place = stream.place()
    assert place is not None
    assert stream.ring is not None
    lines = stream.ring.get(start, place.position - start).split(b"\n")[:-1]
    seeds = [int(line[-10:-2], 16) for line in lines]
    assert all(verifies(line, seed) for line, seed in zip(lines[1:], seeds[:-1], strict=True))
    return lines


def events_in(stream: Stream, start: int = 0) -> list[AnyEvent]:
    """Return the events in the ring from *start* on."""
    return [decode(line) for line in lines_in(stream, start)]


def fill(stream: Stream) -> int:
    """Append metrics until one does not fit, and return how many did."""
    count = 0
    while stream.append(METRIC, "metrics", max_block_s=0) is not None:
        count += 1
    return count


def test_stream_fast_and_slow_appends_write_the_same_line() -> None:
    """The hot path is a faster spelling of `append`, nothing else."""
    fast, slow = open_stream(Clock()), open_stream(Clock())

    assert fast.append_metrics(1, b'{"loss":0.5}')
    assert slow.append(METRIC, "metrics", max_block_s=0)

    assert lines_in(fast) == lines_in(slow)


def test_stream_numbers_lines_without_gaps() -> None:
    """A line has the seq after the one before, on either path."""
    stream = open_stream(Clock())

    for step in range(5):
        stream.append_metrics(step, b"{}")
        stream.append(NOTE, "note", max_block_s=0)

    assert [event.seq for event in events_in(stream)] == list(range(10))


def test_stream_that_is_full_drops_metrics_first() -> None:
    """When no metric finds room, what is rare and matters more still does."""
    stream = open_stream(Clock())
    fill(stream)

    metric = stream.append(METRIC, "metrics", max_block_s=0)
    note = stream.append(NOTE, "note", max_block_s=0)

    assert metric is None
    assert note is not None


def test_stream_tells_in_the_log_what_it_dropped() -> None:
    """The first event that finds room again comes after a note of the number, the kind and the time."""
    clock = Clock()
    stream = open_stream(clock)
    kept = fill(stream)
    clock.t_us = 5
    stream.append_metrics(1, b"{}") or stream.append(METRIC, "metrics", max_block_s=0)

    clock.t_us = 9
    place = stream.place()
    assert place is not None
    stream.release(place.position)
    stream.append(METRIC, "metrics", max_block_s=0)

    note, metric = events_in(stream, place.position)
    assert isinstance(note, Dropped)
    assert (note.counts, note.first_ts, note.last_ts, note.seq) == ({"metrics": 2}, 1, 5, kept)
    assert isinstance(metric, Metrics)
    assert stream.dropped == {}


def test_stream_never_overwrites_what_is_not_released() -> None:
    """However much arrives, the bytes that were not given free stay as they are."""
    stream = open_stream(Clock())
    stream.append(NOTE, "note", max_block_s=0)
    before = lines_in(stream)[0]

    for _ in range(500):
        stream.append_metrics(1, b"{}") or stream.append(NOTE, "note", max_block_s=0)

    assert lines_in(stream)[0] == before


def test_stream_wraps_around_its_ring() -> None:
    """With room given back, a stream goes on far beyond the size of its ring."""
    stream = open_stream(Clock())

    for step in range(1000):
        assert stream.append_metrics(step, b'{"loss":0.5}') or stream.append(METRIC, "metrics", max_block_s=0)
        place = stream.place()
        assert place is not None
        stream.release(place.position)
        stream.written(place.position, place.position + RING_BYTES)

    place = stream.place()
    assert place is not None
    assert place.position > 10 * RING_BYTES
    assert place.seq == 1000


def test_stream_takes_an_append_inside_an_append_behind_it() -> None:
    """A signal handler that logs in the middle of a log call loses nothing and breaks no line."""
    clock = Clock()
    stream = open_stream(clock)

    def interrupt() -> None:
        clock.on_call = lambda: None
        assert stream.append(NOTE, "note", max_block_s=0) is LATER

    clock.on_call = interrupt
    stream.append_metrics(1, b"{}")

    assert [type(event) for event in events_in(stream)] == [Metrics, Note]
    assert stream.dropped == {}


@pytest.mark.parametrize("is_fast", [True, False])
def test_stream_is_whole_after_an_exception_inside_an_append(is_fast: bool) -> None:
    """Ctrl-C in the middle of a call loses that call only; the next line has its seq."""
    clock = Clock()
    stream = open_stream(clock)

    def interrupt() -> None:
        clock.on_call = lambda: None
        raise KeyboardInterrupt

    clock.on_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        _ = stream.append_metrics(1, b"{}") if is_fast else stream.append(METRIC, "metrics", max_block_s=0)
    stream.append(NOTE, "note", max_block_s=0)

    (event,) = events_in(stream)
    assert isinstance(event, Note)
    assert event.seq == 0


def test_stream_that_is_closed_takes_nothing_and_counts_it() -> None:
    """A call after the end is not an error, and not kept."""
    stream = open_stream(Clock())
    stream.close()

    assert not stream.append_metrics(1, b"{}")
    assert stream.append(NOTE, "note", max_block_s=0) is None
    assert stream.dropped == {"note": 1}


def test_call_waits_until_there_is_room_for_its_line() -> None:
    """Being woken is not enough: whoever waits looks again, and takes only room that is there."""
    stream = open_stream(Clock())
    fill(stream)
    while stream.append(NOTE, "note", max_block_s=0) is not None:
        pass
    stream.release(0)  # the last call has waited in vain, after which none would wait
    place = stream.place()
    assert place is not None
    took: list[object] = []

    def append() -> None:
        took.append(stream.append(NOTE, "note", max_block_s=60))

    job = threading.Thread(target=append, daemon=True)
    job.start()
    for _ in range(3):
        wait_until(lambda: bool(stream._room._waiters), "the call waits")  # type: ignore[attr-defined]
        stream.notify_waiting()
    assert not took
    stream.release(place.position)
    job.join(60)

    assert took == [stream.place()]
    assert stream.place() != place


def test_stream_takes_what_arrived_in_the_middle_of_something_before_it_ends() -> None:
    """A handler may strike between the last look at what it left and the end of the call."""
    stream = open_stream(Clock())
    stream._deferred.append((NOTE, "note"))

    stream.close()

    assert [type(event) for event in events_in(stream)] == [Note]


def strike_when_full(clock: Clock, stream: Stream) -> None:
    """Append a metric, in the middle of which a handler logs another one when there is no more room."""
    fill(stream)
    stream.release(0)  # as if no call had waited in vain

    def interrupt() -> None:
        clock.on_call = lambda: None
        assert stream.append(METRIC, "metrics", max_block_s=0) is LATER

    clock.on_call = interrupt
    assert stream.append(NOTE, "note", max_block_s=0)


def test_handlers_event_waits_for_room() -> None:
    """It cannot wait itself, in the middle of another call; so it comes when there is room."""
    clock = Clock()
    stream = open_stream(clock)
    strike_when_full(clock, stream)
    place = stream.place()
    assert place is not None

    stream.release(place.position)
    stream.append_deferred()

    assert stream.dropped == {}
    assert [type(event) for event in events_in(stream, place.position)] == [Metrics]


def test_handlers_event_for_which_there_is_no_room_at_the_end_is_counted() -> None:
    """Nobody will make room any more."""
    clock = Clock()
    stream = open_stream(clock)
    strike_when_full(clock, stream)

    stream.close()

    assert stream.dropped == {"metrics": 1}


def test_handlers_that_log_without_end_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for room takes memory, so it has a bound."""
    monkeypatch.setattr("eventlog.storage.stream.MOST_DEFERRED", 3)
    clock = Clock()
    stream = open_stream(clock)
    fill(stream)
    stream.release(0)  # as if no call had waited in vain
    stream._deferred.extend([(METRIC, "metrics")] * 5)

    stream.append_deferred()

    assert len(stream._deferred) == 3
    assert stream.dropped == {"metrics": 3}  # two of these, and the one with which `fill` ended
