"""Brings a lake up to date with the runs below a root. Many may do so at once, and any of them be killed."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb
import msgspec

from eventlog.errors import EvlogError
from eventlog.lake import append, published, replace, tidy
from eventlog.lake.claims import Claim
from eventlog.lake.delta import Table
from eventlog.lake.errors import ConflictError, LakeError, lake_errors
from eventlog.lake.files import Writer
from eventlog.lake.local import Local, RunKey
from eventlog.lake.place import Place
from eventlog.lake.tables import EVENT_KINDS, OF_RUNS
from eventlog.query.catalog import cache_directory, scratch

T = TypeVar("T")
KEEP = timedelta(minutes=10)
TRIES = 40
"""How often others may be faster before it is given up; each time some other publisher gets on."""


class Published(msgspec.Struct, kw_only=True):
    """What was done.

    Attributes:
        rows: that were added, by table.
        runs: whose state was renewed.
        removed: runs that were taken out.
        merged: files that there are less.
        vacuumed: files that were removed because they do not count any more.
        problems: a sentence for each run that could not be read, or is not what the lake has of it.
    """

    rows: dict[str, int] = {}
    runs: int = 0
    removed: int = 0
    merged: int = 0
    vacuumed: int = 0
    problems: list[str] = []


class Watcher(NamedTuple):
    """Whom to tell how far it is: both get what is done, and all."""

    reading: Callable[[int, int], None] = lambda done, total: None  # noqa: ARG005
    publishing: Callable[[int, int], None] = lambda done, total: None  # noqa: ARG005


def publish(
    root: Path,
    url: str,
    *,
    options: Mapping[str, str] | None = None,
    keep: timedelta = KEEP,
    prune: bool = False,
    remove: Collection[RunKey] = (),
    watcher: Watcher | None = None,
) -> Published:
    """Bring the lake at *url* up to date.

    Args:
        options: of the store.
        keep: how long files that were replaced stay, for those who read an older state just now.
        prune: take out the runs that were published from here and are not here any more.
        remove: take out these; those that are still here are published anew.

    Raises:
        LakeError: it cannot be read or written.
        OSError: no room for the cache.
    """
    with lake_errors(url):
        place = Place(url, options)
        place.prepare()
        watcher = watcher or Watcher()
        for is_last in (False, True):
            try:
                with Local.open(root, on_progress=watcher.reading) as local:
                    return _publish(root, place, local, keep, prune, remove, watcher)
            except duckdb.IOException as error:
                # The cache was renewed meanwhile and what it replaced is gone: begin anew, once.
                if is_last:
                    raise LakeError(url, f"cannot be written: {error}") from error
            except duckdb.Error as error:
                raise LakeError(url, f"cannot be written: {error}") from error
    raise AssertionError("unreachable")


def _publish(
    root: Path,
    place: Place,
    local: Local,
    keep: timedelta,
    prune: bool,
    remove: Collection[RunKey],
    watcher: Watcher,
) -> Published:
    done = Published(problems=list(local.problems))
    with scratch(cache_directory(root)) as path, Claim(place) as claim:
        writer = Writer(local.connection, place, claim.owner, path)
        note = published.Note(root, str(place.directory or place.url))
        tables = {
            name: _retried(place, partial(Table.make, place, name)) for name in (*EVENT_KINDS, *OF_RUNS)
        }
        gone = set(remove)
        if prune:
            gone |= {run for run in note.runs() if run not in local.known}
        if gone:
            for table in tables.values():
                _retried(place, partial(replace.remove, table, local, writer, claim, gone), table)
            note.forget(gone)
            done.removed = len(gone)
        # Noted first: what a crash leaves in the lake can be pruned too.
        note.add(local.known)
        done.problems += _strangers(tables["metrics"], local)
        _grow(tables, local, writer, claim, watcher, done)
        for name in OF_RUNS:
            table = tables[name]
            done.runs = _retried(place, partial(replace.replace, table, local, writer, claim), table)
        for name, table in tables.items():
            if name in EVENT_KINDS:
                with contextlib.suppress(ConflictError):  # somebody else is at it
                    done.merged += tidy.compact(table, writer, claim)
            done.vacuumed += tidy.vacuum(table, claim, keep)
    return done


def _grow(
    tables: Mapping[str, Table],
    local: Local,
    writer: Writer,
    claim: Claim,
    watcher: Watcher,
    done: Published,
) -> None:
    total = sum(_waiting(tables["metrics"], local).values())
    count = 0

    def on_commit(name: str, rows: int) -> None:
        nonlocal count
        done.rows[name] = done.rows.get(name, 0) + rows
        count += rows
        watcher.publishing(min(count, total), total)

    def grow(table: Table) -> None:
        for rows in append.append(table, local, writer, claim):
            on_commit(table.table.name, rows)

    for name in EVENT_KINDS:
        table = tables[name]
        _retried(writer.place, partial(grow, table), table)


def _waiting(metrics: Table, local: Local) -> dict[RunKey, int]:
    """Return about how many points are to be published, of each run."""
    runs = {part.who[:2] for part in append.missing(metrics, local)}
    return {run: local.points.get(run, 0) for run in runs}


def _retried(place: Place, act: Callable[[], T], table: Table | None = None) -> T:
    """Do *act* until nobody else is faster.

    Raises:
        LakeError: others were, each time.
    """
    for attempt in range(TRIES):
        try:
            return act()
        except ConflictError:
            # Not the same wait for all, or they meet again.
            time.sleep(random.uniform(0, min(2.0, 0.05 * 2 ** min(attempt, 6))))
            if table is not None:
                table.reload()
    raise LakeError(place.url, "others publish here without a pause; publish again")


def _strangers(metrics: Table, local: Local) -> Iterator[str]:
    for (project, run_id), writers in append.not_here(metrics, local).items():
        yield (
            f"{project}/{run_id}: the lake also has rows of {len(writers)} writers that are not here: "
            "another run had this name, or a part of it lies elsewhere. "
            f"To put what is here in their place: --remove {project}/{run_id}"
        )


class NotARunError(EvlogError, ValueError):
    """What was given does not name a run in a lake."""


def run_key(text: str) -> RunKey:
    """Return what ``PROJECT/RUN_ID`` names.

    Raises:
        NotARunError: it is something else.
    """
    project, _, run_id = text.partition("/")
    if not project or not run_id or "/" in run_id:
        raise NotARunError(f"{text!r} names no run of a lake: give PROJECT/RUN_ID")
    return project, run_id
