"""How to evaluate: the options of an evaluation, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from eventlog.evaluation.cache import AnswerCache, cache_path
from eventlog.evaluation.engine_errors import BadEvaluationError
from eventlog.evaluation.limits import SYSTEM_TIMING, RateLimit, Timing
from eventlog.evaluation.model import CallableModel, Model
from eventlog.evaluation.results import Price
from eventlog.ids import safe_name


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an evaluation is. *done* counts the samples that were in the log too."""

    benchmark: str
    done: int
    total: int
    errors: int


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to evaluate; each is an argument of `evaluate` too.

    Attributes:
        step: step of the model, if it is one of several that a run evaluates.
        batch_size: prompts in one call; None as the model says: 16 for a sync callable, else 1.
        concurrency: calls at the same time; None as the model says: 1 for a sync callable, else 8.
        rate_limit: calls and tokens a minute; a number means calls.
        retries: calls after the first one that may still help, with growing waits between them.
        timeout_s: of one call; None as the model says: 120 for an endpoint, else no limit.
        max_errors: samples that may fail; with one more the evaluation is stopped.
        cache: True keeps answers in ``<root>/.evlog/answers.sqlite``; a path names another file. For a
            callable its name stands for what it does: give it another one when you change it.
        price: per million tokens; None as ``[models]`` in ``evlog.toml`` says.
        on_progress: called after each batch.
    """

    split: str = "test"
    num_samples: int | None = None
    step: int | None = None
    batch_size: int | None = None
    concurrency: int | None = None
    rate_limit: RateLimit | float | None = None
    retries: int = 5
    timeout_s: float | None = None
    max_errors: int | None = None
    cache: bool | str | Path | None = None
    price: Price | None = None
    on_progress: Callable[[Progress], None] | None = None
    timing: Timing = SYSTEM_TIMING


def options_of(options: Mapping[str, object]) -> Options:
    """Return *options* checked.

    Raises:
        TypeError: one that does not exist.
        BadEvaluationError: a value that cannot be used.
    """
    chosen = Options(**options)  # type: ignore[arg-type]  # checked below as far as it matters
    for name, least in (("num_samples", 1), ("retries", 0), ("max_errors", 0)):
        value = getattr(chosen, name)
        if value is not None and (not isinstance(value, int) or value < least):
            raise BadEvaluationError(f"{name} is a whole number from {least} on, not {value!r}")
    if isinstance(chosen.rate_limit, (int, float)):
        limit = RateLimit(requests_per_minute=chosen.rate_limit)
        chosen = msgspec.structs.replace(chosen, rate_limit=limit)
    return chosen


def run_name(benchmark: str, model: Model) -> str:
    """Return a name that tells runs apart: benchmark and model."""
    return safe_name(f"{benchmark}-{model.name}")


def params_of(benchmark: str | Sequence[str], model: Model, options: Options) -> dict[str, object]:
    """Return the params of a run that is one evaluation."""
    found: dict[str, object] = {"benchmark": benchmark, "model": model.name, "split": options.split}
    if options.num_samples is not None:
        found["num_samples"] = options.num_samples
    return found | dict(model.parameters)


def answer_cache(root: Path, model: Model, options: Options) -> AnswerCache | None:
    """Return the cache that *options* ask for, or None.

    Raises:
        BadEvaluationError: the model has no name that tells it from others.
    """
    if options.cache is None or options.cache is False:
        return None
    if isinstance(model, CallableModel) and not model.has_own_name:
        raise BadEvaluationError(
            f"answers are kept by the model's name, and {model.name} is none: "
            "CallableModel(function, name=…) gives it one"
        )
    return AnswerCache(cache_path(root) if options.cache is True else Path(options.cache))
