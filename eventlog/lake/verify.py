"""Proves that the lake holds what the logs hold: counts, sums and checksums of all cells, per run and key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.lake import append, tidy
from eventlog.lake.delta import Table
from eventlog.lake.errors import ConflictError, LakeError, lake_errors
from eventlog.lake.local import Local, Part
from eventlog.lake.place import Place
from eventlog.lake.replace import kept_rows
from eventlog.lake.tables import EVENT_KINDS, LAKE_TABLES, OF_RUNS, LakeTable, run_app, writer_app
from eventlog.query.catalog import cache_directory, scratch
from eventlog.query.convert import quoted

TRIES = 3
_NOT_COMPARED = {"path"}
"""The same run may lie elsewhere on each machine that publishes it."""


class Sum(NamedTuple):
    """What rows come to: their number, the sum of their finite values if they have any, and a checksum."""

    rows: int = 0
    total: float | None = None
    checksum: int = 0

    def __str__(self) -> str:
        return f"{self.rows} rows" if self.total is None else f"{self.rows} rows, sum {self.total:.12g}"


class Difference(msgspec.Struct, frozen=True):
    """Rows of which the lake has others than the logs."""

    table: str
    project: str
    run_id: str
    key: str
    message: str


class Verified(msgspec.Struct, kw_only=True):
    """What was compared.

    Attributes:
        rows: that were compared, by table.
        differences: none if the lake holds what the logs hold.
        useless: files that do not count; only readers without Delta would see their rows.
    """

    rows: dict[str, int] = {}
    differences: list[Difference] = []
    useless: list[str] = []

    @property
    def is_good(self) -> bool:
        """Tell whether the lake holds what the logs hold."""
        return not self.differences


Sums = dict[tuple[str, str, str], Sum]


def verify(
    root: Path,
    url: str,
    *,
    options: Mapping[str, str] | None = None,
    on_reading: Callable[[int, int], None] | None = None,
    on_comparing: Callable[[int, int], None] | None = None,
) -> Verified:
    """Compare the lake at *url* with the runs below *root*; runs that are only in the lake are not looked at.

    Raises:
        LakeError: it cannot be read.
        OSError: no room for the cache.
    """
    with lake_errors(url):
        place = Place(url, options)
        with (
            scratch(cache_directory(root)) as path,
            _opened(root, url, on_reading) as local,
        ):
            done = Verified()
            for number, name in enumerate((*EVENT_KINDS, *OF_RUNS)):
                table = Table.open(place, name)
                if table is None:
                    raise LakeError(url, f"there is no table {name}. Publish first: evlog publish {url}")
                _compare(table, local, path, done)
                done.useless += tidy.useless(table)
                if on_comparing is not None:
                    on_comparing(number + 1, len(LAKE_TABLES))
            return done


def _opened(root: Path, url: str, on_reading: Callable[[int, int], None] | None) -> Local:
    try:
        return Local.open(root, on_progress=on_reading)
    except duckdb.Error as error:
        raise LakeError(url, f"cannot be compared: {error}") from error


def _compare(table: Table, local: Local, fetched: Path, done: Verified) -> None:
    """Compare one table, and begin anew if somebody replaces its files meanwhile."""
    for is_last in (False,) * (TRIES - 1) + (True,):
        try:
            here, there, differences = _sums(table, local, fetched)
        except (ConflictError, duckdb.IOException, duckdb.InvalidInputException) as error:
            if is_last:
                reason = f"a file cannot be read: {error}" if str(error) else "its files change all the time"
                raise LakeError(table.place.uri(table.table.name), reason) from error
            table.reload()
            continue
        break
    done.rows[table.table.name] = sum(one.rows for one in here.values())
    done.differences += differences
    for key in sorted(here.keys() | there.keys()):
        mine, theirs = here.get(key, Sum()), there.get(key, Sum())
        if (mine.rows, mine.checksum) != (theirs.rows, theirs.checksum):
            is_alike = str(mine) == str(theirs)
            message = f"the lake has {theirs}; here are {mine}" + (", with other cells" if is_alike else "")
            done.differences.append(Difference(table.table.name, *key, message))


def _sums(table: Table, local: Local, fetched: Path) -> tuple[Sums, Sums, list[Difference]]:
    """Return what the rows here and those of the lake come to, as far as both have them."""
    if table.table.name in EVENT_KINDS:
        differences = _behind(table, local)
        wanted = _common_parts(table, local)
    else:
        differences = _outdated(table, local)
        wanted = _common_runs(table, local)
    here: Sums = {}
    there: Sums = {}
    for project, runs in wanted.items():
        _load(local, runs)
        source = f"SELECT * FROM ({table.table.source}) WHERE project = {quoted(project)}"
        here |= _sum(table.table, local, project, source, is_bounded=True)
        for file in table.of(project):
            rows = kept_rows(table, [file], fetched)
            assert rows is not None
            for key, found in _sum(table.table, local, project, rows, is_bounded=False).items():
                there[key] = _added(there.get(key, Sum()), found)
            for path in fetched.glob("fetched-*"):
                path.unlink()
    return here, there, differences


def _behind(table: Table, local: Local) -> list[Difference]:
    name = table.table.name
    found = [
        Difference(
            name,
            *part.who[:2],
            "",
            f"events {part.start} to {part.end - 1} of {part.who.writer} are not published",
        )
        for part in append.missing(table, local)
    ]
    for (project, run_id), writers in append.not_here(table, local).items():
        message = f"the lake has rows of {len(writers)} writers that are not here"
        found.append(Difference(name, project, run_id, "", message))
    return found


def _outdated(table: Table, local: Local) -> list[Difference]:
    return [
        Difference(table.table.name, *key, "", "what is known of it now is not published")
        for key, known in local.known.items()
        if known > table.versions.get(run_app(*key), 0)
    ]


Bounds = list[tuple[str, str | None, int]]
"""Run, writer, and the seq up to which the lake should have its rows."""


def _common_parts(table: Table, local: Local) -> dict[str, Bounds]:
    found: dict[str, Bounds] = {}
    for part in (Part(who, 0, end) for who, end in local.ends.items()):
        # A table without a row of a writer does not know it; then there must be none here either.
        upto = table.versions.get(writer_app(*part.who), part.end)
        found.setdefault(part.who.project, []).append((part.who.run_id, part.who.writer, upto))
    return found


def _common_runs(table: Table, local: Local) -> dict[str, Bounds]:
    found: dict[str, Bounds] = {}
    for (project, run_id), known in local.known.items():
        if table.versions.get(run_app(project, run_id)) == known:
            found.setdefault(project, []).append((run_id, None, 0))
    return found


def _load(local: Local, bounds: Bounds) -> None:
    local.connection.execute(
        "CREATE OR REPLACE TEMP TABLE bound (run_id VARCHAR, writer VARCHAR, next BIGINT)"
    )
    local.connection.execute(
        "INSERT INTO bound SELECT unnest($1), unnest($2), unnest($3)",
        [list(column) for column in zip(*bounds, strict=True)],
    )


def _sum(table: LakeTable, local: Local, project: str, source: str, *, is_bounded: bool) -> Sums:
    key = "s.key" if "key" in table.columns else "s.type" if table.name == "events" else "''"
    total = (
        "sum(s.value) FILTER (isfinite(s.value))"
        if table.columns.get("value") == "DOUBLE"
        else "NULL::DOUBLE"
    )
    cells = ", ".join(
        f's."{name}"::{kind}' for name, kind in table.columns.items() if name not in _NOT_COMPARED
    )
    join = "JOIN bound AS b ON s.run_id = b.run_id"
    if table.name in EVENT_KINDS:
        # Of the lake everything: it must hold nothing that no commit speaks of.
        join += " AND s.writer = b.writer" + (" AND s.seq < b.next" if is_bounded else "")
    rows = local.connection.execute(
        f"SELECT s.run_id, {key} AS key, count(*), {total}, sum(hash({cells})) "
        f"FROM ({source}) AS s {join} GROUP BY s.run_id, {key}"
    ).fetchall()
    return {(project, row[0], row[1]): Sum(row[2], row[3], int(row[4])) for row in rows}


def _added(one: Sum, other: Sum) -> Sum:
    total = None if one.total is None and other.total is None else (one.total or 0.0) + (other.total or 0.0)
    return Sum(one.rows + other.rows, total, one.checksum + other.checksum)
