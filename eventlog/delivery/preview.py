"""What a delivery would send, without sending it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from eventlog.delivery.counting import count_points
from eventlog.delivery.ledger import Ledger, ledger_path, load_ledger
from eventlog.delivery.shaping import Shape, Shaper
from eventlog.errors import BadShapeError, ShapeChangedError
from eventlog.events import type_name
from eventlog.sink import Sink
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.merge import RunReader
from eventlog.storage.repair import recover_run


def preview(
    run: Path, sink: Sink, sink_name: str, *, shape: Shape | None = None, restart: bool = False
) -> Counter[str]:
    """Return how many events of each kind would go to the destination now, after shaping.

    Raises:
        ShapeChangedError, CheckpointError: as a delivery would.
    """
    if shape is not None and not (shape.is_plain or sink.traits.takes_shape):
        raise BadShapeError(f"{sink_name} copies the log as it is: {shape} cannot be had there")
    is_whole = sink.traits.is_projection
    ledger = None if restart else load_ledger(ledger_path(run, sink_name, sink.destination))
    ledger = ledger or Ledger(sink=sink_name, shape=shape or Shape())
    if shape is not None and shape != ledger.shape:
        if (ledger.is_begun or ledger.cursors) and not is_whole:
            raise ShapeChangedError(run.name, sink_name, str(ledger.shape), str(shape))
        ledger.shape = shape
    recover_run(run)  # as a delivery does: what a killed writer left is sent too
    shaper = Shaper(ledger.shape, None if is_whole or ledger.counts is None else ledger.counts.copy())
    if ledger.shape.max_points is not None:
        count_points(run, shaper)
    counts: Counter[str] = Counter()
    for part in RunReader(run, start=Checkpoint() if is_whole else ledger.checkpoint).slices():
        counts.update(map(type_name, shaper.apply(part.writer, part.events)))
    return counts
