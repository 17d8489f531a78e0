"""Folds a run into the rows of the two files."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping

import msgspec

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.errors import BadValueError
from eventlog.projections import RunFold, RunView
from eventlog.sink import Batch, Entry, RunStatus
from eventlog.values import number_in_memory, number_on_disk
from sinks._csv.cells import cell

RESULTS = (
    *("project", "run_id", "dataset", "index", "timestamp", "score", "metrics"),
    *("input", "target", "prediction", "latency_ms", "result", "metadata"),
)
"""Columns of ``experiment_results.csv``: a row for each sample, and for each evaluation without samples."""

LEADERBOARD = (
    *("project", "run_id", "name", "score", "score_std", "scored", "samples", "datasets", "status"),
    *("started_at", "ended_at", "metrics", "params", "tags", "notes"),
)
"""Columns of ``leaderboard.csv``: a row for each run."""

PER_SAMPLE = "sample"
"""Key in the data of an evaluation that only adds to samples: the index of one, or ``all``."""

_NON_FINITE = ("NaN", "Infinity", "-Infinity")


class Row(msgspec.Struct, kw_only=True):
    """A sample, or an evaluation."""

    dataset: str
    index: int | None
    ts: int
    score: float | None
    metrics: dict[str, int | float | str]
    sample: ev.Sample | None = None
    result: object = None
    metadata: object = None

    def cells(self, project: str, run_id: str) -> list[str]:
        """Return the row of ``experiment_results.csv``."""
        sample = self.sample
        told = (sample.input, sample.target, sample.prediction, sample.latency_ms) if sample else (None,) * 4
        return [
            *map(cell, (project, run_id, self.dataset, self.index)),
            iso_utc(self.ts),
            number(self.score),
            cell(self.metrics),
            *map(cell, told),
            cell(self.result),
            cell(self.metadata),
        ]


class RunRows:
    """Takes a run's events; gives its rows.

    Args:
        score_key: name of the metric that is the score of a sample or evaluation.
    """

    def __init__(self, project: str, run_id: str, score_key: str) -> None:
        self.project, self.run_id, self._score_key = project, run_id, score_key
        self._run = RunFold(project, run_id)
        self._samples: dict[tuple[str, int], Row] = {}
        self._evaluations: list[Row] = []
        self._last: dict[str, dict[str, int | float | str]] = {}

    def take(self, batch: Batch) -> None:
        """Take the next events."""
        for part in batch.slices:
            self._run.apply_slice(part.writer, part.rank, part.events)
        self.take_evaluated(batch.entries())

    def take_entries(self, entries: Iterable[Entry]) -> None:
        """Take the next events, one by one."""
        for entry in entries:
            self._run.apply_slice(entry.writer, entry.rank, [entry.event])
            self.take_evaluated([entry])

    def take_evaluated(self, entries: Iterable[Entry]) -> None:
        """Take what was evaluated; of one index of a dataset the last sample counts."""
        for entry in entries:
            event = entry.event
            if isinstance(event, ev.Sample):
                key = (event.benchmark, event.index)
                self._samples[key] = Row(
                    dataset=event.benchmark,
                    index=event.index,
                    ts=event.ts,
                    score=self._score(event.metrics),
                    metrics=event.metrics,
                    sample=event,
                )
            elif isinstance(event, ev.Evaluation):
                self._evaluated(event)

    def _evaluated(self, event: ev.Evaluation) -> None:
        self._last[event.benchmark] = event.metrics
        about = event.data.get(PER_SAMPLE)
        row = self._samples.get((event.benchmark, about)) if isinstance(about, int) else None
        if row is not None:
            row.score = _number(event.data.get("score"))
            row.result, row.metadata = event.data.get("result"), event.data.get("metadata")
        if about is not None:
            return
        self._evaluations.append(
            Row(
                dataset=event.benchmark,
                index=None,
                ts=event.ts,
                score=self._score(event.metrics),
                metrics=event.metrics,
                result=event.data or None,
            )
        )

    def _score(self, metrics: Mapping[str, object]) -> float | None:
        """Return the score among *metrics*: the one of that name, or the only one."""
        if self._score_key in metrics:
            return _number(metrics[self._score_key])
        return _number(next(iter(metrics.values()))) if len(metrics) == 1 else None

    # --- rows ----------------------------------------------------------------------------------------

    def results(self) -> list[list[str]]:
        """Return the rows of ``experiment_results.csv``: samples by dataset and index, then evaluations."""
        rows = [self._samples[key] for key in sorted(self._samples)]
        rows += sorted(self._evaluations, key=lambda row: (row.dataset, row.ts))
        return [row.cells(self.project, self.run_id) for row in rows]

    def leaderboard(self, status: RunStatus) -> list[str]:
        """Return the row of ``leaderboard.csv`` for a run that stands so."""
        view = self._run.view(set())
        scores = self._scores()
        is_known = all(math.isfinite(score) for score in scores)
        spread = statistics.stdev(scores) if len(scores) > 1 and is_known else None
        datasets = sorted({row.dataset for row in self._rows()})
        return [
            *map(cell, (self.project, self.run_id, view.name)),
            *(number(self.score), number(spread), cell(len(scores)), cell(len(self._samples))),
            *(cell(", ".join(datasets)), cell(status.status), _time(view.started_at)),
            _time(status.ended_at or view.ended_at) if not status.is_running else "",
            *map(cell, (self.metrics(view), view.params, view.tags)),
            cell("\n".join(view.notes)),
        ]

    @property
    def score(self) -> float | None:
        """Return the mean score over samples, or over evaluations if there are no samples with one."""
        scores = self._scores()
        if scores:
            return statistics.mean(scores) if all(map(math.isfinite, scores)) else sum(scores)
        stats = self._run.metrics.get(self._score_key)
        return stats.last if stats else None

    @property
    def started_at(self) -> int:
        """Return when the run began, 0 if the log lost it."""
        return self._run.view(set()).started_at or 0

    def _rows(self) -> list[Row]:
        return [*self._samples.values(), *self._evaluations]

    def _scores(self) -> list[float]:
        of_samples = [row.score for row in self._samples.values() if row.score is not None]
        return of_samples or [row.score for row in self._evaluations if row.score is not None]

    def metrics(self, view: RunView) -> dict[str, object]:
        """Return the run's results by name; those of evaluations are called ``dataset/metric``."""
        found: dict[str, object] = dict(self._means())
        for dataset, metrics in self._last.items():
            found |= {f"{dataset}/{name}": value for name, value in metrics.items()}
        found |= {key: number_on_disk(stats.last) for key, stats in view.metrics.items()}
        for key, final in view.summary.items():
            if not isinstance(final, bool) and (isinstance(final, (int, float)) or final in _NON_FINITE):
                found[key] = final
        return dict(sorted(found.items()))

    def _means(self) -> dict[str, float | str]:
        values: dict[str, list[float]] = {}
        for row in self._samples.values():
            for name, value in row.metrics.items():
                found = _number(value)
                if found is not None:
                    values.setdefault(f"{row.dataset}/{name}", []).append(found)
        return {name: number_on_disk(sum(each) / len(each)) for name, each in values.items()}


def number(value: float | None) -> str:
    """Return a number as a cell; non-finite ones as the log has them, which pandas reads."""
    return "" if value is None else str(number_on_disk(value))


def _number(value: object) -> float | None:
    if value is None:
        return None
    try:
        return number_in_memory(value)
    except (BadValueError, TypeError, ValueError):
        return None


def _time(t_us: int | None) -> str:
    return "" if t_us is None else iso_utc(t_us)
