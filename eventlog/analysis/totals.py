"""What lies below a root: how many runs, events and points, and how much room they take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from eventlog.query.answer import html_table
from eventlog.query.connect import Connection
from eventlog.storage.layout import LOG_DIRECTORY, iter_runs

BUSIEST = 10


class ProjectStats(msgspec.Struct, frozen=True, kw_only=True):
    """A project in few numbers; sizes in bytes on the disk."""

    project: str
    runs: int
    running: int
    events: int
    points: int
    log_bytes: int
    artifact_bytes: int
    other_bytes: int
    last_started_at: str | None


class MetricCount(msgspec.Struct, frozen=True, kw_only=True):
    """A metric, in how many runs it is and how many points it has."""

    key: str
    runs: int
    points: int


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What lies below a root.

    Attributes:
        status: number of runs by status.
        busiest: the metrics with the most points.
        cache_bytes: the cache of queries, which may be deleted.
    """

    root: str
    projects: list[ProjectStats]
    status: dict[str, int]
    busiest: list[MetricCount]
    experiments: int
    damage: int
    dropped: int
    cache_bytes: int

    @property
    def runs(self) -> int:
        """Return the number of runs."""
        return sum(project.runs for project in self.projects)

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all runs and of the cache."""
        parts = (p.log_bytes + p.artifact_bytes + p.other_bytes for p in self.projects)
        return sum(parts) + self.cache_bytes

    def to_dict(self) -> dict[str, object]:
        """Return everything in terms that JSON has."""
        found = msgspec.to_builtins(self)
        assert isinstance(found, dict)
        return found | {"runs": self.runs, "size_bytes": self.size_bytes}

    def _repr_html_(self) -> str:
        columns = ("project", "runs", "running", "events", "points", "log_bytes", "artifact_bytes")
        return html_table(columns, iter([tuple(getattr(p, name) for name in columns) for p in self.projects]))


def stats(root: str | os.PathLike[str] | None = None, *, busiest: int = BUSIEST) -> Stats:
    """Return what lies below *root* (default ``EVLOG_DIR`` or ``./experiments``).

    Raises:
        OSError: it cannot be read.
    """
    with Connection(root) as connection:
        where = connection.root
        of_projects = _rows(connection, _OF_PROJECTS, list[tuple[str, int, int, int, str | None]])
        points = dict(_rows(connection, _POINTS, list[tuple[str, int]]))
        status = dict(_rows(connection, _STATUS, list[tuple[str, int]]))
        keys = _rows(connection, _KEYS, list[tuple[str, int, int]])[:busiest]
        ((experiments, damage, dropped),) = _rows(connection, _OTHERS, list[tuple[int, int, int]])
    sizes = _sizes(where)
    return Stats(
        root=str(where),
        projects=[_project(points.get(row[0], 0), sizes.get(row[0], _Sizes()), *row) for row in of_projects],
        status=status,
        busiest=[MetricCount(key=key, runs=runs, points=count) for key, runs, count in keys],
        experiments=experiments,
        damage=damage,
        dropped=dropped,
        cache_bytes=directory_bytes(where / ".evlog"),
    )


_OF_PROJECTS = """
    SELECT project, count(*), count(*) FILTER (status = 'running'), coalesce(sum(events), 0)::BIGINT,
           max(started_at)::VARCHAR
    FROM runs GROUP BY project ORDER BY project
"""
_POINTS = "SELECT project, sum(count)::BIGINT FROM summaries GROUP BY project"
_STATUS = "SELECT status, count(*) FROM runs GROUP BY status ORDER BY status"
_KEYS = """
    SELECT key, count(*), sum(count)::BIGINT AS points FROM summaries GROUP BY key ORDER BY points DESC, key
"""
_OTHERS = """
    SELECT count(DISTINCT (project, experiment)) FILTER (experiment IS NOT NULL),
           coalesce(sum(damage), 0)::BIGINT, coalesce(sum(dropped), 0)::BIGINT
    FROM runs
"""

R = TypeVar("R")


def _rows(connection: Connection, sql: str, shape: type[R]) -> R:
    return msgspec.convert(connection.sql(sql).fetchall(), shape)


def _project(
    points: int, sizes: _Sizes, project: str, runs: int, running: int, events: int, last: str | None
) -> ProjectStats:
    return ProjectStats(
        project=project,
        runs=runs,
        running=running,
        events=events,
        points=points,
        log_bytes=sizes.log,
        artifact_bytes=sizes.artifacts,
        other_bytes=sizes.other,
        last_started_at=last,
    )


class _Sizes(msgspec.Struct):
    log: int = 0
    artifacts: int = 0
    other: int = 0


def _sizes(root: Path) -> dict[str, _Sizes]:
    found: dict[str, _Sizes] = {}
    for run in iter_runs(root):
        sizes = found.setdefault(run.project, _Sizes())
        for entry in os.scandir(run.path):
            size = directory_bytes(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else _bytes(entry)
            if entry.name == LOG_DIRECTORY:
                sizes.log += size
            elif entry.name == "artifacts":
                sizes.artifacts += size
            else:
                sizes.other += size
    return found


def directory_bytes(directory: Path) -> int:
    """Return the room that the files below *directory* take on the disk; links are not followed."""
    total = 0
    waiting = [directory]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        total += _bytes(entry)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # it has just gone, or is not ours to see
    return total


def _bytes(entry: os.DirEntry[str]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    blocks = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None else blocks * 512
