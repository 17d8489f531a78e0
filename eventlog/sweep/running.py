"""Runs trials: so many processes at once, each with a device of its own, stopped together."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import msgspec

from eventlog.sweep.trials import State

STOP_TIMEOUT_S = 30.0
LOOK_S = 0.1
LAST_BYTES = 4096


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: its exit code (negative: a signal), and the end of what it said on stderr."""

    state: State
    exit_code: int
    seconds: float
    last_words: str


Result = Ended | BaseException | None
"""None: not begun."""


class Runner:
    """Runs the commands of trials, each in a process group of its own. `run` may be called once.

    Args:
        command: returns the words that run an attempt.
        jobs: how many at once.
        devices: given to the jobs in turn as CUDA_VISIBLE_DEVICES; none: the environment stays as it is.
        shows_output: leave the terminal to the commands.
        lock: a descriptor that the commands inherit.
    """

    def __init__(
        self,
        command: Callable[[State], Sequence[str]],
        *,
        jobs: int = 1,
        devices: Sequence[str] = (),
        shows_output: bool = False,
        lock: int | None = None,
    ) -> None:
        self._command, self._jobs, self._shows_output = command, jobs, shows_output
        self._inherited = () if lock is None else (lock,)
        self._devices: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for number in range(jobs):
            self._devices.put(devices[number % len(devices)] if devices else None)
        self._signals: list[int] = []

    def run(self, states: Sequence[State], on_start: Callable[[State], None]) -> Iterator[Ended]:
        """Yield each attempt when it has ended, in the order in which they end."""
        ended: queue.SimpleQueue[Result] = queue.SimpleQueue()
        with ThreadPoolExecutor(self._jobs) as pool:
            for state in states:
                pool.submit(self._one, state, on_start, ended)
            try:
                for _ in states:
                    one = _next(ended)
                    if isinstance(one, BaseException):
                        raise one
                    if one is not None:
                        yield one
            except BaseException:
                self.stop()
                raise

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Begin no further attempt and pass signal *number* on to those that run; at the second call, kill.

        May be called from a signal handler. Who has not ended after `STOP_TIMEOUT_S` is killed, too.
        """
        self._signals.append(number)

    def _one(
        self,
        state: State,
        on_start: Callable[[State], None],
        ended: queue.SimpleQueue[Result],
    ) -> None:
        if self._signals:
            ended.put(None)
            return
        device = self._devices.get()
        try:
            on_start(state)
            ended.put(self._attempt(state, device))
        except BaseException as error:  # the caller's thread raises it
            ended.put(error)
        finally:
            self._devices.put(device)

    def _attempt(self, state: State, device: str | None) -> Ended:
        began = time.monotonic()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                list(self._command(state)),
                env=dict(os.environ) | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device}),
                stdin=subprocess.DEVNULL,
                stdout=None if self._shows_output else subprocess.DEVNULL,
                stderr=None if self._shows_output else said,
                # Of its own, so that Ctrl-C comes once, from us, and a kill takes the command along.
                process_group=None if sys.platform == "win32" else 0,
                pass_fds=self._inherited,
            )
            return Ended(
                state=state,
                exit_code=self._wait(process),
                seconds=time.monotonic() - began,
                last_words=_end_of(said),
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while not self._signals:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=LOOK_S)
        process.send_signal(self._signals[0])
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while len(self._signals) == 1 and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=LOOK_S)
        _kill(process)
        return process.wait()


def _next(ended: queue.SimpleQueue[Result]) -> Result:
    while True:
        with contextlib.suppress(queue.Empty):
            # A signal that another thread got has its handler called when this one wakes up.
            return ended.get(timeout=LOOK_S)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LAST_BYTES))
    return file.read().decode(errors="replace").strip()
