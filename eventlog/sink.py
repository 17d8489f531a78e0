"""The contract between the log and a destination.

A sink receives a run's events after they are in the log. The pump (`eventlog.sync`) calls `open`, then
`write` any number of times, then `close`, from one thread. Returning from `write` means delivered: the
checkpoint moves. Each sink says in its docstring how a repeated batch becomes harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from eventlog.events import AnyEvent
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.merge import Slice


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The run that a sink was opened for."""

    project: str
    run_id: str
    path: Path


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands: ``running``, ``finished``, ``failed``, ``killed`` or ``crashed``."""

    status: str


class Entry(NamedTuple):
    """An event and who wrote it."""

    writer: str
    rank: int
    event: AnyEvent


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

    Attributes:
        is_projection: every event of the run is wanted each time, for the sink makes its files anew.
    """

    is_projection: bool

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Return what the destination itself says it has applied, or None if it cannot tell."""

    def write(self, batch: Batch) -> None:
        """Deliver the batch whole, or raise.

        Raises:
            SinkUnavailableError: try again later.
            SinkRejectedError: these events can never be delivered.
        """

    def close(self, status: RunStatus | None) -> None:
        """Finish; None if the pump was stopped before the end of what there is."""
