"""Runs a command, passes its output and our signals on, and says how it ended.

Signals are blocked and taken with `sigwaitinfo`, which tells who sent them: what the terminal sends
(Ctrl-C) reaches the command by itself, for it is in our process group and may use the terminal.
That is Linux's; elsewhere `plain_child` takes its place.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eventlog.cli import render
from eventlog.cli.capture import Capture
from eventlog.cli.plain_child import Outcome, not_started

if TYPE_CHECKING:
    from eventlog.tracker.recording import RunRecorder

# `plain_child` does it elsewhere; this line also tells the type checker.
assert sys.platform == "linux"

_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_FROM_KERNEL = 0x80  # SI_KERNEL of Linux: a key on the terminal, not a process
_NOTE_AFTER_S = 5.0

_outer_mask: set[signal.Signals] | None = None


def _watched() -> set[signal.Signals]:
    """Return the signals that we take. What is ignored (`nohup`) stays so, for us and for the command."""
    named = {signal.Signals[name] for name in _PASSED_ON if hasattr(signal, name)}
    return {one for one in named if signal.getsignal(one) is not signal.SIG_IGN} | {signal.SIGCHLD}


def block_signals() -> None:
    """Keep signals until `run_command` takes them. To be called before any thread starts; twice is once."""
    global _outer_mask
    if _outer_mask is None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored there is no exit code
        _outer_mask = {
            signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, _watched())
        }


def run_command(
    command: Sequence[str], environment: Mapping[str, str], recorder: RunRecorder | None
) -> Outcome:
    """Run *command* to its end.

    Args:
        recorder: gets what the command prints; None lets it print by itself.
    """
    block_signals()
    captures = [] if recorder is None else [Capture(1, "stdout", recorder), Capture(2, "stderr", recorder)]
    try:
        pid = _spawn(command, environment, captures)
    except OSError as error:
        for capture in captures:
            capture.abandon()
        return not_started(command[0], error)
    threads = [threading.Thread(target=capture.run, daemon=True) for capture in captures]
    for thread in threads:
        thread.start()
    code = os.waitstatus_to_exitcode(_wait(pid))
    _drain(threads)
    last_words = captures[1].last_words if captures else ""
    if code < 0:
        return Outcome(None, _signal_name(-code), last_words)
    return Outcome(code, None, last_words)


def _spawn(command: Sequence[str], environment: Mapping[str, str], captures: Sequence[Capture]) -> int:
    """Start *command* with the signals as we found them; not a fork, for threads may be running."""
    actions = [(os.POSIX_SPAWN_DUP2, capture.write_fd, capture.target_fd) for capture in captures]
    sys.stdout.flush()
    try:
        return os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            file_actions=actions,
            setsigmask=sorted(_outer_mask or ()),
            # Python ignores these two, and what is ignored stays so in a child.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    finally:
        for capture in captures:
            capture.close_writing()


def _wait(pid: int) -> int:
    """Pass signals on until the command has ended; return its wait status."""
    watched = _watched()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        info = signal.sigwaitinfo(watched)
        if info.si_signo == signal.SIGCHLD or info.si_code == _FROM_KERNEL:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, info.si_signo)


def _drain(threads: Sequence[threading.Thread]) -> None:
    """Wait for the end of the output, which something that the command left behind may hold open.

    Closing it now would kill that with SIGPIPE, so we wait; a signal ends the waiting.
    """
    ending = _watched() - {signal.SIGCHLD}
    note_at_s = time.monotonic() + _NOTE_AFTER_S
    while any(thread.is_alive() for thread in threads) and not ending & signal.sigpending():
        for thread in threads:
            thread.join(0.05)
        if time.monotonic() > note_at_s:
            note_at_s = math.inf
            render.say("the command has ended, but something that it started still holds its output")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
