"""Plays rounds of row 6, each a process that is forked from here: ``python -m tests.torture.process_rounds``.

Nothing but the interpreter is above the child's life, so that its end is the real one. ``--only 1:4711``
plays one round again, with the same life; when threads and signals strike is the kernel's choice.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

# What a run imports late: here once, instead of in each child.
import eventlog.delivery.pump
import eventlog.lineage.origin
import eventlog.lineage.running  # noqa: F401
from eventlog.events import Metrics, RunEnded
from eventlog.storage.layout import iter_runs, log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.repair import recover_run
from eventlog.storage.ring import YOUNG_SUFFIX
from tests.torture.process_ends import ENDS, live
from tests.torture.process_lives import ACTIVITIES, RUN, Life
from tests.torture.process_notes import Notes

LIMIT_S, SLOW_S = 40.0, 8.0
"""After so long a process hangs; so long none of these may take, also on a machine with much to do."""
MEMORY = Path("/dev/shm")
_SUBREAPER = 36
# An exception that a signal raises is swallowed by whatever finalizer it strikes, so nothing would end.
_SWALLOWED = {("collector", end) for end in ("SIGINT", "SIGINT caught", "SIGTERM that raises")}
PAIRS = [(activity, end) for activity in ACTIVITIES for end in ENDS if (activity, end) not in _SWALLOWED]


class Totals(msgspec.Struct):
    """What some rounds came to.

    Attributes:
        rounds: processes that logged and ended, each in its own way: a life that forks is several.
    """

    rounds: int = 0
    calls: int = 0
    events: int = 0
    lost: int = 0
    invented: int = 0
    slowest_s: float = 0.0
    kinds: dict[str, int] = {}
    problems: list[str] = []

    def merged(self, other: Totals) -> Totals:
        """Return the totals of both."""
        return Totals(
            self.rounds + other.rounds,
            self.calls + other.calls,
            self.events + other.events,
            self.lost + other.lost,
            self.invented + other.invented,
            max(self.slowest_s, other.slowest_s),
            dict(Counter(self.kinds) + Counter(other.kinds)),
            self.problems + other.problems,
        )


class Found(msgspec.Struct):
    """What was read back of one round."""

    problems: list[str] = []
    events: int = 0
    lost: int = 0
    invented: int = 0


def compare(root: Path, notes: Notes, *, one_end: bool = True) -> Found:
    """Read all runs below *root* as somebody who comes later, and compare them with the notes.

    Args:
        one_end: the run has one process that may end it.
    """
    found, there, ended = Found(), Counter[tuple[int, int]](), list[str]()
    for run in iter_runs(root):
        found.problems += [recovery.problem for recovery in recover_run(run.path) if recovery.problem]
        reader = RunReader(run.path)
        for part in reader.slices():
            for event in part.events:
                if isinstance(event, Metrics):
                    there[_call_of(event)] += 1
                elif isinstance(event, RunEnded) and run.run_id == RUN:
                    ended.append(event.status)
        found.problems += [f"{run.run_id}: {finding}" for finding in reader.findings]
        # A thread that logs beyond the end begins another run. Of one that was still making its ring nobody
        # can tell for ten minutes whether it lives.
        kinds = {".jsonl"} if run.run_id == RUN else {".jsonl", YOUNG_SUFFIX}
        left = [path.name for path in log_directory(run.path).iterdir() if path.suffix not in kinds]
        found.problems += [f"{run.run_id}: left behind: {left}"] if left else []
    statuses = notes.expected().statuses
    if one_end and (len(ended) > 1 or "".join(ended or ["crashed"]) not in statuses):
        found.problems.append(f"the run says {ended} of its end instead of {sorted(statuses)}")
    lost = notes.promised() - there.keys()
    invented = (there - Counter(dict.fromkeys(notes.begun(), 1))).total()
    if lost or invented:
        found.problems.append(f"lost {sorted(lost)[:20]}, {invented} invented or twice")
    found.events, found.lost, found.invented = there.total(), len(lost), invented
    return found


def _call_of(event: Metrics) -> tuple[int, int]:
    actor, step = event.data.get("a"), event.step
    is_ours = isinstance(actor, int) and step is not None and event.data == {"a": actor, "x": step + 0.5}
    return (actor, step) if is_ours and isinstance(actor, int) and step is not None else (-1, -1)


class Rounds:
    """A series of rounds, one after the other."""

    def __init__(self, seed: int, pairs: list[tuple[str, str]] | None = None) -> None:
        self.totals = Totals()
        self._seed, self._pairs = seed, pairs or PAIRS
        home = MEMORY if MEMORY.is_dir() else None
        self._root = Path(tempfile.mkdtemp(prefix="evlog-processes-", dir=home))
        self._notes = Notes(self._root / "notes")
        # A shell that starts us in the background has SIGINT ignored, here and in all children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # What a child leaves behind becomes ours, so that we see it.
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        # Else each child would copy all our pages when it ends, only to look for garbage among the modules.
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        """Remove what is not kept for somebody to look at."""
        if not self.totals.problems:
            shutil.rmtree(self._root)

    def play(self, number: int) -> Life | None:
        """Play one round; in the child return the life that is to be lived."""
        seed = f"{self._seed}:{number}"
        activity, end = self._pairs[number % len(self._pairs)]
        directory, chance = self._root / str(number), random.Random(seed)
        directory.mkdir()
        self._notes.clear()
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _redirect(directory / "output")
            return Life(directory, self._notes, seed, activity, end)
        problems = self._watch(pid, end, chance)
        took_s = time.monotonic() - began
        if took_s > SLOW_S:
            problems.append(f"it took {took_s:.1f} s")
        problems += _words_of(directory / "output", end)
        found = compare(directory, self._notes)
        self._add(f"{activity}, {end}", found, took_s)
        problems += found.problems
        if problems:
            command = f"python -m tests.torture.process_rounds --only {seed}"
            self.totals.problems += [f"{activity}, {end}: {what}" for what in problems]
            self.totals.problems.append(f"again: {command}; kept for you to look at: {directory}")
        else:
            shutil.rmtree(directory)
        return None

    def _add(self, kind: str, found: Found, took_s: float) -> None:
        totals = self.totals
        totals.rounds += 1 + self._notes.forked()
        totals.calls += self._notes.calls()
        totals.events += found.events
        totals.lost += found.lost
        totals.invented += found.invented
        totals.slowest_s = max(totals.slowest_s, took_s)
        totals.kinds[kind] = totals.kinds.get(kind, 0) + 1

    def _watch(self, pid: int, end: str, chance: random.Random) -> list[str]:
        """Poke the process as its end wants it, and see it die; return what was wrong."""
        problems = []
        handle = os.pidfd_open(pid)
        try:
            if end.startswith("SIG"):
                _poke(handle, pid, end, self._notes, chance)
            if not _is_gone(handle, LIMIT_S):
                problems.append(f"it hangs: {self._notes.path.parent}")
                os.kill(pid, signal.SIGUSR1)  # it writes where its threads are
                _is_gone(handle, 1.0)
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(handle)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        wanted = self._notes.expected().code
        if wanted is not None and code != wanted:
            problems.append(f"it ended with {code} instead of {wanted}")
        return problems + _stragglers()


def _poke(handle: int, pid: int, end: str, notes: Notes, chance: random.Random) -> None:
    """Send the signals that *end* asks for, each a moment after the process is ready for it."""
    deadline = time.monotonic() + LIMIT_S
    number = signal.SIGINT if end.startswith("SIGINT") else signal.SIGTERM
    while time.monotonic() < deadline:
        while not notes.is_ready and time.monotonic() < deadline:
            if _is_gone(handle, 0.0005):
                return
        if _is_gone(handle, chance.random() * chance.choice([0.0002, 0.002, 0.01])):
            return
        if end in {"SIGTERM", "SIGTERM twice", "SIGINT"}:
            notes.freeze()
            notes.expect(-number, *(["killed", "crashed"] if end == "SIGTERM twice" else ["killed"]))
        is_last = end != "SIGINT caught"
        with contextlib.suppress(ProcessLookupError):
            notes.set_ready(False)
            os.kill(pid, number)
            if end == "SIGTERM twice" and not _is_gone(handle, chance.random() * 0.01):
                os.kill(pid, number)
        if is_last:
            return


def _is_gone(handle: int, within_s: float) -> bool:
    return bool(select.select([handle], [], [], within_s)[0])


def _stragglers() -> list[str]:
    """End and name the processes that a child has left behind."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                continue  # it had ended by itself
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            for child in map(int, children):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                found.append(f"process {child} was left behind")
    return found


def _redirect(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)


_FINE = {"SIGTERM twice": "Signal 15 ignored due to race condition"}
"""What CPython says of the second of two signals that came before the first was handled."""


def _words_of(path: Path, end: str) -> list[str]:
    """Return what a process said of our code, or of the interpreter's death."""
    said = path.read_text(errors="replace").splitlines()
    # Without the source that a traceback shows below a place, in which any word may stand.
    lines = [one for one, above in zip(said, ["", *said], strict=False) if not above.startswith('  File "')]
    errors = [line.strip() for line in lines if "Error" in line and "as it should" not in line]
    errors = [line for line in errors if line != f"OSError: {_FINE.get(end)}"]
    return ([line for line in lines if "Fatal" in line] + errors)[:5]


def main() -> int:
    """Play rounds and print what they came to, as JSON; in a child live."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--numbers", default="0:108:1", metavar="START:STOP:STEP")
    parser.add_argument("--only", metavar="SEED:NUMBER", help="play one round again")
    arguments = parser.parse_args()
    seed, numbers = arguments.seed, range(*map(int, arguments.numbers.split(":")))
    if arguments.only:
        seed, number = map(int, arguments.only.split(":"))
        numbers = range(number, number + 1)
    rounds = Rounds(seed)
    for number in numbers:
        life = rounds.play(number)
        if life is not None:
            return live(life)
    rounds.close()
    sys.stdout.buffer.write(msgspec.json.encode(rounds.totals) + b"\n")
    return 1 if rounds.totals.problems else 0


if __name__ == "__main__":
    sys.exit(main())
