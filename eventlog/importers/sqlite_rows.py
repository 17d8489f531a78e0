"""Reads a database of experiments: which tables and columns it has, and the rows of one experiment."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from eventlog.errors import EvlogError
from eventlog.importers import sqlite_columns as columns

_MAGIC = b"SQLite format 3\0"
_ROLES = {
    "experiments": columns.EXPERIMENT,
    "training_metrics": columns.METRIC,
    "evaluation_results": columns.EVALUATION,
    "checkpoints": columns.CHECKPOINT,
}

Row = dict[str, object]


class SourceDatabaseError(EvlogError, ValueError):
    """The file is no database of experiments that can be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"{self.path} cannot be imported: {self.reason}. Expected is a SQLite database with a table "
            "'experiments' (experiment_id, config, created_at, …) and, for each of them, rows in "
            "'training_metrics', 'evaluation_results' and 'checkpoints' (experiment_id, …)."
        )


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the database.

    Attributes:
        table: what we call it.
        name: what the database calls it.
        columns: in their order.
        roles: what we call a column, to its name.
    """

    table: str
    name: str
    columns: list[str]
    roles: dict[str, str]

    @property
    def others(self) -> list[str]:
        """Return the columns that no role was found for."""
        taken = set(self.roles.values())
        return [name for name in self.columns if name not in taken]


class Database:
    """A database that is open for reading, as it was at one moment.

    Attributes:
        sources: the tables that are there, by what we call them.
        orphans: rows of each table that belong to no experiment.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self.sources = self._find()
        self.orphans: dict[str, int] = {}
        experiments = self.sources.get("experiments")
        if experiments is None:
            names = ", ".join(sorted(self._tables())) or "none"
            raise SourceDatabaseError(path, f"it has no table of experiments; its tables: {names}")
        if "id" not in experiments.roles:
            has = ", ".join(experiments.columns)
            raise SourceDatabaseError(
                path, f"its table {experiments.name} has no id among its columns ({has})"
            )
        self._prepare(experiments)

    def experiments(self) -> Iterator[Row]:
        """Yield the rows of the experiments, in the order in which they were made."""
        yield from self._rows("SELECT * FROM temp.own_experiments ORDER BY own_number")

    def rows(self, table: str, experiment: Row) -> Iterator[Row]:
        """Yield the rows of *table* that belong to *experiment*, in their order."""
        if table in self.sources:
            sql = f"SELECT * FROM temp.own_{table} WHERE own_key = ? ORDER BY own_number"
            yield from self._rows(sql, experiment["own_key"])

    def digest(self, experiment: Row) -> str:
        """Return what identifies all that the database says of *experiment*."""
        digest = hashlib.sha256(repr(_told(experiment)).encode())
        for table in ("training_metrics", "evaluation_results", "checkpoints"):
            for row in self.rows(table, experiment):
                digest.update(repr(_told(row)).encode())
            digest.update(b"\0")
        return digest.hexdigest()

    # --- looking ---------------------------------------------------------------------------------------

    def _tables(self) -> dict[str, str]:
        found = self._connection.execute(
            "SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view')"
        )
        return {name.lower(): name for (name,) in found if not name.startswith("sqlite_")}

    def _find(self) -> dict[str, Source]:
        tables = self._tables()
        found: dict[str, Source] = {}
        for table, names in columns.TABLES.items():
            name = next((tables[name] for name in names if name in tables), None)
            if name is None:
                continue
            has = [row[1] for row in self._connection.execute(f"PRAGMA main.table_info({_quoted(name)})")]
            roles = columns.roles(has, _ROLES[table])
            if table == "experiments" or "owner" in roles:
                found[table] = Source(table=table, name=name, columns=has, roles=roles)
        return found

    def _prepare(self, experiments: Source) -> None:
        """Copy the tables beside, each row with the key of its experiment, and an index of those."""
        project = experiments.roles.get("project")
        key = _key(experiments.roles["id"], project)
        self._copy(experiments, key)
        for source in self.sources.values():
            if source.table == "experiments":
                continue
            owner = source.roles["owner"]
            shared = project if project in source.columns else None
            if shared is None:
                key = self._best_key(source, experiments)
                self._connection.execute(
                    f"CREATE TEMP TABLE own_keys_{source.table} AS "
                    f"SELECT {key} AS id, own_key FROM temp.own_experiments"
                )
                own_key = (
                    f"(SELECT own_key FROM temp.own_keys_{source.table} AS k "
                    f"WHERE k.id = CAST({_quoted(owner)} AS TEXT) LIMIT 1)"
                )
                self._connection.execute(
                    f"CREATE INDEX temp.by_id_{source.table} ON own_keys_{source.table} (id)"
                )
            else:
                own_key = _key(owner, shared)
            self._copy(source, own_key)
            sql = f"SELECT count(*) FROM temp.own_{source.table} WHERE own_key IS NULL OR own_key NOT IN "
            sql += "(SELECT own_key FROM temp.own_experiments)"
            self.orphans[source.table] = self._connection.execute(sql).fetchone()[0]

    def _best_key(self, source: Source, experiments: Source) -> str:
        """Return the column of the experiments that the owners in *source* name, as an expression."""
        candidates = [experiments.roles["id"], *(c for c in experiments.others if c.lower() == "id")]
        owner = (
            f"SELECT DISTINCT CAST({_quoted(source.roles['owner'])} AS TEXT) FROM main.{_quoted(source.name)}"
        )

        def fitting(column: str) -> int:
            key = f"CAST({_quoted(column)} AS TEXT)"
            sql = f"SELECT count(*) FROM temp.own_experiments WHERE {key} IN ({owner})"
            return int(self._connection.execute(sql).fetchone()[0])

        return f"CAST({_quoted(max(candidates, key=fitting))} AS TEXT)"

    def _copy(self, source: Source, key: str) -> None:
        name = _quoted(source.name)
        order = "rowid" if self._has_rowid(name) else "NULL"
        self._connection.execute(
            f"CREATE TEMP TABLE own_{source.table} AS "
            f"SELECT {key} AS own_key, {order} AS own_number, * FROM main.{name}"
        )
        self._connection.execute(f"CREATE INDEX temp.by_key_{source.table} ON own_{source.table} (own_key)")

    def _has_rowid(self, name: str) -> bool:
        try:
            self._connection.execute(f"SELECT rowid FROM main.{name} LIMIT 1")
        except sqlite3.OperationalError:
            return False  # a view, or a table that is its own index
        return True

    def _rows(self, sql: str, *values: object) -> Iterator[Row]:
        cursor = self._connection.execute(sql, values)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))


def _told(row: Row) -> list[tuple[str, object]]:
    """Return what the database says in a row, without what we have put beside it."""
    return [(name, value) for name, value in row.items() if name not in ("own_key", "own_number")]


def _key(column: str, project: str | None) -> str:
    key = f"CAST({_quoted(column)} AS TEXT)"
    return key if project is None else f"CAST({_quoted(project)} AS TEXT) || char(0) || {key}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """Yield the database at *path*, which is not changed.

    Raises:
        SourceDatabaseError: it is not there, is something else, or is damaged.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise SourceDatabaseError(path, error.strerror or str(error)) from error
    if magic != _MAGIC:
        raise SourceDatabaseError(path, "it is no SQLite database" if magic else "it is empty")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)
    connection.text_factory = lambda data: data.decode(errors="backslashreplace")
    try:
        connection.execute("BEGIN")  # everything is read as of one moment
        yield Database(path, connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # damaged names and statements are no text
        raise SourceDatabaseError(path, str(error)) from error
    finally:
        connection.close()
