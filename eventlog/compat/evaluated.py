"""What an evaluation's result and its input mean, whatever classes they are: for trackers of other shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from eventlog.errors import BadValueError
from eventlog.values import MAX_DEPTH, as_mapping, key_text, metric_number, number_in_memory

MISSING = object()

_TARGETS = (
    *("expected_response", "expected_output", "expected", "target", "reference", "ground_truth", "gold"),
    *("gold_answer", "answer", "label"),
)
_PREDICTIONS = (
    *(
        "generated_response",
        "generated_output",
        "actual_output",
        "prediction",
        "predicted",
        "predicted_answer",
    ),
    *("output", "response", "generated", "completion"),
)

ScoreKey = str | Sequence[str]
"""A name, a dotted path, or the parts of a path."""


def score_of(result: object, key: ScoreKey) -> float | None:
    """Return the number that *key* leads to in *result*, or None.

    A text is tried as a name first, then as a path with dots; a result that is a number is its own score.
    """
    found = look_up(result, [key]) if isinstance(key, str) else look_up(result, key)
    if found is MISSING and isinstance(key, str) and "." in key:
        found = look_up(result, key.split("."))
    if found is MISSING and isinstance(result, (int, float)):
        found = result
    try:
        return number_in_memory(metric_number("score", found))
    except BadValueError:
        return None


def look_up(value: object, path: Sequence[str]) -> object:
    """Return what lies at *path* in mappings, sequences and objects, or `MISSING`."""
    for name in path:
        named = as_mapping(value)
        if named is not None and name in named:
            value = named[name]
        elif isinstance(value, (list, tuple)) and name.lstrip("-").isdecimal():
            at = int(name)
            if not -len(value) <= at < len(value):
                return MISSING
            value = value[at]
        elif named is None and not isinstance(value, (str, bytes)) and hasattr(value, name):
            value = getattr(value, name)
        else:
            return MISSING
    return value


def numbers_in(result: object) -> dict[str, int | float | str]:
    """Return the numbers in *result* by dotted name, as a ``metrics`` field holds them.

    What is no number is left out: the whole result is kept beside these.
    """
    found: dict[str, int | float | str] = {}
    _collect(result, "", found, 0)
    return found


def _collect(value: object, name: str, found: dict[str, int | float | str], depth: int) -> None:
    named = as_mapping(value)
    if named is not None:
        for key, inner in named.items() if depth < MAX_DEPTH else ():
            _collect(inner, f"{name}.{key_text(key)}" if name else key_text(key), found, depth + 1)
    elif not isinstance(value, (str, bytes, list, tuple, set, frozenset)) and value is not None:
        with contextlib.suppress(BadValueError):
            found[name or "score"] = metric_number(name, value)


def opened(value: object) -> object:
    """Return the attributes of an object that has nothing else to tell of itself; anything else as it is."""
    if as_mapping(value) is not None or isinstance(value, type) or hasattr(value, "tolist"):
        return value
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict) or not attributes:
        return value
    return {name: inner for name, inner in attributes.items() if not name.startswith("_")}


def target_of(data: Mapping[str, object]) -> object:
    """Return what was wanted, by the names that such a field usually has."""
    return next((data[name] for name in _TARGETS if data.get(name) is not None), None)


def prediction_of(data: Mapping[str, object]) -> object:
    """Return what came out, by the names that such a field usually has."""
    return next((data[name] for name in _PREDICTIONS if data.get(name) is not None), None)
