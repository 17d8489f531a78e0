"""Brings the rows of events to the lake: of each writer what comes after the seq that the lake has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from eventlog.lake.claims import Claim
from eventlog.lake.delta import Change, New, Table
from eventlog.lake.errors import ConflictError
from eventlog.lake.files import Writer
from eventlog.lake.local import Local, Part, WriterKey
from eventlog.lake.tables import writer_app

FILE_POINTS = 8_000_000
"""So many points at most, of several runs, go into one file."""
COMMIT_POINTS = 32_000_000
"""After so many a commit is made although more is to come: whoever is killed then loses no more."""


class Step(msgspec.Struct):
    """What is written and not committed."""

    files: list[New] = []
    changes: list[Change] = []
    points: int = 0


def append(table: Table, local: Local, writer: Writer, claim: Claim) -> Iterator[int]:
    """Publish what the lake does not have of a table; yield the rows of each commit.

    Raises:
        ConflictError: another process has published some of it meanwhile.
    """
    parts = missing(table, local)
    step = Step()
    for batch in _batches(parts, local):
        step.changes += [_change(table, part) for part in batch]
        step.points += sum(_points(part, local) for part in batch)
        project = batch[0].who.project
        query = local.select_parts(table.table.source, project, batch)
        file = writer.write(table.table, project, query)
        step.files += [file] if file else []
        if step.points >= COMMIT_POINTS:
            yield _commit(table, step, claim)
            step = Step()
    if step.changes:
        yield _commit(table, step, claim)


def missing(table: Table, local: Local) -> list[Part]:
    """Return what the lake does not have, in the order of runs."""
    versions = table.versions
    found = (
        Part(who, versions.get(writer_app(*who), 0), end)
        for who, end in local.ends_of(table.table.name).items()
    )
    return sorted(part for part in found if part.start < part.end)


def not_here(table: Table, local: Local) -> dict[tuple[str, str], list[WriterKey]]:
    """Return writers that the lake has, of runs that are here without them: another run had their name."""
    here = set(local.ends)
    found: dict[tuple[str, str], list[WriterKey]] = {}
    for app, version in table.versions.items():
        _, *who = app.split("/")
        key = WriterKey(*who) if len(who) == 3 else None
        if key is not None and version > 0 and key not in here and key[:2] in local.known:
            found.setdefault(key[:2], []).append(key)
    return found


def _commit(table: Table, step: Step, claim: Claim) -> int:
    claim.check()
    try:
        table.commit(step.files, [], step.changes)
    except ConflictError:
        table.place.delete([f"{table.table.name}/{file.name}" for file in step.files])
        raise
    return sum(file.rows for file in step.files)


def _change(table: Table, part: Part) -> Change:
    app = writer_app(*part.who)
    return Change(app, table.versions.get(app), part.end)


def _points(part: Part, local: Local) -> int:
    """Return about how many rows *part* is; of several writers of a run, each counts as the whole run."""
    in_run = local.points.get(part.who[:2], 0)
    return in_run if part.start == 0 else min(in_run, 16 * (part.end - part.start))


def _batches(parts: Sequence[Part], local: Local) -> Iterator[list[Part]]:
    """Cut *parts* into those of one file each: of one project, and not too many points."""
    for _, of_project in groupby(parts, key=lambda part: part.who.project):
        yield from _cut(of_project, local)


def _cut(parts: Iterable[Part], local: Local) -> Iterator[list[Part]]:
    batch: list[Part] = []
    points = 0
    for part in parts:
        size = _points(part, local)
        if batch and points + size > FILE_POINTS:
            yield batch
            batch, points = [], 0
        batch.append(part)
        points += size
    if batch:
        yield batch
