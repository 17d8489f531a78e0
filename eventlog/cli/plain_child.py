"""Runs a command with what every platform has. Used where Linux's signals are not; tested on Linux only.

A signal that ends us is not passed on: it reaches the command from the terminal, as Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from eventlog.cli import render
from eventlog.cli.capture import Capture

if TYPE_CHECKING:
    from eventlog.tracker.recording import RunRecorder

NOT_FOUND, NOT_EXECUTABLE = 127, 126


class Outcome(NamedTuple):
    """How a command ended: by itself with *exit_code*, or by *signal*."""

    exit_code: int | None
    signal: str | None
    last_words: str = ""

    @property
    def status(self) -> str:
        """Return the status of the run."""
        return "killed" if self.signal else "failed" if self.exit_code else "finished"

    @property
    def shell_code(self) -> int:
        """Return what a shell would report."""
        return 128 + signal.Signals[self.signal] if self.signal else self.exit_code or 0


def not_started(command: str, error: OSError) -> Outcome:
    """Say why *command* could not be started; return what a shell would report."""
    # A directory of PATH that we may not read makes "not found" look like "not allowed".
    is_nowhere = isinstance(error, FileNotFoundError) or (
        os.path.basename(command) == command and shutil.which(command) is None  # noqa: PTH119
    )
    why = "there is no such command" if is_nowhere else error.strerror or str(error)
    render.say(f"{command}: {why}")
    return Outcome(NOT_FOUND if is_nowhere else NOT_EXECUTABLE, None)


def block_signals() -> None:
    """Do nothing: there is nothing to keep."""


def run_command(
    command: Sequence[str], environment: Mapping[str, str], recorder: RunRecorder | None
) -> Outcome:
    """Run *command* to its end.

    Args:
        recorder: gets what the command prints; None lets it print by itself.
    """
    captures = [] if recorder is None else [Capture(1, "stdout", recorder), Capture(2, "stderr", recorder)]
    out, err = (capture.write_fd for capture in captures) if captures else (None, None)
    try:
        child = subprocess.Popen(list(command), env=dict(environment), stdout=out, stderr=err)
    except OSError as error:
        for capture in captures:
            capture.close_writing()
            capture.abandon()
        return not_started(command[0], error)
    threads = [threading.Thread(target=capture.run, daemon=True) for capture in captures]
    for capture, thread in zip(captures, threads, strict=True):
        capture.close_writing()
        thread.start()
    code = _wait(child)
    for thread in threads:
        thread.join()
    last_words = captures[1].last_words if captures else ""
    if code < 0:
        return Outcome(None, signal.Signals(-code).name, last_words)
    return Outcome(code, None, last_words)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the end, also through the Ctrl-C that ends the command."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return child.wait()
