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
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from eventlog.following import Followed, Share
from eventlog.replay import is_running
from eventlog.storage.layout import RunPath
from eventlog.sync import Outcome, SyncOptions, Target

DELIVERED, UNDELIVERED, HOPELESS, STOPPED = 0, 3, 4, 5
"""Exit codes: all is there; a destination was out of reach; a person has to act; told to stop."""

LOOK_S = 1.0
GRACE_S = 10.0
LINGER_S = 30.0
MAX_LOG_BYTES = 4 << 20


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar is to do.

    Attributes:
        run: absolute path of the run's directory.
        targets: where it goes.
        timeout_s: how long the job waits for it; after the run's end it goes on so long, or a little longer.
    """

    run: str
    targets: list[Target]
    timeout_s: float = 30.0


def deliver_live(order: Order, stop: threading.Event, report: Callable[[Outcome], None]) -> int:
    """Follow the run until it is delivered; return the exit code."""
    path = Path(order.run)
    run = RunPath(path.parent.name, path.name, path)
    share = Share()
    followed = [Followed(run, one, SyncOptions(timeout_s=None), report=report) for one in order.targets]
    for one in followed:
        share.add(one)
    watchdog = _Watchdog(path, max(order.timeout_s, LINGER_S), stop)
    watchdog.start()
    share.follow(stop, _is_enough)
    if all(one.is_done for one in followed):
        watchdog.code = DELIVERED
    elif _is_enough(followed):
        watchdog.code = HOPELESS
    elif _is_running(path):
        watchdog.code = STOPPED
    stop.set()
    return watchdog.code


def _is_enough(followed: Sequence[Followed]) -> bool:
    return all(one.is_done or one.is_hopeless or one.is_gone for one in followed)


class _Watchdog(threading.Thread):
    """Sets *stop* a while after the run's end; ends the process if that does not help.

    Attributes:
        code: with which the process ends then.
    """

    def __init__(self, run: Path, linger_s: float, stop: threading.Event) -> None:
        super().__init__(name="evlog-watchdog", daemon=True)
        self.code = UNDELIVERED
        self._run, self._linger_s, self._stop_all = run, linger_s, stop

    def run(self) -> None:
        """Watch until the process ends."""
        ended_at: float | None = None
        while not self._stop_all.wait(LOOK_S):
            _bound_log()
            now = time.monotonic()
            if ended_at is None and not _is_running(self._run):
                ended_at = now
            if ended_at is not None and now - ended_at >= self._linger_s:
                self._stop_all.set()
        time.sleep(GRACE_S)
        # A sink hangs in a call that nobody can interrupt, or has left a thread behind. Ending here is like
        # being killed: what was not saved will be repeated.
        os._exit(self.code)


def _is_running(run: Path) -> bool:
    try:
        return is_running(run)
    except OSError:
        return False  # the run is gone, or cannot be read any more: then nobody needs this process


def _bound_log() -> None:
    """Empty the file behind stderr if a sink has printed a lot; it is for looking at, not for keeping."""
    with contextlib.suppress(OSError):
        seen = os.fstat(2)
        if stat.S_ISREG(seen.st_mode) and seen.st_size > MAX_LOG_BYTES:
            os.ftruncate(2, 0)


def _reporter() -> Callable[[Outcome | dict[str, int]], None]:
    """Return what tells the job, in lines of JSON; whatever is printed from now on goes to stderr instead.

    A sink that prints costs the job nothing then, and a process that a sink starts does not keep the pipe.
    """
    out = os.dup(1)
    os.dup2(2, 1)

    def report(what: Outcome | dict[str, int]) -> None:
        with contextlib.suppress(OSError):  # the job is gone and with it the reader
            os.write(out, msgspec.json.encode(what) + b"\n")

    return report


def main() -> int:
    """Take the order and carry it out."""
    report = _reporter()
    # A line, not all there is: a child that the job forks at this moment has the other end of the pipe too.
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a sink that asks for a password gets no answer
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    # Ctrl-C is for the job: it ends the run, and the sidecar delivers that end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = deliver_live(order, stop, report)
    report({"end": code})
    return code


if __name__ == "__main__":
    sys.exit(main())
