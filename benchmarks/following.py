"""How much of a core it takes to follow many live runs, and how late their events arrive at a sink.

A process of its own plays the jobs: each run logs at its rate, and what it logged reaches its segment every
50 ms, as the writer does it. The follower is the one of ``evlog sync --follow``, in a process of its own too,
with a sink that only looks at the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from benchmarks.report import Figures, medians, table
from eventlog import events as ev
from eventlog.codec import encode_line
from eventlog.delivery.shaping import Shape
from eventlog.events import FORMAT, Metrics, RingInfo, RunStarted, SegmentOpened
from eventlog.ids import new_writer_id
from eventlog.sink import Batch, RunInfo, RunStatus, Sink, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.layout import SegmentName, iter_runs
from eventlog.storage.ring import lock_file
from eventlog.sync import Outcome, Selection, SyncOptions, Target
from eventlog.watch import RunSource, follow_runs

WRITE_EVERY_S = 0.05


class _Job:
    """One live run: a segment that grows, and a locked ring that says that its writer lives."""

    def __init__(self, root: Path, number: int) -> None:
        run_id = f"run-{number:05d}"
        writer = new_writer_id(0)
        name = SegmentName(writer, 1)
        log = root / "bench" / run_id / "log"
        log.mkdir(parents=True)
        ring = name.ring_path(log)
        ring.touch()
        self._lock = lock_file(ring)
        self._fd = os.open(name.path(log), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        self._seq = self._crc = 0
        header = SegmentOpened(
            format=FORMAT,
            run_id=run_id,
            project="bench",
            writer=writer,
            segment=1,
            stream_offset=0,
            salt="00000000",
            prev=None,
            ring=RingInfo(kind="file", size_bytes=0),
        )
        line, self._crc = encode_line(header, seq=0, ts=_now_us(), seed=0)
        os.write(self._fd, line)
        self.log([(RunStarted(name=run_id), _now_us())])

    def log(self, events: Sequence[tuple[ev.Event, int]]) -> None:
        """Append events, each with its time, in one write."""
        data = b""
        for event, ts in events:
            line, self._crc = encode_line(event, seq=self._seq, ts=ts, seed=self._crc)
            self._seq += 1
            data += line
        os.write(self._fd, data)


def play(root: Path, runs: int, rate: float, seconds: float) -> None:
    """Play *runs* jobs of *rate* events a second each."""
    fresh = random.Random(0).random
    jobs = [_Job(root, number) for number in range(runs)]
    print("ready", flush=True)
    sys.stdin.readline()
    due = [fresh() / rate for _ in jobs]
    begin = time.monotonic()
    step = 0
    while (now := time.monotonic() - begin) < seconds:
        step += 1
        epoch_us = _now_us() - int(now * 1e6)
        for number, job in enumerate(jobs):
            waiting = []
            while due[number] <= now:
                ts = epoch_us + int(due[number] * 1e6)
                waiting.append((Metrics(step=step, data={"loss": fresh(), "accuracy": fresh()}), ts))
                due[number] += 1 / rate
            if waiting:
                job.log(waiting)
        time.sleep(max(0.0, begin + (step * WRITE_EVERY_S) - time.monotonic()))


class _Clock:
    """A sink that notes how old each event is."""

    traits: ClassVar[Traits] = Traits()
    destination: ClassVar[str] = "clock"
    late_us: ClassVar[list[int]] = []
    opened: ClassVar[set[str]] = set()

    def open(self, run: RunInfo) -> Checkpoint | None:
        self.opened.add(run.run_id)
        return None

    def write(self, batch: Batch) -> None:
        now = _now_us()
        self.late_us.extend(now - e.event.ts for e in batch.entries() if type(e.event) is Metrics)

    def close(self, status: RunStatus | None) -> None:
        pass


class _ToClock(Target, frozen=True):
    def make(self) -> Sink:
        return _Clock()


def follow(root: Path, seconds: float) -> Figures:
    """Follow everything below *root* for a while; return processor share and lateness."""
    stop = threading.Event()
    outcomes: list[Outcome] = []
    options = SyncOptions(shape=Shape())
    thread = threading.Thread(
        target=follow_runs,
        args=(RunSource(root), [_ToClock(sink="clock")], options, Selection()),
        kwargs={"stop": stop, "report": outcomes.append},
    )
    thread.start()
    runs = sum(1 for _ in iter_runs(root))
    while len(_Clock.opened) < runs:
        time.sleep(0.1)
    time.sleep(6)  # what was logged until then has been caught up with
    _Clock.late_us.clear()
    begin, used = time.monotonic(), _cpu_s()
    time.sleep(seconds)
    share = (_cpu_s() - used) / (time.monotonic() - begin)
    late = sorted(_Clock.late_us)
    stop.set()
    thread.join()
    assert not outcomes, outcomes[:3]
    return {
        "core_share": share,
        "events_per_s": len(late) / seconds,
        "p50_ms": late[len(late) // 2] / 1e3,
        "p99_ms": late[int(len(late) * 0.99)] / 1e3,
        "max_ms": late[-1] / 1e3,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(rounds: int, *, runs: int = 1000, rate: float = 10.0, seconds: float = 15.0) -> list[Figures]:
    """Return the figures of each round."""
    results = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="evlog-bench-") as name:
            words = [sys.executable, "-m", "benchmarks.following", "--root", name, "--runs", str(runs)]
            words += ["--rate", str(rate), "--seconds"]
            jobs = subprocess.Popen(
                [*words, str(seconds + 30), "--role", "jobs"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert jobs.stdin is not None
            assert jobs.stdout is not None
            jobs.stdout.readline()
            jobs.stdin.write(b"go\n")
            jobs.stdin.flush()
            done = subprocess.run(
                [*words, str(seconds), "--role", "follower"], stdout=subprocess.PIPE, check=True
            )
            jobs.kill()
            jobs.wait()
            results.append(msgspec.json.decode(done.stdout, type=Figures))
    return results


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _now_us() -> int:
    return time.time_ns() // 1000


def main() -> None:
    """Measure, or play one of the two parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=10.0, help="events a second of each run")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", choices=("all", "jobs", "follower"), default="all")
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    if given.role == "jobs":
        play(given.root, given.runs, given.rate, given.seconds)
    elif given.role == "follower":
        print(json.dumps(follow(given.root, given.seconds)))
    else:
        found = medians(measure(given.rounds, runs=given.runs, rate=given.rate, seconds=given.seconds))
        rows = [(name, f"{value:,.3f}") for name, value in found.items()]
        print(table((f"{given.runs} runs of {given.rate:g} events/s", "median"), rows))


if __name__ == "__main__":
    main()
