"""Finds what has changed below a root since the cache was filled, with one look at each directory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.codec import MAX_LINE_BYTES, decode, stored_crc, verifies
from eventlog.events import SegmentOpened
from eventlog.query.catalog import RunEntry
from eventlog.storage.ends import last_lines
from eventlog.storage.layout import (
    LOG_DIRECTORY,
    RunPath,
    list_rings,
    list_segments,
    log_directory,
)
from eventlog.storage.modes import opener
from eventlog.storage.repair import is_alive

RACY_NS = 2_000_000_000
"""A directory that changed so shortly ago may change again within the same tick of its clock."""
SILENT_S = 86_400.0
"""A writer that gives no sign of life but its files is taken for dead, for good, after this time."""
_SEAL = b'"type":"segment_sealed"'


class Look(NamedTuple):
    """What a run's log looks like from outside: nobody opened more than the ends of its files.

    Attributes:
        size_bytes: of all segments.
        is_alive: a writer may append to it.
        is_over: nobody can append any more, as far as anybody can know.
    """

    size_bytes: int
    is_alive: bool
    is_over: bool


class Changed(NamedTuple):
    """A run with something that the cache may not hold.

    Attributes:
        mtime_ns: of the log's directory, from before *look*.
        new_bytes: about how many bytes of segments the cache does not hold.
    """

    run: RunPath
    mtime_ns: int
    entry: RunEntry | None
    look: Look
    new_bytes: int


class Scan(NamedTuple):
    """What is below a root.

    Attributes:
        changed: runs to be read.
        settled: runs of which the cache holds everything, as their entries should be from now on.
        gone: runs that are in the cache and not there any more.
        problems: what could not be looked at, a sentence each; what the cache holds of it stays.
    """

    changed: list[Changed]
    settled: list[RunEntry]
    gone: list[RunEntry]
    problems: list[str]


def scan(root: Path, entries: Mapping[tuple[str, str], RunEntry]) -> Scan:
    """Compare the directories below *root* with *entries*."""
    found = Scan([], [], [], [])
    unseen = set(entries)
    for project, run_id, path, mtime_ns in _runs(root, unseen, found.problems):
        key = (project, run_id)
        unseen.discard(key)
        entry = entries.get(key)
        if entry is not None and entry.is_settled and entry.mtime_ns == mtime_ns:
            continue
        run = RunPath(project, run_id, Path(path))
        try:
            _look_closer(found, run, mtime_ns, entry)
        except OSError as error:
            found.problems.append(f"{run.path}: {error.strerror or error}")
    found.gone.extend(entry for key, entry in entries.items() if key in unseen)
    return found


def look_at(run: Path) -> Look:
    """Look at the log of *run* from outside.

    Raises:
        OSError: its directory or one of its files cannot be looked at.
    """
    log_dir = log_directory(run)
    rings = list_rings(log_dir)
    size, alive, is_over = 0, False, not rings
    now = time.time()
    for writer, segments in list_segments(log_dir).items():
        newest = 0.0
        for name in segments:
            status = os.stat(name.path(log_dir))  # noqa: PTH116 - for each segment of each live run
            size += status.st_size
            newest = status.st_mtime
        if writer in rings:
            # A ring's lock says everything; who has none is judged by its newest segment.
            alive |= is_alive(log_dir, writer, None, is_sealed=False)
            continue
        path = segments[-1].path(log_dir)
        is_sealed = _is_sealed(path)
        header = next(filter(None, (_header_of(name.path(log_dir)) for name in reversed(segments))), None)
        is_dead = not is_alive(log_dir, writer, header, is_sealed=is_sealed)
        alive |= not is_dead
        had_file = header is not None and header.ring is not None and header.ring.kind == "file"
        is_over &= is_dead and (is_sealed or had_file or now - newest > SILENT_S)
    return Look(size, alive, is_over)


def _is_sealed(path: Path) -> bool:
    """Tell whether the last line of a segment is a seal that fits to the line before it."""
    lines = last_lines(path)
    if not lines or _SEAL not in lines[-1][:80]:
        return False
    seed = stored_crc(lines[-2]) if len(lines) > 1 else None
    return seed is None or verifies(lines[-1], seed)


def _header_of(path: Path) -> SegmentOpened | None:
    """Return the first line of a segment, if it is good."""
    with open(path, "rb", opener=opener) as file:
        line = file.readline(MAX_LINE_BYTES).rstrip(b"\n")
    if stored_crc(line) is not None and not verifies(line, 0):
        return None
    try:
        event = decode(line)
    except msgspec.MsgspecError:
        return None
    return event if isinstance(event, SegmentOpened) else None


def is_racy(mtime_ns: int) -> bool:
    """Tell whether a file may come into a directory without changing its time *mtime_ns*."""
    return time.time_ns() - mtime_ns < RACY_NS


def _look_closer(found: Scan, run: RunPath, mtime_ns: int, entry: RunEntry | None) -> None:
    look = look_at(run.path)
    if (
        entry is not None
        and entry.mtime_ns == mtime_ns
        and entry.size_bytes == look.size_bytes
        and entry.is_alive == look.is_alive
    ):
        if look.is_over and not is_racy(mtime_ns):
            found.settled.append(msgspec.structs.replace(entry, is_settled=True))
        return
    held = max(0, entry.size_bytes) if entry else 0
    found.changed.append(Changed(run, mtime_ns, entry, look, max(0, look.size_bytes - held)))


def _runs(
    root: Path, unseen: set[tuple[str, str]], problems: list[str]
) -> Iterator[tuple[str, str, str, int]]:
    """Yield project, id, path and time of runs; take out of *unseen* what cannot be looked at."""
    for project in _directories(os.fspath(root), problems, unseen, ()):
        for path in _directories(project.path, problems, unseen, (project.name,)):
            try:
                found = os.stat(f"{path.path}/{LOG_DIRECTORY}")  # noqa: PTH116 - ten thousand times a query
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                problems.append(f"{path.path}: {error.strerror or error}")
                unseen.discard((project.name, path.name))
                continue
            yield project.name, path.name, path.path, found.st_mtime_ns


def _directories(
    path: str, problems: list[str], unseen: set[tuple[str, str]], below: tuple[str, ...]
) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        problems.append(f"{path}: {error.strerror or error}")
        unseen.difference_update([key for key in unseen if key[: len(below)] == below])
        return []
    odd = [entry for entry in entries if not (entry.name.isascii() or _is_text(entry.name))]
    problems += [f"{entry.path!r}: its name is not UTF-8" for entry in odd]
    return sorted((e for e in entries if e not in odd) if odd else entries, key=lambda entry: entry.name)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False  # bytes that Python shows as halves of surrogate pairs
    return True
