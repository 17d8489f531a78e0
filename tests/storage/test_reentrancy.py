"""Finalizers and signal handlers that log while their own thread is inside of the log: found by row 6."""

from __future__ import annotations

import _thread
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventlog import Tracker
from eventlog.codec import encode_fields
from eventlog.events import Metrics, Note, RunEnded, RunStarted
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import recover_run
from eventlog.storage.system import RealSystem
from tests.faults import WatchedSystem, failing
from tests.logs import MANUAL, die, metrics, names, open_buffer, read_back
from tests.waiting import wait_until

NOTE = encode_fields(Note(text="inside"))


def none_left(*_: object) -> int:
    """Stand for the system where no thread can be had."""
    raise RuntimeError("can't start new thread")


class Striking(RealSystem):
    """A system at whose clock, which the flusher asks while it seals, a finalizer strikes and logs."""

    buffer: LogBuffer | None = None
    strikes = 0

    def now_ns(self) -> int:
        if self.buffer is not None:
            self.strikes += 1
            self.buffer.append(Note(text=f"strike {self.strikes}"), sync=False)
        return super().now_ns()


def test_finalizer_that_logs_while_a_segment_is_sealed_breaks_nothing(tmp_path: Path) -> None:
    """It runs on the flusher's thread, with the flusher's locks; its event comes behind the frames."""
    system = Striking()
    buffer = open_buffer(tmp_path, options=msgspec.structs.replace(MANUAL, segment_bytes=1000), system=system)
    system.buffer = buffer
    for number, event in enumerate(metrics(100)):
        buffer.append(event, sync=number % 10 == 0)
    system.buffer = None

    assert buffer.close()

    read = read_back(tmp_path)
    assert read.findings == []
    assert read.steps == list(range(100))
    assert sum(isinstance(event, Note) for event in read.events) == system.strikes > 5


class Clock:
    """Lets a handler strike in the middle of an append, once."""

    handler: Callable[[], object] | None = None

    def __call__(self) -> int:
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        return 1_763_700_000_000_000_000


def struck(run: Path, options: WriterOptions = MANUAL) -> tuple[Clock, LogBuffer]:
    """Return a strict buffer and the clock that it asks in the middle of an append."""
    clock = Clock()
    return clock, LogBuffer(run, run_id="r", project="p", options=options, now_ns=clock, strict=True)


def log(buffer: LogBuffer, step: int) -> None:
    """Append metrics as a tracker does: the fast way, and if that does not take them the other."""
    if not buffer.stream.append_metrics(step, b"{}"):
        buffer.append(Metrics(step=step), sync=False)


@pytest.mark.parametrize("is_fast", [True, False])
def test_handlers_event_survives_a_kill_right_after_the_call_it_struck(tmp_path: Path, is_fast: bool) -> None:
    """It is in the ring when that call returns; under ``strict`` it is no error either."""
    clock, buffer = struck(tmp_path)
    buffer.append(RunStarted(name="a"))
    log(buffer, 0)  # the first one takes the slow path
    clock.handler = lambda: buffer.append(Note(text="inside"), sync=False)
    if is_fast:
        log(buffer, 1)
    else:
        buffer.append(Metrics(step=1), sync=False)

    die(buffer)
    recover_run(tmp_path)

    assert [type(event) for event in read_back(tmp_path).events] == [RunStarted, Metrics, Metrics, Note]


def test_handlers_event_is_kept_when_the_handler_raises(tmp_path: Path) -> None:
    """The call that it struck is lost, and what the handler logged before is in the ring."""
    clock, buffer = struck(tmp_path)
    log(buffer, 0)

    def leave() -> None:
        buffer.append(Note(text="inside"), sync=False)
        raise SystemExit

    clock.handler = leave
    with pytest.raises(SystemExit):
        log(buffer, 1)
    die(buffer)
    recover_run(tmp_path)

    assert [type(event) for event in read_back(tmp_path).events] == [Metrics, Note]


def test_handler_that_strikes_the_first_call_of_all_opens_no_log_under_it(tmp_path: Path) -> None:
    """The call that it struck would write its line over the header; only that call may open the log."""
    clock, buffer = struck(tmp_path)
    clock.handler = lambda: buffer.append(Note(text="inside"), sync=False)

    log(buffer, 0)

    assert buffer.close()
    assert read_back(tmp_path).is_clean
    assert [type(event) for event in read_back(tmp_path).events] == [Note, Metrics]


def test_events_of_thousands_of_finalizers_are_taken_one_after_the_other(tmp_path: Path) -> None:
    """One collection may call any number of them in the middle of a call."""
    clock, buffer = struck(tmp_path, msgspec.structs.replace(MANUAL, ring_bytes=1 << 20))
    buffer.append(RunStarted(name="a"))
    clock.handler = lambda: [buffer.stream.append(NOTE, "note", max_block_s=0) for _ in range(2000)]

    buffer.append(Metrics(step=1), sync=False)

    assert buffer.close()
    assert sum(isinstance(event, Note) for event in read_back(tmp_path).events) == 2000


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("leaves", [True, False])
def test_handler_may_end_the_log_in_the_middle_of_an_append(
    tmp_path: Path, is_fast: bool, leaves: bool
) -> None:
    """The log is closed when that append is over, with all that the handler logged, also if it raises."""
    clock, buffer = struck(tmp_path)
    log(buffer, 0)

    def end() -> None:
        assert buffer.append(RunEnded(status="killed")) is False
        assert not buffer.close("killed")
        if leaves:
            raise SystemExit

    clock.handler = end
    with contextlib.suppress(SystemExit):
        _ = buffer.stream.append_metrics(1, b"{}") if is_fast else buffer.append(Metrics(step=1), sync=False)
    wait_until(lambda: not names(tmp_path, ".ring"), "the log is closed")
    assert not buffer.stream.append_metrics(2, b"{}")

    read = read_back(tmp_path)
    assert read.is_clean
    assert read.steps == ([0] if leaves else [0, 1])
    assert isinstance(read.events[-1], RunEnded)


def test_event_inside_an_append_to_a_closed_log_is_counted(tmp_path: Path) -> None:
    """What cannot be kept any more is not said to come later."""
    clock, buffer = struck(tmp_path)
    log(buffer, 0)
    assert buffer.close()
    clock.handler = lambda: buffer.stream.append(NOTE, "note", max_block_s=0)

    assert not buffer.stream.append_metrics(1, b"{}")

    assert buffer.stream.dropped == {"note": 1}


def test_process_without_threads_does_not_wait_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be had, whoever wants a sync does it."""
    monkeypatch.setattr(_thread, "start_new_thread", none_left)
    options = msgspec.structs.replace(MANUAL, sync_timeout_s=0.0)
    buffer = LogBuffer(tmp_path, run_id="r", project="p", options=options, strict=True)

    assert buffer.append(RunStarted(name="a"))

    assert len(read_back(tmp_path).events) == 1
    for step in range(3000):  # three times what the ring holds
        log(buffer, step)
    assert buffer.close()
    assert read_back(tmp_path).steps == list(range(3000))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_flusher_that_died_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever ended it, whoever wants a sync does not wait in vain."""
    system = Dying()
    buffer = open_buffer(tmp_path, system=system, strict=True)
    system.is_deadly = True
    buffer.stream.notify_flusher()
    wait_until(lambda: buffer._flusher is None, "the flusher is dead")

    assert buffer.append(Metrics(step=1), sync=True)

    assert buffer.close()
    assert read_back(tmp_path).steps == [1]


def test_handler_that_ends_the_run_while_it_is_ended_is_the_one_to_do_it(tmp_path: Path) -> None:
    """A run may take seconds to end; the outer run is not ended in its place."""
    tracker = Tracker((), output_dir=tmp_path, lineage=False, system=False)
    outer = tracker.start_run("outer")
    tracker.start_run("inner", nested=True)
    inner = tracker._stack[-1]

    def end_running() -> None:
        del inner.end_running
        tracker.end_run("killed")

    inner.end_running = end_running  # type: ignore[assignment, method-assign]
    tracker.end_run()

    assert tracker.run_id == outer
    tracker.end_run()
    (end,) = [event for event in read_back(inner.path).events if isinstance(event, RunEnded)]
    assert end.status == "killed"


class Dying(RealSystem):
    """A system that ends the thread that looks at the time, once."""

    is_deadly = False

    def monotonic_s(self) -> float:
        if self.is_deadly:
            self.is_deadly = False
            raise SystemExit  # which ends a thread without a word
        return super().monotonic_s()


AT_THE_END = """
import atexit, os, sys, threading, types
from eventlog import Tracker

go, held, never = threading.Event(), threading.Event(), threading.Lock()
tracker = Tracker((), output_dir=sys.argv[1], lineage=False, system=False)

def hold():
    go.wait()
    with tracker._stack[-1].buffer.stream.lock:
        held.set()
        never.acquire()
        never.acquire()

class Last:
    def __del__(self, tracker=tracker, write=os.write):
        tracker.log_metrics({"a": 1})
        tracker.log_params({"a": 1})
        tracker.end_run()
        write(1, b"over")

threading.Thread(target=hold, daemon=True).start()
atexit.register(lambda: (go.set(), held.wait()))  # called after the run is ended, which registers later
tracker.start_run("r")
sys.modules["last"] = last = types.ModuleType("last")  # of all modules this is cleared first
last.one = Last()
"""


def test_finalizer_that_logs_at_the_interpreters_end_waits_for_no_thread(tmp_path: Path) -> None:
    """One that the interpreter has stopped for ever, in the middle of a call, holds the lock for ever."""
    command = [sys.executable, "-c", AT_THE_END, str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "over", "")


class Finalizing(RealSystem):
    """A system in whose writes a finalizer strikes, which logs and asks for the disk."""

    def __init__(self) -> None:
        self.buffer: LogBuffer | None = None
        self.answers: list[bool] = []

    def write(self, fd: int, data: bytes) -> int:
        buffer, self.buffer = self.buffer, None
        if buffer is not None:
            self.answers = [buffer.append(Note(text="inside"), sync=False), buffer.sync()]
        return super().write(fd, data)


def test_finalizer_that_strikes_whoever_does_the_flushers_work_does_not_begin_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write the same lines twice; its event comes behind them."""
    monkeypatch.setattr(_thread, "start_new_thread", none_left)
    system = Finalizing()
    buffer = open_buffer(tmp_path, system=system)
    system.buffer = buffer

    assert buffer.append(RunStarted(name="a"))
    assert buffer.close()

    assert system.answers == [True, False]
    read = read_back(tmp_path)
    assert [type(event) for event in read.events] == [RunStarted, Note]
    assert read.is_clean


def test_work_that_somebody_else_does_is_waited_for_no_longer_than_a_call_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be had, the one who does the work may be stuck in it."""
    monkeypatch.setattr(_thread, "start_new_thread", none_left)
    buffer = open_buffer(tmp_path)
    release, is_held = threading.Event(), threading.Event()

    def hold() -> None:
        with buffer._io:
            is_held.set()
            release.wait()

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    is_held.wait()

    assert buffer.append(Metrics(step=1), sync=False)

    release.set()
    holder.join()
    assert buffer.close()
    assert read_back(tmp_path).steps == [1]


@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
def test_flusher_that_comes_after_the_end_does_nothing(tmp_path: Path) -> None:
    """It looked whether there is an end before it had to wait for whoever made it."""
    system = WatchedSystem(failing("write", 1, times=10**6))
    options = msgspec.structs.replace(MANUAL, close_timeout_s=0.05)
    buffer = open_buffer(tmp_path, options=options, system=system)
    buffer.append(Metrics(step=1), sync=False)
    assert not buffer.close()
    assert buffer._chain is not None

    with buffer._io:
        before = len(system.calls)
        buffer._chain._retry_at = 0.0
        buffer._tick(buffer._chain, sync=True)

    assert len(system.calls) == before


class Ending(list[object]):
    """The runs of a tracker, which another thread ends right after a look whether there are any."""

    def __bool__(self) -> bool:
        is_any = len(self) > 0
        self.clear()
        return is_any


def test_call_beside_a_thread_that_ends_the_run_raises_nothing(tmp_path: Path) -> None:
    """It goes to the run that it found, or to a new one."""
    tracker = Tracker((), output_dir=tmp_path, lineage=False, system=False)
    tracker.start_run("a")
    first = tracker._stack[-1]
    tracker._stack = Ending([first])  # type: ignore[assignment]

    assert tracker.run_id == "a"
    tracker.log_params({"lr": 0.1})
    tracker.end_run()  # as quick as the other one
    tracker.log_params({"lr": 0.2})

    first.end_running()
    first.end("finished", None)
    tracker._stack = list(tracker._stack)
    tracker.end_run()
    assert read_back(first.path).is_clean
