"""What a call costs: latency alone and beside a busy thread, calls a second, bytes on disk."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from benchmarks.peers import PEERS, Log, Session, open_evlog, open_evlog_local

Figures = dict[str, float]
WARM_UP = 50


def percentile(values: list[int], share: float) -> float:
    """Return the value below which *share* of *values* (sorted) lies."""
    return values[min(len(values) - 1, int(len(values) * share))]


def time_calls(log: Log, calls: int, first_step: int = 0) -> Figures:
    """Return p50 and p99 in microseconds of *calls* calls, each with three fresh floats."""
    now, fresh = time.perf_counter_ns, random.Random(0).random
    times = [0] * calls
    for step in range(first_step, first_step + calls):
        metrics = {"loss": fresh(), "accuracy": fresh(), "lr": fresh()}
        begin = now()
        log(metrics, step)
        times[step - first_step] = now() - begin
    times.sort()
    return {"p50_us": percentile(times, 0.5) / 1000, "p99_us": percentile(times, 0.99) / 1000}


def size_of(directory: Path) -> int:
    """Return the bytes of all files below *directory*."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def measure_calls(name: str, directory: Path, scale: float) -> Figures:
    """Return latency and bytes a call of one peer, alone in its process."""
    peer = PEERS[name]
    session = peer.open(directory)
    calls = max(100, int(peer.calls * scale))
    time_calls(session.log, WARM_UP)
    figures = time_calls(session.log, calls, WARM_UP)
    session.close()
    return {**figures, "bytes_per_call": size_of(directory) / (calls + WARM_UP), "calls": calls}


def measure_busy_calls(name: str, directory: Path, scale: float) -> Figures:
    """Return the latency of one peer beside a thread that never lets go of the interpreter by itself."""
    peer = PEERS[name]
    session = peer.open(directory)
    time_calls(session.log, WARM_UP)
    stop = threading.Event()
    spinning = threading.Thread(target=_spin, args=(stop,), daemon=True)
    spinning.start()
    try:
        figures = time_calls(session.log, max(100, int(peer.busy_calls * scale)), WARM_UP)
    finally:
        stop.set()
        spinning.join()
    session.close()
    return figures


def _spin(stop: threading.Event) -> None:
    count = 0
    while not stop.is_set():
        for _ in range(1000):
            count += 1


def measure_throughput(name: str, directory: Path, scale: float) -> Figures:
    """Return calls a second from the first call until the run is closed and on the disk."""
    session = open_evlog_local(directory) if name == "evlog_local" else _open(name, directory)
    calls = int(500_000 * scale)
    fresh, log = random.Random(0).random, session.log
    values = [fresh() for _ in range(3000)]
    begin = time.perf_counter()
    for step in range(calls):
        at = step % 2998
        log({"loss": values[at], "accuracy": values[at + 1], "lr": values[at + 2]}, step)
    logged = time.perf_counter()
    session.close()
    closed = time.perf_counter()
    return {"calls_per_s": calls / (closed - begin), "close_s": closed - logged}


def _open(name: str, directory: Path) -> Session:
    return open_evlog(directory) if name == "evlog" else PEERS[name].open(directory)
