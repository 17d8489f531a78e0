"""Reads what a report needs of its runs out of the query cache: thousands of runs in a few questions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from eventlog.analysis.groups import Scores
from eventlog.analysis.overview import Overview
from eventlog.analysis.reports.model import Damaged

if TYPE_CHECKING:
    from eventlog.query.connect import Connection

RunId = tuple[str, str]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the table `runs` says of a run, beside its `Scores`."""

    started_at: int | None
    duration_s: float | None
    notes: str
    error_type: str | None
    error_message: str | None
    exit_code: int | None
    dropped: int
    damage: int
    host: str | None
    git_commit: str | None
    device_hours: float | None
    energy_kwh: float | None
    cost: float | None
    currency: str | None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A run: its results, and what else is known of it."""

    scores: Scores
    facts: Facts

    @property
    def label(self) -> str:
        """Return ``PROJECT/RUN_ID``."""
        return self.scores.label

    @property
    def path(self) -> Path:
        """Return its directory."""
        return Path(self.scores.path)


class Below:
    """The runs of a report that lie below one root."""

    def __init__(
        self,
        connection: Connection,
        *,
        only: Sequence[RunId] | None = None,
        project: str | None = None,
        experiment: str | None = None,
        where: str | None = None,
        status: Sequence[str] = (),
    ) -> None:
        """Read them; *only* takes the place of all conditions."""
        self._connection = connection
        if only is not None:
            where = f"(project, run_id) IN ({', '.join(f'({_quoted(p)}, {_quoted(r)})' for p, r in only)})"
        overview = Overview(connection, project=project, experiment=experiment, where=where, status=status)
        scores = {(run.project, run.run_id): run for run in overview.scores()}
        self.problems = overview.problems
        self._labels = [run.label for run in scores.values()]
        facts = {(str(row[0]), str(row[1])): row[2:] for row in self.ask(_FACTS)}
        names = Facts.__struct_fields__
        self.runs = [
            Known(
                scores=run,
                facts=msgspec.convert(dict(zip(names, facts[key], strict=True)), Facts),
            )
            for key, run in scores.items()
        ]

    def ask(
        self, sql: str, labels: Collection[str] | None = None, **named: object
    ) -> Iterator[tuple[object, ...]]:
        """Ask *sql* about the runs *labels*, default all: it finds them in the table `selected`."""
        wanted = self._labels if labels is None else list(labels)
        selected = (
            "WITH selected AS (SELECT project, run_id FROM runs "
            "SEMI JOIN (SELECT unnest($labels) AS label) AS w ON label = project || '/' || run_id)\n"
        )
        return iter(self._connection.sql(selected + sql, labels=wanted, **named)) if wanted else iter(())

    def changed(self) -> set[str]:
        """Return the runs whose code had changes that were not committed."""
        return {f"{project}/{run_id}" for project, run_id, dirty in self.ask(_DIRTY) if dirty}

    def datasets(self) -> list[str]:
        """Return the data that was read: name, version and split."""
        found = {
            " ".join([str(name), *(str(one) for one in (version, split) if one)])
            for name, version, split in self.ask(_DATASETS)
        }
        return sorted(found)

    def last_words(self, labels: Collection[str]) -> dict[str, str]:
        """Return the last line that runs printed to stderr."""
        found = {}
        for project, run_id, text in self.ask(_LAST_WORDS, labels):
            found[f"{project}/{run_id}"] = last_line(str(text))
        return found

    def last_event_at(self) -> int | None:
        """Return the latest time of all: of ends, and of starts that have none."""
        times = [
            round((run.facts.started_at or 0) + (run.facts.duration_s or 0) * 1e6)
            for run in self.runs
            if run.facts.started_at
        ]
        return max(times, default=None)

    def damaged(self) -> list[Damaged]:
        """Return what is wrong with the logs, and what a full disk cost."""
        found = [
            Damaged(run=f"{project}/{run_id}", what=f"{problem}: {detail}" if detail else str(problem))
            for project, run_id, problem, detail in self.ask(_DAMAGE)
        ]
        return found + [
            Damaged(
                run=run.label, what=f"{run.facts.dropped} events were dropped: the disk or the ring was full"
            )
            for run in self.runs
            if run.facts.dropped
        ]


def last_line(text: str) -> str:
    """Return the last line of *text* that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_FACTS = """
    SELECT project, run_id, epoch_us(started_at), duration_s, coalesce(note, ''), error_type, error_message,
           exit_code, coalesce(dropped, 0), coalesce(damage, 0), host, git_commit, device_hours, energy_kwh,
           cost, currency
    FROM runs SEMI JOIN selected USING (project, run_id)
"""
_DIRTY = """
    SELECT project, run_id, bool_or(coalesce(payload->>'$.data.is_dirty', payload->>'$.data.dirty') = 'true')
    FROM events SEMI JOIN selected USING (project, run_id)
    WHERE type = 'context' AND payload->>'$.kind' = 'git' GROUP BY project, run_id
"""
_DATASETS = """
    SELECT DISTINCT name, version, split FROM datasets SEMI JOIN selected USING (project, run_id)
    ORDER BY ALL LIMIT 20
"""
_LAST_WORDS = """
    SELECT project, run_id, arg_max(text, {'ts': ts, 'writer': writer, 'seq': seq})
    FROM console SEMI JOIN selected USING (project, run_id)
    WHERE stream = 'stderr' AND trim(text, E' \\n\\r\\t') <> '' GROUP BY project, run_id
"""
_DAMAGE = """
    SELECT project, run_id, problem, detail FROM damage SEMI JOIN selected USING (project, run_id)
    ORDER BY ALL
"""
