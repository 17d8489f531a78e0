"""Kill writers at random moments and count what is lost: ``python -m tests.crash.campaign --rounds 500``.

Each round forks a process that logs as fast as it can, from one to three threads, and notes in memory
shared with us which of its calls have returned. It is killed with SIGKILL; then its run is read, recovered
and read again.

- *acknowledged*: calls that returned before the kill;
- *recovered from the ring*: events that no segment held;
- *lost*: acknowledged events that are not read back;
- *invented*: events that are read and were never logged, or come twice or out of order;
- *tails*: how the log ended before it was recovered.

A round has a seed of its own, which is printed with what it found: ``--only 1:4711`` plays it again. It
chooses the same life; the moment of the kill is as exact as the machine's clock.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from eventlog.storage.layout import log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.reader import State
from eventlog.storage.repair import recover_run
from tests.crash.lives import RETURNED, Compared, Notes, Plan, compare, plan, start

LONGEST_LIVES_S = (0.001, 0.004, 0.008, 0.03)
YOUNG = 0.15
"""So many are killed while they begin."""
MOST_PROBLEMS = 5
"""So many are told of one round: the first ones tell, and it is kept."""
MEMORY = Path("/dev/shm")


class Round(NamedTuple):
    """What one killed writer came to."""

    acknowledged: int
    recovered: int
    lost: int
    invented: int
    tail: str
    problems: list[str]


class Totals(NamedTuple):
    """What a campaign came to."""

    rounds: int = 0
    acknowledged: int = 0
    recovered: int = 0
    lost: int = 0
    invented: int = 0
    tails: Counter[str] = Counter()  # noqa: RUF012 - never changed in place
    problems: tuple[str, ...] = ()

    def plus(self, one: Round) -> Totals:
        """Return the totals with *one* more round."""
        return self.merged(
            Totals(
                1,
                one.acknowledged,
                one.recovered,
                one.lost,
                one.invented,
                Counter({one.tail: 1}),
                tuple(one.problems),
            )
        )

    def merged(self, other: Totals) -> Totals:
        """Return the totals of both."""
        return Totals(
            self.rounds + other.rounds,
            self.acknowledged + other.acknowledged,
            self.recovered + other.recovered,
            self.lost + other.lost,
            self.invented + other.invented,
            self.tails + other.tails,
            self.problems + other.problems,
        )

    @property
    def is_good(self) -> bool:
        """Tell whether every promise was kept."""
        return not (self.lost or self.invented or self.problems)


class _Look(NamedTuple):
    """A run as it was read."""

    compared: Compared
    problems: list[str]
    tail: str


def look(run: Path, how: Plan, notes: Notes, when: str) -> _Look:
    """Read *run* and compare it with what its writer noted."""
    reader = RunReader(run)
    events = (event for part in reader.slices() for event in part.events)
    compared = compare(run, events, how.threads, notes)
    problems = [f"{when}: {finding}" for finding in reader.findings]
    problems += [f"{when}: {what}" for what in compared.invented]
    return _Look(compared, problems, _tail(reader))


def _tail(reader: RunReader) -> str:
    """Say how the log ends, by its last segment."""
    reports = [report for one in reader.writers.values() for report in one.reports(is_alive=False)]
    if not reports or not any(report.size_bytes for report in reports):
        return "empty"
    last = max(reports, key=lambda report: report.segment)
    if last.state is State.TORN:
        return "torn"
    return "sealed" if last.is_sealed else "complete" if last.state is State.COMPLETE else str(last.state)


def play_round(seed: str) -> Round:
    """Let one writer live for a moment, kill it, and look at what is left."""
    chance = random.Random(seed)
    in_memory = MEMORY if MEMORY.is_dir() and chance.random() < 0.95 else None
    directory = Path(tempfile.mkdtemp(prefix="evlog-kill-", dir=in_memory))
    run, how = directory / "p" / "r", plan(chance)
    notes, problems = Notes(how.threads), []
    life_s, is_young = chance.random() * chance.choice(LONGEST_LIVES_S), chance.random() < YOUNG
    pid, wait = start(run, how, notes), threading.Event()
    try:
        while not (is_young or notes.has_begun):
            wait.wait(0.0002)
        wait.wait(life_s / 2)
        if chance.random() < 0.2:
            problems += look(run, how, notes, "alive").problems
        wait.wait(life_s / 2)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    killed = look(run, how, notes, "killed")
    recoveries = recover_run(run)
    after = look(run, how, notes, "recovered")
    problems += killed.problems + after.problems + [r.problem for r in recoveries if r.problem]
    lost = len(after.compared.missing(notes, RETURNED))
    lost += sum(len(a - b) for a, b in zip(killed.compared.read, after.compared.read, strict=True))
    leftovers = [path.name for path in _log_files(run) if path.suffix != ".jsonl"]
    if leftovers and not _never_began(run):
        problems.append(f"left behind: {leftovers}")
    recovered = sum(r.events for r in recoveries)
    tail = killed.tail
    if recovered and not any(killed.compared.read):
        tail = "ring only"
    acknowledged = sum(len(notes.numbers(thread, RETURNED)) for thread in range(how.threads))
    if lost or problems:
        problems = [f"seed {seed}: {what}" for what in problems[:MOST_PROBLEMS]]
        problems.append(f"seed {seed}: {lost} lost; kept for you to look at: {directory}")
    else:
        shutil.rmtree(directory)
    return Round(acknowledged, recovered, lost, len(after.compared.invented), tail, problems)


def _log_files(run: Path) -> list[Path]:
    return sorted(log_directory(run).iterdir()) if log_directory(run).is_dir() else []


def _never_began(run: Path) -> bool:
    """Tell whether the writer died before its ring had its name: nothing was logged then."""
    return all(path.suffix in {".ring-new", ".reserve"} for path in _log_files(run))


def play(rounds: int, seed: int, *, workers: int = 1) -> Totals:
    """Play *rounds* rounds, in as many processes as there are *workers*; seeds choose the same lives."""
    # What lives now lives on: the children would copy each page whose counts they touch.
    gc.collect()
    gc.freeze()
    try:
        if workers == 1:
            return _play_some(range(rounds), seed)
        parts = [_play_apart(range(worker, rounds, workers), seed) for worker in range(workers)]
        totals = Totals()
        for pid, pipe in parts:
            with os.fdopen(pipe, "rb") as file:
                data = file.read()
            os.waitpid(pid, 0)
            totals = totals.merged(
                pickle.loads(data) if data else Totals(problems=("a worker of the campaign died",))
            )
        return totals
    finally:
        gc.unfreeze()


def _play_some(numbers: range, seed: int) -> Totals:
    totals = Totals()
    for number in numbers:
        totals = totals.plus(play_round(f"{seed}:{number}"))
    return totals


def _play_apart(numbers: range, seed: int) -> tuple[int, int]:
    """Play in a child process; return its pid and where its totals will come from."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(_play_some(numbers, seed), pipe)
        finally:
            os._exit(0)
    os.close(write_end)
    return pid, read_end


def main() -> int:
    """Run a campaign and print what came of it; return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", metavar="SEED:NUMBER", help="play one round again")
    arguments = parser.parse_args()
    if arguments.only:
        totals = Totals().plus(play_round(arguments.only))
    else:
        totals = play(arguments.rounds, arguments.seed, workers=arguments.workers)
    tails = ", ".join(f"{count} {name}" for name, count in sorted(totals.tails.items()))
    sys.stdout.write(
        f"{totals.rounds} rounds, {totals.acknowledged} acknowledged, "
        f"{totals.recovered} recovered from the ring, {totals.lost} lost, {totals.invented} invented; "
        f"tails: {tails}\n"
    )
    for problem in totals.problems:
        sys.stdout.write(f"{problem}\n")
    return 0 if totals.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
