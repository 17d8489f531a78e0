"""The row of a run in ``experiments``, which grows as the run goes on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

import msgspec

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.events import AnyEvent
from eventlog.projections import merge
from eventlog.sink import RunInfo, RunStatus

STATUS = {"finished": "completed"}
"""Words of the tables where they are not those of the log."""

_JSON = ("config", "tags", "summary", "environment")


class Experiment(msgspec.Struct, kw_only=True):
    """What a row of ``experiments`` says, in the order of its columns."""

    experiment_id: str
    project: str
    name: str | None = None
    experiment: str | None = None
    status: str = "running"
    config: dict[str, object] = {}
    notes: str | None = None
    tags: dict[str, object] = {}
    summary: dict[str, object] = {}
    git_commit: str | None = None
    git_branch: str | None = None
    git_dirty: bool | None = None
    environment: dict[str, object] = {}
    created_at: str | None = None
    finished_at: str | None = None

    def take(self, event: AnyEvent) -> bool:
        """Take an event; tell whether the row may say something else now."""
        match event:
            case ev.RunStarted():
                self._start(event)
            case ev.RunResumed():
                self.status, self.finished_at = "running", None
            case ev.Params():
                merge(self.config, event.data)
            case ev.Summary():
                self.summary |= event.data
            case ev.Tags():
                self.tags |= event.data
                for name in event.removed:
                    self.tags.pop(name, None)
            case ev.Note():
                self._note(event.text)
            case ev.Context():
                self._context(event)
            case _:
                return False
        return True

    def _start(self, event: ev.RunStarted) -> None:
        if self.created_at is None:
            self.name, self.experiment = event.name, event.experiment
            self.created_at = iso_utc(event.ts)
            self._note(event.notes)
        self.tags |= event.tags

    def _note(self, text: str | None) -> None:
        if text:
            self.notes = f"{self.notes}\n{text}" if self.notes else text

    def _context(self, event: ev.Context) -> None:
        data = event.data
        if event.kind == "git":
            self.git_commit = _text(data.get("commit")) or self.git_commit
            self.git_branch = _text(data.get("branch")) or self.git_branch
            is_dirty = data.get("is_dirty", data.get("dirty"))
            self.git_dirty = is_dirty if isinstance(is_dirty, bool) else self.git_dirty
        known = self.environment.setdefault(event.kind, {})
        if isinstance(known, dict):
            known |= data

    def end(self, status: RunStatus) -> None:
        """Take how the run stands."""
        self.status = STATUS.get(status.status, status.status)
        ended_at = None if status.is_running else status.ended_at
        self.finished_at = None if ended_at is None else iso_utc(ended_at)

    # --- in the database -----------------------------------------------------------------------------

    @classmethod
    def load(cls, database: sqlite3.Connection, run: RunInfo) -> Experiment:
        """Return the row of *run*, or a new one."""
        names = ", ".join(cls.__struct_fields__)
        row = database.execute(
            f"SELECT {names} FROM experiments WHERE project = ? AND experiment_id = ?",
            (run.project, run.run_id),
        ).fetchone()
        if row is None:
            return cls(experiment_id=run.run_id, project=run.project)
        fields = dict(zip(cls.__struct_fields__, row, strict=True))
        for name in _JSON:
            fields[name] = json.loads(fields[name])
        if fields["git_dirty"] is not None:
            fields["git_dirty"] = bool(fields["git_dirty"])
        return msgspec.convert(fields, cls)

    def save(self, database: sqlite3.Connection) -> None:
        """Write the row."""
        names = self.__struct_fields__
        database.execute(
            f"INSERT OR REPLACE INTO experiments ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            [as_json(value) if isinstance(value := getattr(self, name), dict) else value for name in names],
        )


def as_json(value: Mapping[str, object]) -> str:
    """Return *value* as JSON that people can read."""
    return json.dumps(value, ensure_ascii=False)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
