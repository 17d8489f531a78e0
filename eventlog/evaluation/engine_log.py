"""An evaluation's events: reads back what a run holds already, and logs what is new."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec
import orjson

from eventlog import events as ev
from eventlog.errors import BadValueError, TrackerStateError, warn_once
from eventlog.evaluation.engine_errors import BadEvaluationError
from eventlog.evaluation.engine_task import Task
from eventlog.evaluation.results import EvaluationResult, SampleResult, from_event
from eventlog.replay import open_run
from eventlog.storage.layout import STATE_DIRECTORY
from eventlog.storage.modes import make_directory, opener
from eventlog.storage.options import WriterOptions
from eventlog.tracker.core import Tracker
from eventlog.tracker.naming import default_run_id
from eventlog.values import metric_number, number_in_memory, text, to_json

ARCHIVE = "results.json"
PATIENT = WriterOptions(max_block_s=30.0)
"""An evaluation that outruns its disk waits for it: a sample that is not in the log is asked again."""


DataKey = tuple[str, str | None, str | None]
_told: WeakKeyDictionary[Tracker, set[tuple[str | None, DataKey]]] = WeakKeyDictionary()
"""Runs and data sets that were logged here: one that is evaluated at each step is logged once."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the log holds of an evaluation.

    Attributes:
        samples: by index; of one index the last event counts.
        seconds: of the clock, that the processes before this one were at it.
        data: name, split and hash of the data sets that the run has read.
    """

    samples: dict[int, SampleResult]
    seconds: float = 0.0
    data: frozenset[DataKey] = frozenset()


def read_kept(run: Path, benchmark: str, step: int | None) -> Kept:
    """Return the samples of *benchmark* at *step* that the log in the directory *run* holds."""
    samples: dict[int, SampleResult] = {}
    spans: dict[str, tuple[int, int]] = {}
    data: set[DataKey] = set()
    for part in open_run(run).slices():
        for event in part.events:
            if isinstance(event, ev.Dataset):
                data.add((event.name, event.split, event.sha256))
            if not isinstance(event, ev.Sample) or event.benchmark != benchmark:
                continue
            found = from_event(event)
            if found is None or found[1] != step:
                continue
            samples[event.index] = found[0]
            begun = event.ts - int((event.latency_ms or 0.0) * 1000)
            first, last = spans.get(part.writer, (begun, event.ts))
            spans[part.writer] = (min(first, begun), max(last, event.ts))
    seconds = sum(last - first for first, last in spans.values()) / 1e6
    return Kept(samples=samples, seconds=seconds, data=frozenset(data))


@contextlib.contextmanager
def run_for(tracker: Tracker | None, name: str, *, params: Mapping[str, object]) -> Iterator[Tracker]:
    """Give a tracker with an active run: *tracker*, or a new one whose run ends with the block.

    Args:
        name: of a run that is begun here.
        params: of a run of its own; the params of somebody else's run are left alone.
    """
    if tracker is not None:
        if tracker.run_id is None:
            tracker.start_run(name)
        yield tracker
        return
    own = Tracker(writer=PATIENT)
    with own:
        start_own(own, name)
        own.log_params(params)
        yield own


def start_own(tracker: Tracker, name: str, run_id: str | None = None) -> None:
    """Start a run for an evaluation; under ``evlog run`` take part in that run instead.

    Args:
        run_id: default the name and the time.
    """
    if tracker.settings.run_id is not None:
        tracker.start_run(name)
    else:
        tracker.start_run(name, run_id=run_id or f"{name}-{default_run_id()}")


def going_on(label: str) -> str:
    """Return why an evaluation cannot go on."""
    return f"run {label} is going on now; wait for it, or stop it first"


@contextlib.contextmanager
def only_one(run: Path, label: str) -> Iterator[None]:
    """Keep other processes of this machine from going on with *run* while the block runs.

    Raises:
        BadEvaluationError: one does already.
    """
    with contextlib.ExitStack() as stack:
        # Without locks, as on Windows and some file systems, the writers that are alive have to do.
        if sys.platform == "win32":
            yield
            return
        with contextlib.suppress(OSError):
            import fcntl

            make_directory(run / STATE_DIRECTORY)
            path = run / STATE_DIRECTORY / "evaluation.lock"
            file = stack.enter_context(open(path, "ab", opener=opener))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadEvaluationError(going_on(label)) from None
        yield


def kept_by(tracker: Tracker, benchmark: str, step: int | None) -> Kept:
    """Return what the tracker's run holds of *benchmark*.

    Raises:
        TrackerStateError: it has no run.
    """
    if tracker.run_dir is None:
        raise TrackerStateError("There is no run to go on with. Start it with resume=True.")
    tracker.flush()
    return read_kept(tracker.run_dir, benchmark, step)


def log_data(tracker: Tracker, task: Task, kept: Kept) -> None:
    """Log which data are evaluated, unless the run knows."""
    if tracker.settings.is_disabled:
        return
    source = task.source
    key = (text(source.name), text(task.split), task.sha256)
    told = _told.setdefault(tracker, set())
    if key in kept.data or (tracker.run_id, key) in told:
        return
    told.add((tracker.run_id, key))
    if source.path is not None:
        tracker.log_dataset(source.name, source.version, source.path, split=task.split)
        return
    tracker.log_event(
        ev.Dataset(
            name=key[0],
            version=source.version,
            split=key[1],
            sha256=key[2],
            rows=len(task.items),
            data={"hash": "items", "splits": {key[1]: len(task.items)}},
        )
    )


def log_result(tracker: Tracker, result: EvaluationResult) -> None:
    """Log the results as one event, and texts among them as the summary's."""
    data: dict[str, object] = {
        "split": result.split,
        "num_samples": result.num_samples,
        "errors": result.errors,
        "model": result.model,
        "parameters": to_json(result.parameters),
    }
    metrics = {key: metric_number(key, value) for key, value in result.metrics.items()}
    tracker.log_event(ev.Evaluation(benchmark=result.benchmark, step=result.step, metrics=metrics, data=data))
    if result.texts:
        tracker.log_summary({f"{result.benchmark}/{key}": value for key, value in result.texts.items()})


def sorted_out(benchmark: str, found: object) -> tuple[dict[str, float], dict[str, str]]:
    """Return the numbers and the texts of what a benchmark has aggregated; the rest costs a warning."""
    numbers: dict[str, float] = {}
    words: dict[str, str] = {}
    if not isinstance(found, Mapping):
        kind = type(found).__name__
        warn_once(f"results {benchmark}", f"{benchmark}: aggregate returned a {kind}, not named results")
        return numbers, words
    for raw, value in found.items():
        key = text(str(raw))
        if isinstance(value, str):
            words[key] = text(value)
            continue
        try:
            numbers[key] = number_in_memory(metric_number(key, value))
        except BadValueError as error:
            warn_once(f"results {benchmark} {key}", f"{benchmark}: {error}")
    return numbers, words


def archive(tracker: Tracker, results: Mapping[str, EvaluationResult], groups: Mapping[str, object]) -> None:
    """Store the complete results, with all samples, as the artifact ``results.json``."""
    if tracker.settings.is_disabled:
        return
    whole: dict[str, object] = {
        "run_id": tracker.run_id,
        "results": {name: result.to_dict() for name, result in results.items()},
    }
    if groups:
        whole["groups"] = to_json(groups)
    with tempfile.TemporaryDirectory(prefix="evlog-") as directory:
        path = Path(directory) / ARCHIVE
        path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")
        tracker.log_artifact(path, ARCHIVE, "evaluation", copy=True)
