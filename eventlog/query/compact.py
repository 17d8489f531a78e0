"""Fills the cache ahead, so that the next question need not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb

from eventlog.query.catalog import cache_directory
from eventlog.query.database import open_connection, query_error
from eventlog.query.refresh import refresh


class Compacted(NamedTuple):
    """What the cache holds; *number* grows by one with each commit."""

    number: int
    runs: int
    events: int
    files: int
    size_bytes: int
    problems: list[str]


def compact(
    root: Path,
    *,
    memory: int | None = None,
    wants_all: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Compacted:
    """Bring the cache of *root* up to date.

    Args:
        wants_all: also what little is new in runs that go on.
        on_progress: called with the number of runs that were read, and of all that have to be.

    Raises:
        OSError: no room for the cache.
        QueryError: DuckDB could not write it.
    """
    root = root.absolute()
    try:
        with open_connection(cache_directory(root), memory) as connection:
            state = refresh(root, connection, wants_all=wants_all, on_progress=on_progress)
    except duckdb.Error as error:
        raise query_error(error) from error
    files = [file for of_table in state.manifest.files.values() for file in of_table]
    return Compacted(
        number=state.manifest.number,
        runs=len(state.manifest.runs),
        events=sum(run.events for run in state.manifest.runs),
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files),
        problems=state.overlay.problems,
    )
