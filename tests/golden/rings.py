"""Logs of format 1 that a writer left which died, or whose disk failed: how each was made, see `make`."""

from __future__ import annotations

from pathlib import Path

from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import log_directory
from eventlog.storage.options import WriterOptions
from eventlog.storage.processes import Process
from tests.faults import LosingSystem, WatchedSystem
from tests.golden.registry import case
from tests.logs import START_TS, WRITER_B, LogMaker, die, metrics

_OPTIONS = WriterOptions(
    write_interval_s=1000.0, sync_interval_s=1000.0, ring_bytes=8192, segment_bytes=1 << 20, reserve_bytes=0
)
_ELSEWHERE = Process("node-1", 4242, "12345")


def _buffer(run: Path, system: WatchedSystem) -> LogBuffer:
    ticks = iter(range(START_TS, START_TS + (1 << 30), 1000))

    def now_ns() -> int:
        return next(ticks) * 1000

    system.this_process = lambda: _ELSEWHERE  # type: ignore[method-assign]
    buffer = LogBuffer(
        run / "run", run_id="run-1", project="demo", options=_OPTIONS, system=system, now_ns=now_ns
    )
    buffer.open()
    return buffer


def _append(buffer: LogBuffer, count: int, *, start: int = 0) -> None:
    for event in metrics(count, start=start):
        buffer.append(event)


@case
def ring_left_behind(run: Path) -> None:
    buffer = _buffer(run, WatchedSystem())
    _append(buffer, 5)
    buffer.sync()
    _append(buffer, 5, start=5)
    die(buffer)


@case
def ring_without_a_segment(run: Path) -> None:
    buffer = _buffer(run, WatchedSystem())
    _append(buffer, 5)
    die(buffer)


@case
def ring_that_went_round(run: Path) -> None:
    buffer = _buffer(run, WatchedSystem())
    for start in range(0, 120, 10):
        _append(buffer, 10, start=start)
        buffer.sync()
    _append(buffer, 7, start=120)
    die(buffer)


@case
def ring_with_a_torn_segment(run: Path) -> None:
    ring_left_behind(run)
    (path,) = log_directory(run / "run").glob("*.jsonl")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 30])


@case
def ring_of_another_log(run: Path) -> None:
    ring_left_behind(run)
    (ring,) = log_directory(run / "run").glob("*.ring")
    data = LogMaker(WRITER_B).segment(metrics(9))
    ring.write_bytes(b"".join(data).ljust(8192, b"\0"))


@case
def rewrite_after_a_failed_sync(run: Path) -> None:
    buffer = _buffer(run, LosingSystem(at=2))
    _append(buffer, 4)
    buffer.sync()
    _append(buffer, 4, start=4)
    buffer.sync()
    _append(buffer, 4, start=8)
    buffer.close("ended")
