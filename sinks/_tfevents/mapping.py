"""What becomes of each event in TensorBoard: points of a scalar, or single values of other kinds.

`docs/reference/tensorboard.md` has a row for each event. Nothing here touches the event file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.sink import Batch, Entry
from eventlog.storage.merge import Slice
from eventlog.storage.modes import read_inside
from eventlog.values import flatten, number_in_memory
from sinks._tfevents import markdown, media
from sinks._tfevents.wire import (
    MAX_STEP,
    MIN_STEP,
    audio_value,
    encoded,
    histogram_cells,
    histogram_value,
    image_value,
    text_value,
)

KINDS = ("scalar", "text", "histogram", "image", "audio")
Steps = dict[str, dict[str, int]]
"""The step that each tag had last, by kind."""

_Flat = list[int | float | None]
"""Step, time and value of a point, step, time and value of the next, …"""

_NON_FINITE = ("NaN", "Infinity", "-Infinity")


class Column(NamedTuple):
    """Points of one scalar, in their order; *goes_back* if the first is not after the one delivered last."""

    tag: str
    steps: list[int]
    times: list[int]
    values: list[float]
    goes_back: bool


class Value(NamedTuple):
    """One value of another kind.

    Attributes:
        value: the fields of its message besides the tag.
        digest: SHA-256 of the text or file in it, in hexadecimal.
    """

    kind: str
    tag: str
    step: int
    t_us: int
    value: bytes
    digest: str
    goes_back: bool


class Refused(NamedTuple):
    """An event that TensorBoard has no place for although it should have, and why."""

    writer: str
    seq: int
    reason: str


class RefusedError(Exception):
    """Why an event is refused."""


class Mapper:
    """Turns batches into columns and values, and knows the steps of what it turned before.

    Args:
        run: the run's directory; None if no file shall be read: images and sounds are then without content.
        started_us: when the run began; None if the first event says it, or nobody knows.
        steps: what `Mapper.steps` was after the events before.

    Attributes:
        steps: the last step of each tag, by kind; grows with the number of tags, not of points.
        refused: since the last `drain`.
    """

    def __init__(self, run: Path | None, started_us: int | None, steps: Steps | None = None) -> None:
        self.steps: Steps = {kind: dict((steps or {}).get(kind, {})) for kind in KINDS}
        self.refused: list[Refused] = []
        self._run = run
        self._started_us = started_us
        self._kinds = {tag: kind for kind, tags in self.steps.items() for tag in tags}
        self._columns: dict[str, _Flat] = {}
        self._by_rank: dict[int, dict[str, _Flat]] = {}
        self._values: list[Value] = []

    def take(self, batch: Batch) -> None:
        """Take the events of *batch*."""
        for part in batch.slices:
            self._take_slice(part)

    def take_one(self, entry: Entry) -> None:
        """Take one event."""
        if isinstance(entry.event, ev.Metrics):
            columns = self._by_rank.setdefault(entry.rank, {})
            self._take_metrics(entry.writer, entry.rank, entry.event, columns)
            return
        try:
            self._take_other(entry, entry.event)
        except RefusedError as error:
            self.refused.append(Refused(entry.writer, entry.event.seq, str(error)))

    def drain(self) -> tuple[list[Column], list[Value]]:
        """Return what was taken since the last time; within a tag in its order."""
        columns = [self._column(tag, flat) for tag, flat in self._columns.items()]
        values = self._values
        self._columns, self._by_rank, self._values = {}, {}, []
        return columns, values

    # --- scalars -----------------------------------------------------------------------------------------

    def _take_slice(self, part: Slice) -> None:
        columns = self._by_rank.setdefault(part.rank, {})
        for event in part.events:
            if type(event) is not ev.Metrics:
                self.take_one(Entry(part.writer, part.rank, event))
                continue
            step, t_us = event.step, event.ts
            if step is not None and not MIN_STEP <= step <= MAX_STEP:
                self._take_metrics(part.writer, part.rank, event, columns)
                continue
            for key, value in event.data.items():
                flat = columns.get(key)
                if flat is None or type(value) is str:
                    break  # rare: a new tag, or a number that JSON does not have
                flat += (step, t_us, value)  # type: ignore[arg-type]  # mypy does not know `type(…) is`
            else:
                continue
            # What was taken of the event before the odd key is taken back: it may have to be refused whole.
            for done in event.data:
                if done == key:
                    break
                del columns[done][-3:]
            self._take_metrics(part.writer, part.rank, event, columns)

    def _take_metrics(self, writer: str, rank: int, event: ev.Metrics, columns: dict[str, _Flat]) -> None:
        if event.step is not None and not MIN_STEP <= event.step <= MAX_STEP:
            reason = f"step {event.step} has more than 64 bits"
            self.refused.append(Refused(writer, event.seq, reason))
            return
        try:
            numbers = {key: number_in_memory(value) for key, value in event.data.items()}
        except BadValueError as error:
            self.refused.append(Refused(writer, event.seq, error.reason))
            return
        for key, number in numbers.items():
            flat = columns.get(key)
            if flat is None:
                flat = columns[key] = self._flat(Entry(writer, rank, event).name(key))
            flat += (event.step, event.ts, number)

    def _flat(self, name: str) -> _Flat:
        return self._columns.setdefault(self._place("scalar", name), [])

    def _column(self, tag: str, flat: _Flat) -> Column:
        steps: list[int | None] = flat[0::3]  # type: ignore[assignment]  # step, time, value, step, …
        last = self.steps["scalar"].get(tag)
        if None in steps:
            steps = _counted(steps, last)
        goes_back = last is not None and steps[0] <= last  # type: ignore[operator]  # no None is left
        self.steps["scalar"][tag] = steps[-1]  # type: ignore[assignment]
        return Column(tag, steps, flat[1::3], flat[2::3], goes_back)  # type: ignore[arg-type]

    def _scalars(self, entry: Entry, data: Mapping[str, object], prefix: str, step: int | None) -> None:
        try:
            numbers = {key: number_in_memory(value) for key, value in data.items()}
        except (BadValueError, TypeError, ValueError) as error:
            raise RefusedError("one of its values is not a number") from error
        if step is not None and not MIN_STEP <= step <= MAX_STEP:
            raise RefusedError(f"step {step} has more than 64 bits")
        for key, number in numbers.items():
            self._flat(entry.name(prefix + key)).extend((step, entry.event.ts, number))

    # --- everything else -----------------------------------------------------------------------------------

    def _place(self, kind: str, name: str) -> str:
        """Return the tag for *name*: TensorBoard takes one kind only under one tag."""
        tag = name or "(no name)"
        while self._kinds.setdefault(tag, kind) != kind:
            tag = f"{tag} ({kind})"
        return tag

    def _put(
        self, entry: Entry, kind: str, name: str, value: bytes, step: int | None = None, digest: str = ""
    ) -> None:
        tag = self._place(kind, entry.name(name))
        last = self.steps[kind].get(tag)
        if step is None:
            step = _next(last)
        elif not MIN_STEP <= step <= MAX_STEP:
            raise RefusedError(f"step {step} has more than 64 bits")
        self.steps[kind][tag] = step
        goes_back = last is not None and step <= last
        self._values.append(Value(kind, tag, step, entry.event.ts, value, digest, goes_back))

    def _text(self, entry: Entry, name: str, text: str, step: int | None = None) -> None:
        shown = encoded(markdown.bounded(text))
        self._put(entry, "text", name, text_value(shown), step, sha256(shown).hexdigest())

    def _take_other(self, entry: Entry, event: AnyEvent) -> None:
        match event:
            case ev.System():
                since = max(0, event.ts - self._started_us) // 1_000_000 if self._started_us else None
                self._scalars(entry, event.data, "system/", since)
            case ev.Evaluation():
                prefix = f"evaluation/{event.benchmark}"
                self._scalars(entry, event.metrics, prefix + "/", event.step)
                if event.data:
                    self._text(entry, prefix, markdown.pairs(event.data), event.step)
            case ev.Summary():
                self._summary(entry, event)
            case ev.Histogram():
                if len(event.edges) != len(event.counts) + 1:
                    raise RefusedError(f"{len(event.edges)} edges for {len(event.counts)} counts")
                cells = histogram_cells(_numbers(event.edges), _numbers(event.counts))
                value = histogram_value(cells)
                self._put(entry, "histogram", event.key, value, event.step, sha256(cells).hexdigest())
            case ev.Table():
                self._text(entry, event.key, markdown.table(event.columns, event.rows), event.step)
            case ev.Media():
                self._media(entry, event)
            case _:
                self._report(entry, event)

    def _summary(self, entry: Entry, event: ev.Summary) -> None:
        for key, value in event.data.items():
            name = f"summary/{key}"
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number or value in _NON_FINITE:
                self._scalars(entry, {name: value}, "", None)
            else:
                self._text(entry, name, markdown.plain(value) if not isinstance(value, str) else value)

    def _report(self, entry: Entry, event: AnyEvent) -> None:
        """Take what the Text page shows."""
        match event:
            case ev.RunStarted() | ev.RunResumed() | ev.RunEnded():
                if self._started_us is None and isinstance(event, ev.RunStarted):
                    self._started_us = event.ts
                self._text(entry, "run/about", _fields(event))
            case ev.Context():
                self._text(entry, f"run/context/{event.kind}", markdown.pairs(event.data))
            case ev.Params():
                self._text(
                    entry, "run/params", markdown.table(["param", "value"], flatten(event.data).items())
                )
            case ev.Artifact():
                self._text(entry, f"run/artifacts/{event.name}", _fields(event))
            case ev.Checkpoint():
                self._text(entry, "run/checkpoints", _fields(event), event.step)
            case ev.Dataset():
                self._text(entry, f"run/datasets/{event.name}", _fields(event))
            case ev.Model() | ev.ModelRegistered():
                self._text(entry, f"run/models/{event.name}", _fields(event))
            case ev.Tags():
                self._text(entry, "run/tags", _fields(event))
            case ev.Note():
                self._text(entry, "run/notes", event.text)
            case ev.Alert():
                self._text(entry, "run/alerts", _fields(event))
            case ev.Dropped():
                self._text(entry, "run/dropped", _fields(event))

    def _media(self, entry: Entry, event: ev.Media) -> None:
        if event.media_type in {"text", "html"} and event.text is not None:
            text = markdown.verbatim(event.text) if event.media_type == "html" else event.text
            self._text(entry, event.key, text, event.step)
            return
        kind = media.kind_of(event)
        if kind is None:
            self._text(entry, event.key, _fields(event), event.step)
            return
        data = self._file(event)
        if kind == "image":
            value = image_value(data, *media.image_size(data))
        else:
            value = audio_value(data, is_wav=data[:4] == b"RIFF")
        self._put(entry, kind, event.key, value, event.step, event.sha256 or sha256(data).hexdigest())
        if event.caption:
            self._text(entry, f"{event.key}/caption", event.caption, event.step)

    def _file(self, event: ev.Media) -> bytes:
        if self._run is None or event.path is None:
            return b""
        try:
            data = read_inside(self._run, event.path)
        except OSError as error:
            raise RefusedError(f"{event.path} of the run cannot be read: {error.strerror}") from error
        if event.sha256 and sha256(data).hexdigest() != event.sha256:
            raise RefusedError(f"{event.path} is not the file that was logged")
        return data


def _next(last: int | None) -> int:
    return 0 if last is None else min(last + 1, MAX_STEP)


def _counted(steps: Iterable[int | None], last: int | None) -> list[int | None]:
    """Return *steps* with a number for each None: one more than the step before it."""
    numbered: list[int | None] = []
    for step in steps:
        last = _next(last) if step is None else step
        numbered.append(last)
    return numbered


def _numbers(values: Iterable[object]) -> list[float]:
    try:
        return [number_in_memory(value) for value in values]
    except BadValueError as error:
        raise RefusedError(error.reason) from error


def _fields(event: AnyEvent) -> str:
    """Return the fields of *event* that are set, as a table."""
    data = {name: value for name, value in msgspec.to_builtins(event).items() if name not in _FRAME}
    return markdown.pairs({"time": iso_utc(event.ts), "event": ev.type_name(event).replace("_", " "), **data})


_FRAME = frozenset({"type", "seq", "ts", "payload", "step"})
