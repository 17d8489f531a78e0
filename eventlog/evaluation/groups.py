"""Several benchmarks in one run, and what they say together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from eventlog import events as ev
from eventlog.evaluation.benchmark import Benchmark
from eventlog.evaluation.engine import evaluate_in
from eventlog.evaluation.engine_errors import BadEvaluationError
from eventlog.evaluation.engine_log import archive, run_for
from eventlog.evaluation.engine_options import Options, options_of, params_of, run_name
from eventlog.evaluation.engine_task import Task, load_task
from eventlog.evaluation.model import Model, as_model
from eventlog.evaluation.results import EvaluationResult
from eventlog.values import metric_number

if TYPE_CHECKING:
    from eventlog.tracker.core import Tracker

_SUMS = ("seconds", "prompt_tokens", "completion_tokens", "cost")


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """The results of several benchmarks.

    Attributes:
        name: of the group; None if the benchmarks are not to be taken together.
        metrics: of the group: see `aggregate`; empty without a name.
    """

    name: str | None
    results: dict[str, EvaluationResult]
    metrics: dict[str, float]

    def to_dict(self, *, with_samples: bool = True) -> dict[str, object]:
        """Return the results in terms of JSON."""
        return {
            "group": self.name,
            "metrics": {key: metric_number(key, value) for key, value in self.metrics.items()},
            "results": {
                name: result.to_dict(with_samples=with_samples) for name, result in self.results.items()
            },
        }


def evaluate_group(
    benchmarks: Sequence[Benchmark],
    model: object,
    *,
    group: str | None = None,
    tracker: Tracker | None = None,
    resume: bool = False,
    **options: object,
) -> GroupResult:
    """Return how good *model* is at several benchmarks, one after the other, in one run.

    Args:
        group: name under which the results are aggregated, too.
        options: as `eventlog.evaluation.engine.evaluate` takes them; they hold for each benchmark.

    Raises:
        BadEvaluationError: two of them have one name, or the group has that of one; and as `evaluate`.
    """
    names = [benchmark.name for benchmark in benchmarks]
    check_names(names, group)
    chosen, asked = options_of(options), as_model(model)
    if resume and tracker is None:
        raise BadEvaluationError("resume needs the tracker of a run: start_run(run_id=…, resume=True)")
    tasks = [load_task(benchmark, chosen) for benchmark in benchmarks]  # without data, no run is left behind
    params = params_of(names[0] if len(names) == 1 else names, asked, chosen)
    with run_for(tracker, run_name(group or "-".join(names), asked), params=params) as own:
        return evaluate_tasks(own, tasks, asked, chosen, group=group, resume=resume)


def evaluate_tasks(
    tracker: Tracker,
    tasks: Sequence[Task],
    model: Model,
    options: Options,
    *,
    group: str | None,
    resume: bool,
) -> GroupResult:
    """Evaluate loaded benchmarks in the active run of *tracker*; else as `evaluate_group`."""
    results = {
        task.benchmark.name: evaluate_in(tracker, task, model, options, resume=resume) for task in tasks
    }
    metrics = aggregate(list(results.values())) if group else {}
    if group:
        _log(tracker, group, results, metrics, options.step)
    archive(tracker, results, {group: metrics} if group else {})
    return GroupResult(name=group, results=results, metrics=metrics)


def check_names(names: Sequence[str], group: str | None) -> None:
    """Refuse names that would be mixed up in the log.

    Raises:
        BadEvaluationError: there is none, two are the same, or one is the group's.
    """
    if not names:
        raise BadEvaluationError("name at least one benchmark")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadEvaluationError(f"two benchmarks are called {twice[0]!r}; a run has one of each name")
    if group in names:
        raise BadEvaluationError(f"the group cannot be called {group!r}, as one of its benchmarks is")


def aggregate(results: Sequence[EvaluationResult]) -> dict[str, float]:
    """Return what several benchmarks say together.

    A score that all of them have gives ``<score>_macro``, the mean over benchmarks, and ``<score>_weighted``,
    the mean over samples: each benchmark counts with the number of samples that have a score. Seconds, tokens
    and cost are added up, as far as all of them know them.
    """
    if not results:
        return {}
    found: dict[str, float] = {}
    weights = [result.answered for result in results]
    for key in results[0].scores:
        if not all(key in result.scores for result in results):
            continue
        values = [result.scores[key] for result in results]
        found[f"{key}_macro"] = _sum(values) / len(values)
        if sum(weights):
            weighted = [value * weight for value, weight in zip(values, weights, strict=True)]
            found[f"{key}_weighted"] = _sum(weighted) / sum(weights)
    for key in _SUMS:
        if all(key in result.measured for result in results):
            found[key] = _sum([result.measured[key] for result in results])
    return found


def _sum(values: Sequence[float]) -> float:
    # fsum refuses infinities of both signs, which a diverged metric may have.
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


def _log(
    tracker: Tracker,
    group: str,
    results: Mapping[str, EvaluationResult],
    metrics: Mapping[str, float],
    step: int | None,
) -> None:
    data: dict[str, object] = {
        "tasks": list(results),
        "num_samples": sum(result.num_samples for result in results.values()),
        "errors": sum(result.errors for result in results.values()),
    }
    on_disk = {key: metric_number(key, value) for key, value in metrics.items()}
    tracker.log_event(ev.Evaluation(benchmark=group, step=step, metrics=on_disk, data=data))
