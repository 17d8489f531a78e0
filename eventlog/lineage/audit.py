"""What runs lack to be trusted and repeated: the checklists of good experiment tracking, line by line."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventlog.analysis.facts import RunFacts
from eventlog.lineage.audit_group import group_lines
from eventlog.lineage.audit_lines import AuditRules, Level, Line, worst
from eventlog.lineage.audit_origin import origin_lines
from eventlog.lineage.audit_outcome import outcome_lines
from eventlog.lineage.naming import NamingRules


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The lines about one run, or about an experiment.

    Attributes:
        subject: ``PROJECT/RUN_ID``, or ``PROJECT: EXPERIMENT``.
        runs: how many runs it is about.
    """

    subject: str
    runs: int
    lines: list[Line]

    @property
    def level(self) -> Level:
        """Return the worst level of its lines."""
        return worst(self.lines)

    def count(self, level: Level) -> int:
        """Return how many lines have this level."""
        return sum(line.level == level for line in self.lines)

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON."""
        return {
            "subject": self.subject,
            "runs": self.runs,
            "level": self.level,
            "lines": [line.to_dict() for line in self.lines],
        }


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Reports on runs, then on the experiments that have several of them."""

    runs: list[Report]
    experiments: list[Report]

    @property
    def level(self) -> Level:
        """Return the worst level of all."""
        return worst(line for report in [*self.runs, *self.experiments] for line in report.lines)

    def is_good(self, *, strict: bool = False) -> bool:
        """Tell whether nothing failed; under *strict* a warning counts too."""
        return self.level == "pass" or (self.level == "warn" and not strict)

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON."""
        return {
            "level": self.level,
            "runs": [report.to_dict() for report in self.runs],
            "experiments": [report.to_dict() for report in self.experiments],
        }


def audit(
    runs: Sequence[RunFacts], rules: AuditRules | None = None, naming: NamingRules | None = None
) -> Audit:
    """Return what *runs* lack, each for itself and the runs of one experiment together.

    Raises:
        OSError: a log cannot be read.
        BadRuleError: the rules for names cannot be used.
    """
    rules, naming = rules or AuditRules(), naming or NamingRules()
    groups: dict[tuple[str, str], list[RunFacts]] = {}
    for facts in runs:
        if facts.view.experiment:
            groups.setdefault((facts.view.project, facts.view.experiment), []).append(facts)
    return Audit(
        runs=[audit_run(facts, rules, naming) for facts in runs],
        experiments=[
            Report(
                subject=f"{project}: {experiment}",
                runs=len(group),
                lines=list(rules.judge(group_lines(group, rules, naming))),
            )
            for (project, experiment), group in groups.items()
            if len(group) > 1 or rules.min_seeds > 1
        ],
    )


def audit_run(facts: RunFacts, rules: AuditRules | None = None, naming: NamingRules | None = None) -> Report:
    """Return what one run lacks."""
    rules, naming = rules or AuditRules(), naming or NamingRules()
    lines = [*origin_lines(facts, rules), *outcome_lines(facts, rules, naming)]
    return Report(subject=facts.label, runs=1, lines=list(rules.judge(lines)))
