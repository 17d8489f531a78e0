"""Histories of runs for the tests of the cache, and what a plain fold over their events says."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from eventlog.errors import BadValueError
from eventlog.events import (
    AnyEvent,
    Context,
    Event,
    Metrics,
    RingInfo,
    SegmentOpened,
    System,
    UnknownEvent,
    type_name,
)
from eventlog.projections import RunFold
from eventlog.query.gather import FOLDED
from eventlog.query.refresh import Refreshed, refresh
from eventlog.query.views import definitions
from eventlog.replay import alive_writers, open_run
from eventlog.storage.artifacts import resolve
from eventlog.storage.block import Finding
from eventlog.storage.layout import iter_runs
from eventlog.storage.merge import RunReader, Slice
from eventlog.storage.system import host_name
from eventlog.storage.writer import process_start
from eventlog.values import number_in_memory, number_on_disk
from tests.logs import LogMaker

Row = tuple[Any, ...]
Tables = dict[str, list[Row]]

COLUMNS = {
    "runs": "project, run_id, name, experiment, status, epoch_us(started_at), epoch_us(ended_at), "
    "duration_s, parent_run_id, tags, note, params, summary, error_type, error_message, exit_code, "
    "events, dropped, damage, host, git_commit, path, devices, energy_kwh",
    "metrics": "project, run_id, key, step, epoch_us(ts), value, writer, rank, seq",
    "params": "project, run_id, key, value",
    "tags": "project, run_id, tag, value",
    "artifacts": "project, run_id, name, type, version, path, stored, size_bytes, sha256, epoch_us(ts)",
    "summaries": "project, run_id, key, last, min, max, mean, count, first_step, last_step",
    "events": "project, run_id, writer, rank, seq, epoch_us(ts), type, payload",
    "damage": "project, run_id, writer, segment, problem, start_byte, end_byte, first_seq, last_seq, detail",
}
"""What is compared of each table."""

_CRC = re.compile(rb',"crc":"[0-9a-f]{8}"\}$')


class HistoryMaker(LogMaker):
    """Makes segments as different writers do.

    Args:
        kind: ``ours``; ``running``: this very process; ``foreign``: another software, with or without
            checksums.
    """

    def __init__(self, writer: str, *, kind: str = "ours", start_ts: int = 0, with_crc: bool = True) -> None:
        super().__init__(writer, **({"start_ts": start_ts} if start_ts else {}))
        self.kind, self.with_crc = kind, with_crc

    def _header(self, format: int) -> SegmentOpened:
        header = super()._header(format)
        if self.kind == "running":
            pid = os.getpid()
            return msgspec.structs.replace(
                header,
                ring=RingInfo(kind="memory", size_bytes=4096),
                host=host_name(),
                pid=pid,
                pid_started=process_start(pid),
            )
        return msgspec.structs.replace(header, software="logger 3") if self.kind == "foreign" else header

    def lines(self, events: Sequence[Event], *, is_sealed: bool) -> list[bytes]:
        """Return the lines of the next segment."""
        lines = self.segment(events, is_sealed=is_sealed)
        if self.kind == "foreign" and not self.with_crc:
            return [_CRC.sub(b"}", line[:-1]) + b"\n" for line in lines]
        return lines


def ask(root: Path, tables: Sequence[str] = tuple(COLUMNS), *, wants_all: bool = False) -> Tables:
    """Bring the cache up to date and return all rows of *tables*, in an order that does not matter."""
    with duckdb.connect(":memory:") as connection:
        return read_tables(connection, refresh(root, connection, wants_all=wants_all), tables)


def read_tables(
    connection: duckdb.DuckDBPyConnection, state: Refreshed, tables: Sequence[str] = tuple(COLUMNS)
) -> Tables:
    """Return all rows of *tables*, in an order that does not matter."""
    for name, body in definitions(state).items():
        if name.startswith("all_") or name in tables:
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {body}")
    return {
        table: _sorted(
            _clean(table, row)
            for row in connection.execute(f"SELECT {COLUMNS[table]} FROM {table}").fetchall()
        )
        for table in tables
    }


def fold(root: Path) -> Tables:
    """Return the same by reading every log from its first byte and folding it in plain Python."""
    tables: dict[str, list[Row]] = {table: [] for table in COLUMNS}
    for run in iter_runs(root):
        for table, rows in _fold_run(run.project, run.run_id, run.path).items():
            tables[table] += [_clean(table, (run.project, run.run_id, *row)) for row in rows]
    return {table: _sorted(rows) for table, rows in tables.items()}


def _fold_run(project: str, run_id: str, path: Path) -> dict[str, list[Row]]:
    reader = open_run(path)
    fold = RunFold(project, run_id)
    points: dict[str, list[tuple[float, int | None]]] = {}
    found: dict[str, list[Row]] = {table: [] for table in COLUMNS}
    last_ts = None
    usage = _UsageModel()
    for part in reader.slices():
        for event, raw in _with_lines(part):
            event = _whole(path, reader, part, event)
            last_ts = event.ts if last_ts is None else max(last_ts, event.ts)
            usage.take(part.writer, part.rank, event)
            who = (part.writer, part.rank, event.seq)
            found["events"].append((*who, event.ts, type_name(event), raw.decode(errors="replace")))
            if not isinstance(event, Metrics):
                fold.apply_slice(part.writer, part.rank, [event])
                continue
            fold.skip(1)
            # No column of SQL holds a step that only a foreign writer can make.
            step = event.step if event.step is None or abs(event.step) < 1 << 63 else None
            for key, value in _numbers(event):
                found["metrics"].append((key, step, event.ts, value, *who))
                name = f"rank{part.rank}/{key}" if part.rank else key
                points.setdefault(name, []).append((value, step))
    fold.note_time(last_ts)
    alive = alive_writers(reader)
    findings = _findings(reader, alive)
    view = fold.view(alive, findings=len(findings))
    git, environment = view.context.get("git", {}), view.context.get("environment", {})
    host = environment.get("host") or view.context.get("command", {}).get("host")
    found["runs"].append(
        (
            *(view.name, view.experiment, view.status, view.started_at, view.ended_at, view.duration_s),
            *(view.parent_run_id, view.tags, "\n".join(view.notes) or None, view.params, view.summary),
            *(view.error and view.error.type, view.error and view.error.message),
            *(view.exit_code, view.events, sum(view.dropped.values()), len(findings)),
            *(_text(host), _text(git.get("commit")), str(path), usage.hours(), usage.energy()),
        )
    )
    found["params"] = [(key, _text(value)) for key, value in view.flat_params.items()]
    found["tags"] = list(view.tags.items())
    found["artifacts"] = [
        (a.name, a.artifact_type, a.version, a.path, a.stored, a.size_bytes, a.sha256, a.ts)
        for a in view.artifacts
    ]
    found["summaries"] = [_summary(key, values) for key, values in points.items()]
    found["damage"] = [
        (f.writer, f.segment, str(f.problem), f.start, f.end, f.first_seq, f.last_seq, f.detail)
        for f in findings
    ]
    return found


class _UsageModel:
    """What a run has used, reckoned for each device microsecond by microsecond."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._said: dict[str, dict[str, Any]] = {}
        self._of_rank: dict[int, dict[str, Any]] = {}
        self._energy: dict[str, float] = {}

    def take(self, writer: str, rank: int, event: AnyEvent) -> None:
        self._last[writer] = max(event.ts, self._last.get(writer, event.ts))
        if type_name(event) in FOLDED and writer not in self._first:
            self._first[writer] = self._last[writer]
            if rank in self._of_rank:
                self._said[writer] = self._of_rank[rank]
        if isinstance(event, Context) and event.kind == "hardware":
            self._said[writer] = self._of_rank[rank] = event.data
        if isinstance(event, System) and isinstance(event.data.get("energy_kwh"), float):
            self._energy[writer] = float(event.data["energy_kwh"])

    def hours(self) -> dict[str, float] | None:
        """Return the hours of each device; tests say hardware in whole lists, and name each device."""
        held: dict[tuple[str, int, str], set[int]] = {}
        for writer, data in self._said.items():
            moments = set(range(self._first[writer], self._last[writer]))
            for number, gpu in enumerate(data["gpus"] or [{"name": "host"}]):
                held.setdefault((data["host"], number, gpu["name"]), set()).update(moments)
        hours: dict[str, float] = {}
        for (_, _, name), moments in sorted(held.items()):
            hours[name] = hours.get(name, 0.0) + len(moments) / 3.6e9
        return hours or None

    def energy(self) -> float | None:
        return math.fsum(self._energy.values()) if self._energy else None


def _with_lines(part: Slice) -> Iterator[tuple[AnyEvent, bytes]]:
    begin = part.stop - len(part.events)
    return zip(part.events, part.block.lines[begin : part.stop], strict=True)


def _whole(path: Path, reader: RunReader, part: Slice, event: AnyEvent) -> AnyEvent:
    """Return *event* with its payload, which replay leaves out where a block holds nothing but metrics."""
    if not isinstance(event, Metrics) or event.payload is None:
        return event
    try:
        return resolve(path, event)
    except (OSError, BadValueError, msgspec.MsgspecError) as error:
        if not any(f.first_seq == event.seq and f.writer == part.writer for f in reader.findings):
            reader.writers[part.writer].note_payload(part.block, event.seq, str(error))
        return event


def _numbers(event: Metrics) -> Iterator[tuple[str, float]]:
    for key, value in event.data.items():
        try:
            yield key, number_in_memory(value)
        except BadValueError:
            continue
        except OverflowError:
            assert isinstance(value, int)
            yield key, math.inf if value > 0 else -math.inf


def _summary(key: str, values: list[tuple[float, int | None]]) -> Row:
    numbers = [value for value, _ in values]
    real = [value for value in numbers if value == value]
    steps = [step for _, step in values if step is not None]
    return (
        key,
        numbers[-1],
        min(real, default=None),
        max(real, default=None),
        sum(numbers) / len(numbers),
        len(numbers),
        steps[0] if steps else None,
        steps[-1] if steps else None,
    )


def _findings(reader: RunReader, alive: set[str]) -> list[Finding]:
    found = list(reader.findings)
    for name, one in reader.writers.items():
        for report in one.reports(is_alive=name in alive):
            found += [f for f in report.findings if f.is_loss and f not in found]
    return found


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(number_on_disk(value))
    return msgspec.json.encode(value).decode()


def _clean(table: str, row: Row) -> Row:
    """Return *row* so that equal ones compare equal: no NaN, texts of JSON as what they say."""
    cells = [_cell(cell) for cell in row]
    if table == "runs":
        cells[11], cells[12] = _said(cells[11]), _said(cells[12])
        cells[7] = None if cells[7] is None else round(cells[7], 6)
        cells[22] = cells[22] and {name: round(hours * 3.6e9) for name, hours in sorted(cells[22].items())}
    if table == "events":
        cells[7] = _event(cells[7], str(cells[6]))
    if table == "summaries" and isinstance(cells[6], float) and math.isfinite(cells[6]):
        # The order of a sum is not fixed; nor is where one of the largest numbers overflows.
        cells[6] = "large" if abs(cells[6]) > 1e290 else float(f"{cells[6]:.9g}")
    if table == "damage" and str(cells[9]).startswith("payload: "):
        cells[5] = cells[6] = 0
    return tuple(cells)


def _cell(cell: object) -> Any:
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    return cell


def _said(cell: object) -> object:
    return json.loads(cell) if isinstance(cell, str) else json.loads(msgspec.json.encode(cell))


def _event(payload: object, kind: str) -> object:
    """Return what the line of an event says; of metrics without what is not kept."""
    try:
        fields = json.loads(str(payload))
    except ValueError:
        return payload
    if kind != "metrics" or not isinstance(fields, dict):
        return fields
    data = fields.get("data")
    if not isinstance(data, dict) or "payload" in fields or not data:
        return fields
    fields["data"] = {key: _number(value) for key, value in data.items()}
    return {name: value for name, value in fields.items() if name != "crc"}


def _number(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return "Infinity" if value > 0 else "-Infinity"
    return value


def _sorted(rows: Any) -> list[Row]:
    return sorted(rows, key=repr)


__all__ = ["COLUMNS", "HistoryMaker", "UnknownEvent", "ask", "fold", "read_tables"]
