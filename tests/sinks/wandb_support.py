"""What the tests of the `wandb` sink share: a run with everything in it, and a pump of their own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eventlog import replay
from eventlog.errors import SinkUnavailableError
from eventlog.events import Event, Metrics, RunEnded, RunStarted
from eventlog.sink import Batch, RunInfo, RunStatus
from eventlog.storage.merge import RunReader, Slice
from sinks.wandb import WandBSink
from tests.logs import START_TS, LogMaker, put
from tests.standin import KEY, StandIn

FINISHED = RunStatus(status="finished", exit_code=0)


def environment(stand_in: StandIn, scratch: Path) -> dict[str, str]:
    """Return the variables under which the SDK and the sink talk to *stand_in* and to nothing else."""
    places = {f"WANDB_{name}_DIR": str(scratch / name) for name in ("CACHE", "DATA", "CONFIG")}
    named = {"WANDB_BASE_URL": stand_in.url, "WANDB_API_KEY": KEY, "WANDB_DIR": str(scratch)}
    return {**places, **named, "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "HOME": str(scratch)}


def quick_sink(**options: Any) -> WandBSink:
    """Return a sink that does not wait long for anything."""
    return WandBSink(**{"settle_s": 0.01, "confirm_s": 0.4, "timeout_s": 1.0, **options})


def make_log(run: Path, events: Sequence[Event], *, name: str = "first") -> Path:
    """Write a run that started, logged *events* and finished; return its directory."""
    start = RunStarted(name=name, ts=START_TS, experiment="exp", tags={"t": None, "k": "v"}, notes="why")
    lines = LogMaker().segment([start, *events, RunEnded(status="finished", exit_code=0)])
    put(run, 1, b"".join(lines))
    return run


def rows(count: int) -> list[Event]:
    """Return *count* metrics events."""
    return [Metrics(step=2 * i, data={"loss": i + 0.5, "i": i}) for i in range(count)]


def info(run: Path, state: dict[str, object] | None = None, **others: Any) -> RunInfo:
    """Return what the pump would say of *run*."""
    started = next((e for e in replay.events(run) if isinstance(e, RunStarted)), None)
    return RunInfo(project="demo", run_id=run.name, path=run, started=started, state=state or {}, **others)


def batches(run: Path, size: int) -> Iterator[Batch]:
    """Yield the run's events, *size* at a time, the same each time."""
    for part in RunReader(run).slices():
        for first in range(0, len(part.events), size):
            events = part.events[first : first + size]
            yield Batch([Slice(part.writer, part.rank, events, part.block, first + len(events))])


class Pump:
    """Delivers a run with fixed batches, as often as it takes, and never sleeps.

    Attributes:
        failures: what the sink said each time that it could not go on.
    """

    def __init__(self, run: Path, *, size: int = 10) -> None:
        self.run, self.failures = run, list[str]()
        self._batches = list(batches(run, size))
        self.state: dict[str, object] = {}
        self.at = 0

    def deliver(self, sink: WandBSink, *, status: RunStatus = FINISHED, tries: int = 12) -> None:
        """Deliver everything that was not delivered before."""
        for _ in range(tries):
            try:
                self._once(sink, status)
                return
            except SinkUnavailableError as error:
                self.failures.append(str(error))
                sink.close(None)
        raise AssertionError(f"not delivered after {tries} tries: {self.failures}")

    def _once(self, sink: WandBSink, status: RunStatus) -> None:
        sink.open(info(self.run, self.state))
        while self.at < len(self._batches):
            sink.write(self._batches[self.at])
            self.state, self.at = sink.state(), self.at + 1
        sink.close(status)


def png(width: int = 3, height: int = 2) -> bytes:
    """Return a grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + b"\x80" * width for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
