"""Replaces what the lake says of runs, and takes runs out of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import duckdb

from eventlog.lake.claims import Claim
from eventlog.lake.delta import Change, Live, New, Table
from eventlog.lake.errors import ConflictError
from eventlog.lake.files import Writer
from eventlog.lake.local import Local, RunKey
from eventlog.lake.tables import rewrite_app, run_app
from eventlog.query.convert import quoted

SMALL_BYTES = 16 << 20
"""A file that is smaller is written anew with the next rows of its project."""


def replace(table: Table, local: Local, writer: Writer, claim: Claim) -> int:
    """Put what is known here in the place of what the lake has of each run that is known better here.

    Returns:
        the number of runs.

    Raises:
        ConflictError: another process has changed the table meanwhile.
    """
    versions = table.versions
    better = [key for key, known in local.known.items() if known > versions.get(run_app(*key), 0)]
    changes = [Change(run_app(*key), versions.get(run_app(*key)), local.known[key]) for key in better]
    rewriting = _Rewriting(table, local, writer)
    for project, runs in _by_project(better).items():
        # The small ones too, or there would soon be a file for each commit.
        files = [f for f in table.of(project) if f.size_bytes < SMALL_BYTES or _may_have(f, runs)]
        rewriting.add(project, files, local.select_runs(table.table.source, project, runs))
    rewriting.commit(claim, changes)
    return len(better)


def remove(table: Table, local: Local, writer: Writer, claim: Claim, runs: Collection[RunKey]) -> None:
    """Take *runs* out of a table; a run that comes back is published anew.

    Raises:
        ConflictError: another process has changed the table meanwhile.
    """
    versions = table.versions
    wanted = set(runs)
    changes = [
        Change(app, version, 0)
        for app, version in versions.items()
        if version > 0 and app.startswith("evlog/") and tuple(app.split("/")[1:3]) in wanted
    ]
    rewriting = _Rewriting(table, local, writer)
    for project, names in _by_project(runs).items():
        files = [file for file in table.of(project) if _may_have(file, names)]
        if files:
            local.select_runs(table.table.source, project, names)
            rewriting.add(project, files, None)
    if rewriting.removed or changes:
        rewriting.commit(claim, changes)


class _Rewriting:
    """A commit that removes files: the rows in them that stay go into new ones."""

    def __init__(self, table: Table, local: Local, writer: Writer) -> None:
        self._table, self._local, self._writer = table, local, writer
        self._added: list[New] = []
        self.removed: list[Live] = []
        self._changes: list[Change] = []

    def add(self, project: str, files: Sequence[Live], rows: str | None) -> None:
        """Write what is left of *files* without the runs in ``some_run``, and *rows*, as one file."""
        table = self._table
        kept = kept_rows(table, files, self._writer.scratch)
        if kept is not None:
            kept += " ANTI JOIN some_run USING (run_id)"
        query = " UNION ALL BY NAME ".join(part for part in (kept, rows) if part is not None)
        if query:
            try:
                file = self._writer.write(table.table, project, query)
            except duckdb.IOException as error:
                if not files:
                    raise
                raise ConflictError from error  # somebody has replaced and removed a file meanwhile
            self._added += [file] if file else []
        if files:
            self.removed += files
            app = rewrite_app(project)
            before = table.versions.get(app)
            self._changes.append(Change(app, before, (before or 0) + 1))
        _forget(table, files, self._writer.scratch)

    def commit(self, claim: Claim, changes: Sequence[Change]) -> None:
        """Commit all that was added, with *changes*."""
        if not (changes or self._changes):
            return
        claim.check()
        table = self._table
        try:
            table.commit(self._added, self.removed, [*changes, *self._changes])
        except ConflictError:
            table.place.delete([f"{table.table.name}/{file.name}" for file in self._added])
            raise


def kept_rows(table: Table, files: Sequence[Live], scratch: Path) -> str | None:
    """Return SQL for all rows of *files* of one project; None without files.

    Raises:
        ConflictError: one of them is not there any more.
    """
    if not files:
        return None
    try:
        paths = [table.place.local(f"{table.table.name}/{file.name}", scratch) for file in files]
    except FileNotFoundError as error:
        raise ConflictError from error
    listed = ", ".join(quoted(pattern(path)) for path in paths)
    return f"SELECT * FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def pattern(path: Path) -> str:
    """Return a pattern that matches *path* only."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(path))


def _forget(table: Table, files: Sequence[Live], scratch: Path) -> None:
    """Remove what was fetched."""
    if files and table.place.directory is None:
        for path in scratch.glob("fetched-*.parquet"):
            path.unlink(missing_ok=True)


def _may_have(file: Live, runs: Sequence[str]) -> bool:
    if file.first is None or file.last is None:
        return True
    return any(file.first <= run <= file.last for run in runs)


def _by_project(runs: Iterable[RunKey]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for project, run_id in sorted(runs):
        found.setdefault(project, []).append(run_id)
    return found
