"""Whether the best of a report is better than the next by more than chance."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventlog.analysis.facts import RunFacts, load
from eventlog.analysis.groups import Scores
from eventlog.analysis.reports.model import Standing, Standings, Verdict
from eventlog.errors import EvlogError
from eventlog.projections import RunFold
from eventlog.values import number_on_disk


def verdict(standings: Standings, runs: Mapping[str, Scores]) -> Verdict:
    """Compare the first two places; where that cannot be done, say why."""
    ranked = [one for one in standings.places if one.place.rank is not None]
    if standings.metric is None:
        return _nothing("no metric ranks the runs")
    if len(ranked) < 2:
        return _nothing(
            f"fewer than two {'groups' if standings.group_by else 'runs'} have a number of {standings.metric}"
        )
    from eventlog.analysis.chance.answer import significance

    try:
        found = significance(
            {one.label: [_facts(one, run, runs) for run in one.place.runs] for one in ranked[:2]},
            metric=standings.metric,
            mode=standings.mode,
        )
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
    from pathlib import Path

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
