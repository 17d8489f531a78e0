"""Keeps the number of files of the cache small: many small ones become one, large ones stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eventlog.query import convert
from eventlog.query.catalog import DataFile, Manifest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SMALL_BYTES = 32 << 20
"""A file from which on it is not merged any more."""
MANY = 8
"""So many small files of a table are merged; those of runs, which every query opens, sooner."""
MANY_OF_RUNS = 4


def merge_small(connection: DuckDBPyConnection, directory: Path, manifest: Manifest) -> None:
    """Merge small files of each table into one, in *manifest*; leave out rows that do not count.

    Raises:
        duckdb.Error, OSError: the new files could not be written; *manifest* still names the old ones.
    """
    names_all = True
    for table in convert.STORED:
        files = manifest.files.get(table, [])
        small = [file for file in files if file.size_bytes < SMALL_BYTES]
        limit = MANY_OF_RUNS if table in (*convert.OF_RUNS, "parts") else MANY
        if len(small) < limit:
            names_all = names_all and not files
            continue
        names_all = names_all and len(small) == len(files)
        kept = _kept(table, convert.read_parquet(directory, small), manifest)
        merged = convert.write_table(connection, directory, table, kept)
        manifest.files[table] = [file for file in files if file not in small] + _if_any(merged)
    if names_all:
        manifest.gone = []  # every row that did not count any more has been left out


def _kept(table: str, relation: str, manifest: Manifest) -> str:
    """Return a query for the rows of *relation* that count."""
    query = f"SELECT * FROM {relation} AS t"
    if manifest.gone:
        query += f" ANTI JOIN {gone_rows(manifest.gone)} AS gone"
        query += " ON t.project = gone.project AND t.run_id = gone.run_id AND t.generation <= gone.generation"
    if table in convert.OF_RUNS:
        rows = ", ".join(
            f"({convert.quoted(run.project)}, {convert.quoted(run.run_id)}, {run.generation})"
            for run in manifest.runs
        )
        if rows:
            query += f" SEMI JOIN (VALUES {rows}) AS newest(project, run_id, generation)"
            query += " USING (project, run_id, generation)"
    return f"({query})"


def gone_rows(gone: list[tuple[str, str, int]]) -> str:
    """Return the SQL for a relation of what does not count any more."""
    rows = ", ".join(f"({convert.quoted(p)}, {convert.quoted(r)}, {g})" for p, r, g in gone)
    return f"(SELECT * FROM (VALUES {rows}) AS g(project, run_id, generation))"


def _if_any(file: DataFile) -> list[DataFile]:
    return [file] if file.rows else []
