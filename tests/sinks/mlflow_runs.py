"""Runs for the tests of the `mlflow` sink, and what MLflow holds of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run as MLflowRun
from mlflow.entities import ViewType

from eventlog import events as ev
from eventlog.delivery.pump import deliver_run
from eventlog.events import Event
from eventlog.sink import Batch, RunInfo, RunStatus
from eventlog.storage.merge import RunReader
from sinks.mlflow import MLflowSink
from tests.logs import START_TS, LogMaker, put
from tests.sinks.mlflow_server import MLflowServer

ENDED = RunStatus(status="finished", ended_at=START_TS + 1_000_000)


def make_run(
    run: Path, events: Sequence[Event], *, started: ev.RunStarted | None = None, is_ended: bool = True
) -> Path:
    """Make a run of one writer."""
    first = started or ev.RunStarted(name=run.name)
    last: list[Event] = [ev.RunEnded(status="finished")] if is_ended else []
    put(run, 1, b"".join(LogMaker().segment([first, *events, *last])))
    return run


def deliver(run: Path, server: MLflowServer, client: MlflowClient) -> MLflowRun:
    """Deliver *run* and return what MLflow holds of it."""
    deliver_run(run, MLflowSink(tracking_uri=server.uri), "mlflow")
    return stored(run, client)


def stored(run: Path, client: MlflowClient) -> MLflowRun:
    """Return the one run of MLflow that *run* became."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    wanted = f"tags.`evlog.project` = '{run.parent.name}' and tags.`evlog.run_id` = '{run.name}'"
    (found,) = client.search_runs(ids, wanted, ViewType.ACTIVE_ONLY)
    return found


def write_by_hand(run: Path, sink: MLflowSink, *, started: ev.RunStarted | None = None) -> None:
    """Open the sink and write all events in one batch."""
    info = RunInfo(
        project=run.parent.name,
        run_id=run.name,
        path=run,
        started=started or ev.RunStarted(name=run.name, ts=START_TS),
    )
    sink.open(info)
    sink.write(Batch(list(RunReader(run).slices())))


def files(client: MlflowClient, run: MLflowRun, below: str | None = None) -> set[str]:
    """Return the paths of the files of a run."""
    found = set()
    for file in client.list_artifacts(run.info.run_id, below):
        found |= files(client, run, file.path) if file.is_dir else {file.path}
    return found


def content(client: MlflowClient, run: MLflowRun, name: str, directory: Path) -> str:
    """Return the text of a file of a run."""
    directory.mkdir(exist_ok=True)
    return Path(client.download_artifacts(run.info.run_id, name, str(directory))).read_text()
