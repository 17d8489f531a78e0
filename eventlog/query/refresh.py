"""Brings the cache up to date: what is new in the logs is verified, converted and committed.

What is new in runs that go on is committed only when it is much; until then it is read again by each query,
into tables in memory (`Overlay`). Any number of processes may do this at once: one holds the refresh lock
and commits, the others see what was committed before and read the rest themselves.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from eventlog.query import convert, past
from eventlog.query.catalog import (
    DataFile,
    Manifest,
    RunEntry,
    cache_directory,
    commit,
    forget,
    load_manifest,
    remove_old,
    scratch,
)
from eventlog.query.chunks import Converter
from eventlog.query.gather import Gathered, Gatherer, Gathering, ScratchError
from eventlog.query.merge import merge_files
from eventlog.query.scan import Changed, Scan, scan
from eventlog.storage.modes import close_to_others, is_private
from eventlog.storage.ring import lock_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHUNK_LINES = 600_000
"""Lines of metrics that are converted at once: they bound the memory, and the sizes of the files."""
COMMIT_BYTES = 1 << 20
"""So much new in a run that goes on is worth a commit."""
ALL_BYTES = 8 << 20
"""So much new in all runs that go on is worth a commit of them all."""
STEP_BYTES = 1 << 30
"""After so much a commit is made although more is to come: whoever is killed then loses no more."""
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
        self.root, self.directory = root, directory
        self.connection = connection
        # Tables that only the work needs are invisible to those who ask afterwards.
        self._own = connection.cursor()
        self.on_progress = on_progress
        self.manifest = Manifest()
        self.problems: list[str] = []
        self._done = self._total = 0

    def scan(self) -> Scan:
        """Load the newest state and compare it with what is there."""
        self.manifest = load_manifest(self.directory)
        found = scan(self.root, {entry.key: entry for entry in self.manifest.runs})
        self.problems = list(found.problems)
        return found

    def commit(self, found: Scan, *, wants_all: bool) -> Scan:
        """Commit what is worth it; return what is still to be loaded over it."""
        little = [one for one in found.changed if not _is_worth_it(one)]
        if wants_all or sum(one.new_bytes for one in little) >= ALL_BYTES:
            little = []
        over = {(one.run.project, one.run.run_id) for one in little}
        worth = [one for one in found.changed if (one.run.project, one.run.run_id) not in over]
        if not (worth or found.gone or found.settled):
            return found
        self._total = len(worth)
        gone, settled = found.gone, found.settled
        for part in _in_steps(worth):
            if not self._commit(part, gone, settled):
                # Somebody was faster, on a file system without locks; what is missing is read over it.
                return self.scan()
            gone, settled = [], []
        return found._replace(changed=little, gone=[], settled=[])

    def load_over(self, found: Scan) -> Overlay:
        """Load what the cache does not hold into tables of the connection."""
        overlay = Overlay()
        if found.changed:
            with scratch(self.directory) as path:
                gatherer = Gatherer(lambda: Gathering(path, NEVER))
                for gathered in self._gather(gatherer, found.changed):
                    if gathered.is_replaced:
                        overlay.replaced.append((*gathered.entry.key, NEVER - 1))
                gatherer.chunk.close()
                overlay.tables = convert.load(self.connection, gatherer.chunk, "live")
        overlay.replaced += [(entry.project, entry.run_id, NEVER - 1) for entry in found.gone]
        overlay.problems = list(dict.fromkeys(self.problems))
        return overlay

    def close(self) -> None:
        """Drop the tables that only the work needed."""
        self._own.close()

    def _commit(
        self, worth: Sequence[Changed], gone: Sequence[RunEntry], settled: Sequence[RunEntry]
    ) -> bool:
        """Commit a state with *worth* in it; False if somebody else has committed another one."""
        before, new = self.manifest, self.manifest.copy()
        remove_old(self.directory, before)
        new.number += 1
        found = {entry.key: entry for entry in new.runs}
        for entry in gone:
            found.pop(entry.key, None)
            new.gone.append((*entry.key, before.number))
        found.update((entry.key, entry) for entry in settled)
        for gathered in self._convert(new, worth):
            found[gathered.entry.key] = gathered.entry
            if gathered.is_replaced:
                new.gone.append((*gathered.entry.key, before.number))
        new.runs = [found[key] for key in sorted(found)]
        if new == msgspec.structs.replace(before, number=new.number):
            return True  # nothing could be read
        merge_files(self._own, self.directory, new)
        if commit(self.directory, new):
            self.manifest = new
            remove_old(self.directory, new)
            return True
        for name in new.names() - before.names():
            (self.directory / name).unlink(missing_ok=True)
        return False

    def _convert(self, new: Manifest, worth: Sequence[Changed]) -> Iterator[Gathered]:
        """Gather and convert *worth* in chunks: while DuckDB works at one, the next is verified."""
        if not worth:
            return

        def take(files: dict[str, DataFile]) -> None:
            for table, file in files.items():
                new.files.setdefault(table, []).append(file)

        with (
            scratch(self.directory) as path,
            Converter(self._own, self.directory, take) as converter,
        ):
            gatherer = Gatherer(
                lambda: Gathering(Path(tempfile.mkdtemp(dir=path)), new.number),
                converter.put,
                chunk_lines=CHUNK_LINES,
            )
            for gathered in self._gather(gatherer, worth):
                self._done += 1
                if self.on_progress:
                    self.on_progress(self._done, self._total)
                yield gathered
            converter.put(gatherer.chunk)

    def _gather(self, gatherer: Gatherer, runs: Sequence[Changed]) -> Iterator[Gathered]:
        for one, lines, damage in past.with_past(self._own, self.directory, self.manifest, runs):
            if is_private(one.run.path):
                with contextlib.suppress(OSError):  # somebody else's: only its owner can
                    close_to_others(self.directory)
            try:
                gathered = gatherer.add(one, lines, damage)
            except OSError as error:
                self.problems.append(f"{one.run.path}: {error.strerror or error}")
                continue
            if gathered.problem is not None:
                self.problems.append(gathered.problem)
            gatherer.cut()
            yield gathered


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
        duckdb.Error: no room for the cache, or a file of it cannot be read.
    """
    import duckdb

    for is_last in (False, True):
        work = _Work(root, cache_directory(root), connection, on_progress)
        try:
            return _refresh(work, wants_all=wants_all)
        except ScratchError as error:
            if is_last or not isinstance(error.error, FileNotFoundError):
                raise error.error from error
        except (duckdb.IOException, duckdb.InvalidInputException, FileNotFoundError):
            # Somebody removed the cache meanwhile, or a file of it is damaged: it is built anew, once.
            if is_last:
                raise
            forget(cache_directory(root))
        finally:
            work.close()
    raise AssertionError("unreachable")


def _refresh(work: _Work, *, wants_all: bool) -> Refreshed:
    while True:
        with refresh_lock(work.directory) as is_mine:
            found = work.scan()
            if is_mine:
                found = work.commit(found, wants_all=wants_all)
            elif wants_all or sum(one.new_bytes for one in found.changed) > MUCH_BYTES:
                # Somebody is at it; waiting is cheaper than doing the same beside it.
                time.sleep(WAIT_S)
                continue
            overlay = work.load_over(found)
        return Refreshed(directory=work.directory, manifest=work.manifest, overlay=overlay)


def _is_worth_it(one: Changed) -> bool:
    """Tell whether a run has ended, as far as can be seen, or has much that is new."""
    if one.entry is not None and one.entry.size_bytes < 0:
        return False  # it could not be read to its end: no reason to write what is known each time
    return one.new_bytes >= COMMIT_BYTES or not one.look.is_alive


def _in_steps(worth: Sequence[Changed]) -> Iterator[list[Changed]]:
    """Cut *worth* into parts of about `STEP_BYTES`; at least one."""
    part: list[Changed] = []
    size = 0
    for one in worth:
        part.append(one)
        size += one.new_bytes
        if size >= STEP_BYTES:
            yield part
            part, size = [], 0
    if part or not worth:
        yield part


@contextlib.contextmanager
def refresh_lock(directory: Path) -> Iterator[bool]:
    """Hold the right to commit, or say that somebody else does."""
    path = directory / "refresh.lock"
    try:
        path.touch()
        fd = lock_file(path)
    except OSError:
        yield True  # no locks here: whoever commits second begins anew
        return
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)
