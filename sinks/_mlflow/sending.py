"""Sends what a batch becomes, in requests that MLflow takes, and finds what it refuses.

One bad value makes MLflow refuse a whole request. Then the request is halved until the bad ones are alone;
their events are named and everything else is delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import orjson

from eventlog import events as ev
from eventlog.sink import Entry
from eventlog.storage.modes import check_inside
from sinks._mlflow.finding import deleted
from sinks._mlflow.mapping import PARAM_TAG, Gathered, Origin, Upload
from sinks._mlflow.models import HISTORY_TAG, model_history, model_uploads, register
from sinks._mlflow.names import MAX_TAG, cut, own_tag
from sinks._mlflow.stores import (
    MAX_REQUEST_BYTES,
    ClientStore,
    MetricPoint,
    RefusedError,
    StoredRun,
)

T = TypeVar("T")

MAX_METRICS = 1000
MAX_WORDS = 100
LOGGED_TABLES = "mlflow.loggedArtifacts"


class Word(NamedTuple):
    """A param or a tag to set."""

    is_param: bool
    key: str
    value: str
    origin: Origin


class Sender:
    """Sends to one run.

    Attributes:
        params: those that MLflow holds: the first value of each.
        tags: those that MLflow holds, as far as we know.
    """

    def __init__(self, store: ClientStore, run: StoredRun, path: Path) -> None:
        self.store, self.run, self.path = store, run, path
        self.params, self.tags = run.params, run.tags

    def send(self, gathered: Gathered) -> None:
        """Send everything; what MLflow refuses is added to ``gathered.refused``.

        Raises:
            SinkUnavailableError: try again later.
        """
        self._send_words(gathered)
        self._sift(chunks(gathered.metrics, MAX_METRICS, _metric_bytes), self._log_metrics, gathered)
        for upload in gathered.uploads:
            self._upload(upload, gathered)
        self._list_tables(gathered.uploads)
        for dataset, context, origin in gathered.datasets:
            self._try(partial(self.store.log_dataset, self.run.run_id, dataset, context), origin, gathered)
        for entry in gathered.models:
            self._model(entry, gathered)

    def dropped(self, lines: Iterable[object]) -> None:
        """Say in a tag what a full disk or ring cost the run."""
        counts: dict[str, int] = {}
        for line in lines:
            for kind, count in cast("dict[str, dict[str, int]]", line)["counts"].items():
                counts[kind] = counts.get(kind, 0) + count
        if counts:
            self._set("evlog.dropped", orjson.dumps(counts).decode())

    # --- params and tags ----------------------------------------------------------------------------

    def _send_words(self, gathered: Gathered) -> None:
        changed = {key: (text, origin) for key, text, origin in self._changed(gathered)}
        words = [
            Word(True, key, text, origin) for key, text, origin in gathered.params if self._is_new(key, text)
        ]
        tags = {**gathered.tags, **changed}
        for name, (value, origin) in tags.items():
            if value is None:
                self.store.delete_tag(self.run.run_id, name)
                self.tags.pop(name, None)
            elif self.tags.get(name) != value:
                words.append(Word(False, name, value, origin))
                self.tags[name] = value
        for is_param in (True, False):
            some = [word for word in words if word.is_param is is_param]
            self._sift(chunks(some, MAX_WORDS, _word_bytes), self._log_words, gathered)

    def _is_new(self, key: str, text: str) -> bool:
        if key in self.params:
            return False
        self.params[key] = text
        return True

    def _changed(self, gathered: Gathered) -> Iterator[tuple[str, str, Origin]]:
        """Yield a tag for each param that has another value than its first, now or earlier."""
        first = dict(self.params)
        once_changed: set[str] = set()
        for key, text, origin in gathered.params:
            name = own_tag(PARAM_TAG, key)
            if first.setdefault(key, text) != text or name in self.tags or name in once_changed:
                once_changed.add(name)
                yield name, cut(text, MAX_TAG, ""), origin

    def _set(self, name: str, value: str) -> None:
        if self.tags.get(name) != value:
            self.store.log_words(self.run.run_id, {}, {name: value})
            self.tags[name] = value

    def _log_words(self, words: Sequence[Word]) -> None:
        params = {word.key: word.value for word in words if word.is_param}
        tags = {word.key: word.value for word in words if not word.is_param}
        self.store.log_words(self.run.run_id, params, tags)

    def _log_metrics(self, points: Sequence[MetricPoint]) -> None:
        self.store.log_metrics(self.run.run_id, points)

    # --- what is refused ------------------------------------------------------------------------------

    def _sift(
        self, some: Iterable[Sequence[T]], log: Callable[[Sequence[T]], None], gathered: Gathered
    ) -> None:
        for chunk in some:
            try:
                log(chunk)
            except RefusedError as error:
                self._check_run()
                if len(chunk) == 1:
                    gathered.refused[chunk[0].origin] = str(error)  # type: ignore[attr-defined]  # both have one
                else:
                    half = len(chunk) // 2
                    self._sift((chunk[:half], chunk[half:]), log, gathered)

    def _try(self, action: Callable[[], object], origin: Origin, gathered: Gathered) -> None:
        try:
            action()
        except RefusedError as error:
            self._check_run()
            gathered.refused[origin] = str(error)

    def _check_run(self) -> None:
        """Raise if it was the run that is refused, and not what was sent to it."""
        run = self.store.get_run(self.run.run_id)
        if run is None or not run.is_active:
            raise deleted(self.store, self.run.run_id)

    # --- files and models ---------------------------------------------------------------------------

    def _upload(self, upload: Upload, gathered: Gathered) -> None:
        if upload.content is not None:
            content: Path | bytes = upload.content
        else:
            reason = self._why_not(upload)
            if reason:
                gathered.refused[upload.origin] = f"{upload.path}: {reason}"
                return
            content = self.path / upload.path
        self._try(partial(self.store.put, self.run, upload.name, content), upload.origin, gathered)

    def _why_not(self, upload: Upload) -> str | None:
        """Return why the copy in the run is not what was logged, or None if it is."""
        try:
            path = check_inside(self.path, upload.path)
            if upload.size_bytes is not None and path.stat().st_size != upload.size_bytes:
                return "its size is not what was logged"
            if upload.sha256 is not None and _sha256(path) != upload.sha256:
                return "its content is not what was logged"
            return None
        except (OSError, ValueError, RuntimeError) as error:
            return f"it cannot be read ({error})"

    def _list_tables(self, uploads: Iterable[Upload]) -> None:
        """Add new tables to the tag by which MLflow's pages find them, as long as it has room."""
        try:
            listed = orjson.loads(self.tags.get(LOGGED_TABLES, "[]"))
        except orjson.JSONDecodeError:
            return
        known = {table.get("path") for table in listed if isinstance(table, dict)}
        new = dict.fromkeys(u.name for u in uploads if u.name.startswith("tables/") and u.name not in known)
        text = orjson.dumps([*listed, *({"path": name, "type": "table"} for name in new)]).decode()
        if new and len(text) <= MAX_TAG:
            self._set(LOGGED_TABLES, text)

    def _model(self, entry: Entry, gathered: Gathered) -> None:
        event, origin = entry.event, (entry.writer, entry.event.seq)
        if isinstance(event, ev.Model):
            for upload in model_uploads(self.path, self.run, entry, event):
                self._upload(upload, gathered)
            if origin not in gathered.refused:
                listed = model_history(self.path, self.run, event, self.tags.get(HISTORY_TAG, ""))
                if len(listed) <= MAX_TAG:
                    self._set(HISTORY_TAG, listed)
        elif isinstance(event, ev.ModelRegistered):
            action = partial(register, self.store, self.path, self.run, entry, event)
            self._try(action, origin, gathered)


def chunks(items: Sequence[T], count: int, size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Yield consecutive parts of at most *count* items and `MAX_REQUEST_BYTES`."""
    start = total = 0
    for at, item in enumerate(items):
        total += size(item)
        if at > start and (at - start == count or total > MAX_REQUEST_BYTES):
            yield items[start:at]
            start, total = at, size(item)
    if start < len(items):
        yield items[start:]


def _metric_bytes(point: MetricPoint) -> int:
    return 120 + (len(point.key) if point.key.isascii() else 4 * len(point.key))


def _word_bytes(word: Word) -> int:
    return 60 + len(orjson.dumps(word.key)) + len(orjson.dumps(word.value))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
