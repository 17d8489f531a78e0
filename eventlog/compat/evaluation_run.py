"""One run of evaluations that is open for writing, possibly in several processes at once."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from eventlog import events as ev
from eventlog.compat.evaluated import (
    ScoreKey,
    numbers_in,
    opened,
    prediction_of,
    score_of,
    target_of,
)
from eventlog.errors import BadValueError, EvlogError, warn_once
from eventlog.replay import events, is_running
from eventlog.storage.layout import is_run, list_segments, log_directory
from eventlog.storage.ring import lock_file
from eventlog.tracker import Tracker, TrackingConfig
from eventlog.values import number_in_memory, number_on_disk, text, to_json

PER_SAMPLE = "sample"
"""Key in the data of an evaluation that tells of one sample: its index, or ``all``."""

_BLOCK = 1 << 32
_LOCK_TIMEOUT_S = 30.0


class EvaluationRun:
    """A run into which samples and what they were judged are logged. Thread-safe.

    Each call becomes a ``sample`` event with the numbers of its result, and an ``evaluation`` event with the
    means so far and, as data, the whole result of that sample.

    Args:
        directory: of the run, ``<root>/<project>/<run id>``; one that exists is resumed.
        name: of the run, if it is new.
    """

    def __init__(self, directory: Path, name: str) -> None:
        project = directory.parent
        self._tracker = Tracker((), TrackingConfig(project=project.name), output_dir=project.parent)
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._is_ended = False
        self._next: dict[str, int] = {}
        self._first = 0
        self._sums: dict[str, dict[str, list[float]]] = {}
        self.path = directory
        project.mkdir(parents=True, exist_ok=True)
        with _alone(project / ".opening"):
            is_known = is_run(directory)
            if is_known and is_running(directory):
                self._be_one_of_several()
            elif is_known:
                self._go_on()
            self._tracker.start_run(name, run_id=directory.name, resume=is_known)

    def _be_one_of_several(self) -> None:
        # A block of indexes of one's own: of equal indexes of a benchmark only the last would count.
        self._first = secrets.randbelow(1 << 30) * _BLOCK + _BLOCK
        self._next = {}

    def _go_on(self) -> None:
        """Take up indexes and means where the run was left."""
        for sample in _samples(self.path):
            self._next[sample.benchmark] = max(sample.index + 1, self._next.get(sample.benchmark, 0))
            self._means(sample.benchmark, sample.metrics)

    def log(
        self,
        result: object,
        dataset: str,
        data: object,
        metadata: Mapping[str, object] | None,
        score_key: ScoreKey,
    ) -> bool:
        """Log one result; tell whether it was taken, which a run that has ended does not."""
        result, dataset, given = opened(result), text(str(dataset)), to_json(opened(data))
        fields = given if isinstance(given, dict) else {}
        score, metrics = score_of(result, score_key), numbers_in(result)
        about: dict[str, object] = {"result": to_json(result)}
        if metadata is not None:
            about["metadata"] = to_json(metadata)
        if score is not None:
            about["score"] = number_on_disk(score)
            metrics.setdefault("score", number_on_disk(score))
        else:
            _complain(dataset, score_key)
        with self._lock:
            if self._is_ended:
                return False
            index = self._next_index(dataset)
            sample = ev.Sample(
                benchmark=dataset,
                index=index,
                input=given,
                target=target_of(fields),
                prediction=prediction_of(fields),
                metrics=metrics,
            )
            self._tracker.log_event(sample)
            about[PER_SAMPLE] = index
            means = self._means(dataset, metrics)
            self._tracker.log_event(ev.Evaluation(benchmark=dataset, metrics=means, data=about))
        return True

    def _next_index(self, dataset: str) -> int:
        if os.getpid() != self._owner:  # forked: the parent goes on with its own indexes
            self._owner = os.getpid()
            self._be_one_of_several()
        index = self._next.get(dataset, self._first)
        self._next[dataset] = index + 1
        return index

    def _means(self, dataset: str, metrics: Mapping[str, int | float | str]) -> dict[str, int | float | str]:
        """Return the means over all samples of *dataset*, with those of one more."""
        sums = self._sums.setdefault(dataset, {})
        for name, value in metrics.items():
            with contextlib.suppress(BadValueError):  # only a foreign log holds such
                total = sums.setdefault(name, [0.0, 0])
                total[0] += number_in_memory(value)
                total[1] += 1
        return {name: number_on_disk(total / count) for name, (total, count) in sums.items()}

    def log_context(self, data: Mapping[str, object]) -> None:
        """Log what surrounds the evaluation."""
        fields = to_json(data)
        self._tracker.log_event(
            ev.Context(kind="evaluation", data=fields if isinstance(fields, dict) else {})
        )

    def write_out(self) -> None:
        """Return when everything that was logged can be read."""
        self._tracker.flush()

    def end(self, error: BaseException | None = None) -> None:
        """End the run as *error* says: finished, failed or killed."""
        with self._lock:
            self._is_ended = True
            self._tracker.flush()
            # Of several processes each knew the means of its own samples only.
            if len(list_segments(log_directory(self.path))) > 1:
                self._sums = {}
                for sample in _samples(self.path):
                    self._means(sample.benchmark, sample.metrics)
            for dataset in self._sums:
                means = self._means(dataset, {})
                self._tracker.log_event(
                    ev.Evaluation(benchmark=dataset, metrics=means, data={PER_SAMPLE: "all"})
                )
            self._tracker.end_with(error)


def _samples(run: Path) -> Iterator[ev.Sample]:
    return (event for event in events(run) if isinstance(event, ev.Sample))


def _complain(dataset: str, score_key: ScoreKey) -> None:
    warn_once(
        f"score {score_key}",
        f"no number at {score_key!r} in a result of {dataset!r}: it is logged without a score. "
        "Give the tracker another score_key.",
    )


class OpeningTimeoutError(EvlogError, TimeoutError):
    """Another process has been opening a run of this project for too long."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is locked by another process. Look at what it does, or end it."


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time decide whether a run is new."""
    path.touch()
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while (fd := lock_file(path)) is None:
        if time.monotonic() > deadline:
            raise OpeningTimeoutError(path)
        time.sleep(0.002)
    try:
        yield
    finally:
        os.close(fd)
