"""Brings the cache up to date: what is new in the logs is verified, converted and committed.

What is new in runs that go on is committed only when it is much; until then it is read again by each query,
into tables in memory (`Overlay`). Any number of processes may do this at once: one holds the refresh lock
and commits, the others see what was committed before and read the rest themselves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from eventlog.codec import decode
from eventlog.query import convert
from eventlog.query.catalog import (
    Manifest,
    RunEntry,
    cache_directory,
    commit,
    load_manifest,
    remove_old,
)
from eventlog.query.gather import NOT_FOLDED, Gathered, Gathering, Line
from eventlog.query.merge import merge_small
from eventlog.query.scan import Changed, Scan, new_bytes, scan
from eventlog.replay import is_running
from eventlog.storage.ring import lock_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHUNK_LINES = 600_000
"""Lines of metrics that are converted at once: they bound the memory, and the sizes of the files."""
COMMIT_BYTES = 1 << 20
"""So much new in a run that goes on is worth a commit."""
MUCH_BYTES = 64 << 20
"""So much is not read beside a process that is committing it."""
WAIT_S = 0.1
NEVER = 1 << 62
"""The generation of what was not committed: it comes after every commit."""


class Overlay(msgspec.Struct, kw_only=True):
    """What is new and not in the cache.

    Attributes:
        tables: those that exist as ``live_<table>`` in the connection.
        replaced: runs whose rows in the cache do not count, for another run has their name.
        problems: runs that could not be read, a sentence for each.
    """

    tables: list[str] = []
    replaced: list[tuple[str, str, int]] = []
    problems: list[str] = []


class Refreshed(msgspec.Struct, kw_only=True):
    """The state that a query sees: the cache, and what lies over it."""

    directory: Path
    manifest: Manifest
    overlay: Overlay


class _Work:
    """One refresh, from the scan to the commit."""

    def __init__(
        self,
        root: Path,
        directory: Path,
        connection: DuckDBPyConnection,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.root, self.directory, self.connection = root, directory, connection
        self.on_progress = on_progress
        self.manifest = Manifest()
        self.problems: list[str] = []

    def scan(self) -> Scan:
        """Load the newest state and compare it with what is there."""
        self.manifest = load_manifest(self.directory)
        return scan(self.root, {entry.key: entry for entry in self.manifest.runs})

    def commit(self, found: Scan, *, wants_all: bool) -> Scan:
        """Commit what is worth it; return what is still to be loaded over it."""
        worth = [one for one in found.changed if wants_all or _is_worth_it(one)]
        if not (worth or found.gone):
            return found
        self._commit(worth, found.gone)
        entries = {entry.key: entry for entry in self.manifest.runs}
        kept = [one._replace(entry=entries.get((one.run.project, one.run.run_id))) for one in found.changed]
        return Scan([one for one in kept if one.entry is None or not one.entry.is_settled], [])

    def load_over(self, found: Scan) -> Overlay:
        """Load what the cache does not hold into tables of the connection."""
        overlay = self._overlay(found.changed)
        overlay.replaced += [(entry.project, entry.run_id, self.manifest.number) for entry in found.gone]
        overlay.problems = list(dict.fromkeys(self.problems))
        return overlay

    # --- committing --------------------------------------------------------------------------------

    def _commit(self, worth: Sequence[Changed], gone: Sequence[RunEntry]) -> None:
        new = self.manifest.copy()
        new.number += 1
        found = {entry.key: entry for entry in new.runs}
        for entry in gone:
            found.pop(entry.key, None)
            new.gone.append((entry.project, entry.run_id, self.manifest.number))
        for gathered in self._convert(new, worth):
            found[gathered.entry.key] = gathered.entry
            if gathered.is_replaced:
                new.gone.append((*gathered.entry.key, self.manifest.number))
        new.runs = [found[key] for key in sorted(found)]
        merge_small(self.connection, self.directory, new)
        if commit(self.directory, new):
            remove_old(self.directory, new)
            self.manifest = new
        else:
            # Somebody was faster, on a file system without locks; what is missing then is read over it.
            self.manifest = load_manifest(self.directory)

    def _convert(self, new: Manifest, worth: Sequence[Changed]) -> Iterator[Gathered]:
        """Gather and convert *worth* in chunks: while DuckDB works at one, the next is verified."""
        with (
            _scratch(self.directory) as scratch,
            _Converter(self.connection, self.directory, new) as converter,
        ):
            gathering = Gathering(_subdirectory(scratch), new.number)
            for number, (changed, before, damage) in enumerate(self._with_past(worth), 1):
                gathered = self._gather(gathering, changed, before, damage)
                if gathered is not None:
                    yield gathered
                if gathering.lines >= CHUNK_LINES:
                    converter.put(gathering)
                    gathering = Gathering(_subdirectory(scratch), new.number)
                if self.on_progress:
                    self.on_progress(number, len(worth))
            converter.put(gathering)

    def _gather(
        self,
        gathering: Gathering,
        changed: Changed,
        before: Sequence[Line],
        damage: Sequence[Mapping[str, object]],
    ) -> Gathered | None:
        try:
            return gathering.add(changed, before, damage)
        except OSError as error:
            self.problems.append(f"{changed.run.path}: {error.strerror or error}")
            return None

    def _overlay(self, kept: Sequence[Changed]) -> Overlay:
        overlay = Overlay()
        if not kept:
            return overlay
        with _scratch(self.directory) as scratch:
            gathering = Gathering(Path(scratch), NEVER)
            for changed, before, damage in self._with_past(kept):
                gathered = self._gather(gathering, changed, before, damage)
                if gathered is not None and gathered.is_replaced:
                    overlay.replaced.append((gathered.entry.project, gathered.entry.run_id, NEVER - 1))
            gathering.close()
            overlay.tables = convert.load(self.connection, gathering, "live")
        return overlay

    def _with_past(
        self, worth: Sequence[Changed]
    ) -> Iterator[tuple[Changed, list[Line], list[dict[str, object]]]]:
        """Yield each run with what the cache holds of it that has to be folded once more."""
        known = [one for one in worth if one.entry is not None]
        lines, damage = self._past(known) if known else ({}, {})
        for one in worth:
            key = (one.run.project, one.run.run_id)
            yield one, lines.get(key, []), damage.get(key, [])

    def _past(
        self, known: Sequence[Changed]
    ) -> tuple[dict[tuple[str, str], list[Line]], dict[tuple[str, str], list[dict[str, object]]]]:
        wanted = ", ".join(
            f"({convert.quoted(one.run.project)}, {convert.quoted(one.run.run_id)}, "
            f"{one.entry.generation if one.entry else 0})"
            for one in known
        )
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE wanted (project VARCHAR, run_id VARCHAR, generation BIGINT)"
        )
        self.connection.execute(f"INSERT INTO wanted VALUES {wanted}")
        lines: dict[tuple[str, str], list[Line]] = {}
        files = self.manifest.files.get("events", [])
        if files:
            kinds = ", ".join(map(convert.quoted, NOT_FOLDED))
            rows = self.connection.execute(
                f"SELECT project, run_id, writer, rank, payload "
                f"FROM {convert.read_parquet(self.directory, files)} AS e "
                f"SEMI JOIN wanted USING (project, run_id) WHERE type NOT IN ({kinds})"
            )
            while batch := rows.fetchmany(10_000):
                for project, run_id, writer, rank, payload in batch:
                    event = decode(payload.encode())
                    lines.setdefault((project, run_id), []).append(Line(writer, rank, event))
        damage: dict[tuple[str, str], list[dict[str, object]]] = {}
        files = self.manifest.files.get("damage", [])
        if files:
            names = [
                n for n in convert.STORED["damage"].columns if n not in {"project", "run_id", "generation"}
            ]
            rows = self.connection.execute(
                f"SELECT project, run_id, {', '.join(names)} "
                f"FROM {convert.read_parquet(self.directory, files)} "
                "SEMI JOIN wanted USING (project, run_id, generation)"
            )
            for row in rows.fetchall():
                damage.setdefault((row[0], row[1]), []).append(dict(zip(names, row[2:], strict=True)))
        return lines, damage


class _Converter:
    """Converts one chunk after the other on a thread of its own; keeps the names of the files."""

    def __init__(self, connection: DuckDBPyConnection, directory: Path, manifest: Manifest) -> None:
        self._connection = connection.cursor()
        self._directory, self._manifest = directory, manifest
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> _Converter:
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def put(self, gathering: Gathering) -> None:
        """Begin with *gathering* when the one before is done.

        Raises:
            Exception: what went wrong with the one before.
        """
        gathering.close()
        self._join()
        self._thread = threading.Thread(target=self._convert, args=(gathering,), name="evlog-convert")
        self._thread.start()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _convert(self, gathering: Gathering) -> None:
        try:
            tables = convert.load(self._connection, gathering, "chunk")
            files = convert.write(self._connection, self._directory, "chunk", tables)
            for table, file in files.items():
                self._manifest.files.setdefault(table, []).append(file)
            for table in tables:
                self._connection.execute(f"DROP TABLE chunk_{table}")
            shutil.rmtree(gathering.directory, ignore_errors=True)
        except BaseException as error:  # it is raised again where somebody waits
            self._error = error


def refresh(
    root: Path,
    connection: DuckDBPyConnection,
    *,
    wants_all: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Refreshed:
    """Bring the cache of *root* up to date, and load what is not in it into *connection*.

    Args:
        wants_all: commit also what is little.
        on_progress: called with the number of runs that were read, and of all that have to be.

    Raises:
        OSError: no room for the cache.
    """
    directory = cache_directory(root)
    work = _Work(root, directory, connection, on_progress)
    while True:
        with refresh_lock(directory) as is_mine:
            found = work.scan()
            if is_mine:
                found = work.commit(found, wants_all=wants_all)
            elif wants_all or sum(map(new_bytes, found.changed)) > MUCH_BYTES:
                # Somebody is at it; waiting is cheaper than doing the same beside it.
                time.sleep(WAIT_S)
                continue
            overlay = work.load_over(found)
        return Refreshed(directory=directory, manifest=work.manifest, overlay=overlay)


def _is_worth_it(one: Changed) -> bool:
    """Tell whether a run has ended, as far as can be seen, or has much that is new."""
    return new_bytes(one) >= COMMIT_BYTES or not is_running(one.run.path)


@contextlib.contextmanager
def refresh_lock(directory: Path) -> Iterator[bool]:
    """Hold the right to commit, or say that somebody else does."""
    path = directory / "refresh.lock"
    try:
        path.touch()
        fd = lock_file(path)
    except OSError:
        fd = None  # no locks here, or a cache that only others may write
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def _scratch(directory: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=".scratch-", dir=directory)


def _subdirectory(scratch: str) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))
