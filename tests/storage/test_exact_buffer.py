"""What a writer promises to the byte, the sync and the word: lengths, intervals, and what its end tells."""

from __future__ import annotations

import _thread
import errno
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import MAX_LINE_BYTES, encode_fields
from eventlog.errors import DurabilityError, EvlogWarning
from eventlog.events import Metrics, Note
from eventlog.storage.buffer import LineTooLongError, LogBuffer
from eventlog.storage.layout import log_directory
from eventlog.storage.repair import recover_run
from tests.faults import WatchedSystem, failing
from tests.logs import MANUAL, die, metrics, names, open_buffer, read_back
from tests.waiting import wait_until

EVERY_5_S = msgspec.structs.replace(MANUAL, sync_interval_s=5.0, sync_timeout_s=0.0)


class Timed(WatchedSystem):
    """A system whose clock is *now_s*, and goes on by *step_s* with each look at it."""

    now_s = 0.0
    step_s = 0.0

    def monotonic_s(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    @property
    def syncs(self) -> int:
        """Return how often a segment was synced."""
        return sum(call.name == "sync" and call.is_on_segment for call in self.calls)


class Hanging(Timed):
    """A disk that takes nothing, and says nothing, until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def write(self, fd: int, data: bytes) -> int:
        self.goes_on.wait()
        return super().write(fd, data)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread be had, so that each append does first what is due: a test sees every step of it."""

    def none_left(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", none_left)


@contextmanager
def told() -> Iterator[list[str]]:
    """Give the list of what evlog warns of meanwhile, complete at the end."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(w.message) for w in caught if w.category is EvlogWarning]


def log(buffer: LogBuffer, step: int) -> None:
    """Append a metric that nobody waits for; what was appended before it gets its due."""
    assert buffer.append(Metrics(step=step), sync=False)


# --- the length of a line ---------------------------------------------------------------


def test_longest_line_is_an_eighth_of_the_ring_and_at_most_a_mebibyte(tmp_path: Path) -> None:
    """An eighth is what metrics leave free, so that one line that matters more always finds room."""
    sizes = [1 << 16, 1 << 23, 1 << 26]
    options = [msgspec.structs.replace(MANUAL, ring_bytes=size) for size in sizes]

    longest = [LogBuffer(tmp_path, run_id="r", project="p", options=o).max_line_bytes for o in options]

    assert longest == [1 << 13, MAX_LINE_BYTES, MAX_LINE_BYTES]


def test_event_may_fill_its_line_up_to_128_bytes(tmp_path: Path) -> None:
    """They are for seq, time and checksum; with one byte more the event is refused, and costs nothing."""
    buffer = open_buffer(tmp_path)
    room = buffer.max_line_bytes - 128 - len(encode_fields(Note(text="x"))) + 1

    assert buffer.append(Note(text="x" * room), sync=False)
    with pytest.raises(LineTooLongError, match=f"^note: {buffer.max_line_bytes - 127} bytes$"):
        buffer.append(Note(text="x" * (room + 1)), sync=False)

    assert buffer.close()
    read = read_back(tmp_path)
    assert [len(event.text) for event in read.events if isinstance(event, Note)] == [room]
    assert read.is_clean
    (path,) = log_directory(tmp_path).iterdir()
    assert max(map(len, path.read_bytes().splitlines(keepends=True))) <= buffer.max_line_bytes


# --- when it is synced ------------------------------------------------------------------


@pytest.mark.usefixtures("no_threads")
def test_events_that_nobody_waits_for_share_one_sync_an_interval(tmp_path: Path) -> None:
    """They are written at once; only the interval's end, or somebody who waits, asks the disk for more."""
    system = Timed()
    buffer = open_buffer(tmp_path, options=EVERY_5_S, system=system)

    seen = []
    for step, system.now_s in enumerate([0.0, 4.0, 5.0, 6.0, 9.0, 10.0, 11.0]):
        log(buffer, step)
        seen.append((system.syncs, len(read_back(tmp_path).steps)))

    # The step that is appended last waits in the ring; all before it are in the segment.
    assert seen == [(0, 0), (0, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6)]
    assert buffer.close()


@pytest.mark.usefixtures("no_threads")
def test_event_after_a_quiet_time_is_synced_at_once(tmp_path: Path) -> None:
    """The interval counts from the last sync that was for something, not from a look that found nothing."""
    system = Timed()
    buffer = open_buffer(tmp_path, options=EVERY_5_S, system=system)
    log(buffer, 0)
    assert buffer.sync()
    before = system.syncs

    system.now_s = 60.0
    log(buffer, 1)  # nothing waits when it looks
    assert system.syncs == before
    log(buffer, 2)

    assert system.syncs == before + 1
    assert buffer.close()


# --- what is told -----------------------------------------------------------------------


@pytest.mark.usefixtures("no_threads")
def test_event_that_a_failing_disk_does_not_keep_is_told_once(tmp_path: Path) -> None:
    """The run is named, and where to look; a second event like it is not worth a second warning."""
    system = WatchedSystem(failing("write", 2, times=10**6))
    buffer = open_buffer(tmp_path, options=EVERY_5_S, system=system)

    with told() as messages:
        answers = [buffer.append(Metrics(step=step), sync=True) for step in range(2)]

    assert answers == [False, False]
    assert [message for message in messages if "not on the disk yet" in message] == [
        f"run run-1: events are not on the disk yet. Look at the file system of {tmp_path}."
    ]
    die(buffer)


def test_event_after_the_end_is_refused_without_a_warning(tmp_path: Path) -> None:
    """Nothing is wrong with the disk: a thread or a finalizer that logs late is no reason to look at it."""
    buffer = open_buffer(tmp_path)
    log(buffer, 1)

    with told() as messages:
        assert buffer.close()
        assert not buffer.append(Metrics(step=2), sync=False)
        assert not buffer.append(Note(text="late"), sync=True)

    assert messages == []
    assert read_back(tmp_path).steps == [1]


# --- the end ----------------------------------------------------------------------------


def test_strict_end_raises_for_dropped_events_that_the_log_cannot_tell_of(tmp_path: Path) -> None:
    """All that was kept is in segments, and still the caller hears how many were not."""
    buffer = open_buffer(tmp_path, strict=True)
    log(buffer, 1)
    buffer.stream.count_dropped("metrics", "the ring was full")

    with pytest.raises(DurabilityError, match="1 events were dropped"):
        buffer.close()

    assert read_back(tmp_path).steps == [1]


@pytest.mark.filterwarnings("ignore:the log of run")
@pytest.mark.usefixtures("no_threads")
def test_end_tries_again_until_the_disk_takes_everything(tmp_path: Path) -> None:
    """A failure that passes before the time to close is over costs nothing."""
    system = Timed(failing("write", 2, errno.EIO, times=3))
    system.step_s = 0.05
    buffer = open_buffer(tmp_path, system=system)
    log(buffer, 0)

    assert buffer.close()

    assert read_back(tmp_path).steps == [0]
    assert {Path(name).suffix for name in names(tmp_path)} == {".jsonl"}


@pytest.mark.filterwarnings("ignore:the log of run")
@pytest.mark.usefixtures("no_threads")
def test_end_on_a_dead_disk_gives_up_when_its_time_is_over(tmp_path: Path) -> None:
    """Not before, and then it lets go of the ring, which keeps the events, and says so."""
    system = Timed(failing("write", 2, errno.EIO, times=10**6))
    system.step_s = 0.25
    buffer = open_buffer(tmp_path, system=system)
    for event in metrics(3):
        buffer.append(event, sync=False)
    began = system.now_s

    with told() as messages:
        assert not buffer.close()

    assert system.now_s - began > MANUAL.close_timeout_s
    (message,) = [message for message in messages if "could not be written. " in message]
    assert f"They are kept in {log_directory(tmp_path) / names(tmp_path, '.ring')[0]};" in message
    assert [message for message in messages if "dropped" in message] == []
    recover_run(tmp_path)
    assert read_back(tmp_path).steps == [0, 1, 2]


def test_end_that_the_disk_leaves_without_an_answer_is_no_good_end(tmp_path: Path) -> None:
    """Where the flusher hangs in the system, nobody knows what is on the disk: the caller is told so."""
    system = Hanging()
    system.step_s = 1.0
    options = msgspec.structs.replace(MANUAL, close_timeout_s=3.0)
    buffer = open_buffer(tmp_path, options=options, system=system)
    log(buffer, 0)

    with told() as messages:
        is_whole = buffer.close()
    system.goes_on.set()

    assert not is_whole
    assert len(messages) == 1
    assert "could not be written. They are kept in" in messages[0]
    wait_until(lambda: {Path(n).suffix for n in names(tmp_path)} == {".jsonl"}, "the flusher has gone on")
    assert read_back(tmp_path).steps == [0]


@pytest.mark.filterwarnings("ignore:the log of run")
def test_end_on_a_dead_disk_tells_of_dropped_events_as_well(tmp_path: Path) -> None:
    """What is kept in the ring and what is lost are two things, and both are told."""
    options = msgspec.structs.replace(MANUAL, close_timeout_s=0.05)
    system = WatchedSystem(failing("write", 1, errno.EIO, times=10**6))
    buffer = open_buffer(tmp_path, options=options, system=system)
    log(buffer, 0)
    buffer.stream.count_dropped("metrics", "the ring was full")

    with told() as messages:
        assert not buffer.close()

    assert "could not be written. They are kept in" in messages[-1]
    assert "1 events were dropped" in messages[-1]


@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
@pytest.mark.usefixtures("no_threads")
def test_caller_who_does_the_work_does_not_wait_for_what_has_failed(tmp_path: Path) -> None:
    """Nobody else would try again while it waits."""
    options = msgspec.structs.replace(MANUAL, sync_timeout_s=3600.0)
    system = WatchedSystem(failing("write", 1, errno.EIO, times=10**6))
    buffer = open_buffer(tmp_path, options=options, system=system)

    assert not buffer.append(Metrics(step=0), sync=True)

    die(buffer)


@pytest.mark.usefixtures("no_threads")
def test_events_are_synced_at_once_when_they_fill_more_than_half_of_the_ring(tmp_path: Path) -> None:
    """However long the interval: room for the next ones is made while there still is some."""
    system = Timed()
    buffer = open_buffer(tmp_path, options=EVERY_5_S, system=system)
    half, ends = EVERY_5_S.ring_bytes // 2, [0]

    while not system.syncs:
        assert buffer.append(Note(text="x" * 1000), sync=False)
        place = buffer.stream.place()
        assert place is not None
        ends.append(place.position)

    # The look comes before the append: it saw all but the last line.
    assert ends[-3] <= half < ends[-2]
    assert buffer.close()


@pytest.mark.usefixtures("no_threads")
def test_sync_of_what_is_on_the_disk_asks_for_nothing(tmp_path: Path) -> None:
    """Also while later events wait, which nobody has asked for."""
    system = Timed()
    buffer = open_buffer(tmp_path, options=EVERY_5_S, system=system)
    log(buffer, 0)
    early = buffer.stream.place()
    log(buffer, 1)
    assert buffer.sync()
    log(buffer, 2)
    calls = len(system.calls)

    assert buffer.sync(early)

    assert len(system.calls) == calls
    assert buffer.close()


def test_closed_log_leaves_no_thread(tmp_path: Path) -> None:
    """Jobs that make thousands of runs one after the other have one flusher at a time; it goes soon."""
    before = _thread._count()
    for number in range(3):
        (tmp_path / f"{number}").mkdir()
        buffer = open_buffer(tmp_path / f"{number}", options=MANUAL)
        log(buffer, 0)
        assert buffer.close()

    wait_until(lambda: _thread._count() <= before, "the end of the flushers")
