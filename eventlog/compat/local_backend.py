"""Reads the SQLite database that the `sqlite` sink writes."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventlog.errors import AmbiguousRunError, EvlogError

_JSON = frozenset({"config", "tags", "summary", "environment", "metrics", "result"})
_HIDDEN = frozenset({"id"})


class DatabaseError(EvlogError, OSError):
    """The database is not there, or is something else."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.reason}. ExperimentTracker writes such a database, and so does "
            "`evlog sync --to sqlite --option path=FILE`; `evlog import sqlite` reads those of other tools."
        )


class LocalBackend:
    """Experiments in a database, as plain dicts; also while they go on.

    An id is looked for in all projects; one that several have is written as ``project/id``. Each call opens
    the database and closes it again, so one object may be used by several threads.

    Args:
        path: the database, as it was given to `ExperimentTracker` or the `sqlite` sink.
    """

    def __init__(self, path: str | Path = "experiments.db") -> None:
        self.path = Path(path)

    def get_all_experiments(self) -> list[dict[str, Any]]:
        """Return all experiments in the order in which they began; see `get_experiment`.

        Raises:
            DatabaseError: there is no such database.
        """
        return self._select("SELECT * FROM experiments ORDER BY created_at, project, experiment_id")

    def get_experiment(self, exp_id: str) -> dict[str, Any] | None:
        """Return what the columns of ``experiments`` say, JSON as dicts; None if there is no such id.

        Raises:
            AmbiguousRunError: several projects have the id.
            DatabaseError: there is no such database.
        """
        found = self._of("SELECT * FROM experiments WHERE {of}", exp_id)
        if len(found) > 1:
            raise AmbiguousRunError(exp_id, [f"{row['project']}/{row['experiment_id']}" for row in found])
        return found[0] if found else None

    def get_metrics(self, exp_id: str, metric_name: str | None = None) -> list[dict[str, Any]]:
        """Return ``step``, ``metric_name``, ``metric_value`` and ``timestamp`` of each value, in their order.

        Args:
            metric_name: only this one.
        """
        rows = self._of_one("SELECT * FROM training_metrics WHERE {of} ORDER BY id", exp_id)
        for row in rows:
            if row["metric_value"] is None:
                row["metric_value"] = math.nan
        return [row for row in rows if metric_name in (None, row["metric_name"])]

    def get_evaluation_results(self, exp_id: str, benchmark: str | None = None) -> list[dict[str, Any]]:
        """Return ``benchmark``, ``step``, ``metrics``, ``result`` and ``timestamp`` of each evaluation.

        Args:
            benchmark: only of this one.
        """
        rows = self._of_one("SELECT * FROM evaluation_results WHERE {of} ORDER BY id", exp_id)
        return [row for row in rows if benchmark in (None, row["benchmark"])]

    def get_checkpoints(self, exp_id: str) -> list[dict[str, Any]]:
        """Return ``path``, ``step``, ``metrics``, ``size_bytes``, ``sha256`` and ``timestamp`` of each."""
        return self._of_one("SELECT * FROM checkpoints WHERE {of} ORDER BY id", exp_id)

    # --- reading -----------------------------------------------------------------------------------

    def _of_one(self, sql: str, exp_id: str) -> list[dict[str, Any]]:
        self.get_experiment(exp_id)  # an id that several projects have would mix them
        return self._of(sql, exp_id)

    def _of(self, sql: str, exp_id: str) -> list[dict[str, Any]]:
        project, slash, name = exp_id.partition("/")
        if slash:
            return self._select(sql.format(of="project = ? AND experiment_id = ?"), project, name)
        return self._select(sql.format(of="experiment_id = ?"), exp_id)

    def _select(self, sql: str, *values: str) -> list[dict[str, Any]]:
        with self._opened() as database:
            return [_plain(dict(row)) for row in database.execute(sql, values)]

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise DatabaseError(self.path, "there is no such file")
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)
        database.row_factory = sqlite3.Row
        try:
            yield database
        except sqlite3.Error as error:
            raise DatabaseError(self.path, str(error)) from error
        finally:
            database.close()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    for name, value in row.items():
        if name in _JSON and isinstance(value, str):
            row[name] = json.loads(value)
        elif name == "git_dirty" and value is not None:
            row[name] = bool(value)
    return {name: value for name, value in row.items() if name not in _HIDDEN}
