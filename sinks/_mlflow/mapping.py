"""What each event becomes in MLflow. `docs/reference/mlflow.md` is the table of it.

Pure but for what it remembers of the run: the same events give the same points, names and texts, so that
whatever is sent again replaces or repeats what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple, cast

import msgspec
import orjson

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.sink import Entry
from eventlog.storage.layout import ARTIFACTS_DIRECTORY
from eventlog.values import flatten, number_in_memory, number_on_disk
from sinks._mlflow.names import MAX_PARAM, MAX_TAG, cut, file_name, key_name, own_tag, tag_name, value_text
from sinks._mlflow.spool import Spool
from sinks._mlflow.stores import MetricPoint

Origin = tuple[str, int]

PARAMS_FILE = "params.json"
PARAM_TAG = "evlog.param."
"""Begin of the tags that hold a param's last value, if it is not the first."""

RESERVED = frozenset({PARAMS_FILE, "evlog", "media", "tables", ARTIFACTS_DIRECTORY})
"""Names at the top of a run's files that are ours; an artifact of such a name goes below ``artifacts/``."""

_NON_FINITE = "evlog.nonfinite."
_INT64 = 1 << 63
_EXTENSIONS = {"text": ".txt", "html": ".html", "image": ".png", "audio": ".wav", "video": ".mp4"}


class Upload(NamedTuple):
    """A file to store: the bytes, or where they lie below the run and what they must be."""

    name: str
    content: bytes | None
    path: str = ""
    size_bytes: int | None = None
    sha256: str | None = None
    origin: Origin = ("", -1)


class Gathered:
    """What a batch becomes.

    Attributes:
        tags: the last value of each; None takes the tag away.
        lines: for the files that are stored whole at the end: name and value.
        refused: events that MLflow can never take, and why.
    """

    def __init__(self) -> None:
        self.metrics: list[MetricPoint] = []
        self.params: list[tuple[str, str, Origin]] = []
        self.tags: dict[str, tuple[str | None, Origin]] = {}
        self.uploads: list[Upload] = []
        self.lines: list[tuple[str, object]] = []
        self.datasets: list[tuple[dict[str, str], str | None, Origin]] = []
        self.models: list[Entry] = []
        self.refused: dict[Origin, str] = {}


class Mapper:
    """Turns events into what MLflow keeps.

    Attributes:
        started_at: of the run, microseconds; points of the system count their steps in seconds from there.
        renamed: MLflow's names of metrics and params that are not the keys themselves, and the keys.
        notes: everything noted so far, in order.
    """

    def __init__(self, started_at: int | None) -> None:
        self.started_at = started_at
        self.renamed: dict[str, str] = {}
        self.notes: list[str] = []
        self.non_finite: dict[str, dict[str, int]] = {}
        self._names: dict[tuple[int, str], str] = {}
        self._gathered = Gathered()

    def remember(self, spool: Spool, tags: Mapping[str, str]) -> None:
        """Know what earlier deliveries told MLflow."""
        for pair in spool.lines("keymap"):
            name, raw = cast("list[str]", pair)
            self.renamed[name] = raw
        self.notes = cast("list[str]", list(spool.lines("notes")))
        if "notes" in spool.lost:
            self.notes = [tags.get("mlflow.note.content", "")]
        for tag, text in tags.items():
            if tag.startswith(_NON_FINITE):
                with contextlib.suppress(msgspec.MsgspecError):
                    self.non_finite[tag] = msgspec.json.decode(text, type=dict[str, int])

    def keymap(self) -> str:
        """Return the renamed keys as JSON."""
        return orjson.dumps(self.renamed).decode()

    def take(self, entry: Entry) -> None:
        """Add what *entry* becomes to what is gathered."""
        event = entry.event
        if type(event) is ev.Metrics:
            self._points(entry, "", event.data, event.step or 0)
            return
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, entry, event)

    def gathered(self) -> Gathered:
        """Return what was gathered since the last call."""
        gathered, self._gathered = self._gathered, Gathered()
        return gathered

    def name(self, rank: int, key: str) -> str:
        """Return MLflow's name of a metric or param, and remember it if it is another."""
        found = self._names.get((rank, key))
        if found is None:
            raw = f"rank{rank}/{key}" if rank else key
            found = self._names[rank, key] = key_name(raw)
            if found != raw and found not in self.renamed:
                self.renamed[found] = raw
                self._gathered.lines.append(("keymap", [found, raw]))
        return found

    # --- numbers --------------------------------------------------------------------------------

    def _points(self, entry: Entry, prefix: str, data: Mapping[str, int | float | str], step: int) -> None:
        event, points = entry.event, self._gathered.metrics
        add, start = points.append, len(points)
        origin, time_ms = (entry.writer, event.seq), max(event.ts // 1000, 0)
        if not -_INT64 <= step < _INT64:
            self._gathered.refused[origin] = f"the step {step} has more than 64 bits"
            return
        for key, value in data.items():
            try:
                number = value if type(value) is float else number_in_memory(value)
            except (BadValueError, OverflowError, ValueError, TypeError) as error:
                self._gathered.refused[origin] = f"{key!r}: {error}"
                del points[start:]
                return
            name = self.name(entry.rank, prefix + key)
            add(MetricPoint(name, number, time_ms, step, origin))
            if number - number != 0:
                self._not_finite(name, number, step, origin)

    def _not_finite(self, name: str, number: float, step: int, origin: Origin) -> None:
        """Say in a tag where a metric was first no number: MLflow shows those badly or as other numbers."""
        tag = own_tag(_NON_FINITE, name)
        seen, kind = self.non_finite.setdefault(tag, {}), str(number_on_disk(number))
        if kind not in seen:
            seen[kind] = step
            self._tag(tag, orjson.dumps(seen).decode(), origin)

    def _system(self, entry: Entry, event: ev.System) -> None:
        step = 0 if self.started_at is None else max(0, (event.ts - self.started_at) // 1_000_000)
        self._points(entry, "system/", event.data, step)

    def _evaluation(self, entry: Entry, event: ev.Evaluation) -> None:
        self._points(entry, f"evaluation/{event.benchmark}/", event.metrics, event.step or 0)
        self._line("evaluations", entry)

    def _checkpoint(self, entry: Entry, event: ev.Checkpoint) -> None:
        self._points(entry, "checkpoint/", event.metrics, event.step or 0)
        where = event.path if event.step is None else f"{event.path} (step {event.step})"
        self._tag("evlog.checkpoint", where, (entry.writer, event.seq))
        self._line("checkpoints", entry)

    def _summary(self, entry: Entry, event: ev.Summary) -> None:
        numbers: dict[str, int | float | str] = {}
        for key, value in event.data.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                numbers[key] = value
            elif value in ("NaN", "Infinity", "-Infinity"):
                numbers[key] = str(value)
            else:
                name = own_tag("evlog.summary.", key_name(entry.name(key)))
                self._tag(name, value_text(value), (entry.writer, event.seq))
        self._points(entry, "summary/", numbers, 0)
        self._gathered.lines.append(("summary", {entry.name(k): v for k, v in event.data.items()}))

    # --- words ----------------------------------------------------------------------------------

    def _tag(self, name: str, value: str | None, origin: Origin) -> None:
        text = None if value is None else cut(value.replace("\0", "\\u0000"), MAX_TAG, "")
        self._gathered.tags.pop(name, None)
        self._gathered.tags[name] = (text, origin)

    def _started(self, entry: Entry, event: ev.RunStarted) -> None:
        origin = (entry.writer, event.seq)
        if self.started_at is None:
            self.started_at = event.ts
        for key, value in event.tags.items():
            self._tag(tag_name(key), value or "", origin)
        if event.parent_run_id:
            self._tag("evlog.parent_run_id", event.parent_run_id, origin)
        if event.notes:
            self._noted(event.notes, origin)

    def _tags(self, entry: Entry, event: ev.Tags) -> None:
        for key, value in event.data.items():
            self._tag(tag_name(key), value or "", (entry.writer, event.seq))
        for key in event.removed:
            self._tag(tag_name(key), None, (entry.writer, event.seq))

    def _note(self, entry: Entry, event: ev.Note) -> None:
        self._noted(event.text, (entry.writer, event.seq))

    def _noted(self, text: str, origin: Origin) -> None:
        self.notes.append(text)
        self._gathered.lines.append(("notes", text))
        where = "; whole in evlog/notes.txt"
        self._tag("mlflow.note.content", cut("\n\n".join(self.notes), MAX_TAG, where), origin)

    def _params(self, entry: Entry, event: ev.Params) -> None:
        origin = (entry.writer, event.seq)
        for key, value in flatten(event.data).items():
            text = cut(value_text(value), MAX_PARAM, f"; whole in {PARAMS_FILE}")
            self._gathered.params.append((self.name(0, key), text, origin))
        self._gathered.lines.append(("params", event.data))

    def _context(self, entry: Entry, event: ev.Context) -> None:
        origin, data = (entry.writer, event.seq), event.data
        argv = data.get("argv")
        found: dict[str, object] = {"mlflow.user": data.get("user") or data.get("username")}
        if event.kind == "command":
            found["mlflow.source.name"] = argv[0] if isinstance(argv, list) and argv else argv
            found["mlflow.source.type"] = "LOCAL"
        if event.kind == "git":
            found["mlflow.source.git.commit"] = data.get("commit")
            found["mlflow.source.git.branch"] = data.get("branch")
            found["mlflow.source.git.repoURL"] = data.get("remote") or data.get("url")
        if not entry.rank:
            for name, value in found.items():
                if isinstance(value, str) and value:
                    self._tag(name, value, origin)
        self._line("context", entry)

    def _ended(self, entry: Entry, event: ev.RunEnded) -> None:
        origin, prefix = (entry.writer, event.seq), "evlog." if not entry.rank else f"evlog.rank{entry.rank}."
        if event.error is not None:
            self._tag(f"{prefix}error", f"{event.error.type}: {event.error.message}", origin)
        if event.exit_code is not None:
            self._tag(f"{prefix}exit_code", str(event.exit_code), origin)
        if event.signal is not None:
            self._tag(f"{prefix}signal", event.signal, origin)

    def _alert(self, entry: Entry, event: ev.Alert) -> None:
        self._tag("evlog.alert", f"{event.level}: {event.title}", (entry.writer, event.seq))
        self._line("alerts", entry)

    def _line(self, name: str, entry: Entry) -> None:
        """Take the event itself for a file of JSON lines."""
        fields = msgspec.to_builtins(entry.event)
        if entry.rank:
            fields["rank"] = entry.rank
        self._gathered.lines.append((name, fields))

    def _console(self, entry: Entry, event: ev.Console) -> None:
        mark = f"[{entry.rank}] " if entry.rank else ""
        self._gathered.lines.append(("console", [f"{mark}{line}" for line in event.text.split("\n")]))

    # --- files ------------------------------------------------------------------------------------

    def _artifact(self, entry: Entry, event: ev.Artifact) -> None:
        if event.stored == "reference":
            self._line("references", entry)
            return
        origin, name = (entry.writer, event.seq), artifact_name(event.path)
        if not event.is_directory:
            upload = Upload(name, None, event.path, event.size_bytes, event.sha256, origin)
            self._gathered.uploads.append(upload)
        for part in event.files:
            path, target = f"{event.path}/{part.path}", f"{name}/{file_name(part.path)}"
            upload = Upload(target, None, path, part.size_bytes, part.sha256, origin)
            self._gathered.uploads.append(upload)

    def _media(self, entry: Entry, event: ev.Media) -> None:
        origin = (entry.writer, event.seq)
        kind = event.media_type
        if event.text is not None:
            name = self._place(f"media/{kind}", entry, event.key, event.step, _EXTENSIONS[kind])
            self._gathered.uploads.append(Upload(name, event.text.encode(errors="replace"), origin=origin))
        elif event.path is not None:
            suffix = PurePosixPath(event.path).suffix or _EXTENSIONS[kind]
            name = self._place(f"media/{kind}", entry, event.key, event.step, file_name(suffix))
            upload = Upload(name, None, event.path, event.size_bytes, event.sha256, origin)
            self._gathered.uploads.append(upload)

    def _table(self, entry: Entry, event: ev.Table) -> None:
        # The form of mlflow.log_table, which MLflow's pages show and mlflow.load_table reads.
        content = orjson.dumps({"columns": event.columns, "data": event.rows})
        name = self._place("tables", entry, event.key, event.step, ".json")
        self._gathered.uploads.append(Upload(name, content, origin=(entry.writer, event.seq)))

    def _place(self, kind: str, entry: Entry, key: str, step: int | None, suffix: str) -> str:
        last = f"{entry.writer}-{entry.event.seq}" if step is None else str(step)
        return f"{kind}/{file_name(entry.name(key))}/{last}{suffix}"

    def _dataset(self, entry: Entry, event: ev.Dataset) -> None:
        facts = msgspec.to_builtins(event)
        for name in ("seq", "ts", "type"):
            facts.pop(name, None)
        digest = (event.sha256 or hashlib.sha256(orjson.dumps(facts)).hexdigest())[:36]
        dataset = {
            "name": event.name[:500] or "dataset",
            "digest": digest,
            "source_type": "local" if event.path else "evlog",
            "source": cut(orjson.dumps({"uri": event.path or event.name}).decode(), 60_000, ""),
            "profile": cut(orjson.dumps(facts).decode(), 1_000_000, ""),
        }
        context = None if event.split is None else event.split[:500]
        self._gathered.datasets.append((dataset, context, (entry.writer, event.seq)))

    def _model(self, entry: Entry, event: ev.Model | ev.ModelRegistered) -> None:  # noqa: ARG002
        self._gathered.models.append(entry)


def artifact_name(path: str) -> str:
    """Return where a copy lies in MLflow: as below the run's ``artifacts/``, so each version has its own."""
    path = path.removeprefix(f"{ARTIFACTS_DIRECTORY}/")
    first = path.split("/")[0]
    return file_name(f"{ARTIFACTS_DIRECTORY}/{path}" if first in RESERVED else path)


def _lines(name: str) -> Callable[[Mapper, Entry, AnyEvent], None]:
    return lambda mapper, entry, _: mapper._line(name, entry)


_HANDLERS: dict[type, Callable[..., None]] = {
    ev.System: Mapper._system,
    ev.Evaluation: Mapper._evaluation,
    ev.Checkpoint: Mapper._checkpoint,
    ev.Summary: Mapper._summary,
    ev.RunStarted: Mapper._started,
    ev.RunEnded: Mapper._ended,
    ev.Tags: Mapper._tags,
    ev.Note: Mapper._note,
    ev.Params: Mapper._params,
    ev.Context: Mapper._context,
    ev.Alert: Mapper._alert,
    ev.Dropped: _lines("dropped"),
    ev.Sample: _lines("samples"),
    ev.Histogram: _lines("histograms"),
    ev.Console: Mapper._console,
    ev.Artifact: Mapper._artifact,
    ev.Media: Mapper._media,
    ev.Table: Mapper._table,
    ev.Dataset: Mapper._dataset,
    ev.Model: Mapper._model,
    ev.ModelRegistered: Mapper._model,
}
