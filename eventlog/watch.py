"""Follows any number of runs and delivers what they log, while they log it.

Each thread has its share of the runs and goes round them. Nothing is waited for: a destination that is out of
reach is asked again when its breaker says so, a run that is quiet is looked at less often, and a round that
cost much is followed by a longer pause, so that following never takes more than a quarter of a core.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.delivery.batches import log_sizes
from eventlog.delivery.breaker import Breaker, breaker_of
from eventlog.delivery.delivery import Delivery
from eventlog.delivery.growth import Growth
from eventlog.delivery.ledger import ledger_path, load_ledger
from eventlog.delivery.pump import end_badly
from eventlog.errors import (
    BadShapeError,
    BadSinkOptionError,
    LeaseHeldError,
    ShapeChangedError,
    SinkUnavailableError,
    UnknownSinkError,
)
from eventlog.storage.layout import RunPath, is_network_file_system, iter_runs
from eventlog.sync import Outcome, Selection, SyncOptions, Target, explain

POLL_S = 0.1
QUIET_S, QUIET_POLL_S = 60.0, 2.0
ENDED_POLL_S = 5.0
ALIVE_EVERY_S = 1.0
RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
SAVES_A_SECOND = 20.0
PAUSE_FACTOR = 3.0
"""A round that took one millisecond of this thread is followed by a pause of three."""

HOPELESS = (ImportError, BadSinkOptionError, UnknownSinkError, BadShapeError, ShapeChangedError)
"""Nothing that goes on by itself: a person has to do something first."""


class Followed:
    """One run on its way to one destination, followed. Used by one thread.

    Attributes:
        due: monotonic seconds at which to look again.
        is_done: the run has ended and the destination knows it; it is still looked at, for it may be resumed.
        is_hopeless: it cannot be delivered until a person does something.
    """

    def __init__(
        self,
        run: RunPath,
        target: Target,
        options: SyncOptions,
        *,
        report: Callable[[Outcome], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.run, self.target = run, target
        self.due = 0.0
        self.is_done = self.is_hopeless = False
        self._options, self._report, self._clock = options, report, clock
        self._growth = Growth(run.path)
        self._delivery: Delivery | None = None
        self._breaker: Breaker | None = None
        self._is_connected = False
        self._new_since: float | None = None
        self._grew_at = 0.0
        self._alive_at = 0.0
        self._retry_s = RETRY_S
        self._count = 0
        self._told = ""

    def look(self, now: float, *, save_every_s: float) -> None:
        """Deliver what is new, if the time has come; never raises because of the run or the sink."""
        if self._growth.look(now):
            self._grew_at = now
            self._new_since = now if self._new_since is None else self._new_since
            self.is_done = False
        elif self.is_done:
            self.due = now + ENDED_POLL_S
            return
        self.due = now + (POLL_S if now - self._grew_at < QUIET_S else QUIET_POLL_S)
        try:
            self._step(now, save_every_s)
        except LeaseHeldError as error:
            self._retry(now, RETRY_S)
            self._tell("busy", str(error))
        except SinkUnavailableError as error:
            self._end_badly(error)
            self._tell("waiting", str(error))
        except HOPELESS as error:
            self._end_badly(error)
            self.is_hopeless, self.due = True, float("inf")
            self._tell("failed", explain(error, self.target.sink))
        except Exception as error:  # sinks are anybody's code; the report shows what they raised
            self._end_badly(error)
            self._retry(now, self._retry_s)
            self._retry_s = min(LONGEST_RETRY_S, self._retry_s * 2)
            self._tell("failed", explain(error, self.target.sink))

    def _step(self, now: float, save_every_s: float) -> None:
        if self._delivery is None:
            if self._new_since is None or self._is_delivered():
                return
            self._delivery = self._begin()
        if not self._is_connected and not self._connect(now):
            return
        delivery = self._delivery
        delivery.save_every_s = save_every_s
        if self._new_since is None:
            delivery.save_if_due()
        elif now - self._new_since >= delivery.sink.traits.batch_age_s:
            self._new_since = None
            ends = len(delivery.ledger.life.ended)
            delivery.pull()
            if len(delivery.ledger.life.ended) > ends:
                self._alive_at = now
        is_waiting = self._new_since is not None or bool(delivery.ledger.life.ended)
        if now >= self._alive_at and (is_waiting or now - self._grew_at >= ALIVE_EVERY_S):
            self._alive_at = now + ALIVE_EVERY_S
            if not delivery.is_alive():
                self._finish()

    def _is_delivered(self) -> bool:
        """Tell, before a lease is taken and a sink opened, whether the destination has everything."""
        sink = self.target.make()
        if sink.traits.is_projection:
            return False
        ledger = load_ledger(ledger_path(self.run.path, self.target.sink, sink.destination))
        closed = ledger.closed if ledger else None
        if ledger is None or closed is None or closed.is_running or ledger.plan is not None:
            return False
        if ledger.sizes != log_sizes(self.run.path):
            return False
        self.is_done, self._new_since = True, None
        return True

    def _begin(self) -> Delivery:
        sink = self.target.make()
        self._breaker = breaker_of(self.target.sink, sink.destination)
        return Delivery(self.run.path, sink, self.target.sink, shape=self._options.shape, on_batch=self._took)

    def _connect(self, now: float) -> bool:
        assert self._delivery is not None
        assert self._breaker is not None
        wait = self._breaker.ask(self._clock.monotonic_s())
        if wait > 0:
            self.due = now + wait
            return False
        self._is_connected = True
        self._delivery.connect()
        self._breaker.succeeded()
        self._new_since = now if self._new_since is None else self._new_since
        return True

    def _took(self, events: int) -> None:
        self._count += events
        self._retry_s, self._told = RETRY_S, ""
        if self._breaker is not None:
            self._breaker.succeeded()

    def _finish(self) -> None:
        assert self._delivery is not None
        status = self._delivery.finish().status
        letters, findings = self._delivery.ledger.dead_letters, self._delivery.findings
        self.close()
        if status == "running":
            return  # another process has joined the run at this moment
        self.is_done = True
        self._report(
            self._outcome(
                "delivered", status=status, events=self._count, dead_letters=letters, findings=findings
            )
        )
        self._count = 0

    def _end_badly(self, error: Exception) -> None:
        self._is_connected = False
        if self._delivery is not None and self._breaker is not None:
            end_badly(self._delivery, self._breaker, error, self._clock)
        if not isinstance(error, SinkUnavailableError):
            self.close()
        self._new_since = self._new_since or self._clock.monotonic_s()

    def _retry(self, now: float, wait_s: float) -> None:
        self.due = now + wait_s
        self._new_since = now

    def _tell(self, result: str, message: str) -> None:
        if message != self._told:
            self._told = message
            self._report(self._outcome(result, message=message))

    def _outcome(
        self,
        result: str,
        *,
        message: str = "",
        status: str = "",
        events: int = 0,
        dead_letters: int = 0,
        findings: int = 0,
    ) -> Outcome:
        return Outcome(
            project=self.run.project,
            run_id=self.run.run_id,
            sink=self.target.sink,
            result=result,
            message=message,
            status=status,
            events=events,
            dead_letters=dead_letters,
            findings=findings,
        )

    def stop(self) -> None:
        """Save, and let others go on from here."""
        if self._delivery is not None and self._is_connected:
            # What was not saved is repeated by whoever comes next.
            with contextlib.suppress(Exception):
                self._delivery.save()
        self.close()

    def close(self) -> None:
        """Close the sink and give the lease back."""
        delivery, self._delivery, self._is_connected = self._delivery, None, False
        if delivery is not None:
            # It was saved, or will be repeated; an error while closing changes neither.
            with contextlib.suppress(Exception):
                delivery.disconnect()
            delivery.release()


class Share:
    """The runs of one thread."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._followed: list[Followed] = []
        self._new: list[Followed] = []
        self._clock = clock

    def add(self, followed: Followed) -> None:
        """Take one more; from any thread."""
        self._new.append(followed)

    def follow(self, stop: threading.Event, until: Callable[[Sequence[Followed]], bool]) -> None:
        """Go round until *stop* is set or *until* says that it is enough."""
        try:
            while not stop.is_set():
                began = time.thread_time()
                self._round()
                if until(self._followed):
                    break
                spent = time.thread_time() - began
                stop.wait(max(POLL_S, PAUSE_FACTOR * spent) if self._followed else POLL_S)
        finally:
            for followed in self._followed:
                followed.stop()

    def _round(self) -> None:
        while self._new:
            self._followed.append(self._new.pop())
        save_every_s = max(1.0, len(self._followed) / SAVES_A_SECOND)
        for followed in self._followed:
            now = self._clock.monotonic_s()
            if followed.due <= now:
                followed.look(now, save_every_s=save_every_s)


class RunSource(msgspec.Struct, frozen=True):
    """Where runs are found: all below *root*, or *only* one of them."""

    root: Path
    only: RunPath | None = None

    def runs(self) -> Iterable[RunPath]:
        """Return the runs that are there now."""
        return iter_runs(self.root) if self.only is None else [self.only]


def follow_runs(
    source: RunSource,
    targets: Sequence[Target],
    options: SyncOptions,
    selection: Selection,
    *,
    stop: threading.Event,
    report: Callable[[Outcome], None],
) -> None:
    """Deliver all runs of *source*, also those that begin later, until *stop* is set.

    Args:
        report: is told, from any of the threads, what was delivered to the end and what went wrong.
    """
    shares = [Share() for _ in range(options.jobs)]
    threads = [
        threading.Thread(
            target=share.follow, args=(stop,), kwargs={"until": lambda _: False}, name="evlog-follow"
        )
        for share in shares
    ]
    for thread in threads:
        thread.start()
    try:
        _discover(source, targets, options, selection, shares, stop=stop, report=report)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _never(followed: Sequence[Followed]) -> bool:  # noqa: ARG001 - more runs may always come
    return False


def _discover(
    source: RunSource,
    targets: Sequence[Target],
    options: SyncOptions,
    selection: Selection,
    shares: Sequence[Share],
    *,
    stop: threading.Event,
    report: Callable[[Outcome], None],
) -> None:
    root = source.root
    is_network = is_network_file_system(root)
    hint = threading.Event()
    if not is_network:
        threading.Thread(target=_hint, args=(root, hint, stop), name="evlog-hint", daemon=True).start()
    known: set[Path] = set()
    while not stop.is_set():
        for run in source.runs():
            if run.path not in known and selection.takes(run):
                known.add(run.path)
                for target in targets:
                    followed = Followed(run, target, options, report=report)
                    shares[hash((run.path, target.sink)) % len(shares)].add(followed)
        hint.wait(5.0 if is_network else 1.0)
        hint.clear()


def _hint(root: Path, hint: threading.Event, stop: threading.Event) -> None:
    """Set *hint* when a directory may have come below *root*. Notifications get lost: others look anyway."""
    from watchfiles import watch

    try:
        while not stop.is_set():
            projects = {path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
            watched: Iterable[object] = watch(
                root, *projects, recursive=False, stop_event=stop, step=10, debounce=100,
                rust_timeout=1000, yield_on_timeout=True, raise_interrupt=False,
            )  # fmt: skip
            for changes in watched:
                if changes:
                    hint.set()
                now = {path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
                if now != projects:
                    break
    except OSError:
        return  # no more watches to be had, or the root is gone: looking once a second goes on
