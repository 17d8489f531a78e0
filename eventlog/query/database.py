"""A DuckDB database with the tables of all runs, and results that stream.

The database is in memory and made anew each time: it always shows the last verified line of every run,
running ones included. SQL sees the tables and nothing else: files, network, extensions and settings are
locked before the first query runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from eventlog.errors import QueryError
from eventlog.query.convert import quoted
from eventlog.query.refresh import refresh
from eventlog.query.views import create_views

ROWS_AT_ONCE = 2048
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Result:
    """Rows of a query, fetched as they are wanted. Times are datetimes in UTC."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, columns: list[str], times: list[int]) -> None:
        self.columns = columns
        self._connection = connection
        self._times = times

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the rows.

        Raises:
            QueryError: DuckDB failed in the middle.
        """
        try:
            while rows := self._connection.fetchmany(ROWS_AT_ONCE):
                yield from (self._with_times(row) for row in rows) if self._times else rows
        except duckdb.Error as error:
            raise QueryError(str(error)) from error

    def _with_times(self, row: tuple[object, ...]) -> tuple[object, ...]:
        cells = list(row)
        for index in self._times:
            cell = cells[index]
            if isinstance(cell, int):
                cells[index] = _EPOCH + timedelta(microseconds=cell)
        return tuple(cells)


class Database:
    """The tables of all runs below a root. Not thread-safe."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, problems: list[str]) -> None:
        self._connection = connection
        self.problems = problems

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Verify and load the runs below *root*.

        Args:
            on_progress: called with the number of runs that are loaded, and of all.

        Raises:
            OSError: no room for temporary files.
        """
        connection = duckdb.connect(
            ":memory:",
            config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"},
        )
        connection.execute("SET TimeZone = 'UTC'")
        state = refresh(root, connection, on_progress=on_progress)
        create_views(connection, state)
        connection.execute(f"SET allowed_directories = [{quoted(state.directory)}]")
        return cls(connection, state.overlay.problems)

    def execute(self, sql: str, parameters: dict[str, object] | None = None) -> Result:
        """Run *sql* and return its rows; files and settings are out of reach.

        Raises:
            QueryError: DuckDB refused it.
        """
        self._lock()
        sql = sql.strip().rstrip(";")
        try:
            wrapped, columns, times = self._without_zones(sql, parameters or {})
            self._connection.execute(wrapped, parameters or {})
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        if not columns:
            columns = [str(column[0]) for column in self._connection.description or []]
        return Result(self._connection, columns, times)

    def _without_zones(self, sql: str, parameters: dict[str, object]) -> tuple[str, list[str], list[int]]:
        """Return *sql* with times as microseconds, its columns, and which of them are times.

        DuckDB needs another package to hand a TIMESTAMPTZ to Python.
        """
        try:
            described = self._connection.execute(f"DESCRIBE {sql}\n", parameters).fetchall()
        except duckdb.Error:
            return sql, [], []  # no SELECT, or a wrong one: then the real call says what is wrong
        columns = [str(row[0]) for row in described]
        times = [i for i, row in enumerate(described) if row[1] == "TIMESTAMP WITH TIME ZONE"]
        if not times:
            return sql, columns, []
        cells = ", ".join(f"epoch_us(c{i})" if i in times else f"c{i}" for i in range(len(columns)))
        names = ", ".join(f"c{i}" for i in range(len(columns)))
        return f"SELECT {cells} FROM (\n{sql}\n) AS evlog_result({names})", columns, times

    def write_parquet(self, sql: str, path: Path) -> int:
        """Write the rows of *sql* to a Parquet file; return their number.

        Raises:
            QueryError: DuckDB refused it, or the file cannot be written.
        """
        quoted = str(path).replace("'", "''")
        try:
            # The one call that writes: to the file that the caller of the command line named.
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE evlog_result AS {sql}")
            self._connection.execute(f"COPY evlog_result TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)")
            counted = self._connection.execute("SELECT count(*) FROM evlog_result").fetchone()
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        return int(counted[0]) if counted else 0

    def _lock(self) -> None:
        try:
            self._connection.execute("SET enable_external_access = false")
            self._connection.execute("SET lock_configuration = true")
        except duckdb.Error:
            pass  # it is locked already

    def close(self) -> None:
        """Give the memory back; called twice, the second call does nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
