"""Row 2: the power goes while runs are logged, recovered, delivered and queried.

The file system is stopped by its own shutdown ioctl without writing its journal: what is on the disk then
is all there will ever be. It is mounted again, which replays the journal as after a real power cut, and
read. One file system takes many cuts, so that blocks of older runs lie below the new ones.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eventlog.storage.layout import list_segments, log_directory
from eventlog.storage.repair import recover_run
from eventlog.storage.segment import SegmentReader
from tests.crash.campaign import look
from tests.crash.lives import CALLS, ON_DISK, RETURNED, Notes, Plan, plan, start
from tests.torture import power_consumers
from tests.torture.devices import ORDERED, WRITEBACK, XFS, Disk, FileSystem, all_apart, disk, why_not
from tests.torture.rows import Form, Result

TITLE = "power cuts"
PROMISE = "what was synced is read back, with `synced` every call that returned; nothing is invented"
CUTS: dict[Form, int] = {"short": 12, "long": 10_000}
CONSUMER_CUTS: dict[Form, int] = {"short": 2, "long": 400}
CUTS_A_DISK = 1000
LONGEST_LIVES_S = (0.002, 0.005, 0.01, 0.03)
MOST_CALLS = 1000
KEPT = 20


class Writing(NamedTuple):
    """A run that is logged when the power goes."""

    run: Path
    how: Plan
    notes: Notes
    pid: int


class Tally:
    """What many cuts came to."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.lost = self.invented = self.cuts = 0
        self.late_ms = 0
        self.problems: list[str] = []

    def add(self, other: Tally) -> None:
        """Count what *other* has counted as well."""
        self.counts.update(other.counts)
        self.lost, self.invented = self.lost + other.lost, self.invented + other.invented
        self.cuts += other.cuts
        self.late_ms = max(self.late_ms, other.late_ms)
        self.problems += other.problems


def play(form: Form, seed: int) -> Result:
    """Cut the power of each kind of file system and count."""
    total, skipped = Tally(), []
    gc.collect()
    gc.freeze()
    try:
        for file_system in (ORDERED, WRITEBACK, XFS):
            reason = why_not(file_system)
            if reason is not None:
                skipped.append(f"{file_system.name}: {reason}")
                continue
            _play_on(file_system, form, seed, total)
    finally:
        gc.unfreeze()
    if total.cuts and not total.counts["calls that promised the disk"]:
        total.problems.append("no call promised the disk: nothing was tried")
    total.counts["ms that the oldest lost event was older than its sync interval"] = total.late_ms
    return Result(
        cases=total.cuts,
        counts=dict(total.counts),
        lost=total.lost,
        invented=total.invented,
        problems=total.problems[:200],
        skipped="; ".join(skipped) or None,
    )


def _play_on(file_system: FileSystem, form: Form, seed: int, total: Tally) -> None:
    workers = 1 if form == "short" else os.cpu_count() or 1
    every = [f"{seed}:{file_system.name}:{number}" for number in range(CUTS[form])]
    works = [partial(play_seeds, file_system, every[worker::workers]) for worker in range(workers)]
    for tally in all_apart(works):
        total.add(tally)
        total.counts[f"cuts of {file_system.name}"] += tally.cuts
    for name, consumer in power_consumers.CONSUMERS.items():
        seeds = [f"{seed}:{file_system.name}:{name}:{number}" for number in range(CONSUMER_CUTS[form])]
        (told,) = all_apart([partial(consumer, file_system, seeds)])
        total.cuts += told.cuts
        total.counts[f"cuts of {file_system.name}"] += told.cuts
        total.counts[f"cuts during {name}"] += told.cuts
        total.problems += told.problems


def play_seeds(file_system: FileSystem, seeds: list[str]) -> Tally:
    """Cut the power once for each of *seeds*, in a process apart."""
    tally = Tally()
    for begin in range(0, len(seeds), CUTS_A_DISK):
        with disk(file_system) as mounted:
            for seed in seeds[begin : begin + CUTS_A_DISK]:
                cut_once(mounted, seed, tally)
                if len(tally.problems) >= KEPT:
                    return tally
    return tally


def cut_once(mounted: Disk, seed: str, tally: Tally) -> None:
    """Log into some runs, cut the power, and look at each of them."""
    chance = random.Random(seed)
    directory = mounted.path / seed.rpartition(":")[2]
    writing = [
        _begin(directory / "p" / f"r{number}", chance) for number in range(chance.choice([1, 1, 2, 3]))
    ]
    recovering = Recovering(writing) if chance.random() < 0.15 else None
    try:
        _wait(writing, chance)
        _check_alive(writing, tally)
        if recovering is not None:
            _kill(writing, mounted, tally)
            recovering.start()
            recovering.wait(0.02 * chance.random() if chance.random() < 0.5 else None)
    finally:
        # Before, not after: a sync that is under way when the file system stops may return as if it had
        # been done, and be noted. After a real cut nobody would be there to believe it.
        for one in writing:
            one.notes.freeze()
        if recovering is not None:
            recovering.freeze()
        cut_ns = time.monotonic_ns()
        mounted.cut_power()
        if recovering is None:
            _kill(writing, mounted, tally)
        else:  # then they are dead already
            recovering.end()
    mounted.unmount()
    mounted.mount()
    tally.cuts += 1
    for one in writing:
        problems = _examine(one, recovering, cut_ns, tally)
        if problems:
            kept = Path(tempfile.mkdtemp(prefix="evlog-cut-"))
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(one.run, kept / one.run.name)
            tally.problems += [f"seed {seed}: {what} (kept in {kept})" for what in problems[:5]]
    for old in mounted.path.iterdir():
        if old.name != "lost+found":
            shutil.rmtree(old, ignore_errors=True)


def _begin(run: Path, chance: random.Random) -> Writing:
    how = plan(chance, most_calls=MOST_CALLS, durability="synced" if chance.random() < 0.4 else None)
    run.parent.mkdir(parents=True, exist_ok=True)
    notes = Notes(how.threads)
    return Writing(run, how, notes, start(run, how, notes))


def _wait(writing: list[Writing], chance: random.Random) -> None:
    """Wait until the first has begun, nearly always, and then for a moment."""
    wait, life_s = threading.Event(), chance.random() * chance.choice(LONGEST_LIVES_S)
    if chance.random() < 0.9:
        while not writing[0].notes.has_begun:
            wait.wait(0.0005)
    wait.wait(life_s)


def _check_alive(writing: list[Writing], tally: Tally) -> None:
    """Make sure that no writer has died by itself, while its file system still worked."""
    for one in writing:
        died = os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if died is not None and (died.si_code, died.si_status) != (os.CLD_EXITED, 0):
            tally.problems.append(f"{one.run}: its writer died of {died.si_status} before the power went")


_ENDS = {0: "writers that had ended their log", -signal.SIGKILL: "writers that we killed"}
# The next store into the ring after its file system has stopped; ext4 goes on taking them.
_ENDS_ON_XFS = {-signal.SIGBUS: "writers that SIGBUS ended with the power"}


def _kill(writing: list[Writing], mounted: Disk, tally: Tally) -> None:
    ends = _ENDS | (_ENDS_ON_XFS if mounted.file_system.kind == "xfs" else {})
    for one in writing:
        os.kill(one.pid, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1])
        tally.counts[ends.get(ended, f"writers that ended with {ended}")] += 1
        if ended not in ends:
            tally.problems.append(f"{one.run}: its writer ended with {ended}")


class Recovering:
    """A process that recovers runs whose writers were killed, and notes which it was done with."""

    def __init__(self, writing: list[Writing]) -> None:
        self._writing = writing
        self._notes = Notes(1)
        self._pid = 0

    def start(self) -> None:
        """Begin."""
        self._pid = os.fork()
        if self._pid == 0:
            try:
                for number, one in enumerate(self._writing):
                    recover_run(one.run)
                    read = look(one.run, one.how, one.notes, "").compared.read
                    # Room for the first calls of each thread, of which there are MOST_CALLS at most.
                    for thread, calls in enumerate(read):
                        base = (number * 3 + thread) * MOST_CALLS // 3
                        for call in calls:
                            if call < MOST_CALLS // 3:
                                self._notes.marks[base + call] = 1
            finally:
                self._notes.closed[0] = 1
                os._exit(0)

    def wait(self, life_s: float | None) -> None:
        """Wait for that long, or until it is done if that is None."""
        pause = threading.Event()
        if life_s is not None:
            pause.wait(life_s)
        while life_s is None and not self._notes.closed[0]:
            pause.wait(0.0005)

    def freeze(self) -> None:
        """Let nothing count that is noted after this."""
        self._notes.freeze()

    def end(self) -> None:
        """Kill it."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def was_read(self, one: Writing, thread: int) -> set[int]:
        """Return calls that could be read after the recovery of *one* had returned."""
        base = (self._writing.index(one) * 3 + thread) * MOST_CALLS // 3
        assert self._notes.promised is not None
        marks = self._notes.promised[0][base : base + MOST_CALLS // 3]
        return {call for call, mark in enumerate(marks) if mark}


def _examine(one: Writing, recovering: Recovering | None, cut_ns: int, tally: Tally) -> list[str]:
    """Read, recover and read again; return what should not be."""
    assert one.notes.promised is not None
    _, synced_bytes, is_closed = one.notes.promised
    least = RETURNED if is_closed else ON_DISK
    before = look(one.run, one.how, one.notes, "after the cut")
    problems = [f"invented, {what}" for what in before.compared.invented]
    tally.counts[f"tails {before.tail}"] += 1
    tally.counts["damaged ranges named"] += sum("damaged" in what for what in before.problems)
    tally.counts["runs"] += 1
    tally.counts["calls that promised the disk"] += sum(
        len(one.notes.numbers(thread, least)) for thread in range(one.how.threads)
    )
    problems += _unsynced(one.run, synced_bytes)
    recoveries = recover_run(one.run)
    tally.counts["events from the ring"] += sum(r.events for r in recoveries)
    tally.counts["rings set aside"] += sum("set aside" in r.problem for r in recoveries)
    problems += [r.problem for r in recoveries if r.problem and "set aside" not in r.problem]
    after = look(one.run, one.how, one.notes, "recovered")
    problems += [f"invented once recovered, {what}" for what in after.compared.invented]
    lost = after.compared.missing(one.notes, least)
    problems += [f"lost, thread {thread} call {number}" for thread, number in lost]
    for thread, (mine, theirs) in enumerate(zip(before.compared.read, after.compared.read, strict=True)):
        if mine - theirs:
            problems.append(f"recovery lost {sorted(mine - theirs)[:5]} of thread {thread}")
        gone = recovering.was_read(one, thread) - theirs if recovering else set()
        if gone:
            tally.lost += len(gone)
            problems.append(f"lost after its recovery had returned: {sorted(gone)[:5]} of thread {thread}")
    if any(r.events for r in recover_run(one.run)):
        problems.append("a second recovery found something")
    tally.lost += len(lost)
    tally.invented += len(before.compared.invented) + len(after.compared.invented)
    _note_age(one, after.compared.missing(one.notes, RETURNED), cut_ns, tally)
    return problems


def _unsynced(run: Path, synced_bytes: list[int]) -> list[str]:
    """Return which segments lack bytes that a sync had promised."""
    problems = []
    log_dir = log_directory(run)
    names = {name.segment: name for names in list_segments(log_dir).values() for name in names}
    for segment, size in enumerate(synced_bytes):
        if not size:
            continue
        if segment not in names:
            problems.append(f"lost, segment {segment} with {size} synced bytes")
            continue
        reader = SegmentReader(names[segment].path(log_dir), names[segment])
        for _ in reader.read():
            pass
        if reader.verified_end < size or any(finding.start < size for finding in reader.findings):
            problems.append(f"lost, synced bytes of segment {segment}: {reader.verified_end} of {size}")
    return problems


def _note_age(one: Writing, missing: list[tuple[int, int]], cut_ns: int, tally: Tally) -> None:
    """Note how much older than its sync interval the oldest event was that the cut has cost."""
    tally.counts["calls that promised nothing and are lost"] += len(missing)
    ages = [cut_ns - one.notes.times_ns[thread * CALLS + number] for thread, number in missing]
    late_ms = int(max(ages, default=0) / 1e6 - one.how.options.sync_interval_s * 1000)
    tally.late_ms = max(tally.late_ms, late_ms)
