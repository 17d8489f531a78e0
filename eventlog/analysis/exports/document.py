"""A run as one document: everything that its log says."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from eventlog import events as ev
from eventlog.analysis.exports.lines import Written
from eventlog.analysis.exports.points import points
from eventlog.analysis.facts import load, results
from eventlog.analysis.runs import directory_of
from eventlog.clock import iso_utc
from eventlog.projections import RunView
from eventlog.values import number_on_disk


def document(run: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> dict[str, object]:
    """Return everything that the log of *run* says, as JSON has it.

    ``metrics`` are lists of ``[step, time, value]``; non-finite numbers are texts, as in the log.

    Args:
        run: its id, PROJECT/ID, the beginning of an id, or its directory.
        root: directory of all projects; default ``EVLOG_DIR`` or ``./experiments``.

    Raises:
        RunNotFoundError, AmbiguousRunError: *run* fits none, or several.
        OSError: the log cannot be read.
    """
    path = directory_of(run, root)
    metrics = {key: list(series.timed()) for key, series in points(path).items()}
    return _without_points(path) | {"metrics": metrics}


def document_to_write(run: Path) -> dict[str, object]:
    """Return what `document` does, for `json_lines`: each point is made when it is written."""
    metrics = {key: Written(series.timed) for key, series in points(run).items()}
    return _without_points(run) | {"metrics": metrics}


def _without_points(run: Path) -> dict[str, object]:
    facts = load(run, with_samples=True)
    view = facts.view
    return {
        **_head(view),
        "params": view.params,
        "results": {key: number_on_disk(value) for key, value in sorted(results(facts).items())},
        "summary": view.summary,
        "evaluations": [_plain(one) for one in facts.evaluations],
        "samples": {
            name: [_plain(s) for _, s in sorted(found.items())] for name, found in facts.samples.items()
        },
        "datasets": [_plain(one) for one in facts.datasets],
        "checkpoints": [_plain(one) for one in facts.checkpoints],
        "artifacts": [_plain(one) for one in view.artifacts],
        "context": view.context,
        "error": None if view.error is None else msgspec.to_builtins(view.error),
        "dropped": view.dropped,
    }


def _head(view: RunView) -> dict[str, object]:
    is_over = view.status != "running"  # one that `evlog log --keep-open` has left is not
    return {
        "project": view.project,
        "run_id": view.run_id,
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status,
        "started_at": None if view.started_at is None else iso_utc(view.started_at),
        "ended_at": iso_utc(view.ended_at) if view.ended_at is not None and is_over else None,
        "duration_s": view.duration_s,
        "parent_run_id": view.parent_run_id,
        "tags": view.tags,
        "notes": view.notes,
    }


def _plain(event: ev.Event) -> dict[str, object]:
    found = msgspec.to_builtins(event)
    assert isinstance(found, dict)
    return {key: value for key, value in found.items() if key not in {"seq", "ts", "type", "payload"}} | {
        "logged_at": iso_utc(event.ts)
    }
