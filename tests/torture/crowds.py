"""Row 8: many runs followed at once, while they appear and log.

What wakes the follower is tried in three ways: notifications as the system gives them, none at all (as after
an overflow of the queue, of which nobody is told), and a file system of many hosts. There, bytes may read as
NUL for a while although the file has its size.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import msgspec

from eventlog.sink import Batch, RunInfo, RunStatus, Sink, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.sync import Outcome, Selection, SyncOptions, Target
from eventlog.watch import RunSource, follow_runs
from tests.logs import LogMaker, metrics, put
from tests.torture.crowd import FINISHED_EVENTS, Crowd, finished_run, live_run, make_finished
from tests.torture.rows import Form, Result

TITLE = "Many runs followed at once"
PROMISE = (
    "every event of every run arrives once: runs made faster than notifications come, several appends within "
    "a second, notifications that are lost, tails that are NUL for a while"
)


class Size(NamedTuple):
    """How much of everything."""

    runs: int
    live: int
    processes: int
    bursts: int
    pause_s: float
    nul: int
    timeout_s: float


SIZES: dict[Form, Size] = {
    "short": Size(200, 20, 2, 4, 0.05, 3, 60.0),
    "long": Size(10_000, 500, 4, 300, 1.0, 50, 1200.0),
}
_QUICK = {
    "eventlog.watch.LIST_S": 0.2,
    "eventlog.following.ENDED_POLL_S": 0.5,
    "eventlog.following.QUIET_POLL_S": 0.3,
    "eventlog.following.ALIVE_EVERY_S": 0.2,
}


class Destination:
    """Where everything arrives. Several threads write.

    Attributes:
        taken_in_at: when all runs that are over had come, in seconds since 1970; None before.
        waits_s: when each event of a live run was logged, in seconds since 1970, and how long it took.
    """

    def __init__(self, backlog: int = 0) -> None:
        self.events: dict[str, Counter[tuple[str, int]]] = {}
        self.total = 0
        self.taken_in_at: float | None = None
        self.waits_s: list[tuple[float, float]] = []
        self._backlog = backlog
        self._lock = threading.Lock()

    def take(self, run: str, batch: Batch) -> None:
        """Count what came, and how long it took since it was logged."""
        now = time.time()
        with self._lock:
            counts = self.events.setdefault(run, Counter())
            for entry in batch.entries():
                counts[entry.writer, entry.event.seq] += 1
                self.total += 1
                if run.startswith("live"):
                    logged_at = entry.event.ts / 1e6
                    self.waits_s.append((logged_at, now - logged_at))
                else:
                    self._backlog -= 1
                    if not self._backlog:
                        self.taken_in_at = now

    def seqs(self, run: str) -> Counter[int]:
        """Return how often each event of a run with one writer came."""
        with self._lock:
            found: Counter[int] = Counter()
            for (_, seq), count in self.events.get(run, Counter()).items():
                found[seq] += count
            return found

    def quantile_ms(self, share: float, *, afterwards: bool) -> int:
        """Return the time that this share took at most of the events that live runs logged then."""
        since = math.inf if self.taken_in_at is None else self.taken_in_at
        waits = sorted(wait for logged_at, wait in self.waits_s if (logged_at >= since) is afterwards)
        return round(waits[min(len(waits) - 1, int(share * len(waits)))] * 1000) if waits else 0


class _Sink:
    """Counts. Its destination cannot tell what it has, so nothing hides what comes twice."""

    traits = Traits()
    destination = "counted"

    def __init__(self, to: Destination) -> None:
        self._to, self._run = to, ""

    def open(self, run: RunInfo) -> Checkpoint | None:
        self._run = run.run_id
        return None

    def write(self, batch: Batch) -> None:
        self._to.take(self._run, batch)

    def close(self, status: RunStatus | None) -> None:
        pass


class _Target(Target, frozen=True, kw_only=True):
    to: Destination

    def make(self) -> Sink:
        return _Sink(self.to)


def play(form: Form, seed: int) -> Result:
    """Follow three crowds and count."""
    del seed  # the kernel and the clock decide
    size, counts, problems = SIZES[form], Counter[str](), list[str]()
    lost = repeated = 0
    for what, play_one in (("", _hinted), ("without notifications: ", _unhinted), ("NUL: ", _with_nul)):
        with tempfile.TemporaryDirectory(prefix="evlog-crowd-") as directory, _constants(form):
            told = play_one(Path(directory), size, counts)
        lost, repeated = lost + told[0], repeated + told[1]
        problems += [what + problem for problem in told[2]]
    return Result(
        cases=counts["runs"],
        counts=dict(counts),
        lost=lost,
        invented=repeated,
        problems=problems[:20],
    )


_HERE = Path(__file__).parents[2]
Told = tuple[int, int, list[str]]


@contextlib.contextmanager
def _constants(form: Form) -> Iterator[None]:
    """Let the short form look more often than for real."""
    with contextlib.ExitStack() as stack:
        for name, value in _QUICK.items() if form == "short" else ():
            stack.enter_context(mock.patch(name, value))
        yield


@contextlib.contextmanager
def _following(root: Path, backlog: int = 0) -> Iterator[tuple[Destination, list[Outcome]]]:
    to, outcomes, stop = Destination(backlog), list[Outcome](), threading.Event()
    arguments = (RunSource(root), [_Target(sink="counting", to=to)], SyncOptions(jobs=2), Selection())
    thread = threading.Thread(
        target=follow_runs, args=arguments, kwargs={"stop": stop, "report": outcomes.append}, daemon=True
    )
    thread.start()
    try:
        yield to, outcomes
    finally:
        stop.set()
        thread.join(60)


def _hinted(root: Path, size: Size, counts: Counter[str]) -> Told:
    """Follow the whole crowd, with notifications as they come."""
    return _follow_crowd(root, size, counts)


def _unhinted(root: Path, size: Size, counts: Counter[str]) -> Told:
    """Follow a crowd a tenth as large without a single notification."""
    few = size._replace(runs=size.runs // 10, live=size.live // 10, processes=1)
    with mock.patch("watchfiles.watch", _silent):
        return _follow_crowd(root, few, Counter())


def _silent(*_: object, stop_event: threading.Event, **__: object) -> Iterator[set[object]]:
    """Watch, and be told nothing, as after an overflow."""
    while not stop_event.wait(0.2):
        yield set()


def _follow_crowd(root: Path, size: Size, counts: Counter[str]) -> Told:
    crowds = list(_crowds(root, size))
    before = size.runs // 3
    make_finished(root, range(before))
    finished, live = size.runs - size.live, crowds[0].live_events
    with _Queue(root) as queue, _following(root, finished * FINISHED_EVENTS) as (to, outcomes):
        writers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.torture.crowd", msgspec.json.encode(crowd).decode()], cwd=_HERE
            )
            for crowd in crowds
        ]
        expected = finished * FINISHED_EVENTS + size.live * live
        _wait(to, expected, size.timeout_s)
        problems = [f"writer {one.args!r}: {one.returncode}" for one in writers if one.wait(60)]
        # What comes twice comes late: give it the time of a look at everything.
        threading.Event().wait(0.5)
        counts["notifications queued beside"] += queue.count()
    wanted = {finished_run(root, n).name: FINISHED_EVENTS for n in range(finished)}
    wanted |= {live_run(root, n).name: live for n in range(size.live)}
    told = _compare(to, wanted, outcomes)
    counts.update(
        {
            "runs": size.runs,
            "live at once": size.live,
            "events": to.total,
            "p50 of an event logged while all runs are taken in, ms": to.quantile_ms(0.5, afterwards=False),
            "p99 of the same, ms": to.quantile_ms(0.99, afterwards=False),
            "p50 of an event logged afterwards, ms": to.quantile_ms(0.5, afterwards=True),
            "p99 of the same afterwards, ms": to.quantile_ms(0.99, afterwards=True),
        }
    )
    return told[0], told[1], problems + told[2]


def _crowds(root: Path, size: Size) -> Iterator[Crowd]:
    """Yield what each process writes; a third of the finished runs is there before."""
    first, last = size.runs // 3, size.runs - size.live
    for at in range(size.processes):
        yield Crowd(
            root=str(root),
            finished=(
                first + (last - first) * at // size.processes,
                first + (last - first) * (at + 1) // size.processes,
            ),
            live=(size.live * at // size.processes, size.live * (at + 1) // size.processes),
            bursts=size.bursts,
            pause_s=size.pause_s,
        )


def _wait(to: Destination, expected: int, timeout_s: float) -> None:
    """Wait until so many events came, or so long without any."""
    tick, seen, since = threading.Event(), -1, time.monotonic()
    while to.total < expected and time.monotonic() - since < timeout_s / 4:
        if to.total != seen:
            seen, since = to.total, time.monotonic()
        tick.wait(0.05)


def _compare(to: Destination, wanted: dict[str, int], outcomes: list[Outcome]) -> Told:
    lost = repeated = 0
    problems = []
    for run, count in wanted.items():
        seqs = to.seqs(run)
        missing, twice = count - len(seqs), sum(seqs.values()) - len(seqs)
        if missing or twice or set(seqs) != set(range(count)):
            problems.append(f"{run}: {missing} of {count} are missing, {twice} came again")
        lost, repeated = lost + max(0, missing), repeated + twice
    problems += [f"{one.run_id}: {one.message}" for one in outcomes if one.result == "failed"]
    return lost, repeated, problems


# --- bytes that arrive late -----------------------------------------------------------------


def _with_nul(root: Path, size: Size, counts: Counter[str]) -> Told:
    """Follow runs on what counts as a network file system; bytes in their tails are NUL, then filled."""
    lines = LogMaker().segment(metrics(8), is_sealed=False)
    whole, known = b"".join(lines), len(b"".join(lines[:4]))
    names = {f"nul-{n:02d}": 1 + n % 2 for n in range(size.nul)}
    with _on_a_network(), _following(root) as (to, outcomes):
        paths = {}
        for name, kind in names.items():
            # Either everything behind the first lines is NUL, or only the line behind them.
            end = len(whole) if kind == 1 else known + len(lines[4]) - 1
            paths[name] = put(root / "p0" / name, 1, whole[:known] + bytes(end - known) + whole[end:])
        _wait(to, 3 * size.nul, size.timeout_s)
        early = to.total
        # Some are filled at once, others when they have been given up.
        for number, (name, path) in enumerate(paths.items()):
            if number % 2:
                _wait_for_end(name, outcomes, size.timeout_s / 4)
            with path.open("r+b") as file:
                file.write(whole)
        _wait(to, 8 * size.nul, size.timeout_s / 4)
    counts["runs with NUL for a while"] += size.nul
    told = _compare(to, dict.fromkeys(names, 8), outcomes)
    if early != 3 * size.nul:
        told[2].append(f"{early} events came before the rest was there, {3 * size.nul} should have")
    return told


def _wait_for_end(run: str, outcomes: list[Outcome], timeout_s: float) -> None:
    tick, until = threading.Event(), time.monotonic() + timeout_s
    while not any(one.run_id == run for one in outcomes) and time.monotonic() < until:
        tick.wait(0.05)


@contextlib.contextmanager
def _on_a_network() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in ("watch", "delivery.delivery", "delivery.growth"):
            stack.enter_context(mock.patch(f"eventlog.{module}.is_network_file_system", return_value=True))
        stack.enter_context(mock.patch("eventlog.watch.NETWORK_LIST_S", 0.3))
        yield


# --- a queue beside, to see what notifications would have told ------------------------------


class _Queue:
    """Watches the same directories and takes nothing out until it is asked: so its queue runs over."""

    _ALL, _OVERFLOW = 0xFFF, 0x4000

    def __init__(self, root: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._root = root

    def __enter__(self) -> _Queue:
        if sys.platform == "linux":
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            for path in (self._root, *self._root.iterdir()):
                self._libc.inotify_add_watch(self._fd, os.fsencode(path), self._ALL)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def count(self) -> int:
        """Return how many notifications wait; when the queue ran over, fewer than there were."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while self._fd >= 0 and (data := os.read(self._fd, 1 << 20)):
                at = 0
                while at < len(data):
                    at += 16 + int.from_bytes(data[at + 12 : at + 16], sys.byteorder)
                    count += 1
        return count
