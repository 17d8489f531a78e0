"""Kill writers at random moments and count what is lost: ``python -m tests.crash.campaign --rounds 500``.

Each round forks a process that logs as fast as it can and notes, in memory shared with us, how many of
its calls have returned. It is killed with SIGKILL; then its run is read, recovered and read again.

- *acknowledged*: calls that returned before the kill;
- *recovered from the ring*: events that no segment held;
- *lost*: acknowledged events that are not read back;
- *invented*: events that are read and were never logged, or come twice or out of order.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from eventlog.events import AnyEvent, Metrics, Note, RunStarted
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.merge import RunReader
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import recover_run

LONGEST_LIFE_S = 0.06
NOTE_EVERY = 97


class Round(NamedTuple):
    """What one killed writer came to."""

    acknowledged: int
    recovered: int
    lost: int
    invented: int
    problems: list[str]


class Totals(NamedTuple):
    """What a campaign came to."""

    rounds: int = 0
    acknowledged: int = 0
    recovered: int = 0
    lost: int = 0
    invented: int = 0
    problems: tuple[str, ...] = ()

    def plus(self, one: Round) -> Totals:
        """Return the totals with *one* more round."""
        return Totals(
            self.rounds + 1,
            self.acknowledged + one.acknowledged,
            self.recovered + one.recovered,
            self.lost + one.lost,
            self.invented + one.invented,
            (*self.problems, *one.problems),
        )

    @property
    def is_good(self) -> bool:
        """Tell whether every promise was kept."""
        return not (self.lost or self.invented or self.problems)


def log_for_ever(run: Path, options: WriterOptions, acknowledged: mmap.mmap) -> None:
    """Log metrics, and a note now and then, by both ways in; note after each call that it returned."""
    buffer = LogBuffer(run, run_id="r", project="p", options=options)
    buffer.append(RunStarted(name="x"))
    fast, n = buffer.stream.append_metrics, 0
    while True:
        if n % NOTE_EVERY == 0:
            is_kept = buffer.append(Note(text=str(n)))
        elif options.durability == "synced":
            is_kept = buffer.append_metrics_synced(n, b'{"loss":%d.5}' % n)
        else:
            is_kept = fast(n, b'{"loss":%d.5}' % n) or buffer.append_fields(
                b'{"type":"metrics","step":%d,"data":{"loss":%d.5}}' % (n, n), "metrics", sync=False
            )
        # A call that says that its event was dropped makes no promise; it is tried again.
        if is_kept:
            n += 1
            acknowledged[:8] = struct.pack("q", n)


def number_of(event: AnyEvent) -> int | None:
    """Return the number of the call that logged *event*, None if no call of ours did, -1 if it is a frame
    of the run."""
    if isinstance(event, Metrics):
        is_ours = event.step is not None and event.data == {"loss": event.step + 0.5}
        return event.step if is_ours else None
    if isinstance(event, Note):
        return int(event.text)
    return -1 if event.seq == 0 or type(event).__name__ == "Dropped" else None


def check(run: Path, when: str) -> tuple[int, int, list[str]]:
    """Return how many logged events are read back, how many others, and what the reader found wrong."""
    reader = RunReader(run)
    numbers = [number_of(event) for part in reader.slices() for event in part.events]
    logged = [number for number in numbers if number != -1]
    invented = sum(found != wanted for wanted, found in enumerate(logged))
    return len(logged), invented, [f"{when}: {finding}" for finding in reader.findings]


def play_round(chance: random.Random) -> Round:
    """Let one writer live for a moment, kill it, and look at what is left."""
    directory = Path(tempfile.mkdtemp(prefix="evlog-kill-"))
    run, acknowledged = directory / "p" / "r", mmap.mmap(-1, 8)
    options = WriterOptions(
        durability="synced" if chance.random() < 0.1 else "buffered",
        segment_bytes=chance.choice([1 << 16, 1 << 20, 64 << 20]),
        ring_bytes=chance.choice([1 << 16, 1 << 20, 8 << 20]),
    )
    life_s = chance.random() * LONGEST_LIFE_S
    pid = os.fork()
    if pid == 0:
        try:
            log_for_ever(run, options, acknowledged)
        finally:
            os._exit(1)
    wait = threading.Event()
    wait.wait(life_s / 2)
    _, invented, problems = check(run, "alive")
    wait.wait(life_s / 2)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (count,) = struct.unpack("q", acknowledged[:8])
    _, more_invented, more_problems = check(run, "killed")
    recoveries = recover_run(run)
    read, still_invented, still_problems = check(run, "recovered")
    # One event more than was noted is right: the kill came between the append and the note.
    invented += more_invented + still_invented + max(0, read - count - 1)
    problems += more_problems + still_problems + [r.problem for r in recoveries if r.problem]
    lost = max(0, count - read)
    if lost or invented or problems:
        problems.append(f"kept for you to look at: {directory}")
    else:
        shutil.rmtree(directory)
    return Round(count, sum(r.events for r in recoveries), lost, invented, problems)


def play(rounds: int, seed: int) -> Totals:
    """Play *rounds* rounds; the same seed chooses the same options and life times."""
    chance, totals = random.Random(seed), Totals()
    for _ in range(rounds):
        totals = totals.plus(play_round(chance))
    return totals


def main() -> int:
    """Run a campaign and print what came of it; return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    totals = play(arguments.rounds, arguments.seed)
    sys.stdout.write(
        f"{totals.rounds} rounds, {totals.acknowledged} acknowledged, "
        f"{totals.recovered} recovered from the ring, {totals.lost} lost, {totals.invented} invented\n"
    )
    for problem in totals.problems:
        sys.stdout.write(f"{problem}\n")
    return 0 if totals.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
