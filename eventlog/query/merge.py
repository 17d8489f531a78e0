"""Keeps the cache small: many small files become one, and rows that do not count any more are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eventlog.query import convert
from eventlog.query.catalog import DataFile, Manifest, note_dropped

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SMALL_BYTES = 8 << 20
"""A file from which on it is not merged any more."""
MANY = 8
"""So many small files of a table are merged; those of runs, which every query opens, sooner."""
MANY_OF_RUNS = 4
MANY_GONE = 64
"""From so many runs on that are gone, large files are written anew without them."""
MUCH_GONE = 0.1
"""A part of the rows of a large file from which on it is written anew without those that are gone."""


def merge_files(connection: DuckDBPyConnection, directory: Path, manifest: Manifest) -> None:
    """Merge small files of each table, and rewrite those with many rows that do not count, in *manifest*.

    Raises:
        duckdb.Error, OSError: the new files could not be written; what *manifest* names is all there.
    """
    _make_relations(connection, manifest)
    left: set[tuple[str, str, int]] = set()
    for table in convert.STORED:
        files = manifest.files.get(table, [])
        gone = _gone_by_file(connection, directory, files) if manifest.gone else {}
        small = [file for file in files if file.size_bytes < SMALL_BYTES]
        limit = MANY_OF_RUNS if table in (*convert.OF_RUNS, "parts") else MANY
        if len(small) < limit and not any(file.name in gone for file in small):
            small = []
        for group in (small, *([file] for file in files if file not in small)):
            if group and (group is small or _is_worth_rewriting(group[0], gone, manifest)):
                _rewrite(connection, directory, manifest, table, group)
            else:
                left.update(key for file in group for key in gone.get(file.name, {}))
    manifest.gone = sorted(left)


def _make_relations(connection: DuckDBPyConnection, manifest: Manifest) -> None:
    """Make tables of what is gone and of the newest generation of each run."""
    keys = [(run.project, run.run_id, run.generation) for run in manifest.runs]
    for name, found in (("gone", manifest.gone), ("newest", keys)):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} (project VARCHAR, run_id VARCHAR, generation BIGINT)"
        )
        if found:
            connection.execute(
                f"INSERT INTO {name} SELECT unnest($1), unnest($2), unnest($3)",
                [list(column) for column in zip(*found, strict=True)],
            )


def _gone_by_file(
    connection: DuckDBPyConnection, directory: Path, files: Sequence[DataFile]
) -> dict[str, dict[tuple[str, str, int], int]]:
    """Return, for each file with rows that do not count, how many, by what is gone."""
    found: dict[str, dict[tuple[str, str, int], int]] = {}
    for file in files:
        rows = connection.execute(
            "SELECT gone.project, gone.run_id, gone.generation, count(*) "
            f"FROM {convert.read_parquet(directory, [file])} AS t JOIN gone ON t.project = gone.project "
            "AND t.run_id = gone.run_id AND t.generation <= gone.generation GROUP BY ALL"
        ).fetchall()
        if rows:
            found[file.name] = {(row[0], row[1], row[2]): row[3] for row in rows}
    return found


def _is_worth_rewriting(
    file: DataFile, gone: dict[str, dict[tuple[str, str, int], int]], manifest: Manifest
) -> bool:
    count = sum(gone.get(file.name, {}).values())
    return count > 0 and (len(manifest.gone) >= MANY_GONE or count >= MUCH_GONE * file.rows)


def _rewrite(
    connection: DuckDBPyConnection,
    directory: Path,
    manifest: Manifest,
    table: str,
    group: Sequence[DataFile],
) -> None:
    """Put one file with the rows that count in the place of *group*."""
    kept = _kept(table, convert.read_parquet(directory, group), manifest)
    merged = convert.write_table(connection, directory, table, kept)
    note_dropped(directory, group)
    files = [file for file in manifest.files[table] if file not in group]
    manifest.files[table] = files + ([merged] if merged.rows else [])


def _kept(table: str, relation: str, manifest: Manifest) -> str:
    """Return a query for the rows of *relation* that count."""
    query = f"SELECT t.* FROM {relation} AS t"
    if manifest.gone:
        query += " ANTI JOIN gone"
        query += " ON t.project = gone.project AND t.run_id = gone.run_id AND t.generation <= gone.generation"
    if table in convert.OF_RUNS:
        query += " SEMI JOIN newest USING (project, run_id, generation)"
    if table == "parts":
        cells = f"project, run_id, max(generation) AS generation, key, {convert.JOINED}"
        query = f"SELECT {cells} FROM ({query}) GROUP BY project, run_id, key"
    return f"({query})"
