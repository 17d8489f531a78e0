"""A comparison of runs, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventlog.analysis.directions import Mode, is_fraction
from eventlog.analysis.groups import text_of
from eventlog.analysis.shown import Shown, figures, html_page, markdown_table, markdown_text

STAR = "⭐"


class ComparedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a comparison; *label* is what the comparison calls it."""

    label: str
    project: str
    run_id: str
    name: str
    status: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A param, or something of where runs come from, by the label of the run; runs without it are missing."""

    key: str
    values: dict[str, object]
    differs: bool


class MetricRow(msgspec.Struct, frozen=True, kw_only=True):
    """A result by the label of the run.

    Attributes:
        benchmark: that it is a result of.
        mode: what is better, None if the name does not tell.
        best: the runs that have the best value; none if all have the same.
    """

    key: str
    benchmark: str | None
    mode: Mode | None
    values: dict[str, float]
    best: list[str]


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """By how much the winner is away from another run; *relative* to the other's size, None if that is 0."""

    over: str
    difference: float
    relative: float | None


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a comparison as texts: a column for each run; *best* tells which cells get a mark."""

    heading: str
    first: str
    rows: list[tuple[str, list[str], list[bool]]]
    is_numbers: bool


class Comparison(Shown, frozen=True, kw_only=True):
    """Runs side by side.

    Attributes:
        metric: that decides, None if nothing tells which one it is.
        winner: label of the run that has the best value of it, alone.
        verdict: why there is a winner, or none.
        unrecorded: by label, what is not known of where a run comes from.
    """

    runs: list[ComparedRun]
    params: list[Row]
    lineage: list[Row]
    metrics: list[MetricRow]
    unrecorded: dict[str, list[str]]
    metric: str | None
    mode: Mode | None
    winner: str | None
    verdict: str
    improvements: list[Improvement]

    @property
    def labels(self) -> list[str]:
        """Return what the runs are called."""
        return [run.label for run in self.runs]

    @property
    def title(self) -> str:
        """Return how many are compared."""
        return f"Comparing {len(self.runs)} Experiments"

    @property
    def equal_params(self) -> int:
        """Return the number of params that all runs have in common."""
        return sum(not row.differs for row in self.params)

    def sections(self, *, with_equal: bool = False) -> list[Section]:
        """Return the tables as texts.

        Args:
            with_equal: params and origins that are the same everywhere too.
        """
        params = [row for row in self.params if row.differs or with_equal]
        lineage = [row for row in self.lineage if row.differs or with_equal]
        found = [
            self._facts("Configuration" if with_equal else "Configuration Differences", "Parameter", params)
        ]
        found.append(self._facts("Lineage" if with_equal else "Lineage Differences", "Origin", lineage))
        found += [self._performance(name) for name in dict.fromkeys(row.benchmark for row in self.metrics)]
        return [section for section in found if section.rows]

    def _facts(self, heading: str, first: str, rows: Sequence[Row]) -> Section:
        none_best = [False] * len(self.runs)
        cells = [
            [text_of(row.values[label]) if label in row.values else "-" for label in self.labels]
            for row in rows
        ]
        keyed = [(row.key, own, none_best) for row, own in zip(rows, cells, strict=True)]
        return Section(heading=heading, first=first, rows=keyed, is_numbers=False)

    def _performance(self, benchmark: str | None) -> Section:
        rows = []
        for row in self.metrics:
            if row.benchmark == benchmark:
                values = [row.values.get(label) for label in self.labels]
                as_percent = is_fraction(row.key, list(row.values.values()))
                rows.append(
                    (
                        _title(row),
                        figures(values, as_percent=as_percent),
                        [label in row.best for label in self.labels],
                    )
                )
        heading = "Performance Comparison" + (f" ({benchmark})" if benchmark else "")
        return Section(heading=heading, first="Metric", rows=rows, is_numbers=True)

    @property
    def foot(self) -> list[str]:
        """Return the verdict."""
        lines = [f"Winner: {self.winner or 'none'}{'' if self.winner else f' ({self.verdict})'}"]
        lines += [f"Improvement: {self.improvement(one)} vs {one.over}" for one in self.improvements]
        return lines

    def improvement(self, one: Improvement) -> str:
        """Return how much better the winner is: in points where the values are percentages."""
        row = next(row for row in self.metrics if row.key == self.metric)
        if is_fraction(row.key, list(row.values.values())):
            places = next((p for p in (1, 2, 3) if abs(one.difference) * 100 >= 0.5 * 10**-p), 4)
            return f"{one.difference * 100:+.{places}f}%"
        relative = "" if one.relative is None else f" ({one.relative:+.1%})"
        return f"{one.difference:+.6g}{relative}"

    def to_markdown(self, *, with_equal: bool = False, star: str = STAR) -> str:
        """Return the comparison in GitHub's Markdown."""
        parts = [f"### {self.title}"]
        for section in self.sections(with_equal=with_equal):
            parts.append(f"**{markdown_text(section.heading)}**")
            columns = [section.first, *self.labels]
            rows = [[key, *marked(cells, best, star)] for key, cells, best in section.rows]
            parts.append(markdown_table(columns, rows, right=self.labels if section.is_numbers else ()))
        return "\n\n".join([*parts, "  \n".join(markdown_text(line) for line in self.foot)])

    def _repr_html_(self) -> str:
        tables = [
            (
                s.heading,
                [s.first, *self.labels],
                [[key, *marked(cells, best, STAR)] for key, cells, best in s.rows],
            )
            for s in self.sections()
        ]
        return html_page(self.title, *tables, foot=self.foot)


def marked(cells: Sequence[str], best: Sequence[bool], star: str) -> list[str]:
    """Return *cells*, the best ones with a *star* behind them."""
    return [f"{cell} {star}" if is_best else cell for cell, is_best in zip(cells, best, strict=True)]


def _title(row: MetricRow) -> str:
    """Return the name of a benchmark's metric as a heading, ``Partial Accuracy``; other names as they are."""
    if row.benchmark is None:
        return row.key
    name = row.key.removeprefix(f"{row.benchmark}/")
    return name.replace("_", " ").title() if name.replace("_", "").isalnum() and name.islower() else name
