"""Reads back what evaluations have left: results from a run's log, rows from the leaderboard."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.compat.evaluation_run import PER_SAMPLE
from eventlog.errors import BadValueError
from eventlog.replay import events
from eventlog.values import number_in_memory

_NUMBERS = frozenset({"score", "score_std"})
_COUNTS = frozenset({"scored", "samples"})
_JSON = frozenset({"metrics", "params", "tags"})
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def results_of(run: Path) -> list[dict[str, Any]]:
    """Return the samples of *run* with what they were judged, by dataset and index."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for event in events(run):
        if isinstance(event, ev.Sample):
            found[event.benchmark, event.index] = _row(run, event)
        elif isinstance(event, ev.Evaluation):
            about = event.data.get(PER_SAMPLE)
            row = found.get((event.benchmark, about)) if isinstance(about, int) else None
            if row is not None:
                row |= {key: event.data.get(key) for key in ("score", "result", "metadata")}
    return [found[key] for key in sorted(found)]


def _row(run: Path, event: ev.Sample) -> dict[str, Any]:
    return {
        "project": run.parent.name,
        "run_id": run.name,
        "dataset": event.benchmark,
        "index": event.index,
        "timestamp": iso_utc(event.ts),
        "score": None,
        "metrics": _numbers(event.metrics),
        "data": event.input,
        "target": event.target,
        "prediction": event.prediction,
        "result": None,
        "metadata": None,
    }


def _numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    found = {}
    for key, value in metrics.items():
        with contextlib.suppress(BadValueError):  # only a foreign log holds such
            found[key] = number_in_memory(value)
    return found


def leaderboard_of(path: Path, project: str) -> list[dict[str, Any]]:
    """Return the rows of *project* in the file *path*, numbers and JSON as such; none without the file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if _plain(row.get("project") or "") == project]
    except FileNotFoundError:
        return []
    return [{name: _value(name, value) for name, value in row.items()} for row in rows]


def _value(name: str, value: str) -> Any:
    with contextlib.suppress(ValueError):  # cut because it was too long: then it stays a text
        if name in _NUMBERS:
            return float(value) if value else None
        if name in _COUNTS:
            return int(value)
        if name == "metrics":
            return _numbers(orjson.loads(value))
        if name in _JSON:
            return orjson.loads(value)
    return _plain(value)


def _plain(text: str) -> str:
    """Return a text without the apostrophe that keeps spreadsheets from taking it for a formula."""
    return text[1:] if text[:1] == "'" and text[1:2] in _FORMULA else text
