"""Decides by a rule which candidate wins, and says why."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from eventlog.analysis.directions import Mode, guess_mode
from eventlog.analysis.groups import Group, Spread, group_runs, is_tie, pick_params, varying
from eventlog.analysis.naming import pick_metric
from eventlog.analysis.overview import Overview, connected
from eventlog.analysis.ranking.grammar import Condition, Criterion, DecisionRule, parse_rule
from eventlog.analysis.rules import holds
from eventlog.analysis.runs import NoRunsError
from eventlog.analysis.shown import Shown, html_page, markdown_table, markdown_text, mean_and_std, number

if TYPE_CHECKING:
    from eventlog.query.connect import Connection


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A run; *path* is its directory."""

    label: str
    path: str
    tags: dict[str, str | None]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that agree on the params that are compared.

    Attributes:
        params: what they agree on.
        scores: by metric, over the runs that have it.
        excluded: conditions that it does not fulfil, and why.
        is_best: it has the best value of those that are not excluded, or is as good.
    """

    label: str
    params: dict[str, object]
    runs: list[Member]
    seeds: int
    scores: dict[str, Spread]
    excluded: list[str]
    is_best: bool = False


class Decision(Shown, frozen=True, kw_only=True):
    """Who wins by a rule, and why.

    Attributes:
        rule: as it was given.
        metrics: that the rule names, with their whole names.
        group_by: params that make a candidate.
        winner: label of the candidate; None if none wins.
        reasons: how it came to that, a sentence each.
        left_out: runs that were not asked, and why.
        problems: runs that could not be read, a sentence for each.
    """

    rule: str
    metrics: list[str]
    group_by: list[str]
    candidates: list[Candidate]
    winner: str | None
    reasons: list[str]
    left_out: list[str]
    problems: list[str]

    @property
    def winning(self) -> Candidate | None:
        """Return the candidate that wins."""
        return next((one for one in self.candidates if one.label == self.winner), None)

    @property
    def title(self) -> str:
        """Return who wins."""
        return f"Winner: {self.winner or 'none'}"

    @property
    def note(self) -> str:
        """Return the decision in one line, the same as long as the results are."""
        return f"Decision: {self.winner} by the rule {self.rule!r}. {' '.join(f'{r}.' for r in self.reasons)}"

    @property
    def columns(self) -> list[str]:
        """Return the heads of `rows`."""
        return ["candidate", *self.metrics, "n", "seeds", "outcome"]

    @property
    def rows(self) -> list[list[str]]:
        """Return the candidates as texts."""
        return [
            [
                one.label,
                *(mean_and_std(one.scores.get(key)) for key in self.metrics),
                str(len(one.runs)),
                str(one.seeds or "-"),
                "winner"
                if one.label == self.winner
                else f"out: {'; '.join(one.excluded)}"
                if one.excluded
                else "",
            ]
            for one in self.candidates
        ]

    def to_markdown(self) -> str:
        """Return the decision in GitHub's Markdown."""
        lines = [f"**{markdown_text(self.title)}** by the rule: {markdown_text(self.rule)}"]
        table = markdown_table(self.columns, self.rows, right=self.metrics)
        return "\n\n".join([*lines, table, "  \n".join(map(markdown_text, [*self.reasons, *self.left_out]))])

    def _repr_html_(self) -> str:
        return html_page(
            self.title, (self.rule, self.columns, self.rows), foot=[*self.reasons, *self.left_out]
        )


def decide(
    rule: str,
    root: str | os.PathLike[str] | Connection | None = None,
    *,
    group_by: Sequence[str] = (),
    project: str | None = None,
    experiment: str | None = None,
    where: str | None = None,
    status: Sequence[str] = ("finished",),
) -> Decision:
    """Apply *rule*, such as ``highest mean val_f1 with std<=0.5, tie-break accuracy``; nothing is written.

    Args:
        group_by: params that make a candidate; default all that vary but the seed.
        where: a condition in SQL on the table `runs`.
        status: only runs that stand so.

    Raises:
        RuleError: the rule cannot be read.
        NoRunsError: nothing fits.
        UnknownMetricError, AmbiguousMetricError: a metric of the rule is of no run, or may be several.
        UnknownParamError: *group_by* names what no run has.
    """
    parsed = parse_rule(rule)
    with connected(root) as connection:
        every = Overview(connection, project=project, experiment=experiment, where=where)
        runs = [run for run in every.runs.values() if run.status in status]
        if not runs:
            given = {
                "project": project,
                "experiment": experiment,
                "status": " or ".join(status),
                "where": where,
            }
            raise NoRunsError(str(connection.root), " and ".join(f"{k} {v!r}" for k, v in given.items() if v))
        names = every.names()
        resolved = {name: pick_metric(name, names) for name in _names(parsed)}
        scores = every.scores(set(resolved.values()))
    runs = [run for run in scores if run.status in status]
    by = pick_params(group_by, runs) if group_by else varying(runs)
    main = resolved[parsed.main.metric]
    having = [run for run in runs if main in run.results]
    judge = _Judge(parsed, resolved)
    candidates = _with_own_labels([judge.candidate(group) for group in group_runs(having, by)])
    candidates, winner, reasons = judge.decide(candidates)
    outside = Counter(run.status for run in scores if run.status not in status)
    left_out = [
        f"{count} {state} run{'' if count == 1 else 's'} left out" for state, count in sorted(outside.items())
    ]
    if len(having) < len(runs):
        count = len(runs) - len(having)
        left_out.append(f"{count} run{'' if count == 1 else 's'} without {main} left out")
    return Decision(
        rule=parsed.text,
        metrics=list(dict.fromkeys(resolved.values())),
        group_by=by,
        candidates=candidates,
        winner=winner,
        reasons=reasons,
        left_out=left_out,
        problems=every.problems,
    )


def _with_own_labels(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return *candidates* with a number behind labels that are the same: the number 1 and the text "1"."""
    seen: Counter[str] = Counter()
    found = []
    for one in candidates:
        seen[one.label] += 1
        again = f" (#{seen[one.label]})" if seen[one.label] > 1 else ""
        found.append(msgspec.structs.replace(one, label=one.label + again))
    return found


def _names(rule: DecisionRule) -> list[str]:
    """Return the metrics of *rule* as they are written, the main one first."""
    names = [rule.main.metric, *(one.metric for one in rule.tie_breaks)]
    return list(dict.fromkeys([*names, *(one.metric for one in rule.conditions if one.metric is not None)]))


class _Judge:
    """Applies one rule to candidates."""

    def __init__(self, rule: DecisionRule, resolved: dict[str, str]) -> None:
        self._rule, self._resolved = rule, resolved

    def candidate(self, group: Group) -> Candidate:
        """Return *group* as a candidate, with the conditions that it does not fulfil."""
        found = {key: group.spread(key) for key in self._resolved.values()}
        one = Candidate(
            label=group.label,
            params=group.values,
            runs=[Member(label=run.label, path=run.path, tags=run.tags) for run in group.runs],
            seeds=group.seeds,
            scores={key: value for key, value in found.items() if value is not None},
            excluded=[],
        )
        broken = [reason for each in self._rule.conditions if (reason := self._broken(one, each))]
        value = self._value(one, self._rule.main)
        if value is None or not math.isfinite(value):
            # No infinity wins: it is what is left of a run that diverged.
            said = "not defined" if value is None else "NaN" if value != value else "infinite"
            broken.insert(0, f"{self._name(self._rule.main)} is {said}")
        return msgspec.structs.replace(one, excluded=broken)

    def decide(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], str | None, list[str]]:
        """Return the candidates, the best first, the winner's label, and the reasons."""
        left = [one for one in candidates if not one.excluded]
        reasons = [f"{one.label} is out: {'; '.join(one.excluded)}" for one in candidates if one.excluded]
        if not left:
            return list(candidates), None, [*reasons, "No candidate fulfils the rule"]
        main = self._rule.main
        best, value = self._best(left, main, self._rule.within, is_percent=self._rule.within_is_percent)
        reasons.append(self._told(best, value))
        tied = {one.label for one in best}
        best, more = self._break_tie(best)
        reasons += more
        winner = best[0].label if len(best) == 1 else None
        if winner is None:
            reasons.append(f"{_and(best)} are tied, and no tie-break is left")
        ordered = [
            msgspec.structs.replace(one, is_best=one.label in tied) for one in self._ordered(candidates)
        ]
        ordered.sort(key=lambda one: one.label != winner)
        return ordered, winner, reasons

    def _told(self, best: Sequence[Candidate], value: float) -> str:
        """Return who has the best value; of a mean with its deviation."""
        rule = self._rule
        what = f"{self._side(rule.main)} {self._name(rule.main)}"
        if len(best) == 1:
            spread = best[0].scores[self._key(rule.main)]
            shown = mean_and_std(spread) if rule.main.statistic == "mean" else number(value)
            return f"{best[0].label} has the {what}: {shown}"
        room = f" within {rule.within:g}{'%' * rule.within_is_percent}" if rule.within else ""
        return f"{_and(best)} share the {what}{room}: {number(value)}"

    def _break_tie(self, best: list[Candidate]) -> tuple[list[Candidate], list[str]]:
        reasons = []
        for criterion in self._rule.tie_breaks:
            if len(best) == 1:
                break
            name = f"{self._side(criterion)} {self._name(criterion)}"
            having = [
                one for one in best if (value := self._value(one, criterion)) is not None and value == value
            ]
            if not having:
                reasons.append(f"The tie-break by the {name} tells nothing: none has it")
                continue
            best, value = self._best(having, criterion, 0.0, is_percent=False)
            verb = "breaks the tie for" if len(best) == 1 else "leaves"
            reasons.append(f"The {name}, {number(value)}, {verb} {_and(best)}")
        return best, reasons

    def _best(
        self, candidates: Sequence[Candidate], criterion: Criterion, within: float, *, is_percent: bool
    ) -> tuple[list[Candidate], float]:
        """Return the candidates that are best or as good, and the best value."""
        values = [(one, self._value(one, criterion)) for one in candidates]
        real = [(one, value) for one, value in values if value is not None]
        best = (max if self._mode(criterion) == "max" else min)(value for _, value in real)
        room = abs(best) * within / 100 if is_percent else within
        return [one for one, value in real if is_tie(value, best, within=room)], best

    def _ordered(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        sign = -1 if self._mode(self._rule.main) == "max" else 1

        def place(one: Candidate) -> tuple[bool, float]:
            value = self._value(one, self._rule.main)
            return bool(one.excluded), math.inf if value is None or value != value else sign * value

        return sorted(candidates, key=place)

    def _broken(self, one: Candidate, condition: Condition) -> str:
        """Return why *one* does not fulfil *condition*, or nothing."""
        if condition.statistic in {"n", "seeds"}:
            count = len(one.runs) if condition.statistic == "n" else one.seeds
            kept = holds(count, condition.operator, condition.number)
            return "" if kept else f"{condition.text}, and it has {count}"
        main = self._rule.main
        criterion = Criterion(
            mode=None if condition.metric else main.mode,
            statistic=condition.statistic,
            metric=condition.metric or main.metric,
        )
        value = self._value(one, criterion)
        if value is None:
            why = (
                "that needs two runs"
                if condition.statistic == "std" and self._key(criterion) in one.scores
                else "it has none"
            )
            return f"{condition.text}, and {why}"
        limit = condition.number
        if condition.is_percent:
            limit *= abs(one.scores[self._key(criterion)].mean) / 100
        kept = holds(value, condition.operator, limit)
        return "" if kept else f"{condition.text}, and it is {number(value)}"

    def _value(self, one: Candidate, criterion: Criterion) -> float | None:
        spread = one.scores.get(self._key(criterion))
        if spread is None:
            return None
        statistic = criterion.statistic
        if statistic == "worst":
            statistic = "min" if self._mode(criterion) == "max" else "max"
        value: float | None = getattr(spread, statistic)
        return value

    def _key(self, criterion: Criterion) -> str:
        return self._resolved[criterion.metric]

    def _mode(self, criterion: Criterion) -> Mode:
        return criterion.mode or guess_mode(self._key(criterion)) or "max"

    def _side(self, criterion: Criterion) -> str:
        return "highest" if self._mode(criterion) == "max" else "lowest"

    def _name(self, criterion: Criterion) -> str:
        return f"{criterion.statistic} {self._key(criterion)}"


def _and(candidates: Sequence[Candidate]) -> str:
    labels = [one.label for one in candidates]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
