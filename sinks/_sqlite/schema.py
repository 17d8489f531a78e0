"""The tables, and how the database is opened.

Times are ISO 8601 in UTC, nested values JSON. A run is an experiment; its id is unique in its project.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.storage.layout import is_network_file_system
from eventlog.storage.modes import make_directory, opener

BUSY_TIMEOUT_S = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS experiments (
    experiment_id TEXT NOT NULL,
    project       TEXT NOT NULL,
    name          TEXT,
    experiment    TEXT,                       -- collection of related runs
    status        TEXT NOT NULL,              -- running, completed, failed, killed or crashed
    config        TEXT NOT NULL DEFAULT '{}', -- params, nested as they were logged
    notes         TEXT,
    tags          TEXT NOT NULL DEFAULT '{}',
    summary       TEXT NOT NULL DEFAULT '{}', -- final values and texts
    git_commit    TEXT,
    git_branch    TEXT,
    git_dirty     INTEGER,
    environment   TEXT NOT NULL DEFAULT '{}', -- what is known of machine, packages and command
    created_at    TEXT,
    finished_at   TEXT,
    PRIMARY KEY (project, experiment_id)
);
CREATE TABLE IF NOT EXISTS training_metrics (
    id            INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL,
    project       TEXT NOT NULL,
    step          INTEGER,
    metric_name   TEXT NOT NULL,              -- those of other ranks begin with rank<k>/
    metric_value  REAL,                       -- NULL is NaN
    timestamp     TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS training_metrics_of
    ON training_metrics (experiment_id, project, metric_name, step);
CREATE TABLE IF NOT EXISTS evaluation_results (
    id            INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL,
    project       TEXT NOT NULL,
    benchmark     TEXT NOT NULL,
    step          INTEGER,
    metrics       TEXT NOT NULL,              -- the numbers by name
    result        TEXT NOT NULL,              -- all that was logged of it
    timestamp     TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS evaluation_results_of ON evaluation_results (experiment_id, project, benchmark);
CREATE TABLE IF NOT EXISTS checkpoints (
    id            INTEGER PRIMARY KEY,
    experiment_id TEXT NOT NULL,
    project       TEXT NOT NULL,
    path          TEXT NOT NULL,
    step          INTEGER,
    metrics       TEXT NOT NULL,
    size_bytes    INTEGER,
    sha256        TEXT,
    timestamp     TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS checkpoints_of ON checkpoints (experiment_id, project);
CREATE VIEW IF NOT EXISTS evaluation_metrics AS
    SELECT e.experiment_id, e.project, e.benchmark, e.step, m.key AS metric_name, m.value AS metric_value,
           e.timestamp
    FROM evaluation_results AS e, json_each(e.metrics) AS m;
CREATE TABLE IF NOT EXISTS evlog_deliveries (
    project       TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    generation    INTEGER NOT NULL,
    started_us    INTEGER NOT NULL,
    PRIMARY KEY (project, experiment_id)
);
CREATE TABLE IF NOT EXISTS evlog_cursors (
    project       TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    writer        TEXT NOT NULL,
    segment       INTEGER NOT NULL,
    offset        INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    crc           TEXT NOT NULL,
    PRIMARY KEY (project, experiment_id, writer)
);
"""

OF_A_RUN = (
    *("experiments", "training_metrics", "evaluation_results", "checkpoints"),
    *("evlog_deliveries", "evlog_cursors"),
)


class OtherDatabaseError(EvlogError):
    """The file is no database of this sink."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} is not a database of the sqlite sink: {self.reason}. Give another path."


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the database, which is made if it is not there.

    Raises:
        OtherDatabaseError: the file is something else.
        SinkUnavailableError: it cannot be opened or written now.
    """
    with told(path):
        make_directory(path.parent)
        open(path, "ab", opener=opener).close()
        database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            _prepare(database, path)
        except BaseException:
            database.close()
            raise
    return database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "experiments" in names and "evlog_cursors" not in names:
        raise OtherDatabaseError(path, f"another tool made it (evlog import sqlite {path} reads such)")
    # Readers go on while somebody writes. On a network file system the log's shared memory is not shared.
    (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal" and not is_network_file_system(path.parent):
        with contextlib.suppress(sqlite3.OperationalError):  # another process is just doing it
            database.execute("PRAGMA journal_mode = WAL")
    # What was written has to be there after a power cut, for then it is not sent again.
    database.execute("PRAGMA synchronous = FULL")
    if set(OF_A_RUN) <= names:
        return
    with transaction(database):
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                database.execute(statement)


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing.

    Raises:
        SinkUnavailableError: it cannot be opened now.
    """
    with told(path):
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does, or nothing of it; wait for others who write."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the first error is the one that is told
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, full, read-only, cannot be opened
        raise SinkUnavailableError(f"{path}: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise OtherDatabaseError(path, str(error)) from error
    except OSError as error:
        raise SinkUnavailableError(f"{path}: {error.strerror or error}.") from error
