"""What is on this machine: the verified rows of all runs below a root, as the query cache holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import duckdb

from eventlog.lake.tables import EVENT_KINDS
from eventlog.query.convert import quoted
from eventlog.query.limits import default_memory, spill_directory
from eventlog.query.refresh import Overlay, Refreshed, refresh
from eventlog.query.views import create_views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_FINAL = {"running": 0, "crashed": 1}
_MAX_DAMAGE = (1 << 16) - 1

RunKey = tuple[str, str]
"""Project and run id."""


class WriterKey(NamedTuple):
    """Names a writer."""

    project: str
    run_id: str
    writer: str


class Part(NamedTuple):
    """What is to be published of a writer: rows from one seq on, up to another."""

    who: WriterKey
    start: int
    end: int


class Local:
    """One state of the cache. Not safe for several threads.

    Attributes:
        connection: with the views of `eventlog.query.views`.
        ends: the seq that comes next, of each writer.
        known: how much is known of each run; grows with every event, and when a run ends.
        points: number of points of each run.
        problems: runs that could not be read, a sentence each.
    """

    def __init__(self, connection: DuckDBPyConnection, state: Refreshed) -> None:
        self.connection = connection
        self.problems = state.overlay.problems
        self.ends = {
            WriterKey(entry.project, entry.run_id, writer): place.seq
            for entry in state.manifest.runs
            for writer, place in entry.places.items()
        }
        rows = connection.execute("SELECT project, run_id, status, events, damage FROM runs").fetchall()
        self.known = {(row[0], row[1]): _version(row[2], row[3], row[4] or 0) for row in rows}
        rows = connection.execute(
            "SELECT project, run_id, sum(count)::BIGINT FROM all_parts GROUP BY ALL"
        ).fetchall()
        self.points: dict[RunKey, int] = {(row[0], row[1]): row[2] for row in rows}

    @classmethod
    def open(cls, root: Path, *, on_progress: Callable[[int, int], None] | None = None) -> Self:
        """Bring the cache up to date and look at it.

        Raises:
            OSError, duckdb.Error: no room for the cache.
        """
        connection = duckdb.connect(
            ":memory:",
            config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"},
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET memory_limit = '{default_memory() // 1024}KiB'")
            found = refresh(root, connection, wants_all=True, on_progress=on_progress)
            connection.execute(f"SET temp_directory = {quoted(spill_directory(found.directory))}")
            # Rows that are in memory only have no place in the cache: they are published the next time.
            problems = Overlay(problems=found.overlay.problems)
            state = Refreshed(directory=found.directory, manifest=found.manifest, overlay=problems)
            create_views(connection, state)
            return cls(connection, state)
        except BaseException:
            connection.close()
            raise

    def ends_of(self, table: str) -> dict[WriterKey, int]:
        """Return the seq after the last row of *table*, of each writer that has any."""
        if table == "metrics":
            return self.ends
        kind = EVENT_KINDS[table]
        where = f"WHERE type = {quoted(kind)}" if kind else ""
        rows = self.connection.execute(
            f"SELECT project, run_id, writer, max(seq) + 1 FROM all_events {where} GROUP BY ALL"
        ).fetchall()
        return {WriterKey(row[0], row[1], row[2]): row[3] for row in rows if row[3] is not None}

    def select_parts(self, source: str, project: str, parts: Iterable[Part]) -> str:
        """Return SQL for the rows of *parts*, all of one project; until the next call."""
        rows = list(parts)
        low, high = min(one.who.run_id for one in rows), max(one.who.run_id for one in rows)
        # The bounds are for DuckDB: it passes over row groups of other runs.
        source = (
            f"SELECT * FROM ({source}) WHERE project = {quoted(project)} "
            f"AND run_id BETWEEN {quoted(low)} AND {quoted(high)}"
        )
        if self._is_all_between(project, low, high, rows):
            return source  # half the time of the join
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE part (run_id VARCHAR, writer VARCHAR, first BIGINT, next BIGINT)"
        )
        self.connection.execute(
            "INSERT INTO part SELECT unnest($1), unnest($2), unnest($3), unnest($4)",
            [
                [one.who.run_id for one in rows],
                [one.who.writer for one in rows],
                [one.start for one in rows],
                [one.end for one in rows],
            ],
        )
        return (
            f"SELECT s.* FROM ({source}) AS s "
            "JOIN part USING (run_id, writer) WHERE s.seq >= part.first AND s.seq < part.next"
        )

    def _is_all_between(self, project: str, low: str, high: str, parts: Sequence[Part]) -> bool:
        """Tell whether *parts* are everything that is here of the runs between two ids."""
        if any(part.start > 0 for part in parts):
            return False
        here = sum(who.project == project and low <= who.run_id <= high for who in self.ends)
        return here == len(parts)

    def select_runs(self, source: str, project: str, runs: Iterable[str]) -> str:
        """Return SQL for the rows of some runs of a project; until the next call, also ``some_run``."""
        self.connection.execute("CREATE OR REPLACE TEMP TABLE some_run (run_id VARCHAR)")
        self.connection.execute("INSERT INTO some_run SELECT unnest($1)", [list(runs)])
        return (
            f"SELECT s.* FROM (SELECT * FROM ({source}) WHERE project = {quoted(project)}) AS s "
            "SEMI JOIN some_run USING (run_id)"
        )

    def close(self) -> None:
        """Give the memory back."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _version(status: str | None, events: int, damage: int) -> int:
    """Return a number that grows with what is known; of equal events, an end is more than none."""
    return events << 20 | _FINAL.get(status or "", 2) << 16 | min(damage, _MAX_DAMAGE)
