"""Kills deliveries at every point between reading an event and having it in the ledger.

A delivery runs in a process of its own. It counts its steps: before and after each call of the sink, and
each call of the operating system that writes, syncs or renames the ledger. At the step that it was given it
dies of SIGKILL. Then the delivery is finished in another process and the destination compared with the log.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from eventlog.delivery.pump import deliver_run
from eventlog.plugins import load_sink
from eventlog.sink import Batch, KeepsState, RunInfo, RunStatus, Sink, Traits
from eventlog.storage.cursor import Checkpoint
from tests.faults import Call, WatchedSystem

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.crash.deliveries", "eventlog.delivery.pump"])


class Destination(NamedTuple):
    """A sink by name, its options, and the size of its batches."""

    sink: str
    options: Mapping[str, object]
    batch_events: int = 40

    def make(self) -> Sink:
        """Return the sink with small batches."""
        return _Counted(load_sink(self.sink, **self.options), lambda: None, self.batch_events)


class _Counted:
    """A sink whose every call is two steps: before it, and after it."""

    def __init__(self, sink: Sink, step: Callable[[], None], batch_events: int) -> None:
        self._sink, self._step = sink, step
        was = sink.traits
        self.traits = Traits(
            is_projection=was.is_projection,
            fixed_batches=was.fixed_batches,
            batch_events=batch_events,
            takes_shape=was.takes_shape,
            merges_equal_points=was.merges_equal_points,
        )

    @property
    def destination(self) -> str:
        return self._sink.destination

    def open(self, run: RunInfo) -> Checkpoint | None:
        self._step()
        own = self._sink.open(run)
        self._step()
        return own

    def write(self, batch: Batch) -> None:
        self._step()
        self._sink.write(batch)
        self._step()

    def state(self) -> dict[str, object]:
        return self._sink.state() if isinstance(self._sink, KeepsState) else {}

    def close(self, status: RunStatus | None) -> None:
        self._step()
        self._sink.close(status)
        self._step()


def _deliver(run: Path, to: Destination, dies_at: int) -> None:
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_call(call: Call) -> None:
        step()

    sink = _Counted(load_sink(to.sink, **to.options), step, to.batch_events)
    deliver_run(run, sink, to.sink, timeout_s=20.0, system=WatchedSystem(on_call))


def deliver_and_die(run: Path, to: Destination, step: int) -> bool:
    """Deliver in another process that dies at *step*; return False if it ended before that."""
    process = _CONTEXT.Process(target=_deliver, args=(run, to, step))
    process.start()
    process.join(timeout=60)
    assert process.exitcode in (0, -signal.SIGKILL), f"exit code {process.exitcode} at step {step}"
    return process.exitcode != 0
