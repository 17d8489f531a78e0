"""What MLflow should hold of a run and what it does hold, in the same terms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from eventlog import events as ev
from eventlog.sink import Entry, Point
from eventlog.values import number_on_disk
from sinks._mlflow.mapping import PARAM_TAG, PARAMS_FILE, Mapper
from sinks._mlflow.names import OURS, own_tag
from sinks._mlflow.stores import ClientStore, StoredRun

CHANGED = "(changed)"
"""In place of a param's value that changed: which was first is for the order of delivery to say."""

_LARGEST = 1.7976931348623157e308
_OURS = (OURS, "mlflow.")


def expected_points(entries: Iterable[Entry]) -> Iterator[Point]:
    """Yield the metrics as they come, then params, tags and files as they stand at the end."""
    mapper = Mapper(None)
    params: dict[str, str] = {}
    tags: dict[str, str | None] = {}
    files: dict[str, int | None] = {}
    early: list[Entry] = []
    for entry in entries:
        if mapper.started_at is None and isinstance(entry.event, ev.System):
            early.append(entry)  # its step is counted from the start of the run
            continue
        mapper.take(entry)
        gathered = mapper.gathered()
        for point in gathered.metrics:
            yield Point(f"metric {point.key}", point.step, _shown(point.value), point.time_ms)
        for key, text, _ in gathered.params:
            if params.setdefault(key, text) != text:
                params[key] = CHANGED
        tags.update({name: value for name, (value, _) in gathered.tags.items()})
        files.update(
            (upload.name, len(upload.content) if upload.content is not None else upload.size_bytes)
            for upload in gathered.uploads
        )
    for entry in early:
        mapper.take(entry)
    for point in mapper.gathered().metrics:
        yield Point(f"metric {point.key}", point.step, _shown(point.value), point.time_ms)
    yield from _words(params, tags)
    for name, size in sorted(files.items()):
        if _is_compared(name):
            yield Point(f"file {name}", None, -1 if size is None else size)


def delivered_points(store: ClientStore, run: StoredRun) -> Iterator[Point]:
    """Yield the metrics, params, tags and files of *run*.

    Raises:
        SinkUnavailableError: it cannot be read now.
    """
    for key in run.metrics:
        for step, value, time_ms in store.history(run.run_id, key):
            yield Point(f"metric {key}", step, _shown(value), time_ms)
    changed = {key: CHANGED for key in run.params if own_tag(PARAM_TAG, key) in run.tags}
    yield from _words(run.params | changed, run.tags)
    for name, size in sorted(store.files(run)):
        if _is_compared(name):
            yield Point(f"file {name}", None, size)


def _words(params: dict[str, str], tags: dict[str, str] | dict[str, str | None]) -> Iterator[Point]:
    for key, text in sorted(params.items()):
        yield Point(f"param {key}", None, text)
    for name, value in sorted(tags.items()):
        if value is not None and not name.startswith(_OURS):
            yield Point(f"tag {name}", None, value)


def _shown(value: float) -> float | str:
    """Return *value* as one text or number for what a SQL store cannot tell apart."""
    if abs(value) >= _LARGEST:
        value = math.copysign(math.inf, value)
    shown = number_on_disk(value)
    return shown if isinstance(shown, str) else shown + 0.0


def _is_compared(name: str) -> bool:
    """Tell whether a file comes from one event: ours are made of many, an `MLmodel` may be ours."""
    return not name.startswith("evlog/") and name != PARAMS_FILE and PurePosixPath(name).name != "MLmodel"
