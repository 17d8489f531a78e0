"""Where the `mlflow` sink delivers to, what it needs there, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.errors import SinkUnavailableError
from eventlog.events import Event
from eventlog.sink import Batch, RunInfo, RunStatus
from eventlog.storage.merge import RunReader
from sinks.mlflow import MLflowSink
from tests.logs import START_TS, LogMaker, put
from tests.sinks.mlflow_server import FaultyProxy, MLflowServer, free_port, shared_server

STARTED = ev.RunStarted(name="a", ts=START_TS)


def make_run(run: Path, points: int = 50) -> Path:
    """Make a run with points, params, files and console output."""
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts/notes.txt").write_text("mine")
    events: list[Event] = [
        STARTED,
        ev.Params(data={"lr": 0.1}),
        *(ev.Metrics(step=i, data={"loss": 1 / (i + 1)}) for i in range(points)),
        ev.Artifact(name="notes.txt", path="artifacts/notes.txt", size_bytes=4),
        ev.Console(stream="stdout", text="printed"),
        ev.Dataset(name="digits", rows=1),
        ev.ModelRegistered(name="net", version="7", alias="best", stage="Production"),
        ev.RunEnded(status="finished"),
    ]
    put(run, 1, b"".join(LogMaker().segment(events)))
    return run


def test_importing_the_sink_does_not_import_mlflow() -> None:
    """Listing and loading sinks stays cheap."""
    code = "import sys, sinks.mlflow; sys.exit('mlflow' in sys.modules or 'requests' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("missing", "uri"), [("mlflow", "http://127.0.0.1:9"), ("sqlalchemy", "sqlite:////nowhere/m.db")]
)
def test_missing_package_is_an_import_error(tmp_path: Path, missing: str, uri: str) -> None:
    """A server needs mlflow-skinny; a database needs all of mlflow."""
    code = f"""
        import sys
        sys.modules[{missing!r}] = None
        from pathlib import Path
        from eventlog.sink import RunInfo
        from sinks.mlflow import MLflowSink
        try:
            MLflowSink(tracking_uri={uri!r}).open(RunInfo(project="p", run_id="a", path=Path()))
        except ModuleNotFoundError as error:
            sys.exit(0 if error.name == {missing!r} else 1)
        sys.exit(2)
    """
    code = textwrap.dedent(code)

    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=60).returncode == 0


def test_destination_names_the_place_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option comes before the variable; a relative database is the same from everywhere."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@variable:5000")

    assert MLflowSink().destination == "http://variable:5000"
    assert MLflowSink(tracking_uri="http://option:5000").destination == "http://option:5000"
    assert MLflowSink(tracking_uri="sqlite:///m.db").destination == f"sqlite:///{Path('m.db').absolute()}"
    assert MLflowSink(tracking_uri="./mlruns").destination == Path("mlruns").absolute().as_uri()


def test_default_is_mlflows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without option and variable MLflow decides: a database in the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)

    assert MLflowSink().destination == f"sqlite:///{tmp_path}/mlflow.db"


def test_nobody_there_is_soon_unavailable(tmp_path: Path) -> None:
    """The pump does the waiting, so one try is one try."""
    sink = MLflowSink(tracking_uri=f"http://127.0.0.1:{free_port()}")

    with pytest.raises(SinkUnavailableError, match=r"http://127\.0\.0\.1"):
        sink.open(RunInfo(project="p", run_id="a", path=tmp_path))


def test_password_in_the_uri_stands_in_no_message(tmp_path: Path) -> None:
    """What the pump keeps and shows of an error lets nobody in."""
    sink = MLflowSink(tracking_uri=f"http://me:secret@127.0.0.1:{free_port()}")

    with pytest.raises(SinkUnavailableError) as caught:
        sink.open(RunInfo(project="p", run_id="a", path=tmp_path))

    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_database_takes_a_run_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By MLflow's own client everything arrives as well, once, and files lie beside the database."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run, uri = make_run(tmp_path / "p" / "a"), f"sqlite:///{tmp_path}/mlflow.db"
    sink = MLflowSink(tracking_uri=uri)
    info = RunInfo(project="p", run_id="a", path=run, started=STARTED)
    batch = Batch(list(RunReader(run).slices()))

    for _ in range(2):
        sink.open(info)
        sink.write(batch)
        sink.close(RunStatus(status="finished", ended_at=START_TS))

    entries = list(batch.entries())
    assert sorted(map(repr, sink.delivered(info))) == sorted(map(repr, sink.expected(entries)))
    server = MLflowServer(tmp_path)  # never started: only its questions to the file are wanted
    (run_id,) = server.run_ids("a")
    assert len(server.points(run_id)) == 50
    assert server.query("SELECT name, version, current_stage FROM model_versions") == [
        ("net", 1, "Production")
    ]
    (console,) = (tmp_path / "mlruns").rglob("console.log")
    assert console.read_text() == "printed\n"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.xdist_group("mlflow")
def test_pump_delivers_and_proves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names the server; what arrived is proven; the environment stays as it was."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared_server().uri)
    run = make_run(tmp_path / tmp_path.name / "a")
    before = dict(os.environ)

    deliver_run(run, MLflowSink(), "mlflow")
    proof = prove(run, MLflowSink(), "mlflow")

    assert (proof.result, proof.differences) == ("proven", [])
    assert proof.points == 50 + 1 + 1
    changed = {k for k in before.keys() | os.environ.keys() if before.get(k) != os.environ.get(k)}
    assert not {name for name in changed if name.startswith("MLFLOW")}


@pytest.mark.xdist_group("mlflow")
def test_server_that_restarts_in_the_middle_gets_each_point_once(tmp_path: Path) -> None:
    """The sink fails while the server is away and goes on when it is back on its port."""
    server, points = shared_server(), 30
    run = make_run(tmp_path / tmp_path.name / f"restart-{tmp_path.name}", points)
    info = RunInfo(project=run.parent.name, run_id=run.name, path=run, started=STARTED)
    batch = Batch(list(RunReader(run).slices()))
    sink = MLflowSink(tracking_uri=server.uri)
    sink.open(info)

    server.stop()
    try:
        with pytest.raises(SinkUnavailableError):
            sink.write(batch)
        sink.close(None)
        with pytest.raises(SinkUnavailableError):
            sink.open(info)
    finally:
        server.start()
    for _ in range(2):
        sink.open(info)
        sink.write(batch)
        sink.close(RunStatus(status="finished", ended_at=START_TS))

    (run_id,) = server.run_ids(run.name)
    stored = server.points(run_id)
    assert [p.step for p in stored] == list(range(points))
    assert len(set(stored)) == points


@pytest.mark.xdist_group("mlflow")
def test_spool_that_was_removed_costs_nothing_that_is_stored(tmp_path: Path) -> None:
    """Who removes the run's state may lose new lines of whole files, never those that MLflow has."""
    server = shared_server()
    run = make_run(tmp_path / tmp_path.name / f"spool-{tmp_path.name}")
    info = RunInfo(project=run.parent.name, run_id=run.name, path=run, started=STARTED)
    ended = RunStatus(status="finished", ended_at=START_TS)
    sink = MLflowSink(tracking_uri=server.uri)
    sink.open(info)
    sink.write(Batch(list(RunReader(run).slices())))
    sink.close(ended)
    state = sink.state()

    for path in (run / ".evlog" / "mlflow").rglob("console.jsonl"):
        path.unlink()
    again = RunInfo(project=info.project, run_id=info.run_id, path=run, started=STARTED, state=state)
    more = LogMaker("r0-01KAHCZG000000000000000C00").segment([ev.Console(stream="stdout", text="later")])
    put(run, 1, b"".join(more), writer="r0-01KAHCZG000000000000000C00")
    late = [s for s in RunReader(run).slices() if s.writer.endswith("C00")]
    sink.open(again)
    sink.write(Batch(late))
    sink.close(ended)

    (run_id,) = server.run_ids(run.name)
    (console,) = [p for p in server.directory.rglob("console.log") if run_id in str(p)]
    assert console.read_text() == "printed\n"


@pytest.mark.xdist_group("mlflow")
def test_one_request_is_one_try(tmp_path: Path) -> None:
    """A batch of points costs one request for a thousand of them."""
    server = shared_server()
    run = make_run(tmp_path / tmp_path.name / "a", 3000)
    proxy = FaultyProxy(server.port)
    try:
        sink = MLflowSink(tracking_uri=proxy.uri)
        sink.open(RunInfo(project=run.parent.name, run_id="a", path=run, started=STARTED))
        proxy.log.clear()
        sink.write(Batch(list(RunReader(run).slices())))
    finally:
        proxy.stop()

    assert sum("log-batch" in line for line in proxy.log) == 3 + 1  # and one for the params
