"""Whether the best of a report is better than the next by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from eventlog.analysis.chance.answer import significance
from eventlog.analysis.chance.pairing import common_benchmarks
from eventlog.analysis.directions import Mode
from eventlog.analysis.facts import RunFacts, load
from eventlog.analysis.groups import Scores
from eventlog.analysis.reports.model import Standing, Standings, Verdict
from eventlog.errors import EvlogError
from eventlog.projections import RunFold
from eventlog.values import number_on_disk

Groups = Mapping[str, Sequence[RunFacts]]

_CORRECTNESS = ("accuracy", "acc", "exact_match", "em", "correct", "is_correct")
"""Names of what is the share of samples that are right, whatever the samples call it."""


def verdict(standings: Standings, runs: Mapping[str, Scores]) -> Verdict:
    """Compare the first two places; where that cannot be done, say why.

    Raises:
        OSError: the log of a run that stands for itself cannot be read.
    """
    ranked = [one for one in standings.places if one.place.rank is not None]
    if standings.metric is None:
        return _nothing("no metric ranks the runs")
    if len(ranked) < 2:
        return _nothing(
            f"fewer than two {'groups' if standings.group_by else 'runs'} have a number of {standings.metric}"
        )
    groups = {one.label: [_facts(one, run, runs) for run in one.place.runs] for one in ranked[:2]}
    if all(len(members) == 1 for members in groups.values()):
        return _of_samples(groups, standings.metric, standings.mode)
    return _asked(groups, standings.metric, None, standings.mode)


def _of_samples(groups: Groups, metric: str, mode: Mode) -> Verdict:
    """Compare single runs by the samples that *metric* is the mean of."""
    members = [facts for one in groups.values() for facts in one]
    benchmark = next((one for one in common_benchmarks(members) if metric.startswith(f"{one}/")), None)
    if benchmark is None:
        return _nothing(
            f"each is one run, and nothing says how much {metric} varies by chance: run several seeds, "
            "or log the samples of a benchmark"
        )
    name = metric.removeprefix(f"{benchmark}/")
    if all(name in sample.metrics for facts in members for sample in facts.samples[benchmark].values()):
        return _asked(groups, name, benchmark, mode)
    if name not in _CORRECTNESS:
        return _nothing(f"each is one run, and the samples of {benchmark} have no {name}")
    return _asked(groups, None, benchmark, mode)


def _asked(groups: Groups, metric: str | None, benchmark: str | None, mode: Mode) -> Verdict:
    try:
        found = significance(groups, metric=metric, benchmark=benchmark, mode=mode)
    except (EvlogError, OSError) as error:
        return _nothing(str(error))
    (one,) = found.comparisons
    return Verdict(sentence=one.sentence, warnings=one.warnings, reason="")


def _nothing(reason: str) -> Verdict:
    return Verdict(sentence="", warnings=[], reason=reason)


def _facts(standing: Standing, label: str, runs: Mapping[str, Scores]) -> RunFacts:
    """Return a run as statistics want it: with its samples if it stands for itself, else its results alone.

    The results are known already; to read the logs of all seeds again would take minutes.
    """
    scores = runs[label]
    if len(standing.place.runs) == 1:
        return load(Path(scores.path), with_samples=True)
    view = msgspec.structs.replace(
        RunFold(scores.project, scores.run_id).view(set()),
        params=dict(scores.params),
        summary={key: number_on_disk(value) for key, value in scores.results.items()},
        context={} if scores.seed is None else {"seeds": {"seed": scores.seed}},
    )
    return RunFacts(
        path=Path(scores.path), view=view, evaluations=[], datasets=[], checkpoints=[], samples={}
    )
