"""The `local` sink: a run as plain JSON files beside its log.

    metadata.json     who and when: ids, name, tags, notes, start
    metrics.json      every metrics call: step, timestamp, metrics
    params.json       params, nested as they were logged
    artifacts.json    what was logged as an artifact, with hashes and versions
    final_state.json  status, end, counts, summary
    artifacts/        the copies, which the log made already

The files are a projection: each time all of them are made anew from the first event, under other names,
and renamed together at the end. So a repeated batch is harmless, a repeated sync changes nothing, and a
crash leaves the old files. Points are written as they pass; memory does not grow with them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import orjson

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.projections import RunFold, RunView
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.modes import opener
from eventlog.values import flatten, number_on_disk

_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS


class LocalSink:
    """Materializes `metadata.json`, `metrics.json`, `params.json`, `artifacts.json`, `final_state.json`."""

    traits: ClassVar[Traits] = Traits(is_projection=True)
    destination: ClassVar[str] = ""

    def __init__(self) -> None:
        self._fold = RunFold("", "")
        self._points: BinaryIO | None = None
        self._run = Path()
        self._calls = 0
        self._young: dict[str, Path] = {}

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Begin the files anew; there is no other position than the first event."""
        self._run = run.path
        self._fold = RunFold(run.project, run.run_id)
        self._calls = 0
        self._points = self._begin("metrics.json")
        self._points.write(b"[")
        return None

    def write(self, batch: Batch) -> None:
        """Take the events; metrics go to the file at once."""
        for part in batch.slices:
            self._fold.apply_slice(part.writer, part.rank, part.events)
        for entry in batch.entries():
            if isinstance(entry.event, ev.Metrics):
                self._point(entry, entry.event)

    def _point(self, entry: Entry, event: ev.Metrics) -> None:
        assert self._points is not None
        point: dict[str, object] = {
            "step": event.step,
            "timestamp": iso_utc(event.ts),
            "metrics": event.data,
        }
        if entry.rank:
            point["rank"] = entry.rank
        self._points.write((b",\n" if self._calls else b"\n") + orjson.dumps(point))
        self._calls += 1

    def close(self, status: RunStatus | None) -> None:
        """Finish the files and give them their names."""
        assert self._points is not None
        self._points.write(b"\n]\n")
        self._points.flush()
        os.fsync(self._points.fileno())
        self._points.close()
        if status is None:
            for young in self._young.values():
                young.unlink(missing_ok=True)
            return
        view = self._fold.view(set())
        self._put("metadata.json", _metadata(view))
        self._put("params.json", view.params)
        self._put("artifacts.json", [_artifact(a) for a in view.artifacts])
        self._put("final_state.json", _final_state(view, status.status, self._calls))
        for name, young in self._young.items():
            young.replace(self._run / name)
        self._sync_directory()

    # --- reading back ------------------------------------------------------------------------

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield the metrics, the params and the artifacts that the files should hold."""
        fold = RunFold("", "")
        for entry in entries:
            event = entry.event
            if isinstance(event, ev.Metrics):
                for key, value in event.data.items():
                    yield Point(f"metric {entry.name(key)}", event.step, value, event.ts)
            else:
                fold.apply_slice(entry.writer, entry.rank, [event])
        view = fold.view(set())
        for key, param in view.flat_params.items():
            yield Point(f"param {key}", None, _text(param))
        for artifact in view.artifacts:
            yield Point(f"artifact {artifact.name}", artifact.version, artifact.sha256 or "")

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield what the files hold."""
        for point in _load(run.path / "metrics.json", []):
            prefix = f"rank{point['rank']}/" if point.get("rank") else ""
            time_us = _microseconds(point["timestamp"])
            for key, value in point["metrics"].items():
                yield Point(f"metric {prefix}{key}", point["step"], value, time_us)
        for key, param in flatten(_load(run.path / "params.json", {})).items():
            yield Point(f"param {key}", None, _text(param))
        for artifact in _load(run.path / "artifacts.json", []):
            yield Point(f"artifact {artifact['name']}", artifact["version"], artifact["sha256"] or "")

    # --- files -------------------------------------------------------------------------------

    def _begin(self, name: str) -> BinaryIO:
        young = self._run / f".{name}.{os.getpid()}.tmp"
        self._young[name] = young
        # Whatever has the name goes: a link would be written through, and so would one of two hard ones.
        young.unlink(missing_ok=True)
        return open(young, "xb", opener=opener)

    def _put(self, name: str, content: object) -> None:
        with self._begin(name) as file:
            file.write(orjson.dumps(content, option=_PRETTY) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _sync_directory(self) -> None:
        with contextlib.suppress(OSError):
            fd = os.open(self._run, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _load(path: Path, nothing: Any) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return nothing


def _text(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def _microseconds(timestamp: str) -> int:
    if timestamp.lstrip("-").isdecimal():
        return int(timestamp)  # a time that no calendar holds
    return (datetime.fromisoformat(timestamp) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def _metadata(view: RunView) -> dict[str, object]:
    return {
        "run_id": view.run_id,
        "run_name": view.name,
        "project": view.project,
        "experiment_name": view.experiment,
        "parent_run_id": view.parent_run_id,
        "tags": view.tags,
        "notes": "\n".join(view.notes) or None,
        "started_at": None if view.started_at is None else iso_utc(view.started_at),
        "writers": view.writers,
    }


def _artifact(artifact: ev.Artifact) -> dict[str, object]:
    return {
        "name": artifact.name,
        "type": artifact.artifact_type,
        "version": artifact.version,
        "path": artifact.path,
        "stored": artifact.stored,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "original_path": artifact.source,
        "logged_at": iso_utc(artifact.ts),
    }


def _final_state(view: RunView, status: str, calls: int) -> dict[str, object]:
    steps = [stats.last_step for stats in view.metrics.values() if stats.last_step is not None]
    return {
        "status": status,
        "ended_at": None if view.ended_at is None else iso_utc(view.ended_at),
        "duration_s": view.duration_s,
        "last_step": max(steps, default=None),
        "metrics_count": calls,
        "metrics": {
            key: {
                "last": number_on_disk(s.last),
                "min": number_on_disk(s.min),
                "max": number_on_disk(s.max),
                "mean": number_on_disk(s.mean),
                "count": s.count,
            }
            for key, s in sorted(view.metrics.items())
        },
        "summary": view.summary,
        "error": None if view.error is None else {"type": view.error.type, "message": view.error.message},
        "exit_code": view.exit_code,
        "signal": view.signal,
        "dropped": view.dropped,
    }
