"""How fast the mlflow sink is beside MLflow's own client: ``python -m benchmarks.into_mlflow``.

One server takes the same points in turn from the sink, which reads them from a finished log, and from
``MlflowClient.log_batch`` in full batches of 1000 from memory. Interleaved rounds, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import QUIET
from eventlog import Tracker, TrackingConfig
from eventlog.delivery.pump import deliver_run
from sinks.mlflow import MLflowSink
from tests.sinks.mlflow_server import MLflowServer

CALLS = 10_000
KEYS = ("train/loss", "train/accuracy")
BATCH = 1000


class Round(NamedTuple):
    """Points a second of one round."""

    sink: float
    client: float

    @property
    def ratio(self) -> float:
        """Return the sink's speed as a part of the client's."""
        return self.sink / self.client


def _timed(points: int, work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return points / (time.perf_counter() - begin)


def _log(root: Path, name: str, calls: int) -> Path:
    with Tracker((), TrackingConfig(project="bench"), output_dir=root) as tracker:
        tracker.start_run(name)
        for step in range(calls):
            tracker.log_metrics({key: 1 / (step + number + 1) for number, key in enumerate(KEYS)}, step)
    return root / "bench" / name


def _by_client(uri: str, name: str, calls: int) -> Callable[[], None]:
    """Return what logs the points from memory; the run is made and the objects are ready before."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("peer")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("peer")
    run_id = client.create_run(experiment_id, run_name=name).info.run_id
    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(key, 1 / (step + number + 1), now + step, step)
        for step in range(calls)
        for number, key in enumerate(KEYS)
    ]

    def work() -> None:
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run_id, metrics[start : start + BATCH], synchronous=True)
        client.set_terminated(run_id)

    return work


def measure(rounds: int, *, calls: int = CALLS) -> list[Round]:
    """Return the speeds of each round, for *calls* calls of two points each."""
    os.environ.update(QUIET, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true")
    points, results = calls * len(KEYS), []
    with tempfile.TemporaryDirectory() as directory:
        server = MLflowServer(Path(directory))
        server.start()
        try:
            for number in range(rounds):
                run = _log(Path(directory) / "runs", f"run-{number}", calls)
                sink = MLflowSink(tracking_uri=server.uri)
                peer = _by_client(server.uri, f"peer-{number}", calls)
                ways: list[Callable[[], float]] = [
                    lambda: _timed(points, lambda: deliver_run(run, sink, "mlflow")),  # noqa: B023
                    lambda: _timed(points, peer),  # noqa: B023
                ]
                first = number % 2
                speeds = {first: ways[first](), 1 - first: ways[1 - first]()}
                results.append(Round(speeds[0], speeds[1]))
        finally:
            server.stop()
    return results


def main() -> None:
    """Print the speeds of each round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=CALLS, help="log_metrics calls of two points each")
    arguments = parser.parse_args()
    results = measure(arguments.rounds, calls=arguments.calls)
    for number, result in enumerate(results, 1):
        print(f"round {number}: sink {result.sink:,.0f}/s  client {result.client:,.0f}/s  {result.ratio:.2f}")
    sink, client = (statistics.median(r[way] for r in results) for way in (0, 1))
    ratio = statistics.median(r.ratio for r in results)
    print(f"median: sink {sink:,.0f} points/s, client {client:,.0f} points/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
