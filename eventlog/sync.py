"""The pump: moves a run's events into a sink and remembers how far it came.

A checkpoint is saved after a batch was delivered, never before. A projection sink makes its files anew from
the first event each time, so repeating it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from eventlog.events import Metrics
from eventlog.projections import RunFold
from eventlog.replay import alive_writers, open_run
from eventlog.sink import Batch, RunInfo, RunStatus, Sink
from eventlog.storage.cursor import Checkpoint, Cursor, load_checkpoint, save_checkpoint
from eventlog.storage.layout import STATE_DIRECTORY
from eventlog.storage.merge import RunReader, Slice

BATCH_EVENTS = 20_000


class SyncResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of `sync_run` did."""

    delivered: int
    status: str
    findings: int


def checkpoint_path(run: Path, sink_name: str) -> Path:
    """Return where the checkpoint of a sink for this run lies."""
    return run / STATE_DIRECTORY / "sinks" / f"{sink_name}.json"


def sync_run(
    run: Path, sink: Sink, sink_name: str, *, on_progress: Callable[[int], None] | None = None
) -> SyncResult:
    """Deliver what *run* holds beyond the checkpoint to *sink*.

    Args:
        on_progress: called with the number of events of each delivered batch.

    Raises:
        SinkUnavailableError, SinkRejectedError: from the sink; what was delivered before stays so.
        CheckpointError: the saved checkpoint cannot be read.
        OSError: the log cannot be read or the checkpoint not be saved.
    """
    path = checkpoint_path(run, sink_name)
    info = RunInfo(project=run.parent.name, run_id=run.name, path=run)
    own = sink.open(info)
    saved = None if sink.traits.is_projection else load_checkpoint(path)
    start = Checkpoint() if sink.traits.is_projection else (saved or Checkpoint()).later(own)
    reader = open_run(run, start=start)
    fold = RunFold(info.project, info.run_id)
    cursors: dict[str, Cursor] = dict(start.cursors)
    delivered = 0
    for batch in _batches(reader):
        sink.write(batch)
        delivered += batch.count
        for part in batch.slices:
            # Only the status is wanted of this fold, so the many points are left out.
            rest = [event for event in part.events if type(event) is not Metrics]
            if rest:
                fold.apply_slice(part.writer, part.rank, rest)
            cursors[part.writer] = part.cursor
        if not sink.traits.is_projection:
            save_checkpoint(path, Checkpoint(cursors=cursors))
        if on_progress:
            on_progress(batch.count)
    status = fold.status(alive_writers(reader))
    sink.close(RunStatus(status=status))
    save_checkpoint(path, Checkpoint(cursors=cursors))
    return SyncResult(delivered=delivered, status=status, findings=len(reader.findings))


def _batches(reader: RunReader) -> Iterator[Batch]:
    """Gather slices until a batch is large enough."""
    slices: list[Slice] = []
    count = 0
    for part in reader.slices():
        slices.append(part)
        count += len(part.events)
        if count >= BATCH_EVENTS:
            yield Batch(slices)
            slices, count = [], 0
    if slices:
        yield Batch(slices)
