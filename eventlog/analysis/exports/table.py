"""Runs as rows: one for each, with its params and its results as columns."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from eventlog.analysis.facts import RunFacts, load, results
from eventlog.analysis.runs import directory_of
from eventlog.clock import iso_utc

HEAD = (
    ("project", "VARCHAR"),
    ("run_id", "VARCHAR"),
    ("name", "VARCHAR"),
    ("experiment", "VARCHAR"),
    ("status", "VARCHAR"),
    ("started_at", "TIMESTAMPTZ"),
    ("ended_at", "TIMESTAMPTZ"),
    ("duration_s", "DOUBLE"),
    ("tags", "VARCHAR"),
)


class RunTable(msgspec.Struct, kw_only=True):
    """Runs as rows.

    Attributes:
        columns: those of `HEAD`, then ``param.<name>`` and ``result.<name>``, sorted.
        types: of the columns, as DuckDB calls them.
        cells: a row for each run; None for what a run does not have.
    """

    columns: list[str]
    types: list[str]
    cells: list[tuple[object, ...]]

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the rows."""
        return iter(self.cells)

    def write_parquet(self, path: Path) -> None:
        """Write a Parquet file.

        Raises:
            OSError: it cannot be written.
        """
        import duckdb

        quoted = ['"' + name.replace('"', '""') + '"' for name in self.columns]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(quoted, self.types, strict=True))
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"CREATE TABLE runs ({columns})")
            if self.cells:
                places = ", ".join("?" * len(self.columns))
                connection.executemany(f"INSERT INTO runs VALUES ({places})", self.cells)
            target = str(path).replace("'", "''")
            try:
                connection.execute(f"COPY runs TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
            except duckdb.IOException as error:
                raise OSError(str(error)) from error


def run_table(
    runs: Sequence[str | os.PathLike[str]], *, root: str | os.PathLike[str] | None = None
) -> RunTable:
    """Return *runs*, given by their names or directories, as a table.

    Args:
        root: directory of all projects; default ``EVLOG_DIR`` or ``./experiments``.

    Raises:
        RunNotFoundError, AmbiguousRunError: a name fits no run, or several.
        OSError: a log cannot be read.
    """
    known = [load(directory_of(run, root)) for run in runs]
    params = [facts.view.flat_params for facts in known]
    found = [results(facts) for facts in known]
    names = sorted({name for one in params for name in one})
    keys = sorted({name for one in found for name in one})
    kinds = {name: _kind([one[name] for one in params if name in one]) for name in names}
    return RunTable(
        columns=[
            *(name for name, _ in HEAD),
            *(f"param.{name}" for name in names),
            *(f"result.{key}" for key in keys),
        ],
        types=[*(kind for _, kind in HEAD), *kinds.values(), *("DOUBLE" for _ in keys)],
        cells=[
            (
                *_head(facts),
                *(_cell(one.get(name), kinds[name]) for name in names),
                *(values.get(key) for key in keys),
            )
            for facts, one, values in zip(known, params, found, strict=True)
        ],
    )


def _head(facts: RunFacts) -> tuple[object, ...]:
    view = facts.view
    return (
        view.project,
        view.run_id,
        view.name,
        view.experiment,
        view.status,
        None if view.started_at is None else iso_utc(view.started_at),
        None if view.ended_at is None else iso_utc(view.ended_at),
        view.duration_s,
        json.dumps(view.tags, ensure_ascii=False, sort_keys=True),
    )


def _kind(values: Sequence[object]) -> str:
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return "BOOLEAN"
    if types == {int} and all(
        isinstance(v, int) and -(1 << 63) <= v < 1 << 63 for v in values if v is not None
    ):
        return "BIGINT"
    return "DOUBLE" if types and types <= {int, float} else "VARCHAR"


def _cell(value: object, kind: str) -> object:
    if value is None or kind != "VARCHAR" or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
