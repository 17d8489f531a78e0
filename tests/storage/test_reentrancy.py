"""Finalizers and signal handlers that log while their own thread is inside of the log: found by row 6."""

from __future__ import annotations

import _thread
import threading
from pathlib import Path

import msgspec
import pytest

from eventlog.events import Metrics, Note, RunStarted
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.repair import recover_run
from eventlog.storage.system import RealSystem
from tests.logs import MANUAL, die, metrics, open_buffer, read_back


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

    buffer: LogBuffer | None = None

    def __call__(self) -> int:
        buffer, self.buffer = self.buffer, None
        if buffer is not None:
            assert buffer.append(Note(text="inside"), sync=False)
        return 1_763_700_000_000_000_000


@pytest.mark.parametrize("is_fast", [True, False])
def test_handlers_event_survives_a_kill_right_after_the_call_it_struck(tmp_path: Path, is_fast: bool) -> None:
    """It is in the ring when that call returns; under ``strict`` it is no error either."""
    clock = Clock()
    buffer = LogBuffer(tmp_path, run_id="r", project="p", options=MANUAL, now_ns=clock, strict=True)
    buffer.append(RunStarted(name="a"))
    for step in range(2):  # the first one takes the slow path
        clock.buffer = buffer if step else None
        if not is_fast or not buffer.stream.append_metrics(step, b"{}"):
            buffer.append(Metrics(step=step), sync=False)

    die(buffer)
    recover_run(tmp_path)

    assert [type(event) for event in read_back(tmp_path).events] == [RunStarted, Metrics, Metrics, Note]


def test_process_without_threads_does_not_wait_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be had, whoever wants a sync does it."""

    def none_left(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", none_left)
    options = msgspec.structs.replace(MANUAL, sync_timeout_s=0.0)
    buffer = LogBuffer(tmp_path, run_id="r", project="p", options=options, strict=True)

    assert buffer.append(RunStarted(name="a"))

    assert len(read_back(tmp_path).events) == 1
    assert buffer.close()


def test_closed_log_takes_no_lock_at_the_interpreters_end(tmp_path: Path) -> None:
    """A thread that the interpreter has stopped for ever in the middle of a call may hold it."""
    buffer = open_buffer(tmp_path)
    held, over = threading.Event(), threading.Event()
    lock = buffer.stream.lock

    def hold() -> None:
        with lock:
            held.set()
            over.wait()

    assert buffer.close()
    buffer.stream.retire()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    kept = buffer.stream.append_metrics(1, b"{}"), buffer.append(Metrics(step=1), sync=False)
    over.set()
    thread.join()

    assert kept == (False, False)
