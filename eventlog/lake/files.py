"""Writes rows as Parquet files: DuckDB sorts and compresses, Delta gets the bounds of each file."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eventlog.lake.delta import New
from eventlog.lake.place import Place
from eventlog.lake.tables import LakeTable, file_name
from eventlog.query.convert import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FORMAT = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 6, PARQUET_VERSION V2, RETURN_STATS"
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00")
_BOUNDED = {"run_id": str, "key": str, "type": str, "step": int, "seq": int}


class Writer:
    """Writes files that belong to one publisher. Not safe for several threads."""

    def __init__(self, connection: DuckDBPyConnection, place: Place, owner: str, scratch: Path) -> None:
        self._connection, self.place, self._owner, self.scratch = connection, place, owner, scratch
        self._count = 0

    def write(self, table: LakeTable, project: str, query: str) -> New | None:
        """Write the rows of *query* as a file; None if there are none.

        Raises:
            duckdb.Error, OSError: they cannot be read or written.
        """
        self._count += 1
        name = file_name(table.name, project, self._owner, self._count)
        young = self.place.scratch_for(name, self.scratch)
        try:
            copied = self._connection.execute(
                f"COPY (SELECT {table.cells} FROM ({query}) ORDER BY {table.order}) "
                f"TO {quoted(young)} ({FORMAT})"
            ).fetchone()
            assert copied is not None
            rows, size = int(copied[1]), young.stat().st_size
            if rows == 0:
                return None
            self.place.keep(young, name)
        finally:
            young.unlink(missing_ok=True)
        return New(name.partition("/")[2], project, size, rows, _statistics(rows, copied[4]))


def _statistics(rows: int, columns: dict[str, dict[str, str]]) -> str:
    """Return what Delta keeps of a file, from what DuckDB says of it."""
    least: dict[str, object] = {}
    greatest: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for quoted_name, found in columns.items():
        name = quoted_name.strip('"')
        low, high = found.get("min"), found.get("max")
        if low is None or high is None or "false" in (found.get("min_is_exact"), found.get("max_is_exact")):
            continue
        if name in _BOUNDED:
            least[name], greatest[name] = _BOUNDED[name](low), _BOUNDED[name](high)
        elif name == "ts" and _TIME.fullmatch(low) and _TIME.fullmatch(high):
            least[name], greatest[name] = _zulu(low), _zulu(high)
        else:
            continue
        if "null_count" in found:
            nulls[name] = int(found["null_count"])
    return json.dumps({"numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": nulls})


def _zulu(text: str) -> str:
    return datetime.fromisoformat(text + ":00").strftime("%Y-%m-%dT%H:%M:%S.%fZ")
