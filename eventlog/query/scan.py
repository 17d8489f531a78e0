"""Finds what has changed below a root since the cache was filled, with one look at each directory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from eventlog.query.catalog import RunEntry
from eventlog.storage.layout import LOG_DIRECTORY, RunPath, list_segments, log_directory

RACY_NS = 2_000_000_000
"""A directory that changed so shortly ago may change again within the same tick of its clock."""


class Changed(NamedTuple):
    """A run with something that the cache may not hold, and the time of its log's directory."""

    run: RunPath
    mtime_ns: int
    entry: RunEntry | None


class Scan(NamedTuple):
    """What is below a root: runs to be read, and runs that are in the cache and not there any more."""

    changed: list[Changed]
    gone: list[RunEntry]


def scan(root: Path, entries: Mapping[tuple[str, str], RunEntry]) -> Scan:
    """Compare the directories below *root* with *entries*."""
    changed = []
    seen = set()
    for run, mtime_ns in _runs(root):
        key = (run.project, run.run_id)
        seen.add(key)
        entry = entries.get(key)
        if entry is None or not entry.is_settled or entry.mtime_ns != mtime_ns:
            changed.append(Changed(run, mtime_ns, entry))
    return Scan(changed, [entry for key, entry in entries.items() if key not in seen])


def new_bytes(changed: Changed) -> int:
    """Return how many bytes of segments there are beyond what the cache holds of a run."""
    cursors = changed.entry.cursors if changed.entry else {}
    total = 0
    directory = log_directory(changed.run.path)
    for writer, segments in list_segments(directory).items():
        cursor = cursors.get(writer)
        for name in segments:
            if cursor is None or name.segment >= cursor.segment:
                try:
                    size = name.path(directory).stat().st_size
                except OSError:
                    continue  # it is gone; whoever reads the run will say so
                total += size - (cursor.offset if cursor and name.segment == cursor.segment else 0)
    return max(0, total)


def is_racy(mtime_ns: int) -> bool:
    """Tell whether a file may come into a directory without changing its time *mtime_ns*."""
    return time.time_ns() - mtime_ns < RACY_NS


def _runs(root: Path) -> Iterator[tuple[RunPath, int]]:
    for project in _directories(os.fspath(root)):
        for path in _directories(project.path):
            try:
                found = os.stat(f"{path.path}/{LOG_DIRECTORY}")  # noqa: PTH116 - ten thousand times a query
            except OSError:
                continue
            yield RunPath(project.name, path.name, Path(path.path)), found.st_mtime_ns


def _directories(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(entries, key=lambda entry: entry.name)
