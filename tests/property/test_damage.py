"""What a reader says of logs that were cut, flipped, zeroed or rearranged, at any place."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.events import AnyEvent, Event
from eventlog.storage.merge import RunReader
from tests.logs import START_TS, WRITER_A, WRITER_B, LogMaker, ReadBack, metrics, put, read_back
from tests.strategies import run_events

LOGS = st.lists(run_events(), min_size=1, max_size=3)


def read_bytes(*segments: bytes) -> ReadBack:
    """Return what a reader says of a run whose segments hold these bytes."""
    with tempfile.TemporaryDirectory() as directory:
        for number, data in enumerate(segments, 1):
            put(Path(directory), number, data)
        return read_back(Path(directory))


def assert_nothing_invented(read: ReadBack, written: list[Event]) -> None:
    """Check that what was read is a part of what was written, in order."""
    by_seq: dict[int, AnyEvent] = {event.seq: event for event in written}
    assert all(by_seq.get(event.seq) == event for event in read.events)
    assert [e.seq for e in read.events] == sorted({e.seq for e in read.events})


@given(events=run_events(), cut=st.integers(min_value=0), is_sealed=st.booleans())
def test_reader_of_a_torn_log_yields_a_prefix(events: list[Event], cut: int, is_sealed: bool) -> None:
    """However the last segment is cut, what is read is what was written first."""
    maker = LogMaker()
    data = b"".join(maker.segment(events, is_sealed=is_sealed))
    cut %= len(data)

    read = read_bytes(data[:cut])

    assert read.events == maker.events[: len(read.events)]
    lines = data[:cut].count(b"\n")
    assert len(read.events) == min(max(0, lines - 1), len(events))


@given(log=LOGS, at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_flipped_bit_is_found_and_costs_at_most_two_events(log: list[list[Event]], at: int, bit: int) -> None:
    """One bit anywhere: the reader notices, loses little and invents nothing."""
    maker = LogMaker()
    segments = [bytearray(b"".join(maker.segment(events))) for events in log]
    damaged = segments[at % len(segments)]
    damaged[at // len(segments) % len(damaged)] ^= 1 << bit

    read = read_bytes(*map(bytes, segments))

    assert not read.is_clean
    assert_nothing_invented(read, maker.events)
    assert len(read.events) >= len(maker.events) - 2


def test_flipped_bit_in_every_byte_of_a_log_is_found() -> None:
    """The same for each byte of a log of two segments: its lowest bit, and the one that turns a into A."""
    maker = LogMaker()
    first, second = (b"".join(maker.segment(metrics(2, start=start))) for start in (0, 2))
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory)
        put(run, 2, second)
        for number, data in ((1, first), (2, second)):
            path = put(run, number, data)
            for at in range(len(data)):
                for bit in (0, 5):
                    path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
                    read = read_back(run)
                    assert not read.is_clean, (number, at, bit)
                    assert_nothing_invented(read, maker.events)
                    assert len(read.events) >= 2, (number, at, bit)
            path.write_bytes(data)


@given(events=run_events(), size=st.integers(min_value=1))
def test_zeros_at_the_end_are_found(events: list[Event], size: int) -> None:
    """A tail of NUL bytes, as a power cut leaves it, is reported; what lies before it is read."""
    maker = LogMaker()
    data = b"".join(maker.segment(events, is_sealed=False))
    size = 1 + size % len(data)

    read = read_bytes(data[:-size] + bytes(size))

    assert not read.is_clean
    assert read.events == maker.events[: len(read.events)]


@given(events=run_events(), start=st.integers(min_value=0), size=st.integers(1, 300))
def test_zeros_in_the_middle_are_found(events: list[Event], start: int, size: int) -> None:
    """A hole of NUL bytes is reported, and nothing in it is made up."""
    maker = LogMaker()
    data = b"".join(maker.segment(events))
    start %= len(data)
    hole = data[start : start + size]

    read = read_bytes(data[:start] + bytes(len(hole)) + data[start + size :])

    assert not read.is_clean
    assert_nothing_invented(read, maker.events)


@given(events=run_events(), at=st.integers(min_value=0))
def test_line_that_was_taken_out_is_found(events: list[Event], at: int) -> None:
    """Every line but the last of a log: its successor does not verify, or its seq is missed."""
    maker = LogMaker()
    lines = maker.segment(events)
    del lines[at % (len(lines) - 1)]

    read = read_bytes(b"".join(lines))

    assert not read.is_clean
    assert_nothing_invented(read, maker.events)


@given(events=run_events(), at=st.integers(min_value=0))
def test_line_that_was_doubled_is_found(events: list[Event], at: int) -> None:
    """The copy does not fit the chain; no event is lost or yielded twice for it."""
    maker = LogMaker()
    lines = maker.segment(events)
    lines.insert(at % len(lines), lines[at % len(lines)])

    read = read_bytes(b"".join(lines))

    assert not read.is_clean
    assert read.events == maker.events


@given(events=run_events(), first=st.integers(min_value=0), second=st.integers(min_value=0))
def test_lines_that_changed_places_are_found(events: list[Event], first: int, second: int) -> None:
    """Lines verify only where they were written."""
    maker = LogMaker()
    lines = maker.segment(events)
    i, j = first % len(lines), second % len(lines)
    if i == j:
        j = (i + 1) % len(lines)
    lines[i], lines[j] = lines[j], lines[i]

    read = read_bytes(b"".join(lines))

    assert not read.is_clean
    assert_nothing_invented(read, maker.events)


@given(events=run_events(), other=run_events(), at=st.integers(min_value=0), is_instead=st.booleans())
def test_line_of_another_log_is_found(
    events: list[Event], other: list[Event], at: int, is_instead: bool
) -> None:
    """A good line from elsewhere, put in or put in place of one of ours, is not believed."""
    maker = LogMaker(WRITER_A)
    lines, foreign = maker.segment(events), LogMaker(WRITER_B).segment(other)
    place = 1 + at % (len(lines) - 1)
    lines[place : place + is_instead] = [foreign[1 + at % (len(foreign) - 1)]]

    read = read_bytes(b"".join(lines))

    assert not read.is_clean
    assert_nothing_invented(read, maker.events)


@given(data=st.binary(max_size=400))
def test_noise_is_read_as_no_event(data: bytes) -> None:
    """Bytes that nobody wrote are never an event and never an exception."""
    read = read_bytes(data)

    assert read.events == []
    assert read.is_clean == (data == b"")


@settings(max_examples=50)
@given(
    left=st.lists(st.integers(0, 20), max_size=12),
    right=st.lists(st.integers(0, 20), max_size=12),
    rotate_at=st.integers(0, 12),
)
def test_merge_is_the_same_however_the_log_is_cut_into_segments(
    left: list[int], right: list[int], rotate_at: int
) -> None:
    """The order depends on times, writers and seqs, and on nothing else."""

    def merged(cut: int) -> list[tuple[str, int]]:
        with tempfile.TemporaryDirectory() as directory:
            for writer, times in ((WRITER_A, left), (WRITER_B, right)):
                maker = LogMaker(writer)
                events = [type(e)(ts=START_TS + t) for e, t in zip(metrics(len(times)), times, strict=True)]
                for number, part in enumerate((events[:cut], events[cut:]), 1):
                    put(Path(directory), number, b"".join(maker.segment(part)), writer=writer)
            return [(p.writer, e.seq) for p in RunReader(Path(directory)).slices() for e in p.events]

    order = merged(rotate_at)

    assert order == merged(0)
    assert [seq for writer, seq in order if writer == WRITER_A] == list(range(len(left)))
    assert [seq for writer, seq in order if writer == WRITER_B] == list(range(len(right)))
    if left == sorted(left) and right == sorted(right):
        times = {WRITER_A: left, WRITER_B: right}
        assert order == sorted(order, key=lambda item: (times[item[0]][item[1]], item[0], item[1]))
