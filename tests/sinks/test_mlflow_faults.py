"""The `mlflow` sink delivers each event once, whatever happens to its requests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.errors import SinkUnavailableError
from eventlog.events import Event
from eventlog.sink import Batch, Entry, RunInfo, RunStatus
from eventlog.storage.merge import RunReader, Slice
from sinks.mlflow import MLflowSink
from tests.logs import START_TS, WRITER_B, LogMaker, put
from tests.sinks.mlflow_server import (
    BUSY,
    CUT,
    DOWN,
    LOST_ANSWER,
    TAKEN_BUT_500,
    TORN,
    Fault,
    FaultyProxy,
    MLflowServer,
    shared_server,
)

pytestmark = pytest.mark.xdist_group("mlflow")

ENDED = RunStatus(status="finished", ended_at=START_TS + 60_000_000)


@pytest.fixture
def server() -> MLflowServer:
    return shared_server()


@pytest.fixture
def proxy(server: MLflowServer) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(server.port)
    yield proxy
    proxy.stop()


def make_run(run: Path) -> Path:
    """Make a run of two writers with one or more events of most kinds."""
    model = run / "artifacts/models/net"
    model.mkdir(parents=True)
    (model / "model.pkl").write_bytes(b"weights")
    (run / "artifacts/plot.png").write_bytes(b"\x89PNG")
    part = ev.FileEntry(path="model.pkl", size_bytes=7, sha256=hashlib.sha256(b"weights").hexdigest())
    first: list[Event] = [
        ev.RunStarted(name="the run", tags={"team": "vision", "old": None}, notes="why"),
        ev.Params(data={"lr": 0.1, "net": {"depth": 3}, "odd=key": "x" * 7000}),
        *(ev.Metrics(step=i, data={"loss": 1 / (i + 1), "odd@key": "NaN"}) for i in range(8)),
        ev.Artifact(name="plot.png", path="artifacts/plot.png", size_bytes=4),
        ev.Console(stream="stdout", text="one\ntwo"),
        ev.Note(text="more"),
        ev.Tags(data={"new": "1"}, removed=["old"]),
        ev.Params(data={"lr": 0.2}),
        ev.Artifact(name="models/net", path="artifacts/models/net", is_directory=True, files=[part]),
        ev.Model(name="net", artifact="models/net", path="artifacts/models/net", flavor="pickle"),
        ev.ModelRegistered(name=f"net-{run.name}", path="artifacts/models/net", alias="champion"),
        ev.Dataset(name="digits", path="digits.csv", rows=10, split="train"),
        ev.Table(key="examples", step=1, columns=["a"], rows=[[1]]),
        ev.Sample(benchmark="mmlu", index=0, prediction="A"),
        ev.System(data={"cpu_percent": 12.5}),
        ev.Console(stream="stderr", text="three"),
        ev.RunEnded(status="finished", exit_code=0),
    ]
    other: list[Event] = [ev.RunResumed(reason="joined")]
    other += [ev.Metrics(step=i, data={"loss": 2.0 + i, "top": "Infinity"}) for i in range(4)]
    put(run, 1, b"".join(LogMaker().segment(first)))
    put(run, 1, b"".join(LogMaker(WRITER_B, start_ts=START_TS + 2500).segment(other)), writer=WRITER_B)
    return run


def entries_of(run: Path) -> list[Slice]:
    """Return the events of *run*, each in a slice of its own."""
    return [
        Slice(part.writer, part.rank, [event], part.block, part.stop)
        for part in RunReader(run).slices()
        for event in part.events
    ]


def deliver(run: Path, uri: str, *, batch: int = 11, tries: int = 4) -> int:
    """Deliver as the pump does, from the state that was saved before the last; return the tries it took.

    After each failure the sink is thrown away as a kill would, the batches are cut elsewhere, and the last
    batch that was delivered is repeated, for the kill may have come before its checkpoint was saved.
    """
    slices = entries_of(run)
    saved: list[tuple[int, dict[str, object]]] = [(0, {})]
    started = next(s.events[0] for s in slices if isinstance(s.events[0], ev.RunStarted))
    assert isinstance(started, ev.RunStarted)
    for number in range(1, tries + 1):
        at, state = saved[-2] if len(saved) > 1 and number > 1 else saved[-1]
        info = RunInfo(project="demo", run_id=run.name, path=run, started=started, state=state)
        sink = MLflowSink(tracking_uri=uri)
        try:
            sink.open(info)
            while at < len(slices):
                size = batch + 3 * (number - 1)
                sink.write(Batch(slices[at : at + size]))
                at += size
                saved.append((at, sink.state()))
            sink.close(ENDED)
        except SinkUnavailableError:
            continue
        return number
    raise AssertionError(f"not delivered in {tries} tries")


def assert_stored_once(run: Path, server: MLflowServer) -> None:
    """Check with what the sink reads back, and against the server's own database."""
    sink = MLflowSink(tracking_uri=server.uri)
    entries = [Entry(s.writer, s.rank, s.events[0]) for s in entries_of(run)]
    info = RunInfo(project="demo", run_id=run.name, path=run)
    assert sorted(map(repr, sink.delivered(info))) == sorted(map(repr, sink.expected(entries)))
    (run_id,) = server.run_ids(run.name)
    wanted = sum(len(s.events[0].data) for s in entries_of(run) if isinstance(s.events[0], ev.Metrics))
    points = server.points(run_id)
    assert len(points) == wanted + 1  # the system's
    assert len(set(points)) == len(points)
    model = f"net-{run.name}"
    assert len(server.query("SELECT 1 FROM model_versions WHERE name = ?", model)) == 1
    assert server.query("SELECT count(*) FROM inputs WHERE destination_id = ?", run_id) == [(1,)]
    below = server.directory / "artifacts"
    (console,) = [path for path in below.rglob("console.log") if run_id in str(path)]
    assert console.read_text() == "one\ntwo\nthree\n"
    (samples,) = [path for path in below.rglob("mmlu.jsonl") if run_id in str(path)]
    assert len(samples.read_text().splitlines()) == 1
    words = dict(server.query("SELECT key, value FROM tags WHERE run_uuid = ?", run_id))
    assert (words["mlflow.note.content"], words["evlog.param.lr"]) == ("why\n\nmore", "0.2")
    assert "old" not in words
    assert server.query("SELECT status FROM runs WHERE run_uuid = ?", run_id) == [("FINISHED",)]


def campaign(
    directory: Path, proxy: FaultyProxy, server: MLflowServer, faults: tuple[Fault, ...], *, share: int = 1
) -> int:
    """Spoil each request of a delivery in turn; return the number of cases.

    Args:
        share: try each fault at one in so many requests, each at others.
    """
    deliver(make_run(directory / "clean"), proxy.uri)
    requests, cases = proxy.count, 0
    for at, fault in enumerate(faults):
        for number in range(1 + at % share, requests + 1, share):
            run = make_run(directory / f"{faults.index(fault)}-{number}-{directory.name}")
            proxy.count, proxy.faults = 0, {number: fault}
            proxy.log.clear()
            assert deliver(run, proxy.uri) == 2, proxy.log
            assert_stored_once(run, server)
            cases += 1
    return cases


def test_a_clean_delivery_holds_each_event_once(
    tmp_path: Path, server: MLflowServer, proxy: FaultyProxy
) -> None:
    """Without faults one try is enough."""
    run = make_run(tmp_path / tmp_path.name)

    assert deliver(run, proxy.uri) == 1
    assert_stored_once(run, server)


@pytest.mark.parametrize(
    "faults", [(LOST_ANSWER,), (CUT, TORN, TAKEN_BUT_500, BUSY, DOWN)], ids=["lost answers", "other faults"]
)
def test_each_event_arrives_once_whichever_request_is_spoilt(
    tmp_path: Path, server: MLflowServer, proxy: FaultyProxy, faults: tuple[Fault, ...]
) -> None:
    """A request that is cut, torn, refused for now, or taken without an answer is repeated harmlessly."""
    cases = campaign(tmp_path, proxy, server, faults, share=8 if len(faults) > 1 else 4)

    assert cases >= 8
