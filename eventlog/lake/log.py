"""How far each application is in a Delta table, for all of them at once.

`deltalake` tells it for one application a call, and reads the log each time: ten thousand runs would take
minutes on S3. Delta's protocol keeps it in the commits (JSON) and in the last checkpoint (Parquet).
"""

from __future__ import annotations

import io

import msgspec

from eventlog.lake.errors import LakeError
from eventlog.lake.place import Place

LOG = "_delta_log"


class _Transaction(msgspec.Struct, rename="camel"):
    app_id: str
    version: int


class _Action(msgspec.Struct):
    txn: _Transaction | None = None


class _Checkpoint(msgspec.Struct, rename="camel"):
    version: int
    parts: int | None = None
    v2_checkpoint: dict[str, object] | None = None


class Transactions:
    """The newest version of each application's commits in one table, up to a version of the table.

    Reading on costs only what was committed since.
    """

    def __init__(self, place: Place, table: str) -> None:
        self._place, self._table = place, table
        self._upto = -1
        self._found: dict[str, int] = {}

    def at(self, version: int) -> dict[str, int]:
        """Return them as of *version* of the table, which must not be older than at the last call.

        Raises:
            LakeError: the log is not as Delta's protocol says, or in a form that is not known here.
        """
        if version < self._upto:
            self._upto, self._found = -1, {}
        try:
            self._read_on(version)
        except FileNotFoundError:
            # Commits that a checkpoint has taken in may be removed after a month.
            self._start(version)
            self._read_on(version)
        return self._found

    def _read_on(self, version: int) -> None:
        if self._upto < 0:
            self._start(version)
        for number in range(self._upto + 1, version + 1):
            data = self._place.read(f"{self._table}/{LOG}/{number:020d}.json")
            for line in data.splitlines():
                if b'"txn"' in line:
                    found = msgspec.json.decode(line, type=_Action).txn
                    if found is not None:
                        self._found[found.app_id] = found.version
            self._upto = number

    def _start(self, version: int) -> None:
        """Begin at the last checkpoint, or at the first commit."""
        self._upto, self._found = -1, {}
        try:
            data = self._place.read(f"{self._table}/{LOG}/_last_checkpoint")
        except FileNotFoundError:
            return
        last = msgspec.json.decode(data, type=_Checkpoint)
        if last.version > version:
            return  # younger than what is asked for; the commits before it are still there
        if last.v2_checkpoint is not None:
            raise LakeError(
                self._place.uri(self._table), "its checkpoints are of a kind (v2) that evlog cannot read"
            )
        stem = f"{self._table}/{LOG}/{last.version:020d}.checkpoint"
        parts = last.parts or 0
        names = [f"{stem}.{part:010d}.{parts:010d}.parquet" for part in range(1, parts + 1)]
        for name in names or [f"{stem}.parquet"]:
            self._found.update(_transactions_in(self._place.read(name)))
        self._upto = last.version


def _transactions_in(checkpoint: bytes) -> dict[str, int]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(checkpoint))
    if "txn" not in file.schema_arrow.names:
        return {}
    found = {}
    for batch in file.iter_batches(columns=["txn.appId", "txn.version"]):
        cells = batch.column(0).flatten()
        found.update(
            {
                app: version
                for app, version in zip(cells[0].to_pylist(), cells[1].to_pylist(), strict=True)
                if app is not None
            }
        )
    return found
