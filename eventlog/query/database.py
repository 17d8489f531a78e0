"""A DuckDB database with the tables of all runs, and results that stream.

The database is in memory and made anew each time: it always shows the last verified line of every run,
running ones included. SQL sees the tables and nothing else: files, network, extensions and settings are
locked before the first query runs. That keeps mistakes away; for harm there is `eventlog.query.sandbox`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from eventlog.errors import QueryError
from eventlog.query.asof import Past, keep
from eventlog.query.catalog import cache_directory
from eventlog.query.convert import pattern, quoted
from eventlog.query.limits import default_memory, spill_directory
from eventlog.query.prices import read_prices
from eventlog.query.refresh import refresh
from eventlog.query.shape import Shape
from eventlog.query.views import definitions

ROWS_AT_ONCE = 2048
ZONED = "TIMESTAMP WITH TIME ZONE"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABOUT_TABLES = re.compile(
    r"\b(show|describe|summarize|duckdb_\w+|information_schema|sqlite_master|pg_catalog|query|query_table|"
    r"pragma\w*)\b",
    re.IGNORECASE,
)


class Result:
    """Rows of a query, fetched as they are wanted. Times are datetimes in UTC.

    Attributes:
        columns: their names.
        types: what DuckDB calls their types.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, columns: list[tuple[str, str]]) -> None:
        self.columns = [name for name, _ in columns]
        self.types = [kind for _, kind in columns]
        self._cursor = cursor
        self._times = [i for i, kind in enumerate(self.types) if kind == ZONED]

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the rows.

        Raises:
            QueryError: DuckDB failed in the middle.
        """
        try:
            while rows := self._cursor.fetchmany(ROWS_AT_ONCE):
                yield from (self._with_times(row) for row in rows) if self._times else rows
        except duckdb.Error as error:
            raise query_error(error) from error

    def _with_times(self, row: tuple[object, ...]) -> tuple[object, ...]:
        cells = list(row)
        for index in self._times:
            cell = cells[index]
            if isinstance(cell, int):
                with contextlib.suppress(OverflowError):  # an infinite time; it stays a number
                    cells[index] = _EPOCH + timedelta(microseconds=cell)
        return tuple(cells)


class Database:
    """The tables of all runs below a root, as they were when it was opened.

    Any number of threads may ask at once.

    Attributes:
        directory: the cache.
        problems: runs that could not be read, a sentence for each.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, shape: Shape, directory: Path, problems: list[str]
    ) -> None:
        self._connection, self._shape = connection, shape
        self._described: dict[object, list[tuple[str, str]]] = {}
        self.directory, self.problems = directory, problems

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        as_of: str | datetime | None = None,
        memory: int | None = None,
        writes_to: Path | None = None,
    ) -> Self:
        """Verify and load what is new in the runs below *root*.

        Args:
            on_progress: called with the number of runs that are loaded, and of all.
            as_of: a time or RUN:SEQ: the tables are as they were then.
            memory: bytes that DuckDB may take before it spills to disk; default a quarter of the machine's.
            writes_to: the one file that SQL may write.

        Raises:
            OSError: no room for the cache.
            QueryError: *as_of* is no moment, or the memory is too little.
            ConfigurationError: the prices in ``evlog.toml`` are none.
        """
        # Paths stay in the cache, and other processes read them from elsewhere.
        root = root.absolute()
        prices = read_prices(root)
        connection = open_connection(cache_directory(root), memory)
        try:
            state = refresh(root, connection, on_progress=on_progress)
            keep(connection, "live", state.overlay.tables)
            views = definitions(state, prices)
            if as_of is not None:
                past = Past(root, connection, state).definitions(as_of)
                views = past | {name: body for name, body in views.items() if name not in past}
            _lock(connection, state.directory, writes_to)
        except duckdb.Error as error:
            connection.close()
            raise query_error(error) from error
        except BaseException:
            connection.close()
            raise
        return cls(connection, Shape(connection, views), state.directory, state.overlay.problems)

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> Result:
        """Run *sql* and return its rows; files and settings are out of reach.

        Raises:
            QueryError: DuckDB refused it.
        """
        sql, values = _statement(sql), dict(parameters or {})
        try:
            with self._prepared(sql):
                cursor = self._connection.cursor()
                columns = self._describe(cursor, sql, values)
                cursor.execute(_without_zones(sql, columns), values)
        except duckdb.Error as error:
            raise query_error(error) from error
        return Result(cursor, columns or columns_of(cursor))

    def relation(self, sql: str, parameters: Mapping[str, object] | None = None) -> duckdb.DuckDBPyRelation:
        """Return *sql* as a relation of DuckDB: for `df`, `arrow` and whatever else it makes of rows.

        Raises:
            QueryError: DuckDB refused it.
        """
        sql = _statement(sql)
        try:
            with self._prepared(sql):
                # An empty dict would make DuckDB hold the whole result in memory.
                found = self._connection.cursor().sql(sql, params=dict(parameters or {}) or None)
        except duckdb.Error as error:
            raise query_error(error) from error
        if found is None:
            raise QueryError("This statement has no rows.")
        return found

    def write_parquet(self, sql: str, path: Path, parameters: Mapping[str, object] | None = None) -> int:
        """Write the rows of *sql* to the file that `open` was given; return their number.

        Raises:
            QueryError: DuckDB refused it, or the file cannot be written.
        """
        return self._copy(_statement(sql), path, dict(parameters or {}))

    def export(self, directory: Path) -> list[str]:
        """Write the rows that are in memory only to *directory*, below the cache; return SQL that makes all.

        Raises:
            QueryError: no room.
        """
        tables = self._connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'memory' AND NOT internal"
        ).fetchall()
        made = []
        for (table,) in tables:
            path = directory / f"{table}.parquet"
            self._copy(f"FROM {table}", path, {})
            made.append(f"CREATE VIEW {table} AS FROM read_parquet({quoted(path)})")
        return made + self._shape.statements()

    def _copy(self, sql: str, path: Path, values: dict[str, object]) -> int:
        try:
            with self._prepared(sql):
                copied = self._connection.cursor().execute(
                    f"COPY (\n{sql}\n) TO {quoted(path)} (FORMAT parquet, COMPRESSION zstd)", values
                )
                counted = copied.fetchone()
        except duckdb.Error as error:
            raise query_error(error) from error
        return int(counted[0]) if counted else 0

    def _describe(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, values: dict[str, object]
    ) -> list[tuple[str, str]]:
        """Return columns and types; remembered, for that costs as much as the answer to a small question."""
        key = sql, tuple((name, type(value)) for name, value in values.items())
        if key not in self._described:
            try:
                rows = cursor.execute(f"DESCRIBE {sql}\n", values).fetchall()
            except duckdb.Error:
                # No SELECT, or a wrong one: then the real call says what is wrong; it may change the tables.
                self._described.clear()
                return []
            self._described[key] = [(row[0], row[1]) for row in rows]
        return self._described[key]

    @contextlib.contextmanager
    def _prepared(self, sql: str) -> Iterator[None]:
        try:
            if _ABOUT_TABLES.search(sql):
                self._shape.prepare_all()
            else:
                self._shape.prepare(sql)
            yield
        except duckdb.Error as error:
            raise query_error(error) from error

    def close(self) -> None:
        """Give the memory back; called twice, the second call does nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_connection(cache: Path, memory: int | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection to a new database in memory that spills into *cache*.

    Args:
        memory: bytes that it may take; default a quarter of the machine's.
    """
    connection = duckdb.connect(
        ":memory:",
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"},
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET memory_limit = '{(memory or default_memory()) // 1024}KiB'")
    connection.execute(f"SET temp_directory = {quoted(spill_directory(cache))}")
    return connection


def query_error(error: Exception) -> QueryError:
    """Return what DuckDB says as an error of ours, with a way out where we know one."""
    text = str(error)
    if "'pytz'" in text:
        text = "A time with a zone inside a list, struct or map cannot be shown. Cast it: x::TIMESTAMP[]."
    elif "Cannot open file" in text and ".scratch-" not in text and "No such file" in text:
        text = f"{text}\nThe cache was renewed meanwhile; ask again."
    return QueryError(text)


def _lock(connection: duckdb.DuckDBPyConnection, directory: Path, writes_to: Path | None) -> None:
    # Permission is asked for the pattern that stands in the SQL, then for the file that it matches.
    connection.execute(f"SET allowed_directories = [{quoted(directory)}, {pattern(directory)}]")
    if writes_to is not None:
        connection.execute(f"SET allowed_paths = [{quoted(writes_to)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _statement(sql: str) -> str:
    return sql.strip().rstrip(";")


def _without_zones(sql: str, columns: list[tuple[str, str]]) -> str:
    """Return *sql* with times as microseconds: DuckDB needs another package to hand those to Python."""
    if not any(kind == ZONED for _, kind in columns):
        return sql
    cells = ", ".join(f"epoch_us(c{i})" if kind == ZONED else f"c{i}" for i, (_, kind) in enumerate(columns))
    names = ", ".join(f"c{i}" for i in range(len(columns)))
    return f"SELECT {cells} FROM (\n{sql}\n) AS evlog_result({names})"


def columns_of(cursor: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Return the columns of what *cursor* has run, and their types."""
    return [(str(column[0]), str(column[1])) for column in cursor.description or []]
