"""Runs with results, for tests of comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eventlog.events import Context, Dataset, Evaluation, Event, Metrics, Params, RunEnded, RunStarted, Tags
from tests.logs import LogMaker, put


def make_run(
    root: Path,
    run_id: str,
    results: Mapping[str, float | str] | None = None,
    *,
    project: str = "demo",
    experiment: str | None = None,
    params: Mapping[str, object] | None = None,
    benchmarks: Mapping[str, Mapping[str, float | str]] | None = None,
    context: Mapping[str, Mapping[str, object]] | None = None,
    dataset: Dataset | None = None,
    tags: Mapping[str, str | None] | None = None,
    status: str | None = "finished",
) -> Path:
    """Write the log of one run and return its directory; without a *status* it reads as crashed."""
    events: list[Event] = [RunStarted(name=run_id, experiment=experiment)]
    events += [Params(data=dict(params))] if params else []
    events += [Tags(data=dict(tags))] if tags else []
    events += [Context(kind=kind, data=dict(data)) for kind, data in (context or {}).items()]
    events += [dataset] if dataset else []
    events += [Metrics(step=1, data=dict(results))] if results else []
    events += [
        Evaluation(benchmark=name, metrics=dict(metrics)) for name, metrics in (benchmarks or {}).items()
    ]
    events += [RunEnded(status=status)] if status else []
    path = root / project / run_id
    put(path, 1, b"".join(LogMaker().segment(events, is_sealed=status is not None)))
    return path


def make_seeds(
    root: Path, metric: str, values: Mapping[object, list[float]], *, param: str = "aug", **others: float
) -> None:
    """Write a run for each value of a metric, its place in the list being the seed."""
    for value, own in values.items():
        for seed, number in enumerate(own):
            make_run(
                root,
                f"{value}-{seed}",
                {metric: number, **others},
                experiment="compare",
                params={param: value, "seed": seed},
            )
