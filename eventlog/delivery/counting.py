"""What is read of a run before its first event is delivered: how many points it has, and its start."""

from __future__ import annotations

from pathlib import Path

from eventlog.delivery.batches import find_start
from eventlog.delivery.shaping import Shape, Shaper
from eventlog.errors import BadShapeError
from eventlog.events import RunStarted
from eventlog.replay import is_running
from eventlog.storage.merge import RunReader


def count_points(run: Path, shaper: Shaper) -> None:
    """Count all points of *run* for a shape with ``max_points``.

    A writer that was counted before is dead and stays as it was; a resumed run has another one.

    Raises:
        BadShapeError: the run is still going on.
    """
    counted = RunReader(run)
    for writer in counted.known_writers():
        if writer not in shaper.counts.totals:
            shaper.count(writer, [])
            for block in counted.writer(writer).blocks():
                shaper.count(writer, block.events())
    if is_running(run):
        raise BadShapeError(
            f"{run.name} is still running, and --max-points needs to know all of its points. "
            "Deliver it when it has ended, or use --every"
        )


def shaped_start(run: Path, shape: Shape) -> RunStarted | None:
    """Return the event that started *run*, as the destination may see it; None if there is none."""
    found = find_start(run)
    if found is None:
        return None
    event = Shaper(shape).apply("", [found])[0]
    return event if isinstance(event, RunStarted) else None
