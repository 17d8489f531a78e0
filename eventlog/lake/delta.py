"""One Delta table: what counts in it, and commits of which each happens once or not at all.

Of commits that overlap Delta compares the applications, and that is what everything here rests on. It does
not always notice a file that two of them remove (merging files is no change to it), so every commit that
removes files of a project names one application for that.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from eventlog.lake.errors import ConflictError
from eventlog.lake.log import Transactions
from eventlog.lake.place import Place
from eventlog.lake.tables import LAKE_TABLES, PARTITION, LakeTable

if TYPE_CHECKING:
    from deltalake import DeltaTable

TRIES = 8


class Live(NamedTuple):
    """A file that counts. *name* is its path below the table; *first* and *last* bound the run ids in it."""

    name: str
    project: str
    size_bytes: int
    rows: int
    first: str | None
    last: str | None


class New(NamedTuple):
    """A file that is written and not committed. *statistics* as Delta's protocol wants them, JSON."""

    name: str
    project: str
    size_bytes: int
    rows: int
    statistics: str


class Change(NamedTuple):
    """An application's step from one version to the next; None where it has none yet."""

    app: str
    before: int | None
    after: int


class Table:
    """A table of the lake as it was when last loaded. Not safe for several threads."""

    def __init__(self, place: Place, table: LakeTable, delta: DeltaTable) -> None:
        self.place, self.table = place, table
        self._delta = delta
        self._transactions = Transactions(place, table.name)
        self._files: dict[str, Live] | None = None

    @classmethod
    def open(cls, place: Place, name: str) -> Table | None:
        """Load a table; None if the lake has none of this name."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            delta = DeltaTable(place.uri(name), storage_options=place.options or None)
        except TableNotFoundError:
            return None
        return cls(place, LAKE_TABLES[name], delta)

    @classmethod
    def make(cls, place: Place, name: str) -> Table:
        """Load a table, and make it or its missing columns before; several may do so at once."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        table = LAKE_TABLES[name]
        found = cls.open(place, name)
        if found is None:
            # Another process may make it at this moment; if it is another error, the next line says so.
            with contextlib.suppress(DeltaError):
                DeltaTable.create(
                    place.uri(name),
                    schema=table.schema(),
                    mode="ignore",
                    partition_by=[PARTITION],
                    name=name,
                    description=f"evlog: {name}",
                    storage_options=place.options or None,
                )
            found = cls.open(place, name)
            if found is None:
                raise FileNotFoundError(f"the table {name} could not be made")
        found._add_columns()
        return found

    def reload(self) -> None:
        """Look what has been committed since."""
        self._delta.update_incremental()
        self._files = None

    @property
    def files(self) -> Mapping[str, Live]:
        """The files that count, by their names."""
        if self._files is None:
            self._files = self._live(self._delta)
        return self._files

    @property
    def versions(self) -> Mapping[str, int]:
        """How far each application is."""
        return self._transactions.at(self._delta.version())

    def of(self, project: str) -> list[Live]:
        """Return the files of a project."""
        return [file for file in self.files.values() if file.project == project]

    def names_at(self, ago: timedelta) -> set[str]:
        """Return the files that counted so long ago."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            then = DeltaTable(self.place.uri(self.table.name), storage_options=self.place.options or None)
            then.load_as_version(datetime.now(UTC) - ago)
        except DeltaError:
            return set()  # it did not exist then
        return set(self._live(then))

    def commit(
        self,
        adds: Sequence[New],
        removes: Sequence[Live],
        changes: Sequence[Change],
        *,
        is_tidying: bool = False,
    ) -> None:
        """Commit files and versions, all together, if nothing that this builds on has changed.

        Args:
            is_tidying: the rows stay what they are.

        Raises:
            ConflictError: something has; nothing was committed.
            DeltaError, OSError: the store failed; perhaps it was committed.
        """
        from deltalake.exceptions import CommitFailedError

        for attempt in range(TRIES):
            if self._holds(adds, changes):
                return  # an earlier try went through although its answer was an error
            versions = self.versions
            if any(versions.get(change.app) != change.before for change in changes):
                raise ConflictError
            if any(file.name not in self.files for file in removes):
                raise ConflictError
            try:
                self._try(adds, removes, changes, is_tidying=is_tidying)
            except CommitFailedError:
                time.sleep(random.uniform(0, 0.02) * 2**attempt)
                self.reload()
                continue
            self.reload()
            return
        raise ConflictError

    def _holds(self, adds: Sequence[New], changes: Sequence[Change]) -> bool:
        if adds:
            return adds[0].name in self.files
        return all(self.versions.get(change.app) == change.after for change in changes)

    def _try(
        self, adds: Sequence[New], removes: Sequence[Live], changes: Sequence[Change], *, is_tidying: bool
    ) -> None:
        from deltalake import CommitProperties, Transaction
        from deltalake.transaction import AddAction, RemoveAction

        now_ms = time.time_ns() // 1_000_000
        is_data = not is_tidying
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(file.name, is_data, now_ms, file.size_bytes, {PARTITION: file.project})
            for file in removes
        ]
        actions += [
            AddAction(file.name, file.size_bytes, {PARTITION: file.project}, now_ms, is_data, file.statistics)
            for file in adds
        ]
        self._delta.create_write_transaction(
            actions,
            "append",
            self._delta.schema(),
            partition_by=[PARTITION],
            commit_properties=CommitProperties(
                app_transactions=[Transaction(change.app, change.after) for change in changes]
            ),
        )

    def _live(self, delta: DeltaTable) -> dict[str, Live]:
        import pyarrow as pa

        found: dict[str, Live] = {}
        rows = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
        for row in rows:
            name = unquote(row["path"])
            found[name] = Live(
                name,
                row[f"partition.{PARTITION}"],
                row["size_bytes"],
                row["num_records"] or 0,
                row.get("min.run_id"),
                row.get("max.run_id"),
            )
        return found

    def _add_columns(self) -> None:
        """Add the columns that a newer evlog knows to a table that an older one made."""
        from deltalake import Schema
        from deltalake.exceptions import DeltaError

        there = {field.name for field in self._delta.schema().fields}
        missing = [
            field for field in Schema.from_arrow(self.table.schema()).fields if field.name not in there
        ]
        if missing:
            try:
                self._delta.alter.add_columns(missing)
            except DeltaError:
                # Another process is doing the same; what is still missing shows in the next look.
                self.reload()
                return self._add_columns()
            self.reload()
        return None
