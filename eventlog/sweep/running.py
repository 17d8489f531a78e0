"""Runs trials: so many processes at once, each with a device of its own, stopped together."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import msgspec

from eventlog.sweep.trials import State

STOP_TIMEOUT_S = 15.0
LAST_BYTES = 4096


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: its exit code (negative: a signal), and the end of what it said on stderr."""

    state: State
    exit_code: int
    seconds: float
    last_words: str


class Runner:
    """Runs the commands of trials. `run` may be called once; `stop` from any thread or signal handler.

    Args:
        command: returns the words that run an attempt.
        jobs: how many at once.
        devices: given to the jobs in turn as CUDA_VISIBLE_DEVICES; none: the environment stays as it is.
        shows_output: leave the terminal to the commands.
    """

    def __init__(
        self,
        command: Callable[[State], Sequence[str]],
        *,
        jobs: int = 1,
        devices: Sequence[str] = (),
        shows_output: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command, self._jobs, self._shows_output = command, jobs, shows_output
        self._environment = dict(os.environ if environment is None else environment)
        self._devices: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for number in range(jobs):
            self._devices.put(devices[number % len(devices)] if devices else None)
        self._stop = threading.Event()
        self._alive: set[subprocess.Popen[bytes]] = set()

    def run(self, states: Sequence[State], on_start: Callable[[State], None]) -> Iterator[Ended]:
        """Yield each attempt when it has ended, in the order in which they end."""
        ended: queue.SimpleQueue[Ended | BaseException | None] = queue.SimpleQueue()
        with ThreadPoolExecutor(self._jobs) as pool:
            for state in states:
                pool.submit(self._one, state, on_start, ended)
            try:
                for _ in states:
                    one = ended.get()
                    if isinstance(one, BaseException):
                        raise one
                    if one is not None:
                        yield one
            finally:
                self.stop()

    def stop(self) -> None:
        """Begin no further attempt and ask those that run to end; who does not is killed."""
        self._stop.set()
        for process in list(self._alive):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    def _one(
        self,
        state: State,
        on_start: Callable[[State], None],
        ended: queue.SimpleQueue[Ended | BaseException | None],
    ) -> None:
        if self._stop.is_set():
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
        environment = self._environment | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device})
        began = time.monotonic()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                list(self._command(state)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=None if self._shows_output else subprocess.DEVNULL,
                stderr=None if self._shows_output else said,
            )
            self._alive.add(process)
            try:
                exit_code = self._wait(process)
            finally:
                self._alive.discard(process)
            return Ended(
                state=state,
                exit_code=exit_code,
                seconds=time.monotonic() - began,
                last_words=_end_of(said),
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while not self._stop.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=0.2)
        process.terminate()  # it may have been started while `stop` was looking
        try:
            return process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LAST_BYTES))
    return file.read().decode(errors="replace").strip()
