"""Ends runs when the process ends, and lets forked children begin anew.

- ``atexit``: a run that nobody ended is ``failed`` if an exception ended the program, else ``killed``.
- SIGTERM with the default action: runs are sealed as ``killed``, then the signal does what it does. A
  handler of the user's is never replaced: it runs, after the log was told to write what it has.
- fork: the child forgets the parent's files without writing to them.

What must never change: nothing here waits without a limit, and a signal handler takes no lock that its
own thread may hold, so the work is done on a thread of its own.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
import weakref
from types import FrameType
from typing import Protocol

from eventlog.events import ErrorInfo


class Endable(Protocol):
    """A run that is open in this process."""

    def end_at_exit(self, status: str, error: ErrorInfo | None, signal_name: str | None) -> None:
        """End the run; called at most once, when the process ends."""

    def write_soon(self) -> None:
        """Let what was logged reach the disk, without waiting. Safe in a signal handler."""

    def after_fork_in_child(self) -> None:
        """Become a writer of one's own."""


_open: weakref.WeakSet[Endable] = weakref.WeakSet()
_is_watching = False
_previous: object = None
_terminated = False
CLOSE_LIMIT_S = 10.0


def watch(run: Endable) -> None:
    """End *run* when the process ends, unless `forget` came first."""
    global _is_watching
    _open.add(run)
    if not _is_watching:
        _is_watching = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
    _watch_sigterm()


def forget(run: Endable) -> None:
    """Leave *run* alone from now on."""
    _open.discard(run)


def describe_error(error: BaseException) -> ErrorInfo:
    """Return type, message and traceback of *error*, bounded in size."""
    lines = "".join(traceback.format_exception(error))
    return ErrorInfo(
        type=type(error).__qualname__,
        message=_printable(error)[:10_000],
        traceback=lines.encode(errors="backslashreplace").decode()[-50_000:],
    )


def _printable(error: BaseException) -> str:
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception as second:  # a broken __str__ must not hide that the run failed
        return f"<{type(second).__name__} in __str__>"


def _at_exit() -> None:
    # The interpreter keeps here what it printed a traceback for.
    error = getattr(sys, "last_value", None)
    if _terminated or not isinstance(error, BaseException) or isinstance(error, KeyboardInterrupt):
        _end_all("killed", None, "SIGTERM" if _terminated else None)
    else:
        _end_all("failed", describe_error(error), None)


def _end_all(status: str, error: ErrorInfo | None, signal_name: str | None) -> None:
    # The newest first: a nested run ends before its parent.
    for run in reversed(list(_open)):
        forget(run)
        with contextlib.suppress(Exception):  # at exit nobody is left to hear of it
            run.end_at_exit(status, error, signal_name)


def _after_fork() -> None:
    for run in list(_open):
        with contextlib.suppress(Exception):  # the child must live, whatever state it inherited
            run.after_fork_in_child()


def _watch_sigterm() -> None:
    global _previous
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGTERM"):
        return
    current = signal.getsignal(signal.SIGTERM)
    # Once: a handler that the user has put over ours since may call ours, and would call itself through it.
    # None: somebody installed a handler from C, which could not be called from here.
    if _previous is not None or current is None or current is signal.SIG_IGN:
        return
    with contextlib.suppress(ValueError):
        _previous = signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    global _terminated
    _terminated = True
    if callable(_previous):
        for run in list(_open):
            run.write_soon()
        _previous(number, frame)
        return
    # From here on a second SIGTERM ends the process at once; the ring keeps what it held.
    signal.signal(number, signal.SIG_DFL)
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(_end_and_die, (number, done))
    # The interrupted frame may be in the middle of an append, with its lock: then the thread can only
    # finish after this handler has returned, so the wait is short and the process dies a moment later.
    done.acquire(timeout=0.25)


def _end_and_die(number: int, done: _thread.LockType) -> None:
    ended = _thread.allocate_lock()
    ended.acquire()

    def end() -> None:
        _end_all("killed", None, signal.Signals(number).name)
        ended.release()

    _thread.start_new_thread(end, ())
    ended.acquire(timeout=CLOSE_LIMIT_S)
    os.kill(os.getpid(), number)
    done.release()
