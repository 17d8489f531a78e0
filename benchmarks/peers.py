"""The trackers that are measured, each behind the same two calls: log three scalars, close."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Log = Callable[[dict[str, float], int], object]


class Session(NamedTuple):
    """An open run of one tracker.

    Attributes:
        log: takes three scalars and a step.
        close: returns when everything is stored.
    """

    log: Log
    close: Callable[[], object]


class Peer(NamedTuple):
    """How to open a tracker, and how many calls it is given in a round: slow ones get fewer."""

    title: str
    open: Callable[[Path], Session]
    calls: int
    busy_calls: int = 0


QUIET = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
"""What keeps the peers off the network and off the terminal."""


def open_evlog(directory: Path) -> Session:
    """Open a run without a sink: the log alone, as durable as it always is."""
    from eventlog import create_tracker

    tracker = create_tracker([], output_dir=directory, project="bench")
    tracker.start_run("run")
    return Session(tracker.log_metrics, tracker.end_run)


def open_evlog_local(directory: Path) -> Session:
    """Open a run as `create_tracker("local")` does: at its end JSON files are written beside the log."""
    from eventlog import create_tracker

    tracker = create_tracker("local", output_dir=directory, project="bench")
    tracker.start_run("run")
    return Session(tracker.log_metrics, tracker.end_run)


def open_nothing(directory: Path) -> Session:  # noqa: ARG001 - the shape of a peer
    """Open a function that does nothing: what the measurement itself costs."""

    def log(metrics: dict[str, float], step: int) -> None:
        pass

    return Session(log, lambda: None)


def open_naive(directory: Path) -> Session:
    """Open what people write themselves: a JSON line and a flush for each call, nothing checked."""
    file = (directory / "log.jsonl").open("w")

    def log(metrics: dict[str, float], step: int) -> None:
        file.write(json.dumps({"step": step, "ts": time.time(), **metrics}) + "\n")
        file.flush()

    def close() -> None:
        os.fsync(file.fileno())
        file.close()

    return Session(log, close)


def open_wandb(directory: Path) -> Session:
    """Open an offline run of W&B."""
    import wandb

    run = wandb.init(project="bench", mode="offline", dir=str(directory))

    def log(metrics: dict[str, float], step: int) -> None:
        run.log(metrics, step=step)

    return Session(log, run.finish)


def open_tensorboard(directory: Path) -> Session:
    """Open TensorBoard's own event file writer, without a framework around it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(directory))

    def log(metrics: dict[str, float], step: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    return Session(log, writer.close)


def open_mlflow(directory: Path) -> Session:
    """Open a run of MLflow on SQLite, as ``mlflow.log_metrics`` writes it."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
    mlflow.create_experiment("bench", artifact_location=(directory / "artifacts").as_uri())
    mlflow.set_experiment("bench")
    mlflow.start_run()

    def log(metrics: dict[str, float], step: int) -> None:
        mlflow.log_metrics(metrics, step=step)

    return Session(log, mlflow.end_run)


def open_trackio(directory: Path) -> Session:
    """Open a local run of trackio."""
    os.environ["TRACKIO_DIR"] = str(directory)
    import trackio

    trackio.init(project="bench", name="run", embed=False)

    def log(metrics: dict[str, float], step: int) -> None:
        trackio.log(metrics, step=step)

    return Session(log, trackio.finish)


PEERS = {
    "nothing": Peer("(an empty function)", open_nothing, calls=50_000, busy_calls=50_000),
    "evlog": Peer("evlog", open_evlog, calls=100_000, busy_calls=50_000),
    "naive": Peer("json.dumps + write + flush", open_naive, calls=50_000, busy_calls=400),
    "tensorboard": Peer("TensorBoard writer", open_tensorboard, calls=10_000),
    "wandb": Peer("W&B offline", open_wandb, calls=3_000),
    "trackio": Peer("trackio", open_trackio, calls=1_000),
    "mlflow": Peer("MLflow on SQLite", open_mlflow, calls=200),
}
