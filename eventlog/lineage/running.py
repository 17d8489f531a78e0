"""What goes on beside a run in the process that logs it: capture of its lineage, and what measures it.

Each part is a plain object with three calls. What goes wrong in one costs a warning and that part.

What must never change: `begin` returns at once, `end` waits for a bounded time, and `forget`, which a forked
child calls, touches no lock and starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from eventlog import events as ev
from eventlog.errors import warn_once
from eventlog.storage.system import host_name

LOGGED_BY = "EVLOG_CONSOLE_LOGGED"
"""Set by ``evlog run`` to host and run whose console it logs, for the processes that it starts."""


LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")


class Recorder(Protocol):
    """A run that is open for logging; `eventlog.tracker.recording.RunRecorder` is one."""

    path: Path
    run_id: str
    project: str

    def add(self, event: ev.Event) -> bool:
        """Append an event."""

    def artifact(self, source: Path, name: str, kind: str | None, *, copy: bool) -> ev.Artifact | None:
        """Log a file."""

    def complain(self, key: str, message: str) -> None:
        """Report something that was not logged."""


class Part(Protocol):
    """Something that goes on beside a run."""

    def begin(self) -> None:
        """Start, without waiting for anything."""

    def end(self, timeout_s: float) -> None:
        """Log what is left and stop, in about *timeout_s*; called once, before the run's end is logged."""

    def forget(self) -> None:
        """Stop nothing, log nothing: this is a forked child, and the run's parts are its parent's."""


class Options(NamedTuple):
    """What is wanted beside a run.

    Attributes:
        lineage: capture where the run comes from; None leaves that to ``evlog.toml``.
        diff: the uncommitted changes are wanted, whatever else is.
        system: measure the machine; None leaves that to ``evlog.toml``.
        console: log what the process prints.
        rank: of this process in the run.
        root: directory of all projects, where ``evlog.toml`` may lie.
        known: what the log says of the run's lineage already, by kind of context.
        skip: kinds of context that somebody else captures.
        command: of a run that consists of another process; None for this one.
    """

    lineage: bool | None = None
    diff: bool = False
    system: bool | None = None
    system_interval_s: float = 15.0
    console: bool = False
    rank: int = 0
    root: Path = Path("experiments")
    known: Mapping[str, Mapping[str, object]] = {}
    skip: frozenset[str] = frozenset()
    command: Sequence[str] | None = None


class Running:
    """All that goes on beside one run, that of *recorder*."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._parts: list[Part] = []

    def add(self, part: Part) -> None:
        """Take a part that has begun."""
        self._parts.append(part)

    def end(self, timeout_s: float) -> None:
        """End all parts, the last one first, in about *timeout_s* in all. The second call does nothing."""
        parts, self._parts = self._parts, []
        _leave(self)
        deadline = time.monotonic() + timeout_s
        interruption: BaseException | None = None
        for part in reversed(parts):
            left = 0.0 if interruption else max(0.0, deadline - time.monotonic())
            try:
                _try(self.recorder, part, partial(part.end, left))
            except BaseException as error:  # Ctrl-C: nothing is waited for any more, and nothing stays behind
                interruption = error
        if interruption is not None:
            raise interruption

    def forget(self) -> None:
        """Leave everything to the parent, in a forked child."""
        parts, self._parts = self._parts, []
        _leave(self)
        for part in parts:
            with contextlib.suppress(Exception):  # the child must live, whatever state it inherited
                part.forget()


def begin(recorder: Recorder, options: Options) -> Running:
    """Begin what *options* want beside the run of *recorder*. Never raises."""
    running = Running(recorder)
    _active.append(running)
    try:
        for part in _parts(recorder, options):
            if _try(recorder, part, part.begin):
                running.add(part)
        seeds = sys.modules.get("eventlog.lineage.seeds")  # who has set some has imported it
        if seeds is not None:
            with contextlib.suppress(Exception):
                seeds.log_pending(recorder)
    except BaseException:
        running.end(0.0)
        raise
    return running


def _parts(recorder: Recorder, options: Options) -> Iterator[Part]:
    if sys.platform != "win32" and (options.lineage is not False or options.diff):
        from eventlog.lineage.capture.capture import Capture

        yield Capture(recorder, options)
    # Under `evlog run` the output may be logged already.
    if options.console and os.environ.get(LOGGED_BY) != f"{host_name()}/{recorder.run_id}":
        from eventlog.lineage.console.listening import Listener

        yield Listener(recorder)
    if options.system is not False:
        from eventlog.lineage.load import sampler

        if sampler.is_wanted(options.system, recorder.run_id, os.environ):
            yield sampler.Sampler(recorder, options)


def local_rank(environment: Mapping[str, str]) -> str | None:
    """Return the number of this process on its host, or None if nobody gave it one."""
    return next((value for name in LOCAL_RANKS if (value := environment.get(name, "").strip())), None)


def innermost() -> Recorder | None:
    """Return the run of this process that was begun last of those that go on."""
    return _active[-1].recorder if _active else None


def _leave(running: Running) -> None:
    _active[:] = [one for one in _active if one is not running]


def forget_all() -> None:
    """Stop what goes on beside runs that nobody ended: for programs that begin anew, such as tests."""
    for running in reversed(list(_active)):
        running.end(0.0)


def taken_by(python: str | None) -> frozenset[str]:
    """Return the kinds of context that the ``evlog run`` around us captures.

    Args:
        python: the Python of which it lists the packages; empty if it does not know any, None if it captures
            nothing.
    """
    if python is None:
        return frozenset()
    from eventlog.lineage.origin import is_same_python

    knows_us = bool(python) and is_same_python(python, sys.executable)
    return frozenset(
        {"git", "hardware", "scheduler", "environment"} if knows_us else {"git", "hardware", "scheduler"}
    )


def _try(recorder: Recorder, part: Part, call: Callable[[], None]) -> bool:
    try:
        call()
    except Exception as error:  # no more threads, a full disk: the run goes on without this part
        name = type(part).__name__.lower()
        warn_once(f"{recorder.path} {name}", f"run {recorder.run_id}: no {name}: {error!r}")
        return False
    return True


_active: list[Running] = []
