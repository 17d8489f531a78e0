"""Turns gathered lines into tables: Parquet files of the cache, or tables in memory for what is new.

DuckDB parses, sorts and writes. Points are sorted by run, metric and step, so that the history of one metric
is a few row groups; what is known of each metric in few numbers is computed here once, in parts that can be
joined, so that leaderboards never touch the points.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eventlog.ids import new_ulid
from eventlog.query.catalog import DataFile
from eventlog.query.gather import Gathering

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_OBJECT_BYTES = 16 << 20
"""The longest row for which there is always room; readers take no longer lines of metrics."""


class Stored(NamedTuple):
    """A table of the cache: columns and types, and the order of its rows."""

    columns: dict[str, str]
    order: str


_RUN = {"project": "VARCHAR", "run_id": "VARCHAR", "generation": "BIGINT"}
_AT = "STRUCT(ts BIGINT, writer VARCHAR, seq BIGINT)"

STORED = {
    "points": Stored(
        {
            **_RUN,
            "key": "VARCHAR",
            "step": "BIGINT",
            "ts": "BIGINT",
            "value": "DOUBLE",
            "writer": "VARCHAR",
            "rank": "INTEGER",
            "seq": "BIGINT",
        },
        "project, run_id, key, step, ts, writer, seq",
    ),
    "parts": Stored(
        {
            **_RUN,
            "key": "VARCHAR",
            "count": "BIGINT",
            "sum": "DOUBLE",
            "min": "DOUBLE",
            "max": "DOUBLE",
            "last": "DOUBLE",
            "last_at": _AT,
            "first_step": "BIGINT",
            "first_step_at": _AT,
            "last_step": "BIGINT",
            "last_step_at": _AT,
        },
        "key, project, run_id",
    ),
    "events": Stored(
        {
            **_RUN,
            "writer": "VARCHAR",
            "rank": "INTEGER",
            "seq": "BIGINT",
            "ts": "BIGINT",
            "sorted_at": "BIGINT",
            "type": "VARCHAR",
            "payload": "JSON",
        },
        "type, project, run_id, ts, writer, seq",
    ),
    "runs": Stored(
        {
            **_RUN,
            "name": "VARCHAR",
            "experiment": "VARCHAR",
            "status": "VARCHAR",
            "started_at": "BIGINT",
            "ended_at": "BIGINT",
            "duration_s": "DOUBLE",
            "parent_run_id": "VARCHAR",
            "tags": "MAP(VARCHAR, VARCHAR)",
            "note": "VARCHAR",
            "params": "JSON",
            "summary": "JSON",
            "error_type": "VARCHAR",
            "error_message": "VARCHAR",
            "exit_code": "INTEGER",
            "events": "BIGINT",
            "dropped": "BIGINT",
            "damage": "BIGINT",
            "host": "VARCHAR",
            "git_commit": "VARCHAR",
            "devices": "MAP(VARCHAR, DOUBLE)",
            "energy_kwh": "DOUBLE",
            "path": "VARCHAR",
        },
        "project, run_id",
    ),
    "params": Stored({**_RUN, "key": "VARCHAR", "value": "VARCHAR"}, "project, run_id, key"),
    "tags": Stored({**_RUN, "tag": "VARCHAR", "value": "VARCHAR"}, "project, run_id, tag"),
    "artifacts": Stored(
        {
            **_RUN,
            "name": "VARCHAR",
            "type": "VARCHAR",
            "version": "INTEGER",
            "path": "VARCHAR",
            "stored": "VARCHAR",
            "size_bytes": "BIGINT",
            "sha256": "VARCHAR",
            "ts": "BIGINT",
        },
        "project, run_id, name, version",
    ),
    "damage": Stored(
        {
            **_RUN,
            "writer": "VARCHAR",
            "segment": "INTEGER",
            "problem": "VARCHAR",
            "start_byte": "BIGINT",
            "end_byte": "BIGINT",
            "first_seq": "BIGINT",
            "last_seq": "BIGINT",
            "detail": "VARCHAR",
        },
        "project, run_id, writer, segment, start_byte",
    ),
}
"""The tables of the cache. ``parts`` are summaries of points, to be joined; ``sorted_at`` of an event is the
time that it is sorted by, where that is not its own."""

OF_RUNS = ("runs", "params", "tags", "artifacts", "damage")
"""Of these only the rows of a run's newest generation count; of the others all do."""

_LINE = "l: 'STRUCT(seq BIGINT, ts BIGINT, step BIGINT, data MAP(VARCHAR, DOUBLE))'"
_ANY_LINE = "l: 'STRUCT(seq VARCHAR, ts VARCHAR, step VARCHAR, data JSON)'"
_WHO = "p: 'VARCHAR', r: 'VARCHAR', w: 'VARCHAR', k: 'INTEGER', m: 'BIGINT'"

_PARTS = """
    SELECT project::VARCHAR AS project, run_id::VARCHAR AS run_id, generation,
           CASE WHEN rank = 0 THEN p.key::VARCHAR ELSE 'rank' || rank || '/' || p.key::VARCHAR END AS key,
           count(*) AS count, sum(value) AS sum,
           min(value) FILTER (NOT isnan(value)) AS min, max(value) FILTER (NOT isnan(value)) AS max,
           arg_max(value, place) AS last, max(place) AS last_at,
           arg_min(step, place) FILTER (step IS NOT NULL) AS first_step,
           min(place) FILTER (step IS NOT NULL) AS first_step_at,
           arg_max(step, place) FILTER (step IS NOT NULL) AS last_step,
           max(place) FILTER (step IS NOT NULL) AS last_step_at
    FROM (SELECT *, {{'ts': {at}, 'writer': writer::VARCHAR, 'seq': seq}} AS place FROM {points}) AS p
    GROUP BY project, run_id, generation, rank, p.key
"""

JOINED = """
    sum(count)::BIGINT AS count, sum(sum) AS sum, min(min) AS min, max(max) AS max,
    arg_max(last, last_at) AS last, max(last_at) AS last_at,
    arg_min(first_step, first_step_at) AS first_step, min(first_step_at) AS first_step_at,
    arg_max(last_step, last_step_at) AS last_step, max(last_step_at) AS last_step_at
"""
"""The cells of parts of one metric, joined."""


ENUMS = ("project", "run_id", "key", "writer")
"""Columns of points in which few texts stand for many rows: as enums they sort several times faster."""


def load(
    connection: DuckDBPyConnection, chunk: Gathering, prefix: str, *, is_for_files: bool = False
) -> list[str]:
    """Make a table ``<prefix>_<table>`` of each table that something was gathered for; return the names.

    Args:
        is_for_files: the tables are to be written, then `drop` removes them.

    Raises:
        duckdb.Error: no room for it.
    """
    tables = []
    points = chunk.path("metrics")
    if points is not None:
        _load_points(connection, points, f"{prefix}_points", chunk.generation)
        if is_for_files:
            _make_enums(connection, f"{prefix}_points")
        parts = parts_of(f"{prefix}_points", "coalesce(sorted_at, ts)")
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {prefix}_parts AS {parts}")
        tables += ["points", "parts"]
    for table, stored in STORED.items():
        path = chunk.path(table)
        if path is None or table in {"points", "parts"}:
            continue
        cells = ", ".join(
            f"{_cell(name, kind, chunk.generation)} AS {name}" for name, kind in stored.columns.items()
        )
        read = {
            name: "VARCHAR" if kind == "JSON" else kind
            for name, kind in stored.columns.items()
            if name != "generation"
        }
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {prefix}_{table} AS "
            f"SELECT {cells} FROM {_read_json(path, read, chunk.longest)}"
        )
        tables.append(table)
    return tables


def _make_enums(connection: DuckDBPyConnection, table: str) -> None:
    for name in ENUMS:
        connection.execute(f"DROP TYPE IF EXISTS {table}_{name}")
        connection.execute(
            f"CREATE TYPE {table}_{name} AS ENUM (SELECT DISTINCT {name} FROM {table} ORDER BY {name})"
        )
    cells = ", ".join(f"{name}::{table}_{name} AS {name}" for name in ENUMS)
    connection.execute(f"CREATE TEMP TABLE {table}_enums AS SELECT * REPLACE ({cells}) FROM {table}")
    connection.execute(f"DROP TABLE {table}")
    connection.execute(f"ALTER TABLE {table}_enums RENAME TO {table}")


def drop(connection: DuckDBPyConnection, prefix: str, tables: list[str]) -> None:
    """Remove the tables that `load` made to be written."""
    for table in tables:
        connection.execute(f"DROP TABLE {prefix}_{table}")
    if "points" in tables:
        for name in ENUMS:
            connection.execute(f"DROP TYPE IF EXISTS {prefix}_points_{name}")


def parts_of(points: str, at: str = "ts") -> str:
    """Return the SQL for the summaries of *points*, a table or a query in brackets, ready to be joined.

    Args:
        at: the time that points are sorted by.
    """
    return _PARTS.format(points=points, at=at)


def _cell(name: str, kind: str, generation: int) -> str:
    if name == "generation":
        return f"{generation}::BIGINT"
    # A line that verifies and that DuckDB takes for no JSON is kept as a text.
    return f"coalesce(TRY_CAST({name} AS JSON), to_json({name}))" if kind == "JSON" else f'"{name}"'


def _load_points(connection: DuckDBPyConnection, path: Path, table: str, generation: int) -> None:
    import duckdb

    def select(line: str, data: str) -> str:
        return f"""
            CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM (
                SELECT p AS project, r AS run_id, {generation}::BIGINT AS generation,
                       unnest(map_keys({data})) AS key, TRY_CAST(l.step AS BIGINT) AS step,
                       TRY_CAST(l.ts AS BIGINT) AS ts, unnest(map_values({data})) AS value, w AS writer,
                       k AS rank, TRY_CAST(l.seq AS BIGINT) AS seq, m AS sorted_at
                FROM {_read(path, f"{_WHO}, {line}", MAX_OBJECT_BYTES)}
            ) WHERE value IS NOT NULL
        """

    try:
        connection.execute(select(_LINE, "l.data"))
    except duckdb.InvalidInputException:
        # Somebody writes in our name what is no number: slower, and without that event's points.
        connection.execute(select(_ANY_LINE, "TRY_CAST(l.data AS MAP(VARCHAR, DOUBLE))"))


def write(
    connection: DuckDBPyConnection, directory: Path, prefix: str, tables: list[str]
) -> dict[str, DataFile]:
    """Write the tables that `load` made to Parquet files; return them by table.

    Raises:
        duckdb.Error, OSError: they could not be written; nothing names what is there of them.
    """
    return {table: write_table(connection, directory, table, f"{prefix}_{table}") for table in tables}


def write_table(connection: DuckDBPyConnection, directory: Path, table: str, relation: str) -> DataFile:
    """Write *relation*, a table or a query in brackets, as a new file of *table*, sorted."""
    name = f"{table}-{new_ulid()}.parquet"
    path = directory / name
    stored = STORED[table]
    columns = ", ".join(f'"{column}"' for column in stored.columns)
    copied = connection.execute(
        f"COPY (SELECT {columns} FROM {relation} ORDER BY {stored.order}) TO {quoted(path)} "
        "(FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION V2)"
    ).fetchone()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return DataFile(name, int(copied[0]) if copied else 0, path.stat().st_size)


def read_parquet(directory: Path, files: Sequence[DataFile]) -> str:
    """Return the SQL that reads *files*."""
    return f"read_parquet([{', '.join(pattern(directory / file.name) for file in files)}])"


def empty(table: str) -> str:
    """Return the SQL for *table* without rows."""
    cells = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in STORED[table].columns.items())
    return f"(SELECT {cells} LIMIT 0)"


def quoted(path: Path | str) -> str:
    """Return *path* as a text of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def pattern(path: Path | str) -> str:
    """Return a pattern that matches *path* only, as a text of SQL."""
    return quoted("".join(f"[{c}]" if c in "*?[" else c for c in str(path)))


def _read_json(path: Path, columns: dict[str, str], longest: int) -> str:
    read = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
    return _read(path, read, max(MAX_OBJECT_BYTES, longest + 1024))


def _read(path: Path, columns: str, longest: int) -> str:
    return (
        f"read_json({pattern(path)}, format='newline_delimited', columns={{{columns}}}, "
        f"maximum_object_size={longest})"
    )
