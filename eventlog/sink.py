"""The contract between the log and a destination.

A sink receives a run's events after they are in the log. The pump (`eventlog.delivery`) calls `open`, then
`write` any number of times, then `close`, from one thread. Returning from `write` means delivered: the
checkpoint moves. Each sink says in its docstring how a repeated batch becomes harmless.

What is repeated after a kill: everything since the checkpoint that was saved last. Each writer's events
come in the same order again, but the writers of a run that is still going on may be interleaved otherwise,
and the batches may be cut elsewhere. A sink that cannot live with that asks for `Traits.fixed_batches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from eventlog.events import AnyEvent, RunStarted
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.merge import Slice


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink asks of the pump.

    Attributes:
        is_projection: every event of the run is wanted each time, for the sink makes its files anew.
        fixed_batches: after a kill, a batch that was begun is repeated with the same events in the same
            order before anything else. Costs one more synced file for each batch.
        batch_events: no batch holds more events.
        batch_age_s: while a run is followed, gather events at most so long before `write`, in seconds.
        takes_shape: events may be left out or changed on the way; False for copies of the log itself.
        merges_equal_points: the destination keeps one of several equal points; `verify` then counts so.
    """

    is_projection: bool = False
    fixed_batches: bool = False
    batch_events: int = 20_000
    batch_age_s: float = 0.0
    takes_shape: bool = True
    merges_equal_points: bool = False


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The run that a sink was opened for.

    Attributes:
        path: the run's directory; paths in events are relative to it.
        started: how the run began, also when that was delivered long ago; None if the log lost it.
        state: what `KeepsState.state` returned when the last checkpoint was saved; empty at first.
        generation: 0, and one more each time that somebody wanted everything delivered anew: a sink whose
            destination cannot forget makes another run there.
    """

    project: str
    run_id: str
    path: Path
    started: RunStarted | None = None
    state: dict[str, object] = {}
    generation: int = 0


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands.

    Attributes:
        status: ``running``, ``finished``, ``failed``, ``killed`` or ``crashed``.
        ended_at: microseconds since the epoch: the end, or the last event of a run that crashed.
        exit_code: of the process, if it is known.
    """

    status: str
    ended_at: int | None = None
    exit_code: int | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether more events may come."""
        return self.status == "running"


class Entry(NamedTuple):
    """An event and who wrote it."""

    writer: str
    rank: int
    event: AnyEvent

    def name(self, key: str) -> str:
        """Return *key* for a destination with one flat namespace: rank 0 bare, the others as ``rank1/…``."""
        return f"rank{self.rank}/{key}" if self.rank else key


class Batch(msgspec.Struct, frozen=True):
    """Consecutive events of the merged stream."""

    slices: list[Slice]

    def entries(self) -> Iterator[Entry]:
        """Yield the events in order."""
        for part in self.slices:
            for event in part.events:
                yield Entry(part.writer, part.rank, event)

    @property
    def count(self) -> int:
        """Return the number of events."""
        return sum(len(part.events) for part in self.slices)


class Sink(Protocol):
    """Receives a run's events after they are in the log.

    One object serves one run at a time and may be opened again after `close`. Options come as keyword
    arguments of its class; those from a command line are texts.

    Attributes:
        traits: what it asks of the pump.
        destination: where it delivers to, without secrets, the same at every start: checkpoints are kept
            for each destination. Empty for the run's own directory.
    """

    @property
    def traits(self) -> Traits:
        """Return what it asks of the pump."""

    @property
    def destination(self) -> str:
        """Return where the events go."""

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Return what the destination itself says it has applied, or None if it cannot tell.

        Raises:
            SinkUnavailableError: try again later.
        """

    def write(self, batch: Batch) -> None:
        """Deliver the batch whole, or raise.

        Raises:
            SinkUnavailableError: try again later: the pump calls ``close(None)``, waits, opens the sink
                again with the state of the last delivered batch, and repeats what came after it.
            SinkRejectedError: the events that it names can never be delivered, and all others of the
                batch were; if it names none, nothing was, and the pump finds the bad ones by halving.
        """

    def close(self, status: RunStatus | None) -> None:
        """Finish for now; None if the pump stopped before the end of what there is.

        Raises:
            SinkUnavailableError: the destination does not know the status yet; try again later.
            SinkRejectedError: it never will; the delivery counts as failed, and what it holds stays there.
        """


@runtime_checkable
class KeepsState(Protocol):
    """A sink that needs to remember something together with the checkpoint."""

    def state(self) -> dict[str, object]:
        """Return what `RunInfo.state` shall hold if delivery goes on from here; JSON values only.

        Called at any time after `open`, also after `close`.
        """


class Point(NamedTuple):
    """One value as a destination holds it, for comparing.

    Attributes:
        series: kind and name, such as ``metric train/loss`` or ``param lr``, as the destination has them.
        time: in the destination's unit, if it keeps the event's time.
    """

    series: str
    step: int | None
    value: float | int | str
    time: int | None = None


@runtime_checkable
class ReadsBack(Protocol):
    """A sink whose destination can be read, so that ``evlog sync --verify`` can compare."""

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield what the destination should hold after all *entries* of a run were delivered."""

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield what the destination holds of *run*; nothing if it does not know it.

        Raises:
            SinkUnavailableError: it cannot be read now.
        """


Options = Mapping[str, object]
"""The keyword arguments for a sink's class."""
