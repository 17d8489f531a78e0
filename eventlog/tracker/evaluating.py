"""The tracker's calls for results of benchmarks that somebody else has evaluated.

`eventlog.evaluation.engine.evaluate` logs what it evaluates by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.tracker.recording import RunRecorder
from eventlog.tracker.runs import Runs
from eventlog.values import (
    MAX_DEPTH,
    as_mapping,
    key_text,
    metric_number,
    number_in_memory,
    step_number,
    text,
    to_json,
)

_OF_A_SAMPLE = ("input", "target", "prediction", "metrics", "latency_ms")


class EvaluationCalls(Runs):
    """The tracker's calls for results of benchmarks."""

    def log_evaluation(self, benchmark: str, result: object, step: int | None = None) -> None:
        """Log the results of a benchmark, which are called ``benchmark/name`` from then on.

        What `eventlog.evaluation` has logged into this run is not logged again.

        Args:
            result: named values, or an object with ``to_dict`` or attributes. Its results are what stands
                under ``metrics``, or all of it: numbers, and texts, which go to the summary (those under
                ``texts`` too). The names of nested ones are joined with dots. Items under ``samples`` are
                logged as by `log_sample`; the rest is kept beside the results.
            step: of the model.
        """
        run = self._active()
        if run is None:
            return
        fields = _fields(result)
        if fields.get("run_id") is not None and fields["run_id"] == run.run_id:
            return
        name = key_text(benchmark)
        found = _sorted(fields)
        for position, item in enumerate(found.samples):
            named = {key: item[key] for key in _OF_A_SAMPLE if key in item}
            _log_sample(run, name, item.get("index", position), **named)
        run.add(ev.Evaluation(benchmark=name, step=run.step(step), metrics=found.numbers, data=found.rest))
        if found.words:
            run.summary({f"{name}/{key}": value for key, value in found.words.items()})

    def log_sample(
        self,
        benchmark: str,
        index: int,
        *,
        input: object = None,
        target: object = None,
        prediction: object = None,
        metrics: Mapping[str, object] | None = None,
        latency_ms: float | None = None,
    ) -> None:
        """Log one item of a benchmark: what went in, what was wanted, what came out.

        Args:
            index: of the item in its data; of one index the last call counts.
            metrics: numbers of this item; by convention ``correct`` is 0 or 1.
            latency_ms: the model's time for it.
        """
        run = self._active()
        if run is not None:
            _log_sample(
                *(run, key_text(benchmark), index),
                input=input,
                target=target,
                prediction=prediction,
                metrics=metrics,
                latency_ms=latency_ms,
            )


def _log_sample(
    run: RunRecorder,
    benchmark: str,
    index: object,
    *,
    input: object = None,
    target: object = None,
    prediction: object = None,
    metrics: object = None,
    latency_ms: object = None,
) -> None:
    try:
        place = step_number(index)
        if place is None or place < 0:
            raise BadValueError("index", type(index).__name__, "an index is a whole number from 0 on")
    except BadValueError as error:
        run.complain(f"{benchmark} index", f"a sample of {benchmark!r} was not logged: {error}")
        return
    numbers, words = run.numbers({} if metrics is None else metrics)
    for key in words:
        run.complain(
            f"{benchmark} {key}", f"{key!r} of a sample was not logged: a sample's metric is a number"
        )
    run.add(
        ev.Sample(
            benchmark=benchmark,
            index=place,
            input=to_json(input),
            target=to_json(target),
            prediction=to_json(prediction),
            metrics=numbers,
            latency_ms=_latency(run, benchmark, latency_ms),
        )
    )


def _latency(run: RunRecorder, benchmark: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        number = metric_number("latency_ms", value)
        if isinstance(number, str):  # not finite, which the field cannot hold
            raise BadValueError("latency_ms", type(value).__name__, f"{number} is no time")
    except BadValueError as error:
        run.complain(f"{benchmark} latency_ms", f"{error} The sample is kept without it.")
        return None
    return number_in_memory(number)


class _Sorted(NamedTuple):
    """The parts of a result."""

    numbers: dict[str, int | float | str]
    words: dict[str, str]
    samples: list[Mapping[object, object]]
    rest: dict[str, object]


def _fields(result: object) -> dict[str, object]:
    to_dict = getattr(result, "to_dict", None)
    if callable(to_dict) and not isinstance(result, (Mapping, type)):
        result = to_dict()
    named = as_mapping(result)
    if named is None and not hasattr(result, "item"):  # numbers of numpy have attributes, too
        named = {key: value for key, value in getattr(result, "__dict__", {}).items() if key[:1] != "_"}
        metrics = getattr(result, "metrics", None)  # it may be a property
        named |= {} if metrics is None else {"metrics": metrics}
    if not named and not isinstance(result, Mapping):
        return {"score": result}
    return {key_text(key): value for key, value in named.items()} if named else {}


def _sorted(fields: Mapping[str, object]) -> _Sorted:
    found = _Sorted({}, {}, [], {})
    left = dict(fields)
    items = left.get("samples")
    named = [as_mapping(item) for item in items] if isinstance(items, (list, tuple)) else []
    if named and all(item is not None for item in named):
        found.samples.extend(item for item in named if item is not None)
        del left["samples"]
    is_told = as_mapping(left.get("metrics")) is not None
    results = {key: left.pop(key) for key in ("metrics", "texts") if is_told and key in left}
    for part in results.values() if is_told else (left,):
        for key, value in _leaves(part, "", 0):
            _put(found, key, value)
    if is_told:
        found.rest.update((key, to_json(value)) for key, value in left.items())
    return found


def _put(found: _Sorted, key: str, value: object) -> None:
    if isinstance(value, str):
        found.words[key] = text(value)
        return
    try:
        found.numbers[key] = metric_number(key, value)
    except BadValueError:
        found.rest[key] = to_json(value)  # a list, a matrix: no result, and not lost


def _leaves(value: object, name: str, depth: int) -> Iterator[tuple[str, object]]:
    named = as_mapping(value) if depth < MAX_DEPTH else None
    if named is None:
        yield name or "score", value
        return
    for key, inner in named.items():
        yield from _leaves(inner, f"{name}.{key_text(key)}" if name else key_text(key), depth + 1)
