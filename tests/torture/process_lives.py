"""What processes do while they log: `process_ends` has how they end."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from eventlog import Tracker, TrackingConfig
from eventlog.storage.options import WriterOptions
from tests.torture.process_notes import (
    ACTORS,
    ACTORS_PER_FORK,
    BEGUN,
    CALLS,
    COLLECTOR,
    FINALIZER,
    FIRST_CHILD,
    FIRST_THREAD,
    FORKS,
    HANDLER,
    MAIN,
    RETURNED,
    Notes,
)

RUN = "r"
"""The id of the run that every life logs into."""


def tracker_in(root: Path, chance: random.Random, *, rank: int | None = None) -> Tracker:
    """Return a tracker with sizes and times that *chance* chooses."""
    return Tracker(
        (),
        TrackingConfig(project="p"),
        output_dir=root,
        lineage=False,
        system=False,
        rank=rank,
        writer=WriterOptions(
            ring_bytes=chance.choice([1 << 17, 1 << 18]),
            segment_bytes=chance.choice([1 << 12, 1 << 14, 64 << 20]),
            write_interval_s=chance.choice([0.0005, 0.005, 0.05]),
            sync_interval_s=chance.choice([0.004, 1.0]),
            reserve_bytes=1 << 12,
            max_block_s=5.0,  # a busy machine must not look like a loss
        ),
    )


class Life:
    """One process of one round. Everything about it follows from its seed.

    Attributes:
        tracker: with an open run once the activity begins.
        is_over: tells threads to stop.
    """

    def __init__(self, root: Path, notes: Notes, seed: str, activity: str, end: str) -> None:
        self.root, self.notes, self.chance = root, notes, random.Random(f"{seed} life")
        self.activity, self.end = activity, end
        self.is_over = False
        self.tracker = tracker_in(root, self.chance)
        self._numbers = [itertools.count() for _ in range(ACTORS)]
        self._pid = os.getpid()
        self._inside: dict[int, list[int]] = {}  # the calls that a thread has made within one of its calls
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Start the run and whatever goes on beside it."""
        warnings.simplefilter("ignore")
        self.tracker.start_run(RUN)
        ACTIVITIES[self.activity](self)

    def stop(self) -> None:
        """Stop the timer: the interpreter's end gives its signal the default action back, which is deadly."""
        self.is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def log(self, actor: int) -> bool:
        """Make the next call of *actor* and note it; tell whether there may be another one."""
        number = next(self._numbers[actor])  # in one step: a handler may strike, and log as the same actor
        if number >= CALLS or (actor < FIRST_CHILD and os.getpid() != self._pid):
            return False  # a child has inherited our handlers and finalizers, not our numbers
        at, marks, thread = actor * CALLS + number, self.notes.marks, threading.get_ident()
        marks[at] = BEGUN
        outer = self._inside.get(thread)
        inner = self._inside[thread] = outer if outer is not None else []
        try:
            self.tracker.log_metrics({"a": actor, "x": number + 0.5}, number)
            inner.append(at)
        finally:
            if outer is None:
                del self._inside[thread]
        if outer is None:
            # What struck in the middle of this call is kept when this call returns.
            for done in inner:
                marks[done] = RETURNED
        return True

    def log_some(self, most: int = 100) -> None:
        """Make a few calls on the main thread."""
        for _ in range(self.chance.randrange(1, most)):
            self.log(MAIN)

    def log_on(self) -> None:
        """Log on the main thread until something else ends this."""
        self.notes.set_ready(True)
        while not self.is_over and self.log(MAIN):
            pass
        while not self.is_over:
            time.sleep(0.05)  # a handler that raises breaks the locks of an event that is waited for

    def start(self, work: Callable[[], object]) -> None:
        """Run *work* on a daemon thread, which may go on into the interpreter's end."""
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def settle(self) -> None:
        """Stop what goes on beside the main thread, or let it go on beyond the promise."""
        if self.chance.random() < 0.5:
            self.is_over = True
            gc.callbacks.clear()
            for thread in self._threads:
                thread.join()
        self.notes.freeze()


# --- activities ------------------------------------------------------------------------------------


def plain(life: Life) -> None:
    """Log from the main thread only."""
    life.log_some()


def threads(life: Life) -> None:
    """Log from up to 64 threads."""
    most = life.chance.choice([10, 40, CALLS])
    for number in range(life.chance.choice([2, 3, 4, 8, 8, 64])):
        actor = FIRST_THREAD + number
        life.start(lambda actor=actor: _log_on(life, actor, most))  # type: ignore[misc]
    life.log_some()


def switching(life: Life) -> None:
    """Let the interpreter change threads as often as it can."""
    sys.setswitchinterval(1e-6)
    threads(life)


def _log_on(life: Life, actor: int, most: int) -> None:
    for _ in range(most):
        if life.is_over or not life.log(actor):
            return


def handler(life: Life) -> None:
    """Log in a signal handler, which strikes in the middle of the main thread's calls."""
    delay = random.Random(life.chance.random()).random

    def tick(number: int, frame: object) -> None:
        if life.log(HANDLER) and not life.is_over:
            # Not an interval: a slow machine would do nothing but handle signals, each within another one.
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + delay() * 1e-4)

    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 1e-6)
    life.log_some(CALLS)


class Finalized:
    """Logs when it is collected; it is part of a circle."""

    def __init__(self, life: Life) -> None:
        self.life, self.me = life, self

    def __del__(self) -> None:
        self.life.log(FINALIZER)


def collector(life: Life) -> None:
    """Log in finalizers and in callbacks of the garbage collector, which may run within any call."""

    turns, main = itertools.count(), threading.get_ident()

    def called(phase: str, info: dict[str, int]) -> None:
        # Mostly on the flusher's thread, so that there are calls left for the moments when it seals.
        if threading.get_ident() != main or next(turns) % 64 == 0:
            life.log(COLLECTOR)

    gc.callbacks.append(called)
    gc.set_threshold(life.chance.choice([2, 10, 50]), 2, 2)
    for _ in range(life.chance.randrange(1, 100)):
        Finalized(life)
        life.log(MAIN)


def forks(life: Life) -> None:
    """Fork while threads log; each child logs, in threads too, and ends in its own way."""
    switching(life)  # so that some of them hold a lock when the process is forked
    pids = []
    for number in range(life.chance.randrange(1, FORKS + 1)):
        how = life.chance.choice(["os._exit", "SystemExit", "SIGKILL", "end_run"])
        life.log(MAIN)
        pid = os.fork()
        if pid == 0:
            _be_child(life, FIRST_CHILD + ACTORS_PER_FORK * number, how)
        pids.append(pid)
    life.log_some()
    for pid in pids:
        os.waitpid(pid, 0)


def _be_child(life: Life, actor: int, how: str) -> None:
    life._threads.clear()
    others = [threading.Thread(target=_log_few, args=(life, actor + other)) for other in (1, 2)]
    for thread in others:
        thread.start()
    _log_few(life, actor)
    for thread in others:
        thread.join()
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "os._exit":
        os._exit(0)
    if how == "end_run":
        life.tracker.end_run()
    raise SystemExit(0)  # with what the parent has registered for its exit, which has to leave its run alone


def _log_few(life: Life, actor: int) -> None:
    for _ in range(1 + actor % 7 * 5):
        life.log(actor)


ACTIVITIES = {
    "alone": plain,
    "threads": threads,
    "switching": switching,
    "handler": handler,
    "collector": collector,
    "forks": forks,
}
