"""What `log_experiment_result` takes out of an experiment's result: exactly these fields."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

RATES = ("success_rate", "total_count", "success_count", "error_count")
SCORES = (
    "accuracy",
    "precision",
    "recall",
    "f1_score",
    "mean_latency_ms",
    "total_tokens",
    "error_rate",
)
PARAMS = {
    "experiment_id": ("experiment_id",),
    "model_name": ("model_info", "name"),
    "model_provider": ("model_info", "provider"),
    "probe_name": ("probe_name",),
    "probe_category": ("probe_category",),
}


def metrics_of(result: object, prefix: str) -> dict[str, object]:
    """Return the counts, the scores that are there, and the duration, each with *prefix*."""
    found = {name: _get(result, name) for name in RATES}
    score = _get(result, "score")
    scores = _get(result, "scores") if score is None else score
    for name in SCORES:
        value = _get(scores, name)
        found[name] = _get(result, name) if value is None else value
    found["duration_seconds"] = _get(result, "duration_seconds")
    return {prefix + name: value for name, value in found.items() if value is not None}


def params_of(result: object, prefix: str) -> dict[str, object]:
    """Return the fields that say what was tried, as far as they are there.

    ``model_name`` and ``model_provider`` may stand in the result itself or in its ``model_info``.
    """
    found: dict[str, object] = {}
    for name, path in PARAMS.items():
        value = _get(result, name)
        if value is None:
            value = result
            for part in path:
                value = _get(value, part)
        if value is not None:
            found[prefix + name] = value.value if isinstance(value, Enum) else value
    return found


def _get(thing: object, name: str) -> object:
    """Return an item of a mapping or an attribute; None if it is not there."""
    if isinstance(thing, Mapping):
        return thing.get(name)
    return getattr(thing, name, None)
