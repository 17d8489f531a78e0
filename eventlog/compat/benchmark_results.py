"""What a benchmark's result says, as events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eventlog import events as ev
from eventlog.compat.evaluated import numbers_in, opened, prediction_of, target_of
from eventlog.errors import BadValueError, warn_once
from eventlog.values import as_mapping, key_text, step_number, text, to_json

_SAMPLES = (
    "samples",
    "per_sample_results",
    "sample_results",
    "per_sample",
    "predictions",
)
_INPUTS = ("input", "question", "prompt", "query")
_INDEXES = ("index", "sample_index", "sample_id", "idx")
_LATENCIES = {
    "latency_ms": 1.0,
    "latency_s": 1000.0,
    "latency": 1000.0,
    "time": 1000.0,
    "generation_time": 1000.0,
}
"""Names of the time that a sample took, and milliseconds in their unit."""


def events_of(benchmark: str, result: object, step: object = None) -> Iterator[ev.Evaluation | ev.Sample]:
    """Yield a sample event for each item that *result* tells of, then the evaluation itself.

    Its numbers are those under ``metrics``, or all that it has; the whole result is kept as data.
    """
    fields = _fields(result)
    name = text(str(benchmark))
    items = _items(fields)
    for position, item in enumerate(items):
        yield _sample(name, position, item)
    measured = fields.get("metrics")
    if as_mapping(measured) is None:
        measured = {key: value for key, value in fields.items() if key not in _SAMPLES}
    yield ev.Evaluation(
        benchmark=name, step=_step(step), metrics=numbers_in(measured), data=_json_object(fields)
    )


def _step(step: object) -> int | None:
    try:
        return step_number(step)
    except BadValueError as error:
        warn_once("evaluation step", f"{error} The evaluation is kept without a step.")
        return None


def _fields(result: object) -> dict[str, object]:
    to_dict = getattr(result, "to_dict", None)
    if callable(to_dict) and not isinstance(result, Mapping):
        result = to_dict()
    named = as_mapping(opened(result))
    if named is None:
        return {} if result is None else {"score": result}
    return {key_text(key): value for key, value in named.items()}


def _items(fields: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Return the items of the first list of named things that has a usual name."""
    for name in _SAMPLES:
        found = fields.get(name)
        if isinstance(found, (list, tuple)) and found:
            items = [_json_object(_fields(item)) for item in found if as_mapping(opened(item)) is not None]
            if len(items) == len(found):
                return items  # type: ignore[return-value]
    return []


def _sample(benchmark: str, position: int, item: Mapping[str, object]) -> ev.Sample:
    latency_ms = None
    for name, unit in _LATENCIES.items():
        value = item.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            latency_ms = value * unit
            break
    measured = item.get("metrics") if isinstance(item.get("metrics"), dict) else item
    left_out = {*_INDEXES, *_INPUTS, *_LATENCIES}
    return ev.Sample(
        benchmark=benchmark,
        index=_index(item, position),
        input=next((item[name] for name in _INPUTS if item.get(name) is not None), None),
        target=target_of(item),
        prediction=prediction_of(item),
        metrics={k: v for k, v in numbers_in(measured).items() if k not in left_out},
        latency_ms=latency_ms,
    )


def _index(item: Mapping[str, object], position: int) -> int:
    for name in _INDEXES:
        value = item.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            try:
                return step_number(value) or 0
            except BadValueError:
                break
    return position


def _json_object(fields: Mapping[str, object]) -> dict[str, object]:
    converted = to_json(fields)
    return converted if isinstance(converted, dict) else {}
