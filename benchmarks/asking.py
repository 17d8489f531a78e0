"""How fast questions are answered: by evlog, by DuckDB over hand-made Parquet, and by MLflow's SQLite store.

The same runs for all. The hand-made Parquet is what somebody would make who knows the question beforehand:
one file, sorted by run and metric. MLflow gets the last points only, which is all that its answer needs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Figures, medians, one_each

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from eventlog.query import Database

LEADERBOARD = "SELECT run_id, last FROM summaries WHERE key = 'loss' ORDER BY last LIMIT 10"
HISTORY = (
    "SELECT step, value FROM metrics WHERE project = 'p1' AND run_id = 'run-00001' AND key = 'loss' "
    "ORDER BY step"
)
EVERYTHING = "SELECT key, avg(value) FROM metrics GROUP BY key"


def write_runs(root: Path, runs: int, steps: int) -> None:
    """Log *runs* runs of *steps* calls with three metrics each."""
    from eventlog import create_tracker

    fresh = random.Random(0).random
    for number in range(runs):
        tracker = create_tracker([], output_dir=root, project=f"p{number % 4}")
        with tracker.start_run(f"run-{number:05d}"):
            tracker.log_params({"lr": 10 ** -(number % 4), "seed": number})
            loss = 3.0
            for step in range(steps):
                loss = loss * 0.999 + fresh() * 0.01
                accuracy = 1 - loss / 4 + fresh() * 0.01
                tracker.log_metrics({"loss": loss, "accuracy": accuracy, "lr": 0.1 * 0.999**step}, step=step)


def by_hand(root: Path, to: Path) -> Path:
    """Write all points of the cache to one sorted file, as an expert would from the start."""
    import duckdb

    points = f"{root}/.evlog/cache/points-*.parquet"
    path = to / "hand.parquet"
    duckdb.execute(
        f"COPY (SELECT project, run_id, key, step, ts, value FROM read_parquet('{points}') "
        f"ORDER BY project, run_id, key, step) TO '{path}' "
        "(FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION V2)"
    )
    return path


def fill_mlflow(root: Path, to: Path) -> str:
    """Give MLflow's SQLite store each run's last point of each metric; return the store's URI."""
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    from eventlog.query import Database

    uri = f"sqlite:///{to}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("bench", artifact_location=str(to / "artifacts"))
    with Database.open(root) as database:
        rows = list(database.execute("SELECT run_id, key, last, last_step FROM summaries").rows())
    metrics: dict[str, list[Metric]] = {}
    for run_id, key, last, step in rows:
        metrics.setdefault(str(run_id), []).append(Metric(str(key), float(str(last)), 0, int(str(step))))
    for run_id, points in metrics.items():
        run = client.create_run(experiment, run_name=run_id)
        client.log_batch(run.info.run_id, metrics=points)
    return uri


def timed(work: Callable[..., object], *given: object) -> float:
    """Return milliseconds of one call."""
    begin = time.perf_counter()
    work(*given)
    return (time.perf_counter() - begin) * 1e3


def measure(rounds: int, *, runs: int, steps: int, with_mlflow: bool) -> list[Figures]:
    """Return figures of each round; the cold build, which is slow, is in the first three only."""
    import duckdb

    from eventlog.query import Database

    results: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="evlog-bench-") as name:
        root, other = Path(name) / "runs", Path(name) / "other"
        other.mkdir()
        write_runs(root, runs, steps)
        cache = root / ".evlog"
        builds = []
        for _ in range(3):
            shutil.rmtree(cache, ignore_errors=True)
            builds.append(timed(lambda: Database.open(root).close()))
        build_s = sorted(builds)[1] / 1e3
        hand = by_hand(root, other)
        size = sum(path.stat().st_size for path in cache.rglob("points-*.parquet"))
        uri = fill_mlflow(root, other) if with_mlflow else ""
        connection = duckdb.connect()
        source = f"read_parquet('{hand}')"
        for _ in range(rounds):
            figures: Figures = {
                "build_events_per_s": runs * steps / build_s,
                "bytes_per_point": size / (runs * steps * 3),
            }
            figures["open_ms"] = timed(lambda: Database.open(root).close())
            with Database.open(root) as database:
                for question, sql in {
                    "leaderboard": LEADERBOARD,
                    "history": HISTORY,
                    "everything": EVERYTHING,
                }.items():
                    figures[f"{question}_first_ms"] = timed(_answer, database, sql)
                    figures[f"{question}_ms"] = timed(_answer, database, sql)
            hands = {
                "leaderboard": f"SELECT run_id, arg_max(value, step) AS l FROM {source} WHERE key = 'loss' "
                "GROUP BY ALL ORDER BY l LIMIT 10",
                "history": HISTORY.replace("metrics", source),
                "everything": EVERYTHING.replace("metrics", source),
            }
            for question, sql in hands.items():
                timed(_fetch, connection, sql)
                figures[f"{question}_hand_ms"] = timed(_fetch, connection, sql)
            words = [sys.executable, "-m", "eventlog", "query", LEADERBOARD, "--dir", str(root)]
            figures["command_ms"] = timed(_run, words)
            if uri:
                figures |= _mlflow(uri)
            results.append(figures)
    return results


def _answer(database: Database, sql: str) -> list[tuple[object, ...]]:
    return list(database.execute(sql).rows())


def _fetch(connection: DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return list(connection.execute(sql).fetchall())


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _mlflow(uri: str) -> Figures:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)

    def ask() -> object:
        return client.search_runs(["1"], order_by=["metrics.loss ASC"], max_results=10)

    return {"mlflow_first_ms": timed(ask), "mlflow_warm_ms": timed(ask)}


LINES = {
    "build_events_per_s": ("first refresh, verified, events/s", 0),
    "bytes_per_point": ("bytes a point in the cache", 2),
    "open_ms": ("open with nothing new, ms", 1),
    "leaderboard_first_ms": ("leaderboard, in process, first question, ms", 1),
    "leaderboard_ms": ("… again, ms", 1),
    "leaderboard_hand_ms": ("… DuckDB over hand-made Parquet, ms", 1),
    "mlflow_first_ms": ("… MLflow search_runs, first, ms", 1),
    "mlflow_warm_ms": ("… MLflow search_runs, warm, ms", 1),
    "command_ms": ("leaderboard, `evlog query` as a whole, ms", 0),
    "history_first_ms": ("one metric of one run, first, ms", 1),
    "history_ms": ("… again, ms", 1),
    "history_hand_ms": ("… hand-made, ms", 1),
    "everything_ms": ("an aggregate over every point, ms", 1),
    "everything_hand_ms": ("… hand-made, ms", 1),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-mlflow", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    found = medians(
        measure(given.rounds, runs=given.runs, steps=given.steps, with_mlflow=not given.no_mlflow)
    )
    print(f"{given.runs} runs of {given.steps} calls with 3 metrics\n")
    print(one_each(found, {name: line for name, line in LINES.items() if name in found}))


if __name__ == "__main__":
    main()
