"""What an evaluation found, and how each sample stands in the log.

A ``sample`` event holds everything that the results follow from, so that results can be computed from the log
alone: its *prediction* is an object with

| key | meaning |
|---|---|
| ``answer`` | what was extracted from the output |
| ``output`` | the model's text, unchanged |
| ``item`` | hash of the item, its prompt and its target |
| ``id`` | the item's name in its data set, if it has one |
| ``detail`` | how it was judged |
| ``tokens`` | tokens of prompt and answer, if the model counts them |
| ``finish`` | why the model stopped, unless it was done (``stop``) |
| ``cached`` | true if the answer was in the cache |
| ``step`` | step of the model, if one was given |
| ``error`` | why there is no score; the metrics are ``{"error": 1}`` then |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from eventlog import events as ev
from eventlog.evaluation.benchmark import Score
from eventlog.values import metric_number, number_in_memory, text, to_json

FAILED: dict[str, int | float | str] = {"error": 1}


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was paid for; None where nobody knows. Answers from the cache cost nothing.

    Attributes:
        cost: in the currency of the price list.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Prices per million tokens."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0


class SampleResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sample, in terms of JSON but for the numbers in *metrics*.

    Attributes:
        prediction: the answer that was extracted from *output*.
        latency_ms: the model's time for it; None if the answer was in the cache.
        error: why there is no score.
    """

    index: int
    item: str
    id: str | None = None
    input: object = None
    target: object = None
    prediction: object = None
    output: str | None = None
    metrics: dict[str, float] = {}
    detail: str | None = None
    latency_ms: float | None = None
    tokens: tuple[int, int] | None = None
    finish: str | None = None
    is_cached: bool = False
    error: str | None = None

    @property
    def score(self) -> Score:
        """Return the score, as the benchmark aggregates it."""
        return Score(prediction=self.prediction, metrics=self.metrics, detail=self.detail)

    def to_dict(self) -> dict[str, object]:
        """Return the sample in terms of JSON."""
        found: dict[str, object] = msgspec.to_builtins(self)
        metrics = {key: metric_number(key, value) for key, value in self.metrics.items()}
        return found | {"metrics": metrics or dict(FAILED)}


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a benchmark.

    Attributes:
        scores: what the benchmark says of all samples that have a score.
        measured: what it took: ``seconds`` (of the clock, from first to last call), ``seconds_per_sample``,
            ``latency_ms_p50`` and ``latency_ms_p95`` (of the model), ``prompt_tokens``,
            ``completion_tokens`` and ``cost``, as far as known.
        texts: results that are no numbers.
        num_samples: items that were evaluated, those that failed included.
        errors: samples without a score.
        resumed: samples that were in the log already.
    """

    benchmark: str
    scores: dict[str, float]
    measured: dict[str, float]
    texts: dict[str, str]
    samples: list[SampleResult]
    num_samples: int
    errors: int
    resumed: int
    usage: Usage
    model: str
    parameters: dict[str, object]
    split: str
    step: int | None = None
    run_id: str | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Return scores and what was measured."""
        return self.scores | self.measured

    @property
    def seconds(self) -> float:
        """Return the time that it took."""
        return self.measured.get("seconds", 0.0)

    @property
    def answered(self) -> int:
        """Return the number of samples with a score."""
        return self.num_samples - self.errors

    def to_dict(self, *, with_samples: bool = True) -> dict[str, object]:
        """Return the results in terms of JSON."""
        found: dict[str, object] = {
            "benchmark": self.benchmark,
            "split": self.split,
            "model": self.model,
            "parameters": to_json(self.parameters),
            "num_samples": self.num_samples,
            "errors": self.errors,
            "seconds": self.seconds,
            "metrics": {key: metric_number(key, value) for key, value in self.metrics.items()},
            "texts": dict(self.texts),
            "usage": msgspec.to_builtins(self.usage),
            "step": self.step,
            "run_id": self.run_id,
        }
        if with_samples:
            found["samples"] = [sample.to_dict() for sample in self.samples]
        return found


def to_event(benchmark: str, sample: SampleResult, step: int | None) -> ev.Sample:
    """Return the event of a sample."""
    said: dict[str, object] = {"answer": sample.prediction, "output": sample.output, "item": sample.item}
    more = {
        "id": sample.id,
        "detail": sample.detail,
        "tokens": sample.tokens,
        "finish": sample.finish,
        "cached": sample.is_cached or None,
        "step": step,
        "error": sample.error,
    }
    said |= {key: value for key, value in more.items() if value is not None}
    return ev.Sample(
        benchmark=benchmark,
        index=sample.index,
        input=sample.input,
        target=sample.target,
        prediction=said,
        metrics=dict(FAILED)
        if sample.error is not None
        else {key: metric_number(key, value) for key, value in sample.metrics.items()},
        latency_ms=sample.latency_ms,
    )


def from_event(event: ev.Sample) -> tuple[SampleResult, int | None] | None:
    """Return a sample and its step, or None if the event is of another program's shape."""
    said = event.prediction
    if not isinstance(said, dict) or not isinstance(said.get("item"), str):
        return None
    try:
        kept = msgspec.convert({key: value for key, value in said.items() if value is not None}, _Said)
        error = kept.error
        metrics = {} if error is not None else _numbers(event.metrics)
    except (msgspec.ValidationError, ValueError, TypeError):
        return None
    sample = SampleResult(
        index=event.index,
        item=kept.item,
        id=kept.id,
        input=event.input,
        target=event.target,
        prediction=kept.answer,
        output=kept.output,
        metrics=metrics,
        detail=kept.detail,
        latency_ms=event.latency_ms,
        tokens=kept.tokens,
        finish=kept.finish,
        is_cached=kept.cached,
        error=error,
    )
    return sample, kept.step


class _Said(msgspec.Struct, kw_only=True):
    item: str
    answer: object = None
    output: str | None = None
    id: str | None = None
    detail: str | None = None
    tokens: tuple[int, int] | None = None
    finish: str | None = None
    cached: bool = False
    step: int | None = None
    error: str | None = None


def scored(sample: SampleResult, score: Score) -> SampleResult:
    """Return *sample* with its score, in the values that the log would give back.

    Raises:
        BadValueError: a metric is no number.
    """
    metrics = {text(key): number_in_memory(metric_number(key, v)) for key, v in score.metrics.items()}
    return msgspec.structs.replace(
        sample,
        prediction=to_json(score.prediction),
        metrics=metrics,
        detail=None if score.detail is None else text(str(score.detail)),
        error=None,
    )


def _numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    return {key: number_in_memory(value) for key, value in metrics.items()}


def usage_of(samples: Sequence[SampleResult], price: Price | None) -> Usage:
    """Return the tokens of *samples* and their cost."""
    counted = [sample.tokens for sample in samples if sample.tokens is not None and not sample.is_cached]
    if not counted:
        return Usage()
    prompt, completion = (sum(column) for column in zip(*counted, strict=True))
    cost = None
    if price is not None:
        cost = (prompt * price.input_per_million + completion * price.output_per_million) / 1e6
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cost=cost)


def measure(samples: Sequence[SampleResult], seconds: float, usage: Usage) -> dict[str, float]:
    """Return what an evaluation took; see `EvaluationResult.measured`."""
    found: dict[str, float] = {"seconds": seconds}
    latencies = sorted(sample.latency_ms for sample in samples if sample.latency_ms is not None)
    if latencies:
        found["seconds_per_sample"] = math.fsum(latencies) / len(latencies) / 1000
        found["latency_ms_p50"] = _quantile(latencies, 0.5)
        found["latency_ms_p95"] = _quantile(latencies, 0.95)
    paid = msgspec.structs.asdict(usage)
    return found | {key: cast("float", value) for key, value in paid.items() if value is not None}


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, interpolated between neighbours."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
