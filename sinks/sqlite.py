"""The `sqlite` sink: runs as experiments in one SQLite database, for SQL and for tools that know its tables.

    experiments           a row for each run: params as ``config``, status, notes, tags, git, times
    training_metrics      a row for each value of each metric
    evaluation_results    a row for each evaluation; the view ``evaluation_metrics`` has a row for each number
    checkpoints           a row for each checkpoint

How a repeated batch becomes harmless: a batch and the place in the log behind it are written in one
transaction, `open` returns the places that the database holds, and of what comes again nothing is written
twice. Several processes may deliver to one database: each transaction waits for the others'. A database that
was deleted or set back is noticed, for the checkpoint says how much was in it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.errors import BadValueError, EvlogError, SinkRejectedError, SinkUnavailableError
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint, Cursor
from eventlog.storage.modes import close_to_others, is_private
from eventlog.values import flatten, number_in_memory, number_on_disk
from sinks._sqlite.experiment import Experiment, as_json
from sinks._sqlite.schema import OF_A_RUN, connect, connect_for_reading, told, transaction

_METRIC = "INSERT INTO training_metrics VALUES (NULL, ?, ?, ?, ?, ?, ?)"
_EVALUATION = "INSERT INTO evaluation_results VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)"
_CHECKPOINT = "INSERT INTO checkpoints VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
_CURSOR = "INSERT OR REPLACE INTO evlog_cursors VALUES (?, ?, ?, ?, ?, ?, ?)"

_Row = tuple[object, ...]


class RowsLostError(EvlogError):
    """The database holds less of a run than was delivered to it."""

    def __init__(self, path: Path, run: str) -> None:
        super().__init__(path, run)
        self.path, self.run = path, run

    def __str__(self) -> str:
        return (
            f"{self.path} has lost what was delivered of {self.run}: it was deleted, or is an older copy. "
            f"To deliver everything anew: evlog sync {self.run} --to sqlite … --restart"
        )


class OccupiedError(EvlogError):
    """Another run of the same project and id is in the database."""

    def __init__(self, path: Path, run: str) -> None:
        super().__init__(path, run)
        self.path, self.run = path, run

    def __str__(self) -> str:
        return (
            f"{self.path} holds another run {self.run}. Deliver this one to another database "
            "(`--option path=FILE`), or with --restart to put it in the other's place."
        )


class SQLiteSink:
    """Writes runs into the SQLite database *path*, which is made if it is not there."""

    traits: ClassVar[Traits] = Traits(batch_age_s=1.0)

    def __init__(self, *, path: str | Path = "./experiments.db") -> None:
        if not str(path) or "://" in str(path):
            raise ValueError(f"path is {str(path)!r}; it has to be a file on this machine.")
        self._path = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - also without `..`
        self._database: sqlite3.Connection | None = None
        self._run = RunInfo(project="", run_id="", path=Path())
        self._row = Experiment(experiment_id="", project="")
        self._next: dict[str, int] = {}

    @property
    def destination(self) -> str:
        """Return the database's file."""
        return str(self._path)

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Return how far the database has the run; a new generation begins without what was there.

        Raises:
            RowsLostError: the database holds less than was delivered.
            OccupiedError: another run has this project and id.
            OtherDatabaseError: the file is something else.
            SinkUnavailableError: it cannot be written now.
        """
        self._run = run
        database = connect(self._path)
        try:
            if is_private(run.path):
                _close(self._path)
            with told(self._path), transaction(database):
                self._enter(database)
                held = _cursors(database, run)
                self._row = Experiment.load(database, run)
                self._row.save(database)
            self._check_nothing_is_lost(held)
        except BaseException:
            database.close()
            raise
        self._database = database
        self._next = {writer: cursor.seq for writer, cursor in held.items()}
        return Checkpoint(cursors=held)

    def _check_nothing_is_lost(self, held: Mapping[str, Cursor]) -> None:
        delivered = self._run.state.get("events", {})
        for writer, seq in delivered.items() if isinstance(delivered, dict) else ():
            if writer not in held or held[writer].seq < seq:
                raise RowsLostError(self._path, f"{self._run.project}/{self._run.run_id}")

    def _enter(self, database: sqlite3.Connection) -> None:
        """Take note of the run, and forget an older generation of it."""
        run, key = self._run, (self._run.project, self._run.run_id)
        started_us = run.started.ts if run.started else 0
        known = database.execute(
            "SELECT generation, started_us FROM evlog_deliveries WHERE project = ? AND experiment_id = ?", key
        ).fetchone()
        if known and run.generation > known[0]:
            for table in OF_A_RUN:
                database.execute(f"DELETE FROM {table} WHERE project = ? AND experiment_id = ?", key)
            known = None
        if known and started_us and known[1] and known[1] != started_us:
            raise OccupiedError(self._path, "/".join(key))
        if not known:
            database.execute(
                "INSERT INTO evlog_deliveries VALUES (?, ?, ?, ?)", (*key, run.generation, started_us)
            )

    def write(self, batch: Batch) -> None:
        """Write the batch and the place behind it, both or neither.

        Raises:
            SinkRejectedError: a number is too large for SQLite.
            SinkUnavailableError: the database is locked for too long, full, or read-only, or somebody else
                delivers this run there.
        """
        assert self._database is not None
        rows = Rows(self._run)
        is_row_new = False
        cursors: dict[str, Cursor] = {}
        for part in batch.slices:
            fresh = [event for event in part.events if event.seq >= self._next.get(part.writer, 0)]
            for event in fresh:
                is_row_new |= self._row.take(event)
                rows.take(Entry(part.writer, part.rank, event))
            if fresh:
                cursors[part.writer] = part.cursor
        try:
            with told(self._path), transaction(self._database):
                self._check_nobody_else_was_here()
                rows.insert(self._database)
                if is_row_new:
                    self._row.save(self._database)
                key = (self._run.project, self._run.run_id)
                self._database.executemany(
                    _CURSOR, [(*key, w, c.segment, c.offset, c.seq, c.crc) for w, c in cursors.items()]
                )
        except (OverflowError, UnicodeEncodeError) as error:
            self._row = Experiment.load(self._database, self._run)
            raise SinkRejectedError(f"SQLite cannot hold it: {error}.") from error
        self._next |= {writer: cursor.seq for writer, cursor in cursors.items()}

    def _check_nobody_else_was_here(self) -> None:
        """See to it that two processes, which no lease keeps apart, never write the same events."""
        assert self._database is not None
        held = {writer: cursor.seq for writer, cursor in _cursors(self._database, self._run).items()}
        if held != self._next:
            run = f"{self._run.project}/{self._run.run_id}"
            raise SinkUnavailableError(f"{self._path}: another process has delivered {run} meanwhile.")

    def state(self) -> dict[str, object]:
        """Return how many events of each writer are in the database, to notice if they get lost."""
        return {"events": dict(self._next)}

    def close(self, status: RunStatus | None) -> None:
        """Write how the run stands, and let go of the database."""
        if self._database is None:
            return
        database, self._database = self._database, None
        try:
            if status is not None:
                self._row.end(status)
                with told(self._path), transaction(database):
                    self._row.save(database)
        finally:
            database.close()

    # --- reading back ------------------------------------------------------------------------------------

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield what the tables should hold: metrics, evaluations, checkpoints, params."""
        run = RunInfo(project="", run_id="", path=Path())
        row = Experiment(experiment_id="", project="")
        for entry in entries:
            row.take(entry.event)
            rows = Rows(run)
            rows.take(entry)
            yield from _points(rows.metrics, rows.evaluations, rows.checkpoints)
        yield from _params(row.config)

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield what the tables hold of the run."""
        if not self._path.exists():
            return
        database = connect_for_reading(self._path)
        try:
            with told(self._path):
                key = (run.project, run.run_id)
                for table in ("training_metrics", "evaluation_results", "checkpoints"):
                    found = database.execute(
                        f"SELECT * FROM {table} WHERE project = ? AND experiment_id = ?", key
                    )
                    given = {table: (row[1:] for row in found)}
                    yield from _points(*(given.get(name, ()) for name in _TABLES_OF_ROWS))
                yield from _params(Experiment.load(database, run).config)
        finally:
            database.close()


_TABLES_OF_ROWS = ("training_metrics", "evaluation_results", "checkpoints")


class Rows:
    """The rows that events become, without their numbers."""

    def __init__(self, run: RunInfo) -> None:
        self._key = (run.run_id, run.project)
        self.metrics: list[_Row] = []
        self.evaluations: list[_Row] = []
        self.checkpoints: list[_Row] = []

    def take(self, entry: Entry) -> None:
        """Take the next event."""
        match entry.event:
            case ev.Metrics() as event:
                time = iso_utc(event.ts)
                for key, value in event.data.items():
                    self.metrics.append((*self._key, event.step, entry.name(key), _number(value), time))
            case ev.Evaluation() as event if not isinstance(event.data.get("sample"), int):
                numbers, result = as_json(event.metrics), as_json(event.data)
                place = (event.benchmark, event.step)
                self.evaluations.append((*self._key, *place, numbers, result, iso_utc(event.ts)))
            case ev.Checkpoint() as event:
                place = (event.path, event.step)
                about = (as_json(event.metrics), event.size_bytes, event.sha256)
                self.checkpoints.append((*self._key, *place, *about, iso_utc(event.ts)))

    def insert(self, database: sqlite3.Connection) -> None:
        """Write the rows."""
        database.executemany(_METRIC, self.metrics)
        database.executemany(_EVALUATION, self.evaluations)
        database.executemany(_CHECKPOINT, self.checkpoints)


def _number(value: int | float | str) -> float | None:
    try:
        return number_in_memory(value) + 0.0  # SQLite makes NULL of NaN, and 0 of -0.0
    except (BadValueError, OverflowError):
        return None


def _close(path: Path) -> None:
    """Let nobody else read the database, into which a private run comes."""
    try:
        close_to_others(path)
    except OSError as error:
        raise EvlogError(
            f"{path} belongs to somebody else, and the run is private. Give it a database of its own."
        ) from error


def _cursors(database: sqlite3.Connection, run: RunInfo) -> dict[str, Cursor]:
    found = database.execute(
        "SELECT writer, segment, offset, seq, crc FROM evlog_cursors WHERE project = ? AND experiment_id = ?",
        (run.project, run.run_id),
    )
    return {
        writer: Cursor(segment=segment, offset=offset, seq=seq, crc=crc)
        for writer, segment, offset, seq, crc in found
    }


# --- comparing -------------------------------------------------------------------------------------------


def _points(
    metrics: Iterable[_Row], evaluations: Iterable[_Row], checkpoints: Iterable[_Row]
) -> Iterator[Point]:
    for _, _, step, name, value, time in metrics:
        yield _point(f"metric {name}", step, "NaN" if value is None else value, time)
    for _, _, benchmark, step, numbers, result, time in evaluations:
        yield _point(f"evaluation {benchmark}", step, f"{numbers} {result}", time)
    for _, _, path, step, numbers, size_bytes, sha256, time in checkpoints:
        yield _point("checkpoint", step, f"{path} {numbers} {size_bytes} {sha256}", time)


def _point(series: str, step: object, value: object, time: object) -> Point:
    if isinstance(value, float):
        value = number_on_disk(value)
    return Point(series, step, value, _microseconds(str(time)))  # type: ignore[arg-type]  # as the tables hold them


def _params(config: dict[str, object]) -> Iterator[Point]:
    for name, value in flatten(config).items():
        yield Point(f"param {name}", None, json.dumps(value, sort_keys=True))


def _microseconds(time: str) -> int:
    if time.lstrip("-").isdecimal():
        return int(time)  # a time that no calendar holds
    return (datetime.fromisoformat(time) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
