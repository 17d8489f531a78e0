"""What lies below a root: how many runs, events and points, and how much room they take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from eventlog.clock import iso_utc
from eventlog.query.answer import html_table
from eventlog.query.connect import Connection
from eventlog.storage.layout import ARTIFACTS_DIRECTORY, LOG_DIRECTORY, STATE_DIRECTORY

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
    last_started_us: int | None

    @property
    def last_started_at(self) -> str | None:
        """Return when its newest run began, as ISO 8601."""
        return None if self.last_started_us is None else iso_utc(self.last_started_us)


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
        problems: runs that could not be read, a sentence for each; they are not counted.
    """

    root: str
    projects: list[ProjectStats]
    status: dict[str, int]
    busiest: list[MetricCount]
    experiments: int
    damage: int
    dropped: int
    cache_bytes: int
    problems: list[str]

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
        for shown, project in zip(found["projects"], self.projects, strict=True):
            del shown["last_started_us"]
            shown["last_started_at"] = project.last_started_at
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
        of_projects = _rows(connection, _OF_PROJECTS, list[tuple[str, int, int, int, int | None]])
        points = dict(_rows(connection, _POINTS, list[tuple[str, int]]))
        status = dict(_rows(connection, _STATUS, list[tuple[str, int]]))
        paths = _rows(connection, "SELECT project, path FROM runs", list[tuple[str, str]])
        keys = _rows(connection, _KEYS, list[tuple[str, int, int]])[:busiest]
        ((experiments, damage, dropped),) = _rows(connection, _OTHERS, list[tuple[int, int, int]])
        problems = list(connection.problems)
    sizes = _sizes(paths)
    return Stats(
        root=str(where),
        projects=[_project(points.get(row[0], 0), sizes.get(row[0], _Sizes()), *row) for row in of_projects],
        status=status,
        busiest=[MetricCount(key=key, runs=runs, points=count) for key, runs, count in keys],
        experiments=experiments,
        damage=damage,
        dropped=dropped,
        cache_bytes=directory_bytes(where / STATE_DIRECTORY),
        problems=problems,
    )


_OF_PROJECTS = """
    SELECT project, count(*), count(*) FILTER (status = 'running'), coalesce(sum(events), 0)::BIGINT,
           epoch_us(max(started_at))
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
    points: int, sizes: _Sizes, project: str, runs: int, running: int, events: int, last: int | None
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
        last_started_us=last,
    )


class _Sizes(msgspec.Struct):
    log: int = 0
    artifacts: int = 0
    other: int = 0


def _sizes(runs: Iterable[tuple[str, str]]) -> dict[str, _Sizes]:
    found: dict[str, _Sizes] = {}
    for project, path in runs:
        sizes = found.setdefault(project, _Sizes())
        whole = directory_bytes(Path(path))
        log = directory_bytes(Path(path, LOG_DIRECTORY))
        artifacts = directory_bytes(Path(path, ARTIFACTS_DIRECTORY))
        sizes.log += log
        sizes.artifacts += artifacts
        sizes.other += whole - log - artifacts
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
