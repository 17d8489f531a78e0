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
"""The longest line that a query takes in; a longer one was never written by us."""


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
            "type": "VARCHAR",
            "payload": "VARCHAR",
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
"""The tables of the cache. ``parts`` are summaries of the points of one file, to be joined."""

OF_RUNS = ("runs", "params", "tags", "artifacts", "damage")
"""Of these only the rows of a run's newest generation count; of the others all do."""

_LINE = "l: 'STRUCT(seq BIGINT, ts BIGINT, step BIGINT, data MAP(VARCHAR, DOUBLE))'"
_WHO = "p: 'VARCHAR', r: 'VARCHAR', w: 'VARCHAR', k: 'INTEGER'"

_PARTS = """
    SELECT project, run_id, generation,
           CASE WHEN rank = 0 THEN p.key ELSE 'rank' || rank || '/' || p.key END AS key,
           count(*) AS count, sum(value) AS sum,
           min(value) FILTER (NOT isnan(value)) AS min, max(value) FILTER (NOT isnan(value)) AS max,
           arg_max(value, place) AS last, max(place) AS last_at,
           arg_min(step, place) FILTER (step IS NOT NULL) AS first_step,
           min(place) FILTER (step IS NOT NULL) AS first_step_at,
           arg_max(step, place) FILTER (step IS NOT NULL) AS last_step,
           max(place) FILTER (step IS NOT NULL) AS last_step_at
    FROM (SELECT *, {{'ts': ts, 'writer': writer, 'seq': seq}} AS place FROM {points}) AS p
    GROUP BY project, run_id, generation, rank, p.key
"""


def load(connection: DuckDBPyConnection, gathered: Gathering, prefix: str) -> list[str]:
    """Make a table ``<prefix>_<table>`` of each table that something was gathered for; return the names.

    Raises:
        duckdb.Error: no room for it.
    """
    tables = []
    points = gathered.path("metrics")
    if points is not None:
        _load_points(connection, points, f"{prefix}_points", gathered.generation)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {prefix}_parts AS {parts_of(f'{prefix}_points')}")
        tables += ["points", "parts"]
    for table, stored in STORED.items():
        path = gathered.path(table)
        if path is None or table in {"points", "parts"}:
            continue
        cells = ", ".join(
            f"{gathered.generation}::BIGINT AS generation" if name == "generation" else f'"{name}"'
            for name in stored.columns
        )
        read = ", ".join(f"{name}: '{kind}'" for name, kind in stored.columns.items() if name != "generation")
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {prefix}_{table} AS SELECT {cells} FROM {_read_json(path, read)}"
        )
        tables.append(table)
    return tables


def parts_of(points: str) -> str:
    """Return the SQL for the summaries of *points*, a table or a query in brackets, ready to be joined."""
    return _PARTS.format(points=points)


def _load_points(connection: DuckDBPyConnection, path: Path, table: str, generation: int) -> None:
    import duckdb

    def select(line: str, data: str) -> str:
        return f"""
            CREATE OR REPLACE TEMP TABLE {table} AS
            SELECT p AS project, r AS run_id, {generation}::BIGINT AS generation,
                   unnest(map_keys({data})) AS key, l.step AS step, l.ts AS ts,
                   unnest(map_values({data})) AS value, w AS writer, k AS rank, l.seq AS seq
            FROM {_read_json(path, f"{_WHO}, {line}")}
        """

    try:
        connection.execute(select(_LINE, "l.data"))
    except duckdb.InvalidInputException:
        # A value that is no number, from a foreign writer: slower, and without that event's points.
        loose = _LINE.replace("MAP(VARCHAR, DOUBLE)", "JSON")
        connection.execute(select(loose, "TRY_CAST(l.data AS MAP(VARCHAR, DOUBLE))"))


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
    return f"read_parquet([{', '.join(quoted(directory / file.name) for file in files)}])"


def empty(table: str) -> str:
    """Return the SQL for *table* without rows."""
    cells = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in STORED[table].columns.items())
    return f"(SELECT {cells} LIMIT 0)"


def quoted(path: Path | str) -> str:
    """Return *path* as a text of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def _read_json(path: Path, columns: str) -> str:
    return (
        f"read_json({quoted(path)}, format='newline_delimited', columns={{{columns}}}, "
        f"maximum_object_size={MAX_OBJECT_BYTES})"
    )
