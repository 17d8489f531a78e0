"""Follows runs that are known and delivers what they log, while they log it.

Each thread has its share of the runs and goes round them. Nothing is waited for: a destination that is out of
reach is asked again when its breaker says so, a run that is quiet is looked at less often, and a round that
cost much is followed by a longer pause, so that following never takes more than a quarter of a core.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

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
    LeaseLostError,
    ShapeChangedError,
    SinkUnavailableError,
    UnknownSinkError,
)
from eventlog.sink import Sink
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.layout import RunPath
from eventlog.storage.merge import RunReader
from eventlog.sync import Outcome, SyncOptions, Target, explain

POLL_S = 0.1
QUIET_S, QUIET_POLL_S = 60.0, 2.0
ENDED_POLL_S = 5.0
ALIVE_EVERY_S = 1.0
RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
SAVES_A_SECOND, NEVER_S = 20.0, 1e9
PAUSE_FACTOR, LONGEST_PAUSE_S = 3.3, 2.0
"""A round that took one millisecond of this thread is followed by a pause of 3.3."""

HOPELESS = (ImportError, BadSinkOptionError, UnknownSinkError, BadShapeError, ShapeChangedError)
"""Nothing that goes on by itself: a person has to do something first."""


class Followed:
    """One run on its way to one destination, followed. Used by one thread.

    Attributes:
        due: monotonic seconds at which to look again.
        is_done: the run has ended and the destination knows it; it is still looked at, for it may be resumed.
        is_hopeless: it cannot be delivered until a person does something.
        is_gone: its log was deleted; it is still looked at, for a run of this name may begin.
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
        self.is_done = self.is_hopeless = self.is_gone = False
        self._sink: Sink | None = None
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
        self._read_to: Checkpoint | None = None
        self._read_at = 0.0

    @property
    def saves(self) -> int:
        """Return how often the ledger was saved since the delivery began."""
        return self._delivery.saves if self._delivery else 0

    def look(self, now: float, *, save_every_s: float, stop: threading.Event | None = None) -> None:
        """Deliver what is new, if the time has come; never raises because of the run or the sink.

        Args:
            stop: when set, no further batch is begun; `stop` is called then.
        """
        try:
            if self._is_wanted(now):
                self._step(now, save_every_s, stop)
        except (LeaseHeldError, LeaseLostError) as error:
            self._end_badly(error)
            self._retry(now, RETRY_S)
            self._tell("busy", str(error))
        except SinkUnavailableError as error:
            self._end_badly(error)
            if self._delivery is None:  # it was said before there was a breaker to remember it
                self._retry(now, RETRY_S)
            self._tell("waiting", str(error))
        except Exception as error:  # sinks are anybody's code; the report shows what they raised
            is_unmade = self._sink is None and not isinstance(error, OSError)
            self._end_badly(error)
            self._retry(now, self._retry_s)
            self._retry_s = min(LONGEST_RETRY_S, self._retry_s * 2)
            if is_unmade or isinstance(error, HOPELESS):
                self.is_hopeless, self.due = True, float("inf")
            self._sink = None  # who knows in which state it is
            self._tell("failed", explain(error, self.target.sink))

    def _is_wanted(self, now: float) -> bool:
        """Look at the files; tell whether there is something to be done, and say when to look again."""
        if self._growth.look(now) or self._has_arrived(now):
            self._grew_at = now
            self._new_since = now if self._new_since is None else self._new_since
            self.is_done = self.is_gone = False
        elif self._growth.is_gone:
            # Whatever is written now would make the directory anew that somebody has deleted.
            self.close()
            self.is_gone, self.is_done = True, False
            self._new_since = None
            self.due = now + ENDED_POLL_S
            return False
        elif self.is_done:
            self.due = now + ENDED_POLL_S
            return False
        self.due = now + (POLL_S if now - self._grew_at < QUIET_S else QUIET_POLL_S)
        return True

    def _has_arrived(self, now: float) -> bool:
        """Tell whether bytes came where another host's file counted them already: no size tells that."""
        if self._read_to is None or now < self._read_at:
            return False
        self._read_at = now + QUIET_POLL_S
        reader = RunReader(self.run.path, start=self._read_to, waits_on_nul=True)
        with contextlib.suppress(OSError):  # it may be gone; the next look says so
            return next(reader.slices(), None) is not None
        return False

    def _step(self, now: float, save_every_s: float, stop: threading.Event | None) -> None:
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
            self._pull(now, delivery, stop)
        if stop is not None and stop.is_set():
            return
        is_waiting = self._new_since is not None or bool(delivery.ledger.life.ended)
        if now >= self._alive_at and (is_waiting or now - self._grew_at >= ALIVE_EVERY_S):
            self._alive_at = now + ALIVE_EVERY_S
            if not delivery.is_alive():
                self._finish(now)

    def _pull(self, now: float, delivery: Delivery, stop: threading.Event | None) -> None:
        self._new_since = None
        ends = len(delivery.ledger.life.ended)
        relist, self._growth.has_new_files = self._growth.has_new_files, False
        if delivery.pull(stop, relist=relist) == 0 and self._breaker is not None:
            self._breaker.given_up()  # nothing was sent: that tells nothing of the destination
        if len(delivery.ledger.life.ended) > ends:
            self._alive_at = now
        self._read_to = delivery.ledger.checkpoint if self._growth.is_network else None

    def _is_delivered(self) -> bool:
        """Tell, before a lease is taken and a sink opened, whether the destination has everything."""
        sink = self._made()
        if sink.traits.is_projection:
            return False
        ledger = load_ledger(ledger_path(self.run.path, self.target.sink, sink.destination))
        closed = ledger.closed if ledger else None
        if ledger is None or closed is None or closed.is_running or ledger.plan is not None:
            return False
        sizes = log_sizes(self.run.path)
        # What lies in a ring changes no size.
        if sizes != ledger.sizes or any(name.endswith(".ring") for name in sizes):
            return False
        self.is_done, self._new_since = True, None
        return True

    def _made(self) -> Sink:
        if self._sink is None:
            self._sink = self.target.make()
        return self._sink

    def _begin(self) -> Delivery:
        sink = self._made()
        self._breaker = breaker_of(self.target.sink, sink.destination)
        return Delivery(self.run.path, sink, self.target.sink, shape=self._options.shape, on_batch=self._took)

    def _connect(self, now: float) -> bool:
        assert self._delivery is not None
        assert self._breaker is not None
        wait = self._breaker.ask(self._clock.monotonic_s())
        if wait > 0:
            self.due = now + wait
            return False
        self._is_connected = self._growth.has_new_files = True
        # Not a success yet: many sinks open without a word to their destination.
        self._delivery.connect()
        self._new_since = now if self._new_since is None else self._new_since
        return True

    def _took(self, events: int) -> None:
        self._count += events
        self._retry_s, self._told = RETRY_S, ""
        if self._breaker is not None:
            self._breaker.succeeded()

    def _finish(self, now: float) -> None:
        assert self._delivery is not None
        assert self._breaker is not None
        status = self._delivery.finish().status
        self._breaker.succeeded()
        letters, findings = self._delivery.ledger.dead_letters, self._delivery.findings
        if self._delivery.ledger.sizes:  # else it ends in a gap that may still be filled
            self._read_to = None
        self.close()
        if status == "running":
            self._new_since = now  # another process has joined the run at this moment
            return
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
        self._saves_left, self._counted_at = 1.0, clock.monotonic_s()

    def add(self, followed: Followed) -> None:
        """Take one more; from any thread."""
        self._new.append(followed)

    def follow(
        self, stop: threading.Event, until: Callable[[Sequence[Followed]], bool] = lambda _: False
    ) -> None:
        """Go round until *stop* is set or *until* says that it is enough."""
        try:
            while not stop.is_set():
                began = time.thread_time()
                self._round(stop)
                if until(self._followed):
                    break
                spent = time.thread_time() - began
                # Where a lot was delivered the pause is not for ever: more has come meanwhile.
                stop.wait(min(LONGEST_PAUSE_S, max(POLL_S, PAUSE_FACTOR * spent)))
        finally:
            for followed in self._followed:
                followed.stop()

    def _round(self, stop: threading.Event) -> None:
        while self._new:
            self._followed.append(self._new.pop())
        save_every_s = max(1.0, len(self._followed) / SAVES_A_SECOND)
        for followed in self._followed:
            now = self._clock.monotonic_s()
            if followed.due <= now:
                before = followed.saves
                may_save = self._may_save(now)
                followed.look(now, save_every_s=save_every_s if may_save else NEVER_S, stop=stop)
                self._saves_left -= max(0, followed.saves - before)
            if stop.is_set():
                return

    def _may_save(self, now: float) -> bool:
        """Tell whether a save would be one of those that a second has room for: each waits for the disk."""
        self._saves_left = min(1.0, self._saves_left + (now - self._counted_at) * SAVES_A_SECOND)
        self._counted_at = now
        return self._saves_left > 0
