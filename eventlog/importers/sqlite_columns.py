"""What the columns of a database of experiments mean, whatever they are called, and what their values say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo

from eventlog.compat.evaluated import numbers_in
from eventlog.values import number_on_disk, text

Names = Mapping[str, tuple[str, ...]]

TABLES: Names = {
    "experiments": ("experiments", "experiment", "runs"),
    "training_metrics": ("training_metrics", "metrics", "metric", "training_metric"),
    "evaluation_results": ("evaluation_results", "evaluations", "evaluation", "eval_results", "results"),
    "checkpoints": ("checkpoints", "checkpoint"),
}
_OWNER = (
    *("experiment_id", "exp_id", "run_id", "experiment", "run", "session_id", "experiments_id", "run_uuid"),
)
_TIME = ("timestamp", "created_at", "logged_at", "recorded_at", "time", "ts", "date", "datetime", "saved_at")
_STEP = ("step", "global_step", "iteration", "iter", "epoch")

EXPERIMENT: Names = {
    "id": ("experiment_id", "exp_id", "run_id", "id", "uuid"),
    "project": ("project", "project_name"),
    "name": ("name", "experiment_name", "run_name", "title"),
    "experiment": ("experiment", "experiment_group", "group_name", "group"),
    "config": ("config", "config_json", "hyperparameters", "hyperparams", "hparams", "params", "parameters"),
    "status": ("status", "state"),
    "notes": ("notes", "note", "description", "comment"),
    "tags": ("tags", "labels"),
    "summary": ("summary", "final_metrics"),
    "commit": ("git_commit", "commit_hash", "git_hash", "git_sha", "commit"),
    "branch": ("git_branch", "branch"),
    "dirty": ("git_dirty", "is_dirty", "dirty"),
    "environment": ("environment", "env", "environment_info", "system_info"),
    "start": ("created_at", "started_at", "start_time", "timestamp", "created", "started", "start", "date"),
    "end": ("finished_at", "ended_at", "end_time", "completed_at", "finished", "ended", "end"),
}
METRIC: Names = {
    "owner": _OWNER,
    "step": _STEP,
    "time": _TIME,
    "name": ("metric_name", "metric_key", "name", "key", "metric"),
    "value": ("metric_value", "value", "val"),
    "metrics": ("metrics", "metrics_json", "metric_data", "data", "values"),
}
EVALUATION: Names = {
    "owner": _OWNER,
    "benchmark": ("benchmark", "benchmark_name", "task", "dataset", "dataset_name", "eval_name"),
    "step": _STEP,
    "time": ("timestamp", "evaluated_at", *_TIME[1:]),
    "name": ("metric_name", "metric_key", "name", "key"),
    "value": ("metric_value", "value", "val"),
    "metrics": ("metrics", "metrics_json", "scores"),
    "result": ("result", "results", "result_json", "data", "details"),
}
CHECKPOINT: Names = {
    "owner": _OWNER,
    "path": ("path", "checkpoint_path", "file_path", "filepath", "filename"),
    "step": _STEP,
    "time": _TIME,
    "metrics": ("metrics", "metrics_json", "metadata"),
    "size_bytes": ("size_bytes", "file_size_bytes", "file_size", "size"),
    "size_mb": ("size_mb", "file_size_mb"),
    "sha256": ("sha256", "hash", "checksum"),
}

_FINISHED = frozenset({"finished", "completed", "complete", "done", "success", "succeeded", "ok"})
_FAILED = frozenset({"failed", "error", "errored", "crashed", "failure"})


def roles(columns: Iterable[str], names: Names) -> dict[str, str]:
    """Return which of *columns* plays which role: the first of its names that is there, each column once."""
    left = {column.lower(): column for column in columns}
    found = {}
    for role, candidates in names.items():
        name = next((name for name in candidates if name in left), None)
        if name is not None:
            found[role] = left.pop(name)
    return found


def status_of(value: object, *, has_end: bool) -> str:
    """Return the status of the run: what neither ended well nor failed was killed, as far as we know."""
    word = str(value or "").strip().lower()
    if word in _FINISHED or (not word and has_end):
        return "finished"
    return "failed" if word in _FAILED else "killed"


def time_us(value: object, zone: tzinfo) -> int | None:
    """Return a time in microseconds since the epoch, or None if it cannot be read.

    Args:
        value: ISO 8601 or what SQLite writes, or a number of seconds, milli-, micro- or nanoseconds.
        zone: of times that name none.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _calendar_us(str(value), zone)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value <= 0
    ):
        return None
    for limit, unit_us in ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (1e20, 1e-3)):
        if value < limit:
            return round(value * unit_us) if unit_us != 1.0 else int(value)
    return None


def _calendar_us(value: str, zone: tzinfo) -> int | None:
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    seconds = moment.replace(microsecond=0).timestamp()
    return round(seconds) * 1_000_000 + moment.microsecond


def parsed(value: object) -> object:
    """Return what the JSON in a text says; any other value, and any other text, as it is."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return text(value)
    return text(value) if isinstance(value, str) else value


def json_object(value: object) -> dict[str, object] | None:
    """Return the JSON object in *value*, or None."""
    found = parsed(value)
    return found if isinstance(found, dict) else None


def numbers(value: Mapping[str, object]) -> dict[str, int | float | str]:
    """Return the numbers in *value*, also those that JSON can only write as a text."""
    found = numbers_in(value)
    words = {key: v for key, v in value.items() if v in ("NaN", "Infinity", "-Infinity")}
    return found | {key: str(v) for key, v in words.items()}


def number(value: object) -> int | float | str | None:
    """Return the number in one cell, or None: SQLite keeps no NaN, and has NULL in its place."""
    if value is None:
        return "NaN"
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float):
        return number_on_disk(value)
    return value if isinstance(value, int) else None
