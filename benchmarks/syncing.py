"""What a call costs while a slow disk is synced, and beside a busy thread: ``python -m benchmarks.syncing``.

The disk is slow by itself: every sync of a segment takes half a second more, and something is synced all the
time, so that each call falls into one. A call must not wait for it: it only copies into the ring.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.calls import percentile
from eventlog import Tracker
from eventlog.storage.options import WriterOptions
from eventlog.storage.system import RealSystem

SYNC_S = 0.5
Figures = dict[str, float]


class SlowSync:
    """Makes every sync of a file last longer, outside of the interpreter's lock, as a disk does."""

    def __init__(self) -> None:
        self.count = 0
        self.is_syncing = False
        self.real = RealSystem.sync

    def __call__(self, system: RealSystem, fd: int) -> None:
        """Sync *fd*, slowly."""
        self.is_syncing = True
        time.sleep(SYNC_S)
        self.real(system, fd)
        self.is_syncing = False
        self.count += 1


def measure(root: Path, calls: int, *, is_busy: bool) -> Figures:
    """Return the times of *calls* calls that are made while a sync is in progress, in microseconds."""
    slow = SlowSync()
    options = WriterOptions(sync_interval_s=0.01)
    tracker = Tracker((), output_dir=root, lineage=False, system=False, writer=options)
    tracker.start_run("run")
    stop = threading.Event()
    spinning = threading.Thread(target=_spin, args=(stop,), daemon=True)
    setattr(RealSystem, "sync", lambda system, fd: slow(system, fd))  # noqa: B010 - a method, to mypy
    if is_busy:
        spinning.start()
    now, times, others, within = time.perf_counter_ns, [0] * calls, [0] * calls, 0
    try:
        while not slow.is_syncing:
            tracker.log_metrics({"loss": 0.5, "accuracy": 0.25, "lr": 0.001}, 0)
        for step in range(calls):
            within += slow.is_syncing
            begin = now()
            tracker.log_metrics({"loss": step * 0.5, "accuracy": 0.25, "lr": 0.001}, step)
            times[step] = now() - begin
            begin = now()
            _work({"loss": step * 0.5, "accuracy": 0.25, "lr": 0.001}, step)
            others[step] = now() - begin
            if step % 1000 == 0:
                time.sleep(0.02)  # so that the calls are spread over many syncs
    finally:
        stop.set()
        setattr(RealSystem, "sync", slow.real)  # noqa: B010
        tracker.end_run()
    times.sort()
    return {
        "p50_us": percentile(times, 0.5) / 1000,
        "p99_us": percentile(times, 0.99) / 1000,
        "p99.9_us": percentile(times, 0.999) / 1000,
        "longest_us": times[-1] / 1000,
        "over_1_ms": sum(one > 1_000_000 for one in times),
        "over_1_ms_of_as_long_without_a_log": sum(one > 1_000_000 for one in others),
        "within_a_sync_percent": 100 * within / calls,
        "syncs": slow.count,
    }


def _work(metrics: dict[str, float], step: int) -> None:  # noqa: ARG001 - the shape of a call
    """Take as long as a call, without a log: what is slow here is so because something else runs."""
    for _ in range(70):
        pass


def _spin(stop: threading.Event) -> None:
    count = 0
    while not stop.is_set():
        count += 1


def main() -> None:
    """Measure both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    for is_busy in (False, True):
        with tempfile.TemporaryDirectory(prefix="evlog-bench-") as directory:
            figures = measure(Path(directory), calls, is_busy=is_busy)
        rounded = {name: round(value, 2) for name, value in figures.items()}
        print(json.dumps({"beside a busy thread": is_busy, **rounded}))


if __name__ == "__main__":
    main()
