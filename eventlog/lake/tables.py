"""The tables of a lake: columns, where their rows come from, and what their files are called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from eventlog.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

PARTITION = "project"
_NAME = re.compile(r"(?:.*/)?\.?part-([0-9A-HJKMNP-TV-Z]{26})-\d+\.parquet(?:\.tmp|#\d+)?")

EVENT_KINDS = {
    "metrics": "metrics",
    "events": None,
    "checkpoints": "checkpoint",
    "evaluations": "evaluation",
    "samples": "sample",
    "datasets": "dataset",
    "system": "system",
    "console": "console",
}
"""Tables whose rows are events, or parts of them, with the type of those events; they only grow."""

OF_RUNS = ("params", "tags", "artifacts", "damage", "summaries", "runs")
"""Tables of what is known of a run, which is replaced as a whole; `runs` comes last."""

_ORDERS = {
    "metrics": "run_id, key, step, ts, writer, seq",
    "events": "run_id, type, ts, writer, seq",
    "system": "run_id, key, ts, writer, seq",
    "params": "run_id, key",
    "tags": "run_id, tag",
    "artifacts": "run_id, name, version",
    "damage": "run_id, writer, segment, start_byte",
    "summaries": "run_id, key",
    "runs": "run_id",
}
_EVENTS = """
    SELECT project, run_id, writer, rank, seq, TRY(make_timestamptz(ts)) AS ts, type, payload FROM all_events
"""
"""Unlike the view `events` without the metrics, which are rows of `metrics`."""


class LakeTable(NamedTuple):
    """A table of the lake.

    Attributes:
        columns: name and DuckDB's type of each, without the project, which is the partition.
        order: of the rows of a file.
        source: SQL for its rows, over the views of `eventlog.query.views`.
    """

    name: str
    columns: dict[str, str]
    order: str
    source: str

    @property
    def cells(self) -> str:
        """Return the columns for a SELECT, with the types that they have in the files."""
        return ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind in self.columns.items())

    @property
    def names(self) -> str:
        """Return the columns for a SELECT."""
        return ", ".join(f'"{name}"' for name in self.columns)

    def schema(self) -> pa.Schema:
        """Return what Delta stores as the table's schema."""
        import pyarrow as pa

        fields = [pa.field(PARTITION, pa.string())]
        fields += [pa.field(name, _arrow(kind)) for name, kind in self.columns.items()]
        return pa.schema(fields)


def _arrow(kind: str) -> pa.DataType:
    import pyarrow as pa

    simple = {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    }
    if kind.startswith("MAP("):
        key, _, value = kind[4:-1].partition(", ")
        return pa.map_(simple[key], simple[value])
    return simple[kind]


def _lake_tables() -> dict[str, LakeTable]:
    defined = {table.name: table for table in TABLES}
    found = {}
    for name in (*EVENT_KINDS, *OF_RUNS):
        columns = {
            column.name: "VARCHAR" if column.type == "JSON" else column.type
            for column in defined[name].columns
            if column.name != PARTITION
        }
        source = _EVENTS if name == "events" else f"SELECT * FROM {name}"
        found[name] = LakeTable(name, columns, _ORDERS.get(name, "run_id, ts, writer, seq"), source)
    return found


LAKE_TABLES = _lake_tables()


def partition_directory(project: str) -> str:
    """Return the directory of a project, as Hive and Spark name it."""
    # Hive takes %C3%BC for two letters: what is not ASCII stays as it is.
    return f"{PARTITION}={''.join(quote(c, safe=' ~!$&()+,;@') if c.isascii() else c for c in project)}"


def project_of(name: str) -> str:
    """Return the project of a file by its directory."""
    return unquote(name.rpartition("/")[0].rpartition("/")[2].partition("=")[2])


def file_name(table: str, project: str, owner: str, number: int) -> str:
    """Return the path of a file, below the lake."""
    return f"{table}/{partition_directory(project)}/part-{owner}-{number}.parquet"


def owner_of(name: str) -> str | None:
    """Return who wrote a file, or None if no evlog did."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def writer_app(project: str, run_id: str, writer: str) -> str:
    """Return what a writer's rows are committed under; the version is the seq that comes next."""
    return f"evlog/{project}/{run_id}/{writer}"


def run_app(project: str, run_id: str) -> str:
    """Return what is known of a run is committed under; the version grows with what is known."""
    return f"evlog/{project}/{run_id}"


def rewrite_app(project: str) -> str:
    """Return what all commits that remove files of a project are made under: no two do at once."""
    return f"evlog-rewrite/{project}"
