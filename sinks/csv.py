"""The `csv` sink: evaluations of many runs as two files.

    <to>/experiment_results.csv    a row for each sample, and for each evaluation without samples
    <to>/leaderboard.csv           a row for each run, the best score first in each project

*to* is the root of the runs unless it is given. The files hold all runs that were ever delivered there.

A run's rows are a projection: each time all of them are made anew from the first event. They become a part,
which appears by a rename, and the files are put together from the parts of all runs under a lock and appear
by a rename too (`sinks._csv.files`). So a repeated batch is harmless, a repeated sync gives the same bytes,
a kill leaves the old files, and runs that end at once in several processes are all there.

If ``<to>/.csv-parts`` is deleted, ``evlog sync --to csv`` of all runs makes everything anew.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from eventlog.errors import SinkUnavailableError
from eventlog.ids import check_name
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.modes import is_private
from sinks._csv.cells import cell
from sinks._csv.files import Head, publish
from sinks._csv.rows import LEADERBOARD, RESULTS, RunRows

RESULTS_FILE, LEADERBOARD_FILE = "experiment_results.csv", "leaderboard.csv"
_NOT_COMPARED = frozenset({"project", "run_id", "name", "status", "started_at", "ended_at"})
"""Columns that do not follow from the events alone, or from whose event of several writers came first."""


class CSVSink:
    """Writes `experiment_results.csv` and `leaderboard.csv`.

    Args:
        to: directory of the files; default the root of the runs.
        score_key: the metric that is the score of a sample or evaluation; one that has a single metric needs
            no such name.
    """

    traits: ClassVar[Traits] = Traits(is_projection=True)

    def __init__(self, *, to: str | Path = "", score_key: str = "score") -> None:
        if "://" in str(to):
            raise ValueError(
                f"to is {str(to)!r}; it has to be a directory on this machine, such as ./results."
            )
        self._to = Path(os.path.abspath(Path(to).expanduser())) if str(to) else None  # noqa: PTH100 - no `..`
        self._score_key = score_key
        self._run: RunInfo | None = None
        self._rows = RunRows("", "", score_key)

    @property
    def destination(self) -> str:
        """Return the directory of the files, empty if they lie beside the runs."""
        return "" if self._to is None else str(self._to)

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Begin the run's rows anew; there is no other position than the first event."""
        self._run = run
        check_name("project", run.project)
        check_name("run id", run.run_id)
        self._rows = RunRows(run.project, run.run_id, self._score_key)
        return None

    def write(self, batch: Batch) -> None:
        """Take the events."""
        self._rows.take(batch)

    def close(self, status: RunStatus | None) -> None:
        """Write the run's part, and put the files together.

        Raises:
            SinkUnavailableError: the file system refused; the old files stand.
        """
        if status is None or self._run is None:
            return
        rows, to = self._rows, self._place(self._run)
        score = rows.score
        head = Head(
            project=rows.project,
            run_id=rows.run_id,
            started_at=rows.started_at,
            score=None if score is None or math.isnan(score) else score,
            row=rows.leaderboard(status),
            is_below=os.path.realpath(self._run.path) == os.path.realpath(to / rows.project / rows.run_id),
            is_private=is_private(self._run.path),
        )
        try:
            publish(
                to,
                head,
                rows.results(),
                results=(RESULTS_FILE, RESULTS),
                leaderboard=(LEADERBOARD_FILE, LEADERBOARD),
            )
        except OSError as error:
            raise SinkUnavailableError(f"{to} cannot be written: {error.strerror or error}.") from error

    def _place(self, run: RunInfo) -> Path:
        return self._to if self._to is not None else run.path.parent.parent

    # --- reading back ------------------------------------------------------------------------------------

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield a point for each row that the files should hold of the run."""
        rows = RunRows("", "", self._score_key)
        rows.take_entries(entries)
        for row in rows.results():
            yield _point("result", RESULTS, row)
        yield _point("leaderboard", LEADERBOARD, rows.leaderboard(RunStatus(status="")))

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield a point for each row that the files hold of the run."""
        to = self._place(run)
        for row in _read(to / RESULTS_FILE, run):
            yield _point("result", RESULTS, row)
        for row in _read(to / LEADERBOARD_FILE, run):
            yield _point("leaderboard", LEADERBOARD, row)


def _point(series: str, columns: Sequence[str], row: Sequence[str]) -> Point:
    named = dict(zip(columns, row, strict=True))
    told = [value for name, value in named.items() if name not in _NOT_COMPARED]
    digest = hashlib.sha256("\0".join(told).encode()).hexdigest()
    return Point(f"{series} {named.get('dataset', '')}".rstrip(), None, digest)


def _read(path: Path, run: RunInfo) -> Iterator[list[str]]:
    """Yield the rows of *run*; nothing where the file is not there or has other columns."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            key = [cell(run.project), cell(run.run_id)]
            lines = csv.reader(file)
            header = next(lines, [])
            for row in lines:
                if len(row) == len(header) and row[:2] == key:
                    yield row
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SinkUnavailableError(f"{path} cannot be read: {error}.") from error
