"""What the cache holds of runs that go on, as far as it has to be folded once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from eventlog.codec import decode
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.query import convert
from eventlog.query.catalog import Manifest
from eventlog.query.gather import FOLDED
from eventlog.query.lines import Line
from eventlog.query.rows import Row
from eventlog.query.scan import Changed
from eventlog.storage.artifacts import resolve

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Key = tuple[str, str]


def with_past(
    connection: DuckDBPyConnection, directory: Path, manifest: Manifest, runs: Sequence[Changed]
) -> Iterator[tuple[Changed, list[Line], list[Row]]]:
    """Yield each of *runs* with its events that are folded and with what was found wrong with it.

    Raises:
        duckdb.Error: a file of the cache cannot be read.
    """
    known = {(one.run.project, one.run.run_id): one for one in runs if one.entry is not None}
    lines: dict[Key, list[Line]] = {}
    damage: dict[Key, list[Row]] = {}
    if known:
        _make_wanted(connection, known, manifest)
        lines = _lines(connection, directory, manifest, known)
        damage = _damage(connection, directory, manifest)
    for one in runs:
        key = (one.run.project, one.run.run_id)
        yield one, lines.pop(key, []), damage.pop(key, [])


def _make_wanted(connection: DuckDBPyConnection, known: dict[Key, Changed], manifest: Manifest) -> None:
    """Make a table of the runs, their newest generation, and the last one that does not count."""
    gone = {(project, run_id): generation for project, run_id, generation in sorted(manifest.gone)}
    found = [
        (*key, one.entry.generation if one.entry else 0, gone.get(key, -1)) for key, one in known.items()
    ]
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE wanted (project VARCHAR, run_id VARCHAR, newest BIGINT, gone BIGINT)"
    )
    connection.execute(
        "INSERT INTO wanted SELECT unnest($1), unnest($2), unnest($3), unnest($4)",
        [list(column) for column in zip(*found, strict=True)],
    )


def _lines(
    connection: DuckDBPyConnection, directory: Path, manifest: Manifest, known: dict[Key, Changed]
) -> dict[Key, list[Line]]:
    files = manifest.files.get("events", [])
    lines: dict[Key, list[Line]] = {}
    if not files:
        return lines
    kinds = ", ".join(map(convert.quoted, FOLDED))
    found = connection.execute(
        f"SELECT e.project, e.run_id, writer, rank, payload, coalesce(sorted_at, ts) "
        f"FROM {convert.read_parquet(directory, files)} AS e JOIN wanted USING (project, run_id) "
        f"WHERE e.generation > wanted.gone AND type IN ({kinds})"
    )
    while batch := found.fetchmany(10_000):
        for project, run_id, writer, rank, payload, at in batch:
            run = known[(project, run_id)].run.path
            event = _resolved(run, decode(payload.encode()))
            lines.setdefault((project, run_id), []).append(Line(writer, rank, event, at or event.ts))
    return lines


def _resolved(run: Path, event: AnyEvent) -> AnyEvent:
    try:
        return resolve(run, event)
    except (OSError, BadValueError, msgspec.MsgspecError):
        return event  # it was reported when the event was read first


def _damage(connection: DuckDBPyConnection, directory: Path, manifest: Manifest) -> dict[Key, list[Row]]:
    files = manifest.files.get("damage", [])
    damage: dict[Key, list[Row]] = {}
    if not files:
        return damage
    names = [n for n in convert.STORED["damage"].columns if n not in {"project", "run_id", "generation"}]
    found = connection.execute(
        f"SELECT d.project, d.run_id, {', '.join(names)} "
        f"FROM {convert.read_parquet(directory, files)} AS d JOIN wanted USING (project, run_id) "
        "WHERE d.generation = wanted.newest"
    )
    for row in found.fetchall():
        damage.setdefault((row[0], row[1]), []).append(dict(zip(names, row[2:], strict=True)))
    return damage
