"""Brings runs into DuckDB: every line verified here first, then parsed there.

Lines that did not verify never reach DuckDB; they are rows of `damage`. Each verified line is given the
names of its project, run and writer and goes to one temporary file, because DuckDB reads one large file
many times faster than many small ones. Small tables are folded in Python and inserted as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.codec import decode_lines
from eventlog.projections import RunFold, RunView
from eventlog.replay import alive_writers, open_run
from eventlog.storage.block import Finding
from eventlog.storage.layout import RunPath
from eventlog.storage.merge import RunReader
from eventlog.tables import TABLES, Table
from eventlog.values import number_on_disk

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_METRICS_MARK = b',"type":"metrics",'
# The longest line that a query takes in; a longer one was never written by us.
MAX_OBJECT_BYTES = 16 << 20


class Ingest:
    """Collects runs into files, one for each table, and loads them at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, IO[bytes]] = {}

    def add_run(self, run: RunPath) -> None:
        """Verify the run and add what it holds; nothing else is done if its files cannot be read."""
        reader = open_run(run.path)
        fold = RunFold(run.project, run.run_id)
        prefix = b'{"p":%b,"r":%b,' % (orjson.dumps(run.project), orjson.dumps(run.run_id))
        out = self._file("lines")
        for writer in reader.known_writers():
            one = reader.writer(writer)
            start = b'%b"w":"%b","k":%d,' % (prefix, writer.encode(), one.rank)
            for block in one.blocks():
                out.write(b"".join([start + line[1:] + b"\n" for line in block.lines]))
                others = [line for line in block.lines if _METRICS_MARK not in line[:70]]
                fold.skip(len(block.lines) - len(others))
                if others:
                    fold.apply_slice(writer, one.rank, decode_lines(others, from_format=block.format))
        view = fold.view(alive_writers(reader), findings=len(reader.findings))
        self._add_view(run, view, reader)

    def _file(self, name: str) -> IO[bytes]:
        if name not in self._files:
            self._files[name] = (self.directory / f"{name}.jsonl").open("wb")
        return self._files[name]

    def _rows(self, table: str, rows: Iterable[dict[str, object]]) -> None:
        out = self._file(table)
        for row in rows:
            out.write(orjson.dumps(row) + b"\n")

    def _add_view(self, run: RunPath, view: RunView, reader: RunReader) -> None:
        who: dict[str, object] = {"project": run.project, "run_id": run.run_id}
        self._rows("runs", [_run_row(run, view)])
        self._rows("params", [{**who, "key": k, "value": _as_text(v)} for k, v in view.flat_params.items()])
        self._rows("tags", [{**who, "tag": k, "value": v} for k, v in view.tags.items()])
        self._rows("artifacts", [{**who, **_artifact_row(a)} for a in view.artifacts])
        self._rows("damage", [{**who, **_damage_row(f)} for f in reader.findings])

    def load(self, connection: DuckDBPyConnection) -> None:
        """Make the tables of everything that was added."""
        for file in self._files.values():
            file.close()
        for table in TABLES:
            if table.name in {"metrics", "events", "summaries"}:
                continue
            path = self.directory / f"{table.name}.jsonl"
            connection.execute(f"CREATE TABLE {table.name} AS {_select(table, path)}")
        _load_lines(connection, self.directory / "lines.jsonl")


def ingest(
    runs: list[RunPath], connection: DuckDBPyConnection, on_progress: Callable[[], None] | None = None
) -> list[str]:
    """Load *runs* into *connection*; return what could not be read, a sentence for each run.

    Args:
        on_progress: called after each run.
    """
    problems = []
    with tempfile.TemporaryDirectory(prefix="evlog-query-") as directory:
        gathered = Ingest(Path(directory))
        for run in runs:
            try:
                gathered.add_run(run)
            except OSError as error:
                problems.append(f"{run.path}: {error.strerror or error}")
            if on_progress:
                on_progress()
        gathered.load(connection)
    return problems


def _select(table: Table, path: Path) -> str:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    types = ", ".join(f"{column.name}: '{column.type}'" for column in table.columns)
    if not path.exists() or path.stat().st_size == 0:
        empty = ", ".join(f'NULL::{column.type} AS "{column.name}"' for column in table.columns)
        return f"SELECT {empty} LIMIT 0"
    return f"SELECT {names} FROM {_read_json(path, types)}"


def _read_json(path: Path, types: str) -> str:
    quoted = str(path).replace("'", "''")
    return (
        f"read_json('{quoted}', format='newline_delimited', columns={{{types}}}, "
        f"maximum_object_size={MAX_OBJECT_BYTES})"
    )


_LINE_TYPES = (
    "p: 'VARCHAR', r: 'VARCHAR', w: 'VARCHAR', k: 'INTEGER', seq: 'BIGINT', ts: 'BIGINT', type: 'VARCHAR'"
)


def _load_lines(connection: DuckDBPyConnection, path: Path) -> None:
    """Make `metrics`, `summaries` and `events` from the file of verified lines."""
    if not path.exists() or path.stat().st_size == 0:
        for table in TABLES:
            if table.name in {"metrics", "events", "summaries"}:
                connection.execute(f"CREATE TABLE {table.name} AS {_select(table, Path('/nonexistent'))}")
        return
    lines = _read_json(path, f"{_LINE_TYPES}, step: 'BIGINT', data: 'JSON'")
    connection.execute(
        f"""
        CREATE TABLE metrics AS
        SELECT p AS project, r AS run_id, e.key AS key, step, TRY(make_timestamptz(ts)) AS ts,
               e.value AS value, w AS writer, k AS rank, seq
        FROM (
            SELECT * REPLACE (NULL AS data), unnest(map_entries(TRY_CAST(data AS MAP(VARCHAR, DOUBLE)))) AS e
            FROM {lines} WHERE type = 'metrics'
        )
        """
    )
    connection.execute(
        """
        CREATE VIEW summaries AS
        SELECT project, run_id, CASE WHEN rank = 0 THEN key ELSE 'rank' || rank || '/' || key END AS key,
               arg_max(value, (ts, writer, seq)) AS last,
               min(value) FILTER (NOT isnan(value)) AS min, max(value) FILTER (NOT isnan(value)) AS max,
               avg(value) AS mean, count(*) AS count,
               arg_min(step, (ts, writer, seq)) FILTER (step IS NOT NULL) AS first_step,
               arg_max(step, (ts, writer, seq)) FILTER (step IS NOT NULL) AS last_step
        FROM metrics GROUP BY ALL
        """
    )
    quoted = str(path).replace("'", "''")
    connection.execute(
        f"""
        CREATE TABLE events AS
        SELECT json->>'p' AS project, json->>'r' AS run_id, json->>'w' AS writer,
               (json->>'k')::INTEGER AS rank,
               (json->>'seq')::BIGINT AS seq, TRY(make_timestamptz((json->>'ts')::BIGINT)) AS ts,
               json->>'type' AS type,
               ('{{' || substr(json::VARCHAR, position('"seq":' IN json::VARCHAR)))::JSON AS payload
        FROM read_json_objects('{quoted}', format='newline_delimited', maximum_object_size={MAX_OBJECT_BYTES})
        """
    )


def _run_row(run: RunPath, view: RunView) -> dict[str, object]:
    return {
        "project": run.project,
        "run_id": run.run_id,
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status,
        "started_at": _time(view.started_at),
        "ended_at": _time(view.ended_at),
        "duration_s": view.duration_s,
        "parent_run_id": view.parent_run_id,
        "tags": view.tags,
        "note": "\n".join(view.notes) or None,
        "params": view.params,
        "summary": view.summary,
        "error_type": view.error.type if view.error else None,
        "error_message": view.error.message if view.error else None,
        "exit_code": view.exit_code,
        "events": view.events,
        "dropped": sum(view.dropped.values()),
        "damage": view.findings,
        "path": str(run.path),
    }


def _artifact_row(artifact: ev.Artifact) -> dict[str, object]:
    return {
        "name": artifact.name,
        "type": artifact.artifact_type,
        "version": artifact.version,
        "path": artifact.path,
        "stored": artifact.stored,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "ts": _time(artifact.ts),
    }


def _damage_row(finding: Finding) -> dict[str, object]:
    return {
        "writer": finding.writer,
        "segment": finding.segment,
        "problem": str(finding.problem),
        "start_byte": finding.start,
        "end_byte": finding.end,
        "first_seq": finding.first_seq,
        "last_seq": finding.last_seq,
        "detail": finding.detail,
    }


def _time(t_us: int | None) -> str | None:
    return None if t_us is None else iso_utc(t_us)


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(number_on_disk(value))
    return orjson.dumps(value).decode()
