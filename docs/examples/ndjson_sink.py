"""A sink that appends a run's events to a file, one JSON object a line: <to>/<project>/<run_id>.ndjson."""

import os
from pathlib import Path

import msgspec

from eventlog.events import UnknownEvent
from eventlog.sink import Batch, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint


class NdjsonSink:
    traits = Traits()

    def __init__(self, *, to: str = "./ndjson") -> None:
        self._to = Path(to).expanduser().resolve()
        self.destination = str(self._to)
        self._length = 0

    def open(self, run: RunInfo) -> Checkpoint | None:
        path = self._to / run.project / f"{run.run_id}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        # What lies beyond the saved length was written by a process that was killed: it comes again.
        self._length = int(str(run.state.get("length", 0)))
        self._file.truncate(self._length)
        return None

    def write(self, batch: Batch) -> None:
        for writer, rank, event in batch.entries():
            fields = msgspec.Raw(event.raw) if isinstance(event, UnknownEvent) else event
            line = {"writer": writer, "rank": rank, "event": fields}
            self._length += self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def state(self) -> dict[str, object]:
        return {"length": self._length}

    def close(self, status: RunStatus | None) -> None:  # noqa: ARG002 - a file has no status
        self._file.close()
