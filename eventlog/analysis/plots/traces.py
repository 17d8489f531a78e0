"""Reads the points of metrics of many runs: from the query cache where it has them, else from the logs."""

from __future__ import annotations

import contextlib
import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eventlog.analysis.statistics.vectors import need
from eventlog.errors import BadValueError

if TYPE_CHECKING:
    from eventlog.analysis.statistics.vectors import Vector
    from eventlog.query.connect import Connection

_OF_RANK = re.compile(r"rank(\d{1,9})/(.+)", re.DOTALL)


class Trace(NamedTuple):
    """The points of one metric of one run, in the order of their steps, then times.

    Attributes:
        run: the run's directory.
        steps: shape (n,), NaN where a point has none.
        times_us: shape (n,), microseconds since the epoch.
        values: shape (n,), NaN and infinities as they were.
        started_us: start of the run.
    """

    run: Path
    key: str
    steps: Vector
    times_us: Vector
    values: Vector
    started_us: float


class Source:
    """The metrics of some runs. Not safe for several threads."""

    def __init__(self, runs: Sequence[Path], root: Path | None = None) -> None:
        """Open *runs*; those below *root* are read through the query cache."""
        need("curves", "numpy", "plot")
        self.runs = list(runs)
        self._connection: Connection | None = None
        self._cached: dict[Path, str] = {}
        if root is not None:
            self._open(root)

    def keys(self) -> dict[Path, set[str]]:
        """Return the names of each run's metrics; those of other ranks are called ``rank<k>/…``."""
        found: dict[Path, set[str]] = {run: set() for run in self.runs}
        by_label = {label: run for run, label in self._cached.items()}
        if self._connection is not None:
            for label, key in self._connection.sql("SELECT project || '/' || run_id, key FROM summaries"):
                if label in by_label:
                    found[by_label[str(label)]].add(str(key))
        for run in self._logs():
            found[run] |= {trace.key for trace in self._replayed(run, None)}
        return found

    def traces(self, keys: Sequence[str]) -> list[Trace]:
        """Return what there is of *keys*, run by run in the order of the runs."""
        has = self.keys()
        found = []
        for run in self.runs:
            wanted = [key for key in keys if key in has[run]]
            found += self._read(run, wanted) if run in self._cached else self._replayed(run, wanted)
        return found

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()

    # --- inside ------------------------------------------------------------------------------------

    def _open(self, root: Path) -> None:
        from eventlog.query.connect import Connection

        home = root.absolute()
        below = {
            run: f"{run.parent.name}/{run.name}" for run in self.runs if run.absolute().parents[1] == home
        }
        if not below:
            return
        self._connection = Connection(root)
        known = {
            f"{project}/{run_id}": float(started or 0)  # type: ignore[arg-type]
            for project, run_id, started in self._connection.sql(
                "SELECT project, run_id, epoch_us(started_at) FROM runs"
            )
        }
        self._cached = {run: label for run, label in below.items() if label in known}
        self._started = known

    def _logs(self) -> list[Path]:
        return [run for run in self.runs if run not in self._cached]

    def _read(self, run: Path, keys: Iterable[str]) -> list[Trace]:
        import numpy

        assert self._connection is not None
        label, found = self._cached[run], []
        for key in keys:
            of_rank = _OF_RANK.fullmatch(key)
            rank, name = (int(of_rank[1]), of_rank[2]) if of_rank else (0, key)
            points = self._connection.metrics(label, name, rank=rank)
            found.append(
                Trace(
                    run,
                    key,
                    numpy.asarray(points.steps, dtype=numpy.float64),
                    points.times.astype(numpy.int64).astype(numpy.float64),
                    points.values,
                    self._started[label],
                )
            )
        return found

    def _replayed(self, run: Path, wanted: Sequence[str] | None) -> list[Trace]:
        """Return the traces of a log; all keys if *wanted* is None."""
        import numpy

        from eventlog import events as ev
        from eventlog.replay import open_run
        from eventlog.values import number_in_memory

        rows: dict[str, array[float]] = {}
        started: float | None = None
        for part in open_run(run).slices():
            for event in part.events:
                if isinstance(event, ev.RunStarted) and started is None:
                    started = float(event.ts)
                if not isinstance(event, ev.Metrics):
                    continue
                for key, value in event.data.items():
                    name = f"rank{part.rank}/{key}" if part.rank else key
                    if wanted is not None and name not in wanted:
                        continue
                    # A text that no writer of ours puts there is no point.
                    with contextlib.suppress(BadValueError):
                        number = number_in_memory(value)
                        step = float("nan") if event.step is None else float(event.step)
                        rows.setdefault(name, array("d")).extend((step, event.ts, number))
        found = []
        for name in rows if wanted is None else [key for key in wanted if key in rows]:
            points = numpy.frombuffer(rows[name], dtype=numpy.float64).reshape(-1, 3)
            points = points[numpy.lexsort((points[:, 1], points[:, 0]))]
            start = started if started is not None else float(points[:, 1].min())
            found.append(Trace(run, name, points[:, 0], points[:, 1], points[:, 2], start))
        return found
