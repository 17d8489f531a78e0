"""What is known of a run, as rows of the tables of the cache."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from eventlog import events as ev
from eventlog.devices import Span, device_hours
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.projections import RunView
from eventlog.storage.block import Finding
from eventlog.storage.layout import RunPath
from eventlog.values import number_in_memory, number_on_disk

Row = Mapping[str, object]


class Usage(NamedTuple):
    """What a run has used: hours of each kind of device, and energy, as far as they are known."""

    hours: dict[str, float] | None = None
    energy_kwh: float | None = None


def energy_of(event: AnyEvent) -> float | None:
    """Return the energy that its writer has measured so far, if *event* says it."""
    value = event.data.get("energy_kwh") if isinstance(event, ev.System) else None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if is_number and value is not None else None


def usage_of(
    events: Iterable[tuple[str, int, AnyEvent]],
    spans: Mapping[str, Span],
    energies: Iterable[float | None],
) -> Usage:
    """Return what a run has used.

    Args:
        events, spans: as `device_hours` takes them.
        energies: what each writer has measured.
    """
    known = [energy for energy in energies if energy is not None]
    return Usage(device_hours(events, spans) or None, math.fsum(known) if known else None)


def run_row(run: RunPath, view: RunView, usage: Usage) -> Row:
    """Return the row of `runs`."""
    git = view.context.get("git", {})
    command = view.context.get("command", {})
    environment = view.context.get("environment", {})
    return {
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status,
        "started_at": int_of(view.started_at, 64),
        "ended_at": int_of(view.ended_at, 64),
        "duration_s": view.duration_s,
        "parent_run_id": view.parent_run_id,
        "tags": view.tags,
        "note": "\n".join(view.notes) or None,
        # As texts: DuckDB would read a large number in them as another one.
        "params": _json(view.params),
        "summary": _json(view.summary),
        "error_type": view.error.type if view.error else None,
        "error_message": view.error.message if view.error else None,
        "exit_code": int_of(view.exit_code, 32),
        "events": view.events,
        "dropped": int_of(sum(view.dropped.values()), 64),
        "damage": view.findings,
        "host": _text_or_none(environment.get("host") or command.get("host")),
        "git_commit": _text_or_none(git.get("commit")),
        "devices": usage.hours,
        "energy_kwh": usage.energy_kwh,
        "path": os.fsencode(run.path).decode(errors="replace"),
    }


def param_rows(view: RunView) -> list[Row]:
    """Return the rows of `params`."""
    return [{"key": key, "value": _text_or_none(value)} for key, value in view.flat_params.items()]


def tag_rows(view: RunView) -> list[Row]:
    """Return the rows of `tags`."""
    return [{"tag": tag, "value": value} for tag, value in view.tags.items()]


def artifact_rows(view: RunView) -> list[Row]:
    """Return the rows of `artifacts`."""
    return [
        {
            "name": artifact.name,
            "type": artifact.artifact_type,
            "version": int_of(artifact.version, 32),
            "path": artifact.path,
            "stored": artifact.stored,
            "size_bytes": int_of(artifact.size_bytes, 64),
            "sha256": artifact.sha256,
            "ts": int_of(artifact.ts, 64),
        }
        for artifact in view.artifacts
    ]


def damage_row(finding: Finding) -> Row:
    """Return the row of `damage`."""
    return {
        "writer": finding.writer,
        "segment": int_of(finding.segment, 32),
        "problem": str(finding.problem),
        "start_byte": finding.start,
        "end_byte": finding.end,
        "first_seq": int_of(finding.first_seq, 64),
        "last_seq": int_of(finding.last_seq, 64),
        "detail": finding.detail,
    }


def points_of(event: ev.Metrics) -> dict[str, float | str]:
    """Return the values of *event* that are numbers, as they stand on disk."""
    points = {}
    for key, value in event.data.items():
        try:
            points[key] = number_on_disk(number_in_memory(value))
        except BadValueError:
            continue  # a foreign writer's: the event stays among the events, as it lies
        except OverflowError:  # an int of hundreds of digits
            points[key] = "Infinity" if isinstance(value, int) and value > 0 else "-Infinity"
    return points


def int_of(value: int | None, bits: int) -> int | None:
    """Return *value* if a column of so many *bits* can hold it."""
    limit = 1 << (bits - 1)
    return value if value is not None and -limit <= value < limit else None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text_or_none(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(number_on_disk(value))
    return _json(value)
