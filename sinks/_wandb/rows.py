"""Turns a run's events into what W&B holds of it: rows, config, summary, files.

`docs/reference/wandb.md` has the outcome for each type of event. A `Fold` takes one batch after the other;
its `Progress` is all that has to be remembered between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import orjson

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.projections import merge
from eventlog.sink import Batch, Entry
from eventlog.values import number_in_memory
from sinks._wandb.media import TablePart, Upload, histogram, medium, table

STEP = "step"
MAX_LINE_BYTES = 10 * 1024 * 1024 - 100 * 1024
MAX_TAG = 64
_RESERVED = re.compile(r"(metric/)*(step$|_)")
_RESERVED_PARAM = re.compile(r"(param/)*(_wandb|_evlog|wandb_version)")


class Progress(msgspec.Struct, kw_only=True):
    """What is known of a run after so many of its events; saved with the checkpoint.

    Attributes:
        rows, stats, lines: how many lines of history, machine load and console there are.
        last: the event of the last row, as its column ``_evlog`` names it.
        started_us: when the run began.
        last_us: time of the last event.
    """

    rows: int = 0
    stats: int = 0
    lines: int = 0
    last: str = ""
    started_us: int | None = None
    last_us: int = 0
    name: str | None = None
    group: str | None = None
    parent: str | None = None
    tags: dict[str, str | None] = {}
    notes: list[str] = []
    config: dict[str, object] = {}
    summary: dict[str, object] = {}
    context: dict[str, object] = {}

    def copy(self) -> Progress:
        """Return a copy that shares nothing."""
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self), type=Progress)

    def user_summary(self) -> dict[str, object]:
        """Return the summary as W&B gets it."""
        runtime = max(0, self.last_us - (self.started_us or self.last_us)) / 1e6
        own = {"_runtime": runtime, "_timestamp": self.last_us / 1e6, "_wandb": {"runtime": int(runtime)}}
        last = {"_step": self.rows - 1} if self.rows else {}
        return {k: _number(v) for k, v in self.summary.items()} | own | last

    def tag_list(self) -> list[str]:
        """Return the tags as W&B has them: plain words of at most 64 characters."""
        words = (name if value is None else f"{name}:{value}" for name, value in self.tags.items())
        return list(dict.fromkeys(word[:MAX_TAG] for word in words if word))


class TableRow(NamedTuple):
    """A row that waits for its table's artifact."""

    row: dict[str, object]
    column: str
    part: TablePart


class Fold:
    """Takes a batch.

    Attributes:
        progress: as it is after the batch.
        rows, stats, lines: what the batch adds; a row is a line of JSON, or waits for its table.
        uploads: files that the rows name.
        artifacts: in order.
        is_config_changed: whether config, name, tags or notes are others now.
        home: the directory of the run.
        rejected: writer, seq and reason of each event that W&B will never take.
    """

    def __init__(self, progress: Progress, run: Path, run_id: str) -> None:
        self.progress = progress
        self.rows: list[str | TableRow] = []
        self.stats: list[str] = []
        self.lines: list[str] = []
        self.uploads: list[Upload] = []
        self.artifacts: list[tuple[Entry, ev.Artifact]] = []
        self.is_config_changed = False
        self.rejected: list[tuple[str, int, str]] = []
        self.home, self._run_id = run, run_id
        self._samples: list[tuple[Entry, ev.Sample]] = []
        self._columns: dict[tuple[int, str], str] = {}

    def take(self, batch: Batch) -> None:
        """Fold the events of *batch*."""
        for entry in batch.entries():
            event = entry.event
            if self._samples and not self._goes_on(entry):
                self._end_samples()
            self.progress.last_us = max(self.progress.last_us, event.ts)
            try:
                self._take(entry, event)
            except (OSError, BadValueError) as error:
                self.rejected.append((entry.writer, event.seq, str(error)))
        self._end_samples()

    def _take(self, entry: Entry, event: AnyEvent) -> None:
        match event:
            case ev.Metrics():
                self._numbers(entry, event.data, event.step)
            case ev.System():
                self._load(entry, event)
            case ev.Console():
                self._console(event.ts, event.stream, event.text)
            case ev.Params() | ev.Summary() | ev.Tags() | ev.Note() | ev.RunStarted() | ev.Context():
                self._tell(entry, event)
            case ev.Histogram():
                self._row(entry, event.step, {self._column(entry, event.key): histogram(event)})
            case ev.Media():
                column = self._column(entry, event.key)
                value, upload = medium(event, self.home, column, self.progress.rows)
                if self._row(entry, event.step, {column: value}):
                    self.uploads.append(upload)
            case ev.Table():
                self._table(entry, self._column(entry, event.key), event.step, event.columns, event.rows)
            case ev.Sample():
                self._samples.append((entry, event))
            case ev.Evaluation():
                self._numbers(entry, _under(event.benchmark, event.metrics), event.step)
            case ev.Checkpoint():
                data: dict[str, object] = {
                    "checkpoint/path": event.path,
                    "checkpoint/size_bytes": event.size_bytes,
                }
                self._numbers(entry, _under("checkpoint", event.metrics), event.step, data)
            case ev.Artifact():
                self.artifacts.append((entry, event))
            case ev.Alert():
                self._console(event.ts, "stderr", f"[{event.level}] {event.title}: {event.text}".rstrip(": "))
            case _:
                self._remember(event)

    # --- what is overwritten: config and summary ------------------------------------------------------

    def _tell(self, entry: Entry, event: ev.Event) -> None:
        progress = self.progress
        self.is_config_changed = self.is_config_changed or not isinstance(event, ev.Summary)
        match event:
            case ev.RunStarted():
                progress.name = progress.name or event.name
                progress.group = progress.group or event.experiment
                progress.parent = progress.parent or event.parent_run_id
                progress.started_us = event.ts if progress.started_us is None else progress.started_us
                progress.tags.update(event.tags)
                progress.notes += [event.notes] if event.notes else []
            case ev.Params():
                merge(progress.config, {_param(key): value for key, value in event.data.items()})
            case ev.Summary():
                progress.summary.update({self._column(entry, k): v for k, v in event.data.items()})
            case ev.Tags():
                progress.tags.update(event.data)
                for name in event.removed:
                    progress.tags.pop(name, None)
            case ev.Note():
                progress.notes.append(event.text)
            case ev.Context():
                merge(progress.context, {event.kind: event.data})

    def _remember(self, event: AnyEvent) -> None:
        """Keep what has no place of its own at W&B in the summary."""
        summary = self.progress.summary
        match event:
            case ev.Model():
                summary[f"model/{event.name}"] = _filled(
                    artifact=event.artifact, flavor=event.flavor, step=event.step
                )
            case ev.ModelRegistered():
                said = _filled(version=event.version, stage=event.stage, alias=event.alias)
                summary[f"registered/{event.name}"] = said
            case ev.Dataset():
                said = _filled(version=event.version, path=event.path, sha256=event.sha256, rows=event.rows)
                name = f"{event.name}/{event.split}" if event.split else event.name
                merge(self.progress.config, {"datasets": {name: said | event.data}})
                self.is_config_changed = True
            case ev.Dropped():
                for kind, count in event.counts.items():
                    key = f"dropped/{kind}"
                    summary[key] = cast("int", summary.get(key, 0)) + count

    # --- what is appended: rows and lines -------------------------------------------------------------

    def _numbers(
        self,
        entry: Entry,
        numbers: Mapping[str, int | float | str],
        step: int | None,
        others: Mapping[str, object] | None = None,
    ) -> None:
        known: dict[str, object] = {self._column(entry, k): v for k, v in numbers.items()}
        data, is_finite = known, not any(type(v) is str for v in known.values())
        if not is_finite:
            data = {k: number_in_memory(v) if type(v) is str else v for k, v in known.items()}
        if others:
            data, known = {**data, **others}, {**known, **others}
        self._row(entry, step, data, known, is_finite=is_finite)

    def _row(
        self,
        entry: Entry,
        step: int | None,
        data: dict[str, object],
        known: dict[str, object] | None = None,
        *,
        is_finite: bool = True,
    ) -> bool:
        """Add a row; tell whether it was short enough.

        Args:
            known: what the summary remembers of it, in terms of JSON.
        """
        row = self._whole_row(entry, step, data)
        line = encode_row(row, is_finite=is_finite)
        if len(line) > MAX_LINE_BYTES:
            self._reject(entry, f"a row of {len(line)} bytes; W&B takes {MAX_LINE_BYTES}")
            return False
        self._add(line, entry, data if known is None else known)
        return True

    def _whole_row(self, entry: Entry, step: int | None, data: dict[str, object]) -> dict[str, object]:
        progress, t_us = self.progress, entry.event.ts
        runtime = max(0, t_us - (progress.started_us or t_us)) / 1e6
        place = {"_step": progress.rows, "_timestamp": t_us / 1e6, "_runtime": runtime}
        own: dict[str, object] = place | {"_evlog": f"{entry.writer}:{entry.event.seq}"}
        return data | own if step is None else {**data, STEP: step, **own}

    def _add(self, line: str | TableRow, entry: Entry, data: Mapping[str, object]) -> None:
        self.rows.append(line)
        self.progress.rows += 1
        self.progress.last = f"{entry.writer}:{entry.event.seq}"
        self.progress.summary.update(data)

    def _table(
        self, entry: Entry, column: str, step: int | None, columns: list[str], rows: list[list[object]]
    ) -> None:
        part = table(column, self.progress.rows, self._run_id, columns, rows)
        self.uploads.append(part.upload)
        self._add(TableRow(self._whole_row(entry, step, {}), column, part), entry, {})

    def _goes_on(self, entry: Entry) -> bool:
        first, sample = self._samples[0]
        event = entry.event
        return (
            isinstance(event, ev.Sample)
            and event.benchmark == sample.benchmark
            and entry.writer == first.writer
        )

    def _end_samples(self) -> None:
        """Make one table of the samples that came one after the other."""
        if not self._samples:
            return
        (entry, first), *_ = self._samples
        names = list(dict.fromkeys(name for _, sample in self._samples for name in sample.metrics))
        columns = ["index", "input", "target", "prediction", *names, "latency_ms"]
        rows: list[list[object]] = [
            [s.index, _cell(s.input), _cell(s.target), _cell(s.prediction)]
            + [s.metrics.get(name) for name in names]
            + [s.latency_ms]
            for _, s in self._samples
        ]
        self._samples = []
        self._table(entry, self._column(entry, f"{first.benchmark}/samples"), None, columns, rows)

    def _load(self, entry: Entry, event: ev.System) -> None:
        data = {f"system.{entry.name(key)}": number_in_memory(v) for key, v in event.data.items()}
        runtime = max(0, event.ts - (self.progress.started_us or event.ts)) / 1e6
        line = data | {"_timestamp": event.ts / 1e6, "_runtime": runtime, "_wandb": True}
        self.stats.append(json.dumps(line, ensure_ascii=False))
        self.progress.stats += 1

    def _console(self, t_us: int, stream: str, text: str) -> None:
        time = datetime.fromtimestamp(t_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        head = f"{'ERROR ' if stream == 'stderr' else ''}{time} "
        new = [head + line for line in text.split("\n")]
        self.lines += new
        self.progress.lines += len(new)

    def _column(self, entry: Entry, key: str) -> str:
        """Return the column of a metric: W&B's own columns and that of the step are not for users."""
        found = self._columns.get((entry.rank, key))
        if found is None:
            name = entry.name(key)
            found = f"metric/{name}" if _RESERVED.match(name) else name
            self._columns[entry.rank, key] = found
        return found

    def _reject(self, entry: Entry, reason: str) -> None:
        self.rejected.append((entry.writer, entry.event.seq, reason))


def encode_row(row: Mapping[str, object], *, is_finite: bool = False) -> str:
    """Return a row as a line; NaN and infinity stand bare, as the SDK writes them."""
    if is_finite:
        return orjson.dumps(row).decode()
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _param(key: str) -> str:
    """Return the name of a param: some in the config are W&B's own, and ours."""
    return f"param/{key}" if _RESERVED_PARAM.fullmatch(key) else key


def _number(value: object) -> object:
    """Return a number that JSON does not have for the text that stands for it."""
    return number_in_memory(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _under(name: str, data: Mapping[str, int | float | str]) -> dict[str, int | float | str]:
    return {f"{name}/{key}": value for key, value in data.items()}


def _filled(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _cell(value: object) -> object:
    """Return a cell of a table: what is nested becomes a text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
