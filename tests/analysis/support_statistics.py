"""Runs with seeds and runs with samples, to be compared and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from eventlog import Tracker, TrackingConfig
from eventlog import events as ev
from eventlog.events import Event

Points = Iterable[tuple[int | None, Mapping[str, float]]]


def log_run(
    root: Path,
    run_id: str,
    *,
    params: Mapping[str, object] | None = None,
    points: Points = (),
    events: Sequence[Event] = (),
    tags: Mapping[str, object] | None = None,
    experiment: str | None = None,
    project: str = "demo",
) -> Path:
    """Log a run and return its directory."""
    config = TrackingConfig(project=project, experiment_name=experiment, tags=tags)
    tracker = Tracker((), config, output_dir=root)
    tracker.start_run(run_id=run_id)
    if params:
        tracker.log_params(dict(params))
    for step, values in points:
        tracker.log_metrics(dict(values), step)
    for event in events:
        tracker.log_event(event)
    path = tracker.run_dir
    assert path is not None
    tracker.end_run()
    return path


def log_seeds(
    root: Path,
    name: str,
    values: Sequence[float],
    *,
    key: str = "val_f1",
    seeds: Sequence[object] | None = None,
) -> list[Path]:
    """Log a run for each value, with the param ``aug`` = *name* and its place as the seed."""
    return [
        log_run(
            root,
            f"{name}-{i}",
            params={"aug": name, "seed": seeds[i] if seeds else i, "lr": 0.001},
            points=[(0, {key: value})],
            experiment="aug",
        )
        for i, value in enumerate(values)
    ]


def samples(
    correct: Iterable[float | str],
    *,
    benchmark: str = "gsm8k",
    start: int = 0,
    metric: str = "correct",
    ask: str = "question {}",
) -> list[Event]:
    """Return a sample for each value."""
    return [
        ev.Sample(
            benchmark=benchmark,
            index=i,
            input=ask.format(i),
            target=str(i),
            metrics={metric: value},
            latency_ms=10.0 + i,
        )
        for i, value in enumerate(correct, start)
    ]
