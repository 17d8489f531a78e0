"""What a report is about, and what people noted on its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eventlog.analysis.reports.model import About, Said, counted, listed
from eventlog.analysis.reports.reading import Below, Known

DECISION = "Decision: "
"""How the notes of `evlog decide` begin."""

_LONGEST = 4000


def about(below: Below, title: str | None, asked: str, date: str | None) -> About:
    """Return what a report is about: which runs, when, by which code, and what they took."""
    facts = [run.facts for run in below.runs]
    scores = [run.scores for run in below.runs]
    experiments = sorted({run.experiment for run in scores if run.experiment})
    projects = sorted({run.project for run in scores})
    energy = [one.energy_kwh for one in facts if one.energy_kwh is not None]
    costs = [one.cost for one in facts if one.cost is not None]
    hours = [one.device_hours for one in facts if one.device_hours is not None]
    name = listed(experiments, 3) or f"{counted(len(scores), 'run')} of {listed(projects, 3)}"
    tags = Counter(
        key if value is None else f"{key}={value}"
        for run in scores
        for key, value in run.tags.items()
        if key != "decision"
    )
    commits = Counter(one.git_commit for one in facts if one.git_commit)
    return About(
        title=title or name,
        asked=asked,
        experiments=experiments,
        projects=projects,
        runs=len(scores),
        statuses=dict(sorted(Counter(run.status for run in scores).items())),
        first_started_at=min((one.started_at for one in facts if one.started_at is not None), default=None),
        last_event_at=below.last_event_at(),
        duration_s=sum(one.duration_s or 0.0 for one in facts),
        commits=dict(sorted(commits.items(), key=lambda pair: (-pair[1], pair[0]))),
        changed_runs=len(below.changed()),
        hosts=sorted({one.host for one in facts if one.host}),
        datasets=below.datasets(),
        tags=dict(sorted(tags.items(), key=lambda pair: (-pair[1], pair[0]))),
        device_hours=sum(hours) if hours else None,
        energy_kwh=sum(energy) if energy else None,
        measured_runs=len(energy),
        cost=sum(costs) if costs else None,
        currency=next((one.currency for one in facts if one.currency), None),
        priced_runs=len(costs),
        date=date,
    )


def notes(runs: Sequence[Known], most: int) -> tuple[list[Said], int]:
    """Return the notes, each once, decisions first, and how many more there are."""
    by_text: dict[str, list[Known]] = {}
    for run in runs:
        for text in notes_of(run.facts.notes):
            members = by_text.setdefault(text, [])
            if run not in members:
                members.append(run)
    said = [
        Said(
            text=text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…",
            runs=[run.label for run in members],
            is_decision=text.startswith(DECISION),
            stands=any(_stands(run, text) for run in members),
        )
        for text, members in by_text.items()
    ]
    said.sort(key=lambda one: (not one.is_decision, not one.stands))
    return said[:most], max(0, len(said) - most)


def notes_of(text: str) -> list[str]:
    """Return the notes of a run; those of `evlog decide` are lines of their own."""
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith(DECISION) or not found or found[-1].startswith(DECISION):
            found.append(line)
        else:
            found[-1] += f"\n{line}"
    return [note.strip() for note in found if note.strip()]


def _stands(run: Known, text: str) -> bool:
    """Tell whether *text* is the decision that the run's tag stands for."""
    rule = run.scores.tags.get("decision")
    decisions = [note for note in notes_of(run.facts.notes) if note.startswith(DECISION)]
    return rule is not None and text.startswith(DECISION) and decisions[-1:] == [text]
