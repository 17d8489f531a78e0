"""Whether one run, or one group of seeds, is better than another by more than chance.

from eventlog.analysis import significance

significance({"flip": ["flip-0", …], "cutout": ["cutout-0", …]}, metric="val_f1_macro")
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import combinations

import msgspec

from eventlog.analysis.chance.pairing import (
    LeftOut,
    Numbers,
    common_benchmarks,
    pair_samples,
    pair_seeds,
    result_metric,
    sample_metric,
)
from eventlog.analysis.chance.wording import Wording, sentence, warnings_of
from eventlog.analysis.directions import guess_mode
from eventlog.analysis.facts import RunFacts, load
from eventlog.analysis.runs import directory_of
from eventlog.analysis.statistics.contrast import Contrast, Options, contrast
from eventlog.analysis.statistics.corrections import CORRECTIONS, corrected
from eventlog.analysis.statistics.outcomes import builtins_of
from eventlog.analysis.statistics.vectors import StatisticsError, need_scipy

AnyRun = str | os.PathLike[str] | RunFacts


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two groups, what was found, and what is to be said about it.

    Attributes:
        p_corrected: p after the correction for all comparisons.
        is_significant: whether that is below 1 - level; None without a p.
    """

    a: str
    b: str
    found: Contrast
    left_out: LeftOut
    p_corrected: float | None
    is_significant: bool | None
    sentence: str
    warnings: list[str]


class Significance(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to: is the difference more than chance? A notebook shows it as tables.

    Attributes:
        unit: what a value is: ``samples`` of *benchmark*, or ``seeds`` (one result a run).
    """

    metric: str
    benchmark: str | None
    unit: str
    groups: dict[str, list[str]]
    options: Options
    correction: str
    comparisons: list[Comparison]

    def to_dict(self) -> dict[str, object]:
        """Return it as builtins; what is infinite or NaN stays a float."""
        return builtins_of(self)

    def _repr_html_(self) -> str:
        from eventlog.analysis.chance.wording import html_of

        return html_of(self)


def significance(
    groups: Mapping[str, Sequence[AnyRun]],
    *,
    metric: str | None = None,
    benchmark: str | None = None,
    options: Options | None = None,
    correction: str = "holm",
    against_first: bool = False,
    paired: bool | None = None,
    mode: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> Significance:
    """Compare groups of runs, each with each or all with the first.

    One run in each group: the samples of a benchmark, in pairs. Else: one result a run, as
    `eventlog.analysis.facts.results` defines it, in pairs where the seeds are the same.

    Args:
        groups: two or more, by name: the runs of each, by their names or directories, or as facts loaded
            with samples.
        metric: of samples or results; found out where there is no doubt.
        benchmark: whose samples or results.
        correction: ``holm``, ``bh`` or ``none``, over all comparisons.
        against_first: compare the others with the first, instead of each with each.
        paired: insist on pairs of seeds (True) or never pair them (False).
        mode: ``max`` or ``min``: which is better; default as the metric's name says.
        root: directory of all projects; default ``EVLOG_DIR`` or ``./experiments``.

    Raises:
        RunNotFoundError, AmbiguousRunError: a name fits no run, or several.
        StatisticsError: there is nothing to compare, or several things.
        OSError: a log cannot be read.
    """
    need_scipy()
    _check(groups, correction, mode)
    options = options or Options()
    facts = {name: [_facts(run, root) for run in runs] for name, runs in groups.items()}
    chosen = _choose(facts, metric, benchmark)
    names = list(facts)
    wanted = [(name, names[0]) for name in names[1:]] if against_first else list(combinations(names, 2))
    numbers = [_numbers(facts[a], facts[b], chosen, paired) for a, b in wanted]
    found = [contrast(one.a, one.b, paired=one.is_paired, options=options) for one in numbers]
    p_values = corrected([one.p_value for one in found], correction)
    how = Wording(
        unit=chosen.unit,
        mode=mode
        or guess_mode("correct" if chosen.unit == "samples" and _is_right(found) else chosen.metric),
        correction=correction if len(wanted) > 1 else "none",
        options=options,
    )
    return Significance(
        metric=chosen.metric,
        benchmark=chosen.benchmark,
        unit=chosen.unit,
        groups={name: [run.label for run in runs] for name, runs in facts.items()},
        options=options,
        correction=correction,
        comparisons=[
            Comparison(
                a=a,
                b=b,
                found=one,
                left_out=source.left_out,
                p_corrected=p,
                is_significant=None if p is None else p < 1 - options.level,
                sentence=sentence(a, b, one, p, how),
                warnings=warnings_of(one, source, p, how),
            )
            for (a, b), one, source, p in zip(wanted, found, numbers, p_values, strict=True)
        ],
    )


def _is_right(found: Sequence[Contrast]) -> bool:
    return all(one.table is not None for one in found)


class _Chosen(msgspec.Struct, frozen=True):
    unit: str
    metric: str
    benchmark: str | None


def _check(groups: Mapping[str, Sequence[AnyRun]], correction: str, mode: str | None) -> None:
    if len(groups) < 2:
        raise StatisticsError("There is nothing to compare with. Give at least two runs or groups.")
    for name, runs in groups.items():
        if not runs:
            raise StatisticsError(f"The group {name!r} has no runs.")
    if correction not in CORRECTIONS:
        raise StatisticsError(f"There is no correction {correction!r}. Take one of {', '.join(CORRECTIONS)}.")
    if mode not in {None, "max", "min"}:
        raise StatisticsError(f"There is no mode {mode!r}. Take max or min.")


def _facts(run: AnyRun, root: str | os.PathLike[str] | None) -> RunFacts:
    return run if isinstance(run, RunFacts) else load(directory_of(run, root), with_samples=True)


def _choose(facts: Mapping[str, Sequence[RunFacts]], metric: str | None, benchmark: str | None) -> _Chosen:
    """Say what is compared: samples where each group is one run that has them, else results."""
    groups = list(facts.values())
    if all(len(group) == 1 for group in groups):
        runs = [group[0] for group in groups]
        shared = common_benchmarks(runs)
        if benchmark is None and metric is not None:
            # As results call it: benchmark/metric.
            benchmark = next((name for name in shared if metric.startswith(f"{name}/")), None)
            metric = metric.removeprefix(f"{benchmark}/") if benchmark else metric
        if benchmark is None and len(shared) > 1:
            raise StatisticsError(f"The runs share several benchmarks. Add --benchmark: {', '.join(shared)}.")
        if benchmark is None and shared:
            benchmark = shared[0]
        if benchmark in shared:
            assert benchmark is not None
            wanted = metric.removeprefix(f"{benchmark}/") if metric else None
            return _Chosen("samples", sample_metric(runs, benchmark, wanted), benchmark)
        what = f"no samples of {benchmark!r}" if benchmark else "no samples of a benchmark"
        raise StatisticsError(
            f"One run on each side, and {what} that all have: nothing says what would be chance. "
            "Give several seeds on each side (A1,A2,A3 B1,B2,B3), or log samples."
        )
    return _Chosen("seeds", result_metric(groups, metric, benchmark), benchmark)


def _numbers(a: Sequence[RunFacts], b: Sequence[RunFacts], chosen: _Chosen, paired: bool | None) -> Numbers:
    if chosen.unit == "samples":
        assert chosen.benchmark is not None
        return pair_samples(a[0], b[0], chosen.benchmark, chosen.metric)
    return pair_seeds(a, b, chosen.metric, paired=paired)
