"""Who stands where: the metric that counts, what makes a group, and who is best."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from eventlog.analysis.directions import Mode, guess_mode
from eventlog.analysis.groups import Group, Scores, group_runs, pick_params, varying
from eventlog.analysis.naming import NoMetricError, default_metric, pick_metric
from eventlog.analysis.ranking.board import Place, rank
from eventlog.analysis.reports.model import Standing, Standings, counted
from eventlog.analysis.timings import is_timing

_HELD_OUT = re.compile(r"(^|[^a-z])(val|valid|validation|dev|eval|test)([^a-z]|$)")
_TRAINED = re.compile(r"(^|[^a-z])train(ing)?([^a-z]|$)")


def standings(
    runs: Sequence[Scores],
    *,
    metrics: Sequence[str] = (),
    mode: Mode | None = None,
    group_by: Sequence[str] = (),
    most: int,
) -> Standings:
    """Rank *runs*, or groups of them.

    Args:
        metrics: names, or ends of them; the first one counts. Without any it is found out.
        group_by: params that make a group; without any it is found out.

    Raises:
        UnknownMetricError, AmbiguousMetricError: *metrics* fit no result, or several.
        UnknownParamError: *group_by* names what no run has.
    """
    chosen, why = _metrics(runs, metrics)
    main = chosen[0] if chosen else None
    guessed = guess_mode(main) if main else None
    mode_now: Mode = mode or guessed or "max"
    by = pick_params(group_by, runs) if group_by else _grouping(runs)
    having = [run for run in runs if main is None or main in run.results]
    groups = group_runs(having, by) if by else [Group(values={}, runs=[run]) for run in having]
    places = rank(groups, chosen, mode_now) if main else [_unranked(group) for group in groups]
    by_label = {run.label: run for run in having}
    members = {
        run.label: [one.label for one in group.runs] for group in group_runs(runs, by) for run in group.runs
    }
    labels = _labels(places)
    notes = _notes(runs, having, main)
    return Standings(
        metric=main,
        mode=mode_now,
        why=why + _why_mode(main, mode, guessed),
        metrics=chosen,
        group_by=by,
        places=[
            Standing(
                label=label,
                place=place,
                values=[by_label[run].results[main] for run in place.runs] if main else [],
                members=members[place.runs[0]] if by else place.runs,
            )
            for label, place in list(zip(labels, places, strict=True))[:most]
        ],
        left_out=max(0, len(places) - most),
        notes=notes,
    )


# --- the metric --------------------------------------------------------------------------------------


def _metrics(runs: Sequence[Scores], wanted: Sequence[str]) -> tuple[list[str], str]:
    """Return the metrics, the one that counts first, and how it was found."""
    keys = {key for run in runs for key in run.results}
    if wanted:
        return list(dict.fromkeys(pick_metric(name, keys) for name in wanted)), ""
    try:
        return [default_metric([run.results for run in runs])], ""
    except NoMetricError:
        guessed = _guess(runs, keys)
    if guessed is not None:
        return [guessed], " It was guessed: --metric names another."
    if not keys:
        return [], "The runs have no results yet."
    return [], "No metric is the one that counts: name it with --metric."


def _guess(runs: Sequence[Scores], keys: set[str]) -> str | None:
    """Return a result of most runs whose name tells what is better; held out before others, scores first."""
    count = Counter(key for run in runs for key in run.results)
    fit = [
        key
        for key in keys
        if guess_mode(key)
        and not is_timing(key)
        and 2 * count[key] >= len(runs)
        and not is_of_other_rank(key)
    ]

    def liking(key: str) -> tuple[bool, bool, bool, int, str]:
        name = key.lower()
        return (
            not _HELD_OUT.search(name),
            bool(_TRAINED.search(name)),
            guess_mode(key) != "max",
            -count[key],
            key,
        )

    return min(fit, key=liking, default=None)


def is_of_other_rank(key: str) -> bool:
    """Tell whether *key* is a metric of another process than the first."""
    return re.match(r"rank\d+/", key) is not None


def _why_mode(main: str | None, given: Mode | None, guessed: Mode | None) -> str:
    if main is None or given or guessed:
        return ""
    return " Its name does not tell what is better: larger was taken, --mode min turns it round."


# --- groups ------------------------------------------------------------------------------------------


def _grouping(runs: Sequence[Scores]) -> list[str]:
    """Return what makes a group where nobody says: all params that vary but the seed, if seeds repeat then.

    A param that is different in every run, such as a directory for the output, makes no group.
    """
    if len(runs) < 3 or len({str(run.seed) for run in runs if run.seed is not None}) < 2:
        return []
    by = varying(runs)
    attempts = [by, [key for key in by if len(group_runs(runs, [key])) < len(runs)]]
    for attempt in attempts:
        groups = group_runs(runs, attempt)
        if attempt and len(groups) < len(runs) and all(_is_seeded(group) for group in groups):
            return attempt
    if not by and len({run.experiment for run in runs}) == 1 and runs[0].experiment:
        return ["experiment"]
    return []


def _is_seeded(group: Group) -> bool:
    """Tell whether the runs of *group* are told apart by their seeds."""
    return len(group.runs) == 1 or group.seeds > 1


def _unranked(group: Group) -> Place:
    run = group.runs[0]
    return Place(
        rank=None,
        is_tied=False,
        group=group.values,
        runs=[run.label for run in group.runs],
        name=group.label if group.values else run.name,
        status=None if group.values else run.status,
        seeds=group.seeds,
        scores={},
    )


def _labels(places: Sequence[Place]) -> list[str]:
    """Return a name for each place that no other has: names of runs where they differ, else labels."""
    names = [place.name for place in places]
    if len(set(names)) < len(names) and not any(place.group for place in places):
        names = [place.runs[0] for place in places]
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} (#{seen[name]})")
    return found


def _notes(runs: Sequence[Scores], having: Sequence[Scores], main: str | None) -> list[str]:
    notes = []
    if main and len(having) < len(runs):
        notes.append(f"{counted(len(runs) - len(having), 'run')} without {main}")
    ended = Counter(run.status for run in having if run.status != "finished")
    if main and ended:
        told = " and ".join(f"{count} {status}" for status, count in sorted(ended.items()))
        total = sum(ended.values())
        notes.append(
            f"{told} {'run counts' if total == 1 else 'runs count'} with the last value that was logged; "
            "--status finished leaves out what did not finish"
        )
    return notes
