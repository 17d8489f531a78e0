"""Groups of runs by what they have in common: ``experiment=aug,param:aug=flip``.

Conditions stand between commas, and all must hold:

- ``experiment=NAME``, ``project=NAME``, ``name=NAME``, ``status=NAME``: what the run says of itself;
- ``tag:NAME`` or ``tag:NAME=VALUE``: its tags;
- ``param:KEY=VALUE``, or ``KEY=VALUE`` where KEY is none of the words above: its params, nested keys dotted.

Numbers are compared as numbers: ``lr=1e-3`` finds 0.001.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.values import flatten

FIELDS = ("experiment", "project", "name", "status")


class Condition(msgspec.Struct, frozen=True):
    """One thing that must hold: *kind* is ``tag``, ``param`` or one of `FIELDS`; no value: any will do."""

    kind: str
    key: str
    value: str | None


class Described(Protocol):
    """What conditions look at; `eventlog.query.run.Run` has it."""

    @property
    def tags(self) -> Mapping[str, str | None]:
        """Return the tags; None for those without a value."""

    @property
    def params(self) -> Mapping[str, object]:
        """Return the params, nested."""


def is_condition(text: str) -> bool:
    """Tell whether *text* reads as a condition."""
    return "=" in text or text.startswith("tag:")


def parse_condition(text: str) -> Condition:
    """Return the condition that *text* is.

    Raises:
        StatisticsError: a name is missing.
    """
    left, has_value, value = text.partition("=")
    kind, colon, key = left.partition(":")
    if colon and kind in {"tag", "param"}:
        found = Condition(kind, key, value if has_value else None)
    elif left in FIELDS:
        found = Condition(left, left, value)
    else:
        found = Condition("param", left, value if has_value else None)
    if not found.key or (found.kind == "param" and found.value is None):
        raise StatisticsError(
            f"{text!r} is no condition. Write experiment=NAME, tag:NAME, tag:NAME=VALUE or PARAM=VALUE."
        )
    return found


def fits(run: Described, conditions: Sequence[Condition]) -> bool:
    """Tell whether all *conditions* hold for *run*."""
    return all(_fits(run, one) for one in conditions)


def _fits(run: Described, wanted: Condition) -> bool:
    if wanted.kind == "tag":
        if wanted.key not in run.tags:
            return False
        return wanted.value is None or run.tags[wanted.key] == wanted.value
    if wanted.kind == "param":
        params = flatten(dict(run.params))
        return wanted.key in params and is_value(params[wanted.key], wanted.value or "")
    return bool(getattr(run, wanted.kind) == wanted.value)


def is_value(value: object, text: str) -> bool:
    """Tell whether *text* means *value*: the same text, the same JSON, or the same number."""
    if isinstance(value, str):
        return value == text
    try:
        meant: object = json.loads(text)
    except ValueError:
        return text.lower() in {str(value).lower(), json.dumps(value, default=str)}
    return isinstance(meant, bool) == isinstance(value, bool) and meant == value


def matching(root: Path, texts: Sequence[str]) -> list[Path]:
    """Return the directories of the runs below *root* for which all conditions hold, by project and id.

    Raises:
        StatisticsError: a condition cannot be read, or no run fits.
    """
    from eventlog.query.connect import Connection

    conditions = [parse_condition(text) for text in texts]
    connection = Connection(root)
    try:
        runs = [run for run in connection.runs() if fits(run, conditions)]
    finally:
        connection.close()
    if not runs:
        raise StatisticsError(
            f"No run under {root} fits {','.join(texts)!r}. `evlog list` shows the runs, `evlog show RUN` "
            "its params and tags."
        )
    return [run.path for run in sorted(runs, key=lambda run: (run.project, run.id))]


def grouped(runs: Sequence[Path], names: Sequence[str]) -> dict[str, list[Path]]:
    """Return the runs in groups that agree on params, by a label for each: ``aug=flip``.

    Args:
        names: params (nested keys dotted, or their last part), or one of `FIELDS`.

    Raises:
        UnknownParamError: no run has such a param.
    """
    from eventlog.analysis.groups import Scores, group_runs, pick_params
    from eventlog.replay import outline

    scores = []
    for run in runs:
        view = outline(run)
        scores.append(
            Scores(
                project=view.project,
                run_id=view.run_id,
                name=view.name,
                experiment=view.experiment,
                status=view.status,
                path=str(run),
                params=view.flat_params,
                tags=view.tags,
                seed=None,
                results={},
            )
        )
    keys = pick_params(names, scores)
    return {group.label: [Path(one.path) for one in group.runs] for group in group_runs(scores, keys)}
