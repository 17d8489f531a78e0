"""The points of a sweep, each with the id that its run has wherever it is made."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import msgspec

from eventlog.storage.layout import RunPath, is_run
from eventlog.sweep.config import SweepConfig
from eventlog.sweep.space import Scalar, grid, sample, to_text

DONE, LEFT, FAILED, RUNNING = "done", "left", "failed", "running"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the space.

    Attributes:
        run_id: of its first attempt; further ones have ``-2``, ``-3``, … at the end.
    """

    number: int
    run_id: str
    params: dict[str, Scalar]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a trial stands: ``done``, ``left``, ``failed`` or ``running``; the id of its next attempt."""

    trial: Trial
    state: str
    next_id: str
    attempts: int


def trials(config: SweepConfig) -> list[Trial]:
    """Return all trials of a sweep, in their order. A random sweep never tries a point twice."""
    if config.method == "grid":
        points = grid(config.space)
    else:
        assert config.count is not None
        # So many draws without a new point: the space has no more.
        found: dict[str, dict[str, Scalar]] = {}
        for point in itertools.islice(sample(config.space, config.seed), 100 * config.count + 1000):
            found.setdefault(to_text(point), point)
            if len(found) == config.count:
                break
        points = list(found.values())
    return [
        Trial(number=number, run_id=f"{config.name}-{_digest(point)}", params=point)
        for number, point in enumerate(points, 1)
    ]


def _digest(point: dict[str, Scalar]) -> str:
    return hashlib.sha256(to_text(sorted(point.items())).encode()).hexdigest()[:8]


def state_of(trial: Trial, project: Path) -> State:
    """Return how *trial* stands, as the logs below *project* say.

    A run that was killed or crashed is no answer, and is tried again; one that failed is one.
    """
    from eventlog.replay import outline

    state, attempts = LEFT, 0
    for attempt in itertools.count(1):
        run_id = trial.run_id if attempt == 1 else f"{trial.run_id}-{attempt}"
        path = project / run_id
        if not path.exists():
            return State(trial=trial, state=state, next_id=run_id, attempts=attempts)
        attempts = attempt
        if is_run(path):
            status = outline(RunPath(project.name, run_id, path).path).status
            state = {"finished": DONE, "failed": FAILED, "running": RUNNING}.get(status, LEFT)
            if state in (DONE, RUNNING):
                return State(trial=trial, state=state, next_id=run_id, attempts=attempts)
    raise AssertionError("unreachable")
