"""The process that delivers one run while its job logs: ``python -m eventlog.sidecar``.

It reads what to do as JSON from its standard input and shares nothing else with the job: a crash, a hanging
network or a missing package here never reaches the training. It ends by itself when the run has ended,
however that came about, and everything was delivered; or a while after the run's end, if that cannot be done;
or on SIGTERM, at a checkpoint. Its exit code says which.

What must never change: it does not outlive its run for long, even if a sink hangs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec

from eventlog.replay import is_running
from eventlog.storage.layout import RunPath
from eventlog.sync import Outcome, SyncOptions, Target
from eventlog.watch import Followed, Share

DELIVERED, UNDELIVERED, HOPELESS, STOPPED = 0, 3, 4, 5
"""Exit codes: all is there; a destination was out of reach; a person has to act; told to stop."""


LOOK_S = 1.0
GRACE_S = 10.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar is to do.

    Attributes:
        run: absolute path of the run's directory.
        targets: where it goes.
        timeout_s: how long to go on after the run's end.
    """

    run: str
    targets: list[Target]
    timeout_s: float = 30.0


def deliver_live(order: Order, stop: threading.Event) -> int:
    """Follow the run until it is delivered; return the exit code."""
    path = Path(order.run)
    run = RunPath(path.parent.name, path.name, path)
    share = Share()
    for target in order.targets:
        share.add(Followed(run, target, SyncOptions(timeout_s=None), report=_report))
    found: list[Followed] = []

    def is_enough(followed: Sequence[Followed]) -> bool:
        found[:] = followed
        return all(one.is_done or one.is_hopeless for one in followed)

    watchdog = threading.Thread(target=_watchdog, args=(path, order.timeout_s, stop), daemon=True)
    watchdog.start()
    share.follow(stop, is_enough)
    if all(one.is_done for one in found):
        return DELIVERED
    if all(one.is_done or one.is_hopeless for one in found):
        return HOPELESS
    return UNDELIVERED if not is_running(path) else STOPPED


def _watchdog(run: Path, timeout_s: float, stop: threading.Event) -> None:
    """Stop *timeout_s* after the run's end, or when told to; end the process if that does not help."""
    while not stop.wait(LOOK_S) and is_running(run):
        pass
    stop.wait(timeout_s)
    stop.set()
    time.sleep(GRACE_S)
    # A sink hangs in a call that nobody can interrupt. Ending here is like being killed: what was not saved
    # will be repeated.
    os._exit(UNDELIVERED)


def _report(outcome: Outcome) -> None:
    """Write what happened as a line of JSON; the job shows those that a person should see."""
    with contextlib.suppress(OSError, ValueError):  # the job is gone and with it the reader
        sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        sys.stdout.flush()


def main() -> int:
    """Take the order and carry it out."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    # Ctrl-C is for the job: it ends the run, and the sidecar delivers that end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return deliver_live(order, stop)


if __name__ == "__main__":
    sys.exit(main())
