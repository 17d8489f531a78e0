"""Delivers a run once, as far as its log goes now, with as many tries as that takes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.delivery.breaker import Breaker, breaker_of
from eventlog.delivery.delivery import Delivery
from eventlog.delivery.shaping import Shape
from eventlog.errors import SinkUnavailableError
from eventlog.sink import Sink
from eventlog.storage.system import SYSTEM, System

TIMEOUT_S = 300.0


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What one delivery did.

    Attributes:
        events: that were delivered now.
        status: of the run, as the destination was told; empty if the delivery was stopped before.
        findings: what was found wrong with the log.
        dead_letters: events of the run that the destination refuses.
        is_stopped: whether somebody stopped it; then it goes on from there next time.
    """

    events: int
    status: str
    findings: int = 0
    dead_letters: int = 0
    is_stopped: bool = False


def deliver_run(
    run: Path,
    sink: Sink,
    sink_name: str,
    *,
    shape: Shape | None = None,
    restart: bool = False,
    retry_letters: bool = False,
    timeout_s: float | None = TIMEOUT_S,
    stop: threading.Event | None = None,
    on_batch: Callable[[int], None] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    system: System = SYSTEM,
) -> Delivered:
    """Deliver what *run* holds beyond what the destination has.

    Args:
        shape: what goes there; None as it was before.
        restart: deliver everything anew.
        retry_letters: try the dead letters again as well.
        timeout_s: how long the destination may be out of reach; None for ever.
        stop: when set, the delivery ends after the batch it is at.
        on_batch: called with the number of events of each delivered batch.

    Raises:
        SinkUnavailableError: the destination was out of reach for *timeout_s*.
        LeaseHeldError, ShapeChangedError, BadShapeError, CheckpointError, OSError: nothing was lost.
    """
    stop = stop or threading.Event()
    breaker = breaker_of(sink_name, sink.destination)
    status: str | None = None
    begin = farthest = 0

    def took(_: int) -> None:
        nonlocal farthest
        # What is only repeated is no progress: else one that fails in the end each time would never time out.
        new = delivery.ledger.events - farthest
        if new > 0:
            farthest += new
            breaker.succeeded()
            if on_batch:
                on_batch(new)

    delivery = Delivery(
        run, sink, sink_name, shape=shape, restart=restart, on_batch=took, clock=clock, system=system
    )
    try:
        has_letters = retry_letters and delivery.ledger.dead_letters > 0
        if not (delivery.has_news() or has_letters):
            ledger = delivery.ledger
            told = ledger.closed.status if ledger.closed else ""
            return Delivered(events=0, status=told, dead_letters=ledger.dead_letters)
        if not sink.traits.is_projection:
            begin = farthest = delivery.ledger.events
        while wait_turn(breaker, stop, timeout_s=timeout_s, clock=clock):
            status = _try(delivery, breaker, stop, retry_letters=has_letters, clock=clock)
            if status is not None:
                break
        return Delivered(
            events=farthest - begin,
            status=status or "",
            findings=delivery.findings,
            dead_letters=delivery.ledger.dead_letters,
            is_stopped=not status,
        )
    finally:
        delivery.release()


def wait_turn(breaker: Breaker, stop: threading.Event, *, timeout_s: float | None, clock: Clock) -> bool:
    """Return True when the destination may be tried, False when *stop* was set before.

    Raises:
        SinkUnavailableError: it is down for longer than *timeout_s*.
    """
    while not stop.is_set():
        now = clock.monotonic_s()
        wait = breaker.ask(now)
        if wait == 0:
            return True
        down = breaker.down_since
        if timeout_s is not None and down is not None and now + wait - down > timeout_s:
            raise SinkUnavailableError(f"{breaker.last_error} (given up after {timeout_s:g} s)")
        stop.wait(min(wait, 0.5))
    return False


def _try(
    delivery: Delivery, breaker: Breaker, stop: threading.Event, *, retry_letters: bool, clock: Clock
) -> str | None:
    """Deliver everything; return the status, empty if stopped, or None if the destination is out of reach."""
    try:
        delivery.connect()
        if retry_letters:
            delivery.retry_letters()
        delivery.pull(stop)
        if stop.is_set():
            delivery.save()
            delivery.disconnect()
            breaker.given_up()
            return ""
        status = delivery.finish().status
    except BaseException as error:
        end_badly(delivery, breaker, error, clock)
        if isinstance(error, SinkUnavailableError):
            return None
        raise
    breaker.succeeded()
    return status


def end_badly(delivery: Delivery, breaker: Breaker, error: BaseException, clock: Clock) -> None:
    """Close the sink after *error*, tell the breaker, and keep what was said in the ledger."""
    if isinstance(error, SinkUnavailableError):
        breaker.failed(clock.monotonic_s(), str(error), error.retry_after_s)
    else:
        breaker.given_up()
    # What these say on top of that helps nobody: the first error is the one that is shown.
    with contextlib.suppress(Exception):
        delivery.note_error(error)
    with contextlib.suppress(Exception):
        delivery.disconnect()
