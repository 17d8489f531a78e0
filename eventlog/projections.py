"""Folds of a run's events: what is known of the run, and statistics of its metrics.

A fold is pure: the same events in the same order give the same view, on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.values import flatten, number_in_memory

RUNNING, CRASHED = "running", "crashed"


class MetricStats(msgspec.Struct, kw_only=True):
    """A metric in few numbers; NaN counts, but is neither smallest nor largest."""

    count: int = 0
    total: float = 0.0
    last: float = math.nan
    min: float = math.nan
    max: float = math.nan
    mean: float = math.nan
    first_step: int | None = None
    last_step: int | None = None

    def add(self, value: float, step: int | None) -> None:
        """Take one more point."""
        self.count += 1
        self.last = value
        self.total += value
        self.mean = self.total / self.count
        if not value >= self.min:
            self.min = value if value == value else self.min
        if not value <= self.max:
            self.max = value if value == value else self.max
        if step is not None:
            self.first_step = step if self.first_step is None else self.first_step
            self.last_step = step


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run. Times are microseconds since the epoch, UTC."""

    project: str
    run_id: str
    name: str
    experiment: str | None
    status: str
    started_at: int | None
    ended_at: int | None
    parent_run_id: str | None
    tags: dict[str, str | None]
    notes: list[str]
    params: dict[str, object]
    summary: dict[str, object]
    metrics: dict[str, MetricStats]
    artifacts: list[ev.Artifact]
    error: ev.ErrorInfo | None
    exit_code: int | None
    signal: str | None
    context: dict[str, dict[str, object]]
    dropped: dict[str, int]
    writers: list[str]
    events: int
    findings: int
    last_event_at: int | None

    @property
    def duration_s(self) -> float | None:
        """Return seconds from the start to the end, or to the last event while there is no end."""
        end = self.ended_at or self.last_event_at
        return None if self.started_at is None or end is None else (end - self.started_at) / 1e6

    @property
    def flat_params(self) -> dict[str, object]:
        """Return the params with dotted keys."""
        return flatten(self.params)


class RunLife(msgspec.Struct, kw_only=True, omit_defaults=True):
    """When a run began and how its writers ended: what its status follows from. Can be saved.

    Attributes:
        owner: when and who: the writer whose end is the run's end.
        ended: the end of each writer that said it.
        last_ts: time of the last event, whoever wrote it.
    """

    started_at: int | None = None
    owner: tuple[int, str] | None = None
    ended: dict[str, ev.RunEnded] = {}
    last_ts: int | None = None

    def apply(self, writer: str, events: Sequence[AnyEvent]) -> None:
        """Take consecutive events of one writer; taking them again changes nothing."""
        for event in events:
            if type(event) is not ev.Metrics:
                self.apply_one(writer, event)
        if events:
            self.last_ts = max(self.last_ts or 0, events[-1].ts)

    def apply_one(self, writer: str, event: AnyEvent) -> None:
        """Take one event, without its time."""
        match event:
            case ev.RunStarted():
                self.started_at = event.ts if self.started_at is None else self.started_at
                self.owner = max(self.owner or (0, ""), (event.ts, writer))
            case ev.RunResumed():
                if event.reason == "resumed" or self.owner is None:
                    self.owner = max(self.owner or (0, ""), (event.ts, writer))
            case ev.RunEnded():
                self.ended[writer] = event

    def status(self, alive: set[str]) -> tuple[str, ev.RunEnded | None]:
        """Return the run's status and the end that says so, given the writers that may still append."""
        end = self.ended.get(self.owner[1]) if self.owner else None
        if end is not None:
            return end.status, end
        return (RUNNING if alive else CRASHED), None


class RunFold:
    """Takes events one after the other; `view` may be asked at any time."""

    def __init__(self, project: str, run_id: str) -> None:
        self.project, self.run_id = project, run_id
        self.metrics: dict[str, MetricStats] = {}
        self.events = 0
        self._started: ev.RunStarted | None = None
        self._life = RunLife()
        self._tags: dict[str, str | None] = {}
        self._notes: list[str] = []
        self._params: dict[str, object] = {}
        self._summary: dict[str, object] = {}
        self._artifacts: list[ev.Artifact] = []
        self._context: dict[str, dict[str, object]] = {}
        self._dropped: dict[str, int] = {}
        self._writers: dict[str, None] = {}

    def skip(self, count: int) -> None:
        """Count events that are not shown to this fold."""
        self.events += count

    def note_time(self, last_ts: int | None) -> None:
        """Take note of the time of events that are not shown to this fold."""
        if last_ts is not None:
            self._life.last_ts = max(self._life.last_ts or 0, last_ts)

    def apply_slice(self, writer: str, rank: int, events: Sequence[AnyEvent]) -> None:
        """Take consecutive events of one writer."""
        self._writers.setdefault(writer)
        self.events += len(events)
        for event in events:
            if isinstance(event, ev.Metrics):
                self._metrics(event, rank)
            else:
                self._other(writer, event)
        self._life.last_ts = max(self._life.last_ts or 0, events[-1].ts)

    def _metrics(self, event: ev.Metrics, rank: int) -> None:
        for key, value in event.data.items():
            try:
                number = value if type(value) is float else number_in_memory(value)
            except BadValueError:
                continue  # a text that no writer of ours puts there
            name = f"rank{rank}/{key}" if rank else key
            stats = self.metrics.get(name)
            if stats is None:
                stats = self.metrics[name] = MetricStats()
            stats.add(number, event.step)

    def _other(self, writer: str, event: AnyEvent) -> None:
        match event:
            case ev.RunStarted():
                self._life.apply_one(writer, event)
                self._started = self._started or event
                self._tags.update(event.tags)
                if event.notes:
                    self._notes.append(event.notes)
            case ev.RunResumed() | ev.RunEnded():
                self._life.apply_one(writer, event)
            case ev.Params():
                merge(self._params, event.data)
            case ev.Summary():
                self._summary.update(event.data)
            case ev.Tags():
                self._tags.update(event.data)
                for name in event.removed:
                    self._tags.pop(name, None)
            case ev.Note():
                self._notes.append(event.text)
            case ev.Artifact():
                self._artifacts.append(event)
            case ev.Context():
                self._context.setdefault(event.kind, {}).update(event.data)
            case ev.Dropped():
                for kind, count in event.counts.items():
                    self._dropped[kind] = self._dropped.get(kind, 0) + count

    def status(self, alive: set[str]) -> str:
        """Return the run's status, given the writers that may still append."""
        return self._life.status(alive)[0]

    def view(self, alive: set[str], *, findings: int = 0) -> RunView:
        """Return the state after the events so far.

        Args:
            alive: writers that may still append.
        """
        started = self._started
        status, end = self._life.status(alive)
        return RunView(
            project=self.project,
            run_id=self.run_id,
            name=started.name if started else self.run_id,
            experiment=started.experiment if started else None,
            status=status,
            started_at=started.ts if started else None,
            ended_at=end.ts if end and status != RUNNING else None,
            parent_run_id=started.parent_run_id if started else None,
            tags=dict(self._tags),
            notes=list(self._notes),
            params=self._params,
            summary=dict(self._summary),
            metrics=self.metrics,
            artifacts=list(self._artifacts),
            error=end.error if end else None,
            exit_code=end.exit_code if end else None,
            signal=end.signal if end else None,
            context=self._context,
            dropped=dict(self._dropped),
            writers=sorted(self._writers),
            events=self.events,
            findings=findings,
            last_event_at=self._life.last_ts,
        )


def merge(into: dict[str, object], new: dict[str, object]) -> None:
    """Put nested *new* params over *into*, key by key."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merge(old, value)
        else:
            into[key] = value
