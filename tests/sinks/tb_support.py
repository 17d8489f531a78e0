"""What the tests of the `tensorboard` sink share: runs, delivery by hand, and TensorBoard's two readers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eventlog.events import Event, Metrics, Note, Params, RunStarted
from eventlog.sink import Batch, RunInfo, RunStatus
from eventlog.storage.merge import RunReader, Slice
from sinks.tensorboard import TensorBoardSink
from tests.logs import START_TS, WRITER_A, LogMaker, put
from tests.waiting import wait_until

FINISHED = RunStatus(status="finished", ended_at=START_TS + 60_000_000)
PLUGINS = ("scalars", "text", "images", "audio", "histograms")
Series = list[tuple[int, float]]
STEPS = [*range(40), *range(25, 60)]
"""Those of a run that was killed and went on from an earlier step."""


def some_events() -> list[Event]:
    """Return a run with params, two metrics that go back, one without steps, and texts."""
    events: list[Event] = [RunStarted(name="run"), Params(data={"lr": 0.1, "net": {"hidden": 8}})]
    for number, step in enumerate(STEPS):
        events.append(Metrics(step=step, data={"loss": number / 7, "acc": number}))
        if number % 5 == 0:
            events.append(Metrics(data={"unnumbered": number}))
        if number % 20 == 0:
            events.append(Note(text=f"note {number}"))
            events.append(Params(data={"late": number}))
    return events


def make_run(root: Path, events: Sequence[Event], *, name: str = "p/a", writer: str = WRITER_A) -> Path:
    """Write a log of one writer and return the run's directory; called again, add a writer."""
    run = root / name
    data = b"".join(LogMaker(writer).segment(events))
    put(run, 1, data, writer=writer)
    return run


def slices(run: Path) -> list[Slice]:
    """Return everything in the run's log."""
    return list(RunReader(run).slices())


def in_batches(run: Path, size: int) -> list[Batch]:
    """Return the run's events in batches of *size*, as long as one writer's events follow each other."""
    return [
        Batch([part._replace(events=part.events[at : at + size])])
        for part in slices(run)
        for at in range(0, len(part.events), size)
    ]


def run_info(run: Path, state: dict[str, object] | None = None, generation: int = 0) -> RunInfo:
    """Return what the pump tells a sink of *run*; the state passes through JSON, as in a ledger."""
    started = [event for part in slices(run) for event in part.events if isinstance(event, RunStarted)]
    return RunInfo(
        project=run.parent.name,
        run_id=run.name,
        path=run,
        started=started[0] if started else None,
        state=json.loads(json.dumps(state or {})),
        generation=generation,
    )


def deliver(
    run: Path, log_dir: Path, *, batch_events: int = 1000, status: RunStatus | None = FINISHED
) -> TensorBoardSink:
    """Deliver the whole run by hand."""
    sink = TensorBoardSink(log_dir=log_dir)
    sink.open(run_info(run))
    for batch in in_batches(run, batch_events):
        sink.write(batch)
    sink.state()
    sink.close(status)
    return sink


def event_file(log_dir: Path, name: str = "p/a") -> Path:
    """Return the run's event file, the one without the hparams."""
    (path,) = (log_dir / name).glob("events.out.tfevents.[!0]*.evlog")
    return path


def float32(value: float) -> float:
    """Return *value* as a number of 32 bits."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def kept(points: Iterable[tuple[int, float]]) -> Series:
    """Return what a series shows: a point ends the life of all before it with its step or a later one."""
    series: Series = []
    for step, value in points:
        while series and series[-1][0] >= step:
            series.pop()
        series.append((step, float32(value)))
    return series


def contents(log_dir: Path) -> dict[str, bytes]:
    """Return every file of *log_dir*."""
    return {str(p.relative_to(log_dir)): p.read_bytes() for p in log_dir.rglob("*") if p.is_file()}


# --- TensorBoard's Python reader ---------------------------------------------------------------------------


def accumulated(directory: Path) -> Any:
    """Return an `EventAccumulator` that has read *directory* without leaving out points."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(
        str(directory),
        size_guidance=dict.fromkeys(("scalars", "tensors", "images", "audio", "histograms"), 0),
    )
    reader.Reload()
    return reader


def scalars(directory: Path, tag: str) -> Series:
    """Return a series as the Python reader shows it."""
    return [(event.step, event.value) for event in accumulated(directory).Scalars(tag)]


def messages(path: Path) -> list[Any]:
    """Return all messages of an event file, read with TensorBoard's own reader and its checksums."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event as Message

    return [Message.FromString(data) for data in RawEventFileLoader(str(path)).Load()]


# --- the server -----------------------------------------------------------------------------------------


class Server:
    """A running TensorBoard; with *is_fast* its data server reads, else Python does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> bytes:
        """Return the answer to a GET."""
        with urllib.request.urlopen(
            f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=20
        ) as answer:
            return bytes(answer.read())

    def json(self, path: str, **query: str) -> Any:
        """Return the JSON answer to a GET."""
        return json.loads(self.get(path, **query))

    def post(self, path: str, body: dict[str, object]) -> Any:
        """Return the JSON answer to a POST of JSON."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def series(self, run: str, tag: str) -> Series:
        """Return a series as the Scalars page gets it; empty if it is not known (yet)."""
        try:
            points = self.json("/data/plugin/scalars/scalars", run=run, tag=tag)
        except urllib.error.HTTPError:
            return []
        return [(step, float(value)) for _, step, value in points]

    def runs(self) -> list[str]:
        """Return the names of the runs."""
        return list(self.json("/data/runs"))

    def knows(self, run: str, tag: str, *, plugin: str = "scalars") -> bool:
        """Tell whether a tag of a run was read."""
        return tag in self.json(f"/data/plugin/{plugin}/tags").get(run, {})


@contextlib.contextmanager
def serving(log_dir: Path, *, is_fast: bool = True) -> Iterator[Server]:
    """Run TensorBoard on *log_dir*."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_dir), "--port", "0"]
    command += ["--host", "127.0.0.1", f"--load_fast={str(is_fast).lower()}", "--reload_interval", "1"]
    command += ["--samples_per_plugin", ",".join(f"{plugin}=100000" for plugin in PLUGINS)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            found: list[str] = []

            def is_up() -> bool:
                assert process.poll() is None
                said = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
                found[:] = re.findall(r"http://[\d.]+:\d+", said)
                return bool(found)

            wait_until(is_up, "TensorBoard answers", timeout_s=60)
            yield Server(found[0])
        finally:
            # The data server is a child of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=20)
