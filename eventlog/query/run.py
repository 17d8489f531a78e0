"""A run as an object: what `runs` says of it, typed, and ways to the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventlog.query.connect import Connection
    from eventlog.query.series import Series

_NAMES = (
    "project",
    "run_id",
    "name",
    "experiment",
    "status",
    "started_at",
    "ended_at",
    "duration_s",
    "parent_run_id",
    "tags",
    "note",
    "params",
    "summary",
    "error_type",
    "error_message",
    "exit_code",
    "host",
    "git_commit",
    "path",
)
COLUMNS = ", ".join(_NAMES)
"""The columns of `runs` that make a `Run`, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A metric of a run in few numbers; the columns of `summaries`."""

    last: float
    min: float | None
    max: float | None
    mean: float
    count: int
    first_step: int | None
    last_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactVersion:
    """One version of a logged file or directory; *path* is below the run's directory for copies."""

    name: str
    type: str | None
    version: int
    path: str
    stored: str
    size_bytes: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of a run. Times are in UTC; params and summary are as they were logged."""

    project: str
    id: str
    name: str
    experiment: str | None
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    parent_run_id: str | None
    tags: dict[str, str | None]
    note: str | None
    params: dict[str, Any]
    summary: dict[str, Any]
    error_type: str | None
    error_message: str | None
    exit_code: int | None
    host: str | None
    git_commit: str | None
    path: Path
    _connection: Connection = field(repr=False, compare=False)

    @classmethod
    def of_row(cls, connection: Connection, row: tuple[Any, ...]) -> Run:
        """Return the run of a row with `COLUMNS`."""
        values = dict(zip(_NAMES, row, strict=True))
        values["id"] = values.pop("run_id")
        values["tags"] = dict(values["tags"] or {})
        values["params"] = json.loads(values["params"] or "{}")
        values["summary"] = json.loads(values["summary"] or "{}")
        values["path"] = Path(values["path"])
        return cls(**values, _connection=connection)

    def keys(self) -> list[str]:
        """Return the names of its metrics, sorted."""
        return sorted(self.statistics())

    def metrics(self, key: str, *, rank: int | None = None) -> Series:
        """Return all points of a metric as arrays.

        Raises:
            MetricNotFoundError: the run never logged it.
        """
        return self._connection.metrics(f"{self.project}/{self.id}", key, rank=rank)

    def statistics(self) -> dict[str, Statistics]:
        """Return each metric in few numbers; those of other ranks are called ``rank<k>/…``."""
        rows = self._of("key, last, min, max, mean, count, first_step, last_step", "summaries", "key")
        names = Statistics.__slots__
        return {row[0]: Statistics(**dict(zip(names, row[1:], strict=True))) for row in rows}

    def artifacts(self) -> list[ArtifactVersion]:
        """Return all versions of its artifacts, by name and version."""
        names = ArtifactVersion.__slots__
        rows = self._of(", ".join(names), "artifacts", "name, version")
        return [ArtifactVersion(**dict(zip(names, row, strict=True))) for row in rows]

    def _of(self, columns: str, table: str, order: str) -> list[tuple[Any, ...]]:
        return self._connection.sql(
            f"SELECT {columns} FROM {table} WHERE project = $project AND run_id = $run_id ORDER BY {order}",
            project=self.project,
            run_id=self.id,
        ).fetchall()
