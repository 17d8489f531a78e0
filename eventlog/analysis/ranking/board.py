"""Who is best: runs, or groups of runs over seeds, ranked by one result."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from eventlog.analysis.directions import Mode, guess_mode
from eventlog.analysis.groups import Group, Scores, Spread, group_runs, is_tie, pick_params, text_of
from eventlog.analysis.naming import default_metric, pick_metric
from eventlog.analysis.overview import Overview, connected
from eventlog.analysis.runs import NoRunsError
from eventlog.analysis.shown import Shown, html_page, markdown_table, mean_and_std

if TYPE_CHECKING:
    from eventlog.query.connect import Connection


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A run, or a group of runs, in the ranking.

    Attributes:
        rank: 1 for the best, the same for equal ones; None for NaN, which comes last.
        group: what the runs of a group have in common; empty without groups.
        runs: as ``PROJECT/RUN_ID``; those that have the metric.
        status: of a single run.
        seeds: number of different seeds that are known.
        scores: by metric, of the runs that have it.
    """

    rank: int | None
    is_tied: bool
    group: dict[str, object]
    runs: list[str]
    name: str
    status: str | None
    seeds: int
    scores: dict[str, Spread]

    @property
    def place(self) -> str:
        """Return ``1``, ``1=`` if another one is equal, or ``-``."""
        return "-" if self.rank is None else f"{self.rank}{'=' if self.is_tied else ''}"


class Leaderboard(Shown, frozen=True, kw_only=True):
    """Runs or groups, the best first.

    Attributes:
        metric: that they are ranked by.
        mode: whether the largest or the smallest is best.
        mode_from: ``given``, ``name`` (of the metric) or ``default`` (its name does not tell).
        metrics: that are shown, *metric* first.
        group_by: params; empty if every run stands for itself.
        total: number of places before *top* cut them off.
        without_metric: runs that fit, but have no such result.
        problems: runs that could not be read, a sentence for each.
    """

    metric: str
    mode: Mode
    mode_from: str
    metrics: list[str]
    group_by: list[str]
    places: list[Place]
    total: int
    without_metric: list[str]
    problems: list[str]

    @property
    def title(self) -> str:
        """Return what is best, and why we think so."""
        best = "larger is better" if self.mode == "max" else "smaller is better"
        why = {
            "given": "",
            "name": ", as the name says",
            "default": ", for the name does not tell: --mode min turns it round",
        }
        return f"{self.metric} ({best}{why[self.mode_from]})"

    @property
    def foot(self) -> list[str]:
        """Return what the table does not show."""
        lines = []
        if self.total > len(self.places):
            lines.append(f"{self.total - len(self.places)} more below these places")
        if self.without_metric:
            count = len(self.without_metric)
            lines.append(f"{count} run{'' if count == 1 else 's'} without {self.metric}")
        return lines

    @property
    def columns(self) -> list[str]:
        """Return the heads of `rows`."""
        if self.group_by:
            return ["rank", *self.group_by, *self.metrics, "runs", "seeds"]
        names = ["name"] if any(place.name != _id(place) for place in self.places) else []
        return ["rank", "run", *names, *self.metrics, "status"]

    @property
    def rows(self) -> list[list[str]]:
        """Return the places as texts."""
        return list(self._rows())

    def _rows(self) -> Iterator[list[str]]:
        has_names = "name" in self.columns
        for place in self.places:
            scores = [mean_and_std(place.scores.get(key)) for key in self.metrics]
            if self.group_by:
                values = [text_of(value) for value in place.group.values()]
                yield [place.place, *values, *scores, str(len(place.runs)), str(place.seeds or "-")]
            else:
                yield [
                    place.place,
                    place.runs[0],
                    *([place.name] if has_names else []),
                    *scores,
                    place.status or "",
                ]

    def to_markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        table = markdown_table(self.columns, self.rows, right=self.metrics)
        return "\n\n".join([f"**{self.title}**", table, *self.foot])

    def _repr_html_(self) -> str:
        return html_page(self.title, ("", self.columns, self.rows), foot=self.foot)


def leaderboard(
    root: str | os.PathLike[str] | Connection | None = None,
    *,
    metric: str | None = None,
    mode: Mode | None = None,
    benchmark: str | None = None,
    group_by: Sequence[str] = (),
    top: int | None = None,
    project: str | None = None,
    experiment: str | None = None,
    where: str | None = None,
    status: Sequence[str] = (),
) -> Leaderboard:
    """Rank the runs below *root* by a result, or groups of runs by its mean.

    Args:
        metric: its name, or the end of it; default the only accuracy, else the only one that all runs have.
        mode: default as the metric's name says.
        benchmark: rank by a result of it, and show all others.
        group_by: params that make a group: runs that agree on them.
        top: so many places; those that are equal to the last one are shown too.
        where: a condition in SQL on the table `runs`.
        status: only runs that stand so.

    Raises:
        NoRunsError: nothing fits.
        NoMetricError, UnknownMetricError, AmbiguousMetricError: which metric counts is not clear.
        UnknownParamError: *group_by* names what no run has.
    """
    with connected(root) as connection:
        view = Overview(connection, project=project, experiment=experiment, where=where, status=status)
        if not view.runs:
            given = {
                "project": project,
                "experiment": experiment,
                "status": ", ".join(status),
                "where": where,
            }
            raise NoRunsError(str(connection.root), " and ".join(f"{k} {v!r}" for k, v in given.items() if v))
        metrics = _metrics(view, metric, benchmark)
        runs = view.scores(metrics)
    by = pick_params(group_by, runs)
    having = [run for run in runs if metrics[0] in run.results]
    groups = group_runs(having, by) if by else [Group(values={}, runs=[run]) for run in having]
    guessed = guess_mode(metrics[0])
    mode_now = mode or guessed or "max"
    places = rank(groups, metrics, mode_now)
    return Leaderboard(
        metric=metrics[0],
        mode=mode_now,
        mode_from="given" if mode else "name" if guessed else "default",
        metrics=metrics,
        group_by=by,
        places=[place for place in places if top is None or (place.rank is not None and place.rank <= top)],
        total=len(places),
        without_metric=[run.label for run in runs if metrics[0] not in run.results],
        problems=view.problems,
    )


def _metrics(view: Overview, metric: str | None, benchmark: str | None) -> list[str]:
    """Return the metrics to show, the one that counts first."""
    if metric is not None:
        return [pick_metric(metric, view.names(), benchmark=benchmark)]
    first = default_metric([run.results for run in view.scores()], benchmark=benchmark)
    if benchmark is None:
        return [first]
    return [first, *sorted(key for key in view.names() if key.startswith(f"{benchmark}/") and key != first)]


def rank(groups: Sequence[Group], metrics: Sequence[str], mode: Mode) -> list[Place]:
    """Return *groups* by the mean of the first of *metrics*, the best first, NaN last; all have it."""
    scored = [(group, _scores(group, metrics)) for group in groups]
    main = metrics[0]
    real = [pair for pair in scored if pair[1][main].mean == pair[1][main].mean]
    real.sort(key=lambda pair: pair[1][main].mean, reverse=mode == "max")
    ranks: list[int] = []
    for i, (_, scores) in enumerate(real):
        is_equal = i > 0 and is_tie(scores[main].mean, real[ranks[-1] - 1][1][main].mean)
        ranks.append(ranks[-1] if is_equal else i + 1)
    sharing = Counter(ranks)
    places = [
        _place(group, scores, main, rank, is_tied=sharing[rank] > 1)
        for (group, scores), rank in zip(real, ranks, strict=True)
    ]
    rest = [pair for pair in scored if pair[1][main].mean != pair[1][main].mean]
    return places + [_place(group, scores, main, None, is_tied=False) for group, scores in rest]


def _scores(group: Group, metrics: Sequence[str]) -> dict[str, Spread]:
    found = {key: group.spread(key) for key in metrics}
    return {key: value for key, value in found.items() if value is not None}


def _place(group: Group, scores: dict[str, Spread], main: str, rank: int | None, *, is_tied: bool) -> Place:
    runs: list[Scores] = [run for run in group.runs if main in run.results]
    return Place(
        rank=rank,
        is_tied=is_tied,
        group=group.values,
        runs=[run.label for run in runs],
        name=group.label if group.values else runs[0].name,
        status=None if group.values else runs[0].status,
        seeds=group.seeds,
        scores=scores,
    )


def _id(place: Place) -> str:
    return place.runs[0].rpartition("/")[2]
