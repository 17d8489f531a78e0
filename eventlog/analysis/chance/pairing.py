"""From runs to numbers that may be compared: samples of a benchmark in pairs, or one value a seed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import msgspec

from eventlog.analysis.facts import RunFacts, results
from eventlog.analysis.groups import seed_of as seed_in
from eventlog.analysis.naming import UnknownMetricError, default_metric, pick_metric
from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.errors import BadValueError
from eventlog.events import Sample
from eventlog.values import number_in_memory

_CORRECTNESS = ("correct", "is_correct", "accuracy", "acc", "exact_match", "em")


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """What does not count, and why.

    Attributes:
        only_in_a: samples that the second run does not have; *only_in_b* the other way round.
        other_input: samples of one index whose input or target differs.
        not_finite: values that are missing, NaN or infinite (of pairs: on either side).
    """

    only_in_a: int = 0
    only_in_b: int = 0
    other_input: int = 0
    not_finite: int = 0


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """Two groups of finite numbers, ready to be compared."""

    a: list[float]
    b: list[float]
    is_paired: bool
    left_out: LeftOut
    notes: list[str]


# --- samples ---------------------------------------------------------------------------------------


def common_benchmarks(runs: Sequence[RunFacts]) -> list[str]:
    """Return the benchmarks of which every run has samples, sorted."""
    return sorted(set.intersection(*(set(run.samples) for run in runs))) if runs else []


def sample_metric(runs: Sequence[RunFacts], benchmark: str, wanted: str | None) -> str:
    """Return the metric of samples that is compared.

    Without *wanted*: a usual name of correctness, else the only one that is 0 or 1, else the only one.

    Raises:
        UnknownMetricError: *wanted* is none that all runs have.
        StatisticsError: nobody said which, and the samples do not tell.
    """
    seen: dict[str, bool] = {}
    shared: set[str] | None = None
    for run in runs:
        own: set[str] = set()
        for sample in run.samples[benchmark].values():
            for key in sample.metrics:
                value = _value(sample, key)
                own.add(key)
                seen[key] = seen.get(key, True) and (value in (0.0, 1.0) or not math.isfinite(value))
        shared = own if shared is None else shared & own
    known = sorted(shared or ())
    if wanted is not None:
        if wanted == "latency_ms" or wanted in known:
            return wanted
        raise UnknownMetricError(wanted, known)
    usual = [name for name in _CORRECTNESS if name in known]
    right_or_wrong = [name for name in known if seen[name]]
    for choice in (usual[:1], right_or_wrong, known):
        if len(choice) == 1:
            return choice[0]
    if not known:
        raise StatisticsError(f"The samples of {benchmark!r} have no metric that all runs share.")
    raise StatisticsError(
        f"The samples of {benchmark!r} have several metrics. Add --metric: {', '.join(known)}."
    )


def pair_samples(a: RunFacts, b: RunFacts, benchmark: str, metric: str) -> Numbers:
    """Return the values of samples that both runs have, in pairs by their index.

    Raises:
        StatisticsError: no pair is left, or most have other inputs.
    """
    first, second = a.samples[benchmark], b.samples[benchmark]
    shared = sorted(first.keys() & second.keys())
    same = [index for index in shared if _is_same_item(first[index], second[index])]
    if not same or 2 * len(same) < len(shared):
        raise StatisticsError(
            f"{a.label} and {b.label} have {len(shared)} samples of {benchmark!r} in common, of which "
            f"{len(shared) - len(same)} have another input or target: they were not asked the same."
        )
    values = [(_value(first[i], metric), _value(second[i], metric)) for i in same]
    finite = [(x, y) for x, y in values if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        raise StatisticsError(f"No sample of {benchmark!r} has a finite {metric!r} in both runs.")
    is_checked = any(first[i].input is not None and second[i].input is not None for i in same)
    return Numbers(
        a=[x for x, _ in finite],
        b=[y for _, y in finite],
        is_paired=True,
        left_out=LeftOut(
            only_in_a=len(first) - len(shared),
            only_in_b=len(second) - len(shared),
            other_input=len(shared) - len(same),
            not_finite=len(same) - len(finite),
        ),
        notes=[]
        if is_checked
        else ["no inputs were logged: that samples of one index are the same is assumed"],
    )


def _is_same_item(a: Sample, b: Sample) -> bool:
    return all(x is None or y is None or x == y for x, y in ((a.input, b.input), (a.target, b.target)))


def _value(sample: Sample, key: str) -> float:
    """Return a number of a sample; NaN if it has none."""
    if key in sample.metrics:
        with contextlib.suppress(BadValueError):
            return number_in_memory(sample.metrics[key])
        return math.nan
    return sample.latency_ms if key == "latency_ms" and sample.latency_ms is not None else math.nan


# --- seeds -----------------------------------------------------------------------------------------


def result_metric(groups: Sequence[Sequence[RunFacts]], wanted: str | None, benchmark: str | None) -> str:
    """Return the name of the result that is compared, as `eventlog.analysis.facts.results` has it.

    Raises:
        UnknownMetricError, AmbiguousMetricError: no run has *wanted*, or it fits several results.
        NoMetricError: nobody said which, and the runs do not tell.
    """
    found = [results(run) for group in groups for run in group]
    if wanted is None:
        return default_metric(found, benchmark=benchmark)
    return pick_metric(wanted, {key for one in found for key in one}, benchmark=benchmark)


def seed_of(run: RunFacts) -> str | None:
    """Return the seed of a run as text: its param ``seed``, else what the capture of seeds says."""
    found = seed_in(run.view.flat_params, run.view.context.get("seeds", {}).get("seed"))
    return None if found is None else str(found)


def pair_seeds(
    a: Sequence[RunFacts], b: Sequence[RunFacts], metric: str, *, paired: bool | None = None
) -> Numbers:
    """Return one value a run, in pairs if both groups have the same seeds, each once.

    Args:
        paired: True insists on pairs, False never pairs, None pairs where it can.

    Raises:
        StatisticsError: a group has no finite value, or *paired* and the seeds are not the same.
    """
    first, second = _by_seed(a, metric), _by_seed(b, metric)
    can_pair = first is not None and second is not None and first.keys() == second.keys() and len(first) > 1
    if paired and not can_pair:
        raise StatisticsError("The groups do not have the same seeds, each once: leave --paired out.")
    if can_pair and paired is not False and first is not None and second is not None:
        both = [(value, second[seed]) for seed, value in sorted(first.items())]
        finite = [(x, y) for x, y in both if math.isfinite(x) and math.isfinite(y)]
        found, lost, is_paired = list(map(list, zip(*finite, strict=True))), len(both) - len(finite), True
    else:
        values = [[_result(run, metric) for run in group] for group in (a, b)]
        found = [[value for value in group if math.isfinite(value)] for group in values]
        lost, is_paired = sum(map(len, values)) - sum(map(len, found)), False
    if not found or not all(found):
        raise StatisticsError(
            f"A group has no finite value of {metric!r}. `evlog show RUN` lists its results."
        )
    return Numbers(a=found[0], b=found[1], is_paired=is_paired, left_out=LeftOut(not_finite=lost), notes=[])


def _by_seed(runs: Sequence[RunFacts], metric: str) -> dict[str, float] | None:
    """Return the value of each seed; None if a run has no seed or two have the same."""
    found: dict[str, float] = {}
    for run in runs:
        seed = seed_of(run)
        if seed is None or seed in found:
            return None
        found[seed] = _result(run, metric)
    return found


def _result(run: RunFacts, metric: str) -> float:
    return results(run).get(metric, math.nan)
