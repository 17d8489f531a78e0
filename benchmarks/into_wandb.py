"""How fast the `wandb` sink delivers a finished log, next to `run.log` of the same rows from memory.

Both talk to the stand-in of the tests on 127.0.0.1, so the figures are those of the two clients, with the
stand-in's share in both. `run.log` is measured from `wandb.init` to the end of `finish`, the sink from the
first look at the log to the saved checkpoint.

    python -m benchmarks.into_wandb
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.replay import write_log
from eventlog import replay
from eventlog.events import Metrics
from tests.standin import KEY, StandIn

Figures = dict[str, float]
ROWS = 20_000


def measure(rounds: int, rows: int = ROWS) -> list[Figures]:
    """Return rows a second of both, in turn, for each round."""
    figures = []
    with tempfile.TemporaryDirectory() as directory, StandIn() as stand_in, _environment(stand_in, directory):
        run = write_log(Path(directory) / "logs", rows)
        points = [(e.step, e.data, e.ts) for e in replay.events(run) if isinstance(e, Metrics)]
        for round_ in range(rounds):
            sink_s = deliver(run, f"sink-{round_}")
            direct_s = log_directly(points, f"direct-{round_}")
            assert all(len(held.rows()) == rows for held in stand_in.service.runs.values())
            stand_in.service.runs.clear()
            stand_in.service.requests.clear()
            figures.append(
                {
                    "wandb_sink_rows_per_s": rows / sink_s,
                    "wandb_log_rows_per_s": rows / direct_s,
                    "wandb_ratio": direct_s / sink_s,
                }
            )
        _end_service()
    return figures


def deliver(run: Path, project: str) -> float:
    """Deliver *run* to a project where it is not yet; return the seconds it took."""
    from eventlog.delivery.pump import deliver_run
    from sinks.wandb import WandBSink

    begin = time.perf_counter()
    deliver_run(run, WandBSink(project=project), "wandb")
    return time.perf_counter() - begin


def log_directly(points: list[tuple[int | None, dict[str, int | float | str], int]], project: str) -> float:
    """Log *points* with W&B's SDK; return the seconds it took."""
    import wandb

    settings = wandb.Settings(
        console="off", disable_git=True, x_disable_meta=True, x_disable_stats=True, x_save_requirements=False
    )
    begin = time.perf_counter()
    run = wandb.init(project=project, settings=settings)
    run.define_metric("*", step_metric="step")
    for step, data, t_us in points:
        run.log({**data, "step": step, "_timestamp": t_us / 1e6})
    run.finish()
    return time.perf_counter() - begin


@contextmanager
def _environment(stand_in: StandIn, directory: str) -> Iterator[None]:
    """Send W&B's SDK to *stand_in*, and its files to *directory*."""
    places = {f"WANDB{name}_DIR": directory for name in ("", "_CACHE", "_DATA", "_CONFIG")}
    named = {"WANDB_BASE_URL": stand_in.url, "WANDB_API_KEY": KEY, "WANDB_SILENT": "true"}
    before = dict(os.environ)
    os.environ.update({**places, **named, "WANDB_ERROR_REPORTING": "false"})
    try:
        import wandb  # noqa: F401 - not part of what is measured

        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _end_service() -> None:
    import wandb

    wandb.teardown()


def main() -> None:
    """Measure and print the medians."""
    figures = measure(rounds=5)
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        print(f"{name:26} {statistics.median(values):12,.2f}  {min(values):,.2f} … {max(values):,.2f}")


if __name__ == "__main__":
    main()
