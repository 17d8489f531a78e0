"""What a report holds. Times are microseconds since the epoch, UTC."""

from __future__ import annotations

import html
from collections.abc import Sequence

import msgspec

from eventlog.analysis.directions import Mode
from eventlog.analysis.groups import Spread
from eventlog.analysis.plots.curves import Curve
from eventlog.analysis.ranking.board import Place
from eventlog.analysis.shown import Shown


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the list of all runs.

    Attributes:
        label: ``PROJECT/RUN_ID``.
        path: its directory; pages do not show it.
        place: which of the report's places it belongs to; None if it has no value of the metric.
        params: those that vary, as texts.
        result: its value of the metric.
        error: the last line of what ended it, or what is known of its end; empty if it finished.
        cost: in the currency of `About`.
    """

    label: str
    name: str
    path: str
    status: str
    started_at: int | None
    duration_s: float | None
    seed: str
    params: dict[str, str]
    result: float | None
    place: int | None
    error: str
    git_commit: str | None
    energy_kwh: float | None
    cost: float | None


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the report is about, in few numbers.

    Attributes:
        asked: the conditions that chose the runs, in words.
        commits: of the code, with the number of runs; *changed_runs* had changes that were not committed.
        cost: of the runs whose cost is known, in *currency*; None if no price is known.
        measured_runs: how many runs measured *energy_kwh*; *priced_runs*: how many have a cost.
    """

    title: str
    asked: str
    experiments: list[str]
    projects: list[str]
    runs: int
    statuses: dict[str, int]
    first_started_at: int | None
    last_event_at: int | None
    duration_s: float
    commits: dict[str, int]
    changed_runs: int
    hosts: list[str]
    datasets: list[str]
    tags: dict[str, int]
    device_hours: float | None
    energy_kwh: float | None
    measured_runs: int
    cost: float | None
    currency: str | None
    priced_runs: int
    date: str | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A place with a name of its own.

    Attributes:
        values: those of the place's runs, in their order.
        members: all runs that agree on what makes the place, also those without the metric.
    """

    label: str
    place: Place
    values: list[float]
    members: list[str]


class Standings(msgspec.Struct, frozen=True, kw_only=True):
    """Runs or groups, the best first.

    Attributes:
        metric: that ranks them; None if the runs do not tell, and then *why* says what to do.
        why: where metric and mode come from, in words.
        metrics: that are shown, *metric* first.
        group_by: what makes a group; empty if every run stands for itself.
        left_out: places below those that are shown.
        notes: what the table does not show.
    """

    metric: str | None
    mode: Mode
    why: str
    metrics: list[str]
    group_by: list[str]
    places: list[Standing]
    left_out: int
    notes: list[str]


class Varied(msgspec.Struct, frozen=True, kw_only=True):
    """A param that is not the same in all runs: each value as text, with the number of runs that have it."""

    key: str
    values: list[tuple[str, int]]
    left_out: int


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """The curves of one metric.

    Attributes:
        places: for each curve, the standing that it belongs to.
        is_log: whether the logarithmic axis is shown first.
    """

    key: str
    mode: Mode | None
    curves: list[Curve]
    places: list[int]
    notes: list[str]
    is_log: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the best is better than the next by more than chance; *reason* says why nothing is said."""

    sentence: str
    warnings: list[str]
    reason: str


class WrongSample(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a benchmark that was not answered right, as texts."""

    index: int
    input: str
    target: str
    prediction: str


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a benchmark.

    Attributes:
        rows: name of a place, and its values in the order of *metrics*.
        run: whose samples were looked at; *wrong* of *samples* are not right.
    """

    name: str
    metrics: list[str]
    rows: list[tuple[str, list[Spread | None]]]
    left_out: int
    run: str | None = None
    samples: int = 0
    wrong: int = 0
    shown: list[WrongSample] = []


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A note, and the runs that have it. A decision *stands* while its runs have the tag ``decision``."""

    text: str
    runs: list[str]
    is_decision: bool
    stands: bool


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A PNG; its content was looked at, as far as its head."""

    run: str
    name: str
    step: int | None
    caption: str
    width: int
    height: int
    data: bytes


class Damaged(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the log of a run."""

    run: str
    what: str


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """A check that does not pass: *level* is ``warn`` or ``fail``, *runs* how many it concerns.

    Attributes:
        text: what was seen in the first of them.
    """

    check: str
    level: str
    runs: int
    text: str
    mend: str


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit says: how many *runs* were looked at, and what they lack."""

    runs: int
    lines: list[AuditLine]
    note: str = ""


class Report(Shown, frozen=True, kw_only=True):
    """All that a report says, before it becomes a page.

    Attributes:
        runs: the first ones; *more_runs* are left out.
        troubled: runs that failed, were killed or crashed; *more_troubled* are left out.
        problems: what could not be read, a sentence each.
    """

    about: About
    standings: Standings
    verdict: Verdict
    charts: list[Chart]
    varied: list[Varied]
    more_varied: int
    said: list[Said]
    more_said: int
    benchmarks: list[Benchmark]
    more_benchmarks: int
    images: list[Image]
    more_images: int
    troubled: list[RunRow]
    more_troubled: int
    damaged: list[Damaged]
    runs: list[RunRow]
    more_runs: int
    paths: list[str]
    audit: Audited | None
    problems: list[str]

    def with_audit(self, audit: Audited | None) -> Report:
        """Return the same report with the result of an audit."""
        return msgspec.structs.replace(self, audit=audit)

    def _repr_html_(self) -> str:
        from eventlog.analysis.reports.page import to_html

        # A frame of its own: the notebook's styles and ours do not meet.
        page = html.escape(to_html(self), quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" height="800"></iframe>'


def counted(count: int, thing: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return *names* between commas, at most so many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
