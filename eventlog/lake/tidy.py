"""Keeps the lake small, and readable without Delta: few files, and none that do not count."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby

import duckdb

from eventlog.lake.claims import Claim
from eventlog.lake.delta import Change, Live, Table
from eventlog.lake.errors import ConflictError
from eventlog.lake.files import Writer
from eventlog.lake.log import LOG
from eventlog.lake.replace import SMALL_BYTES, kept_rows
from eventlog.lake.tables import owner_of, rewrite_app

MANY = 8
"""So many small files of a project become one."""
MERGED_BYTES = 256 << 20
"""And no more than this goes into one."""


def compact(table: Table, writer: Writer, claim: Claim) -> int:
    """Merge small files of each project; return how many there are less.

    Raises:
        ConflictError: another process has changed the table meanwhile.
    """
    before = len(table.files)
    for group in _groups(table):
        project = group[0].project
        try:
            file = writer.write(table.table, project, kept_rows(table, group, writer.scratch) or "")
        except duckdb.IOException as error:
            raise ConflictError from error  # somebody has replaced and removed a file meanwhile
        app = rewrite_app(project)
        version = table.versions.get(app)
        claim.check()
        try:
            change = Change(app, version, (version or 0) + 1)
            table.commit([file] if file else [], group, [change], is_tidying=True)
        except ConflictError:
            table.place.delete([f"{table.table.name}/{file.name}"] if file else [])
            raise
    return before - len(table.files)


def vacuum(table: Table, claim: Claim, keep: timedelta) -> int:
    """Remove files that do not count, and that nobody may still want; return how many.

    Args:
        keep: how long a file that was replaced stays for readers that are at work.
    """
    place, name = table.place, table.table.name
    # In this order: what is committed while we look is then seen as committed.
    entries = [entry for entry in place.list(name) if f"/{LOG}/" not in entry.name]
    owners = {owner for entry in entries if (owner := owner_of(entry.name)) is not None}
    gone = claim.gone(owners) if owners else set()
    table.reload()
    wanted = {f"{name}/{file}" for file in table.files}
    left = [entry for entry in entries if entry.name not in wanted and owner_of(entry.name) in gone]
    if left and keep:
        before = {f"{name}/{file}" for file in table.names_at(keep)}
        young = datetime.now(UTC) - keep
        left = [
            entry
            for entry in left
            if entry.name not in before and (entry.time < young or not entry.name.endswith(".parquet"))
        ]
    place.delete([entry.name for entry in left])
    return len(left)


def useless(table: Table) -> list[str]:
    """Return the files that lie there and do not count: readers without Delta would see their rows."""
    name = table.table.name
    return [
        entry.name
        for entry in table.place.list(name)
        if entry.name.endswith(".parquet")
        and f"/{LOG}/" not in entry.name
        and not entry.name.rpartition("/")[2].startswith((".", "_"))
        and entry.name.removeprefix(f"{name}/") not in table.files
    ]


def _groups(table: Table) -> Iterator[list[Live]]:
    small = sorted(
        (file for file in table.files.values() if file.size_bytes < SMALL_BYTES),
        key=lambda file: (file.project, file.name),
    )
    for _, of_project in groupby(small, key=lambda file: file.project):
        files = list(of_project)
        while len(files) >= MANY:
            group: list[Live] = []
            while files and sum(file.size_bytes for file in group) < MERGED_BYTES:
                group.append(files.pop())
            yield group
