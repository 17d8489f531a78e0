"""Writes what was understood of a text log as a run.

The run's name, the bytes of the log and what the caller adds are its digest: the same import again adds
nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import msgspec

from eventlog import events as ev
from eventlog.importers.text.meaning import Point, Understanding
from eventlog.importers.text.observed import SavedFile
from eventlog.importers.writing import ImportedRun, import_run, imported_before
from eventlog.storage.layout import RunPath
from eventlog.values import key_text, metric_number, text, to_json

ARTIFACT = "source"


class TextImport(msgspec.Struct, frozen=True, kw_only=True):
    """How a log becomes a run.

    Attributes:
        params: more of them, or other values than the log says.
        tags: labels of the run.
        experiment: the group that it belongs to.
        keep_source: store the log itself as an artifact.
    """

    params: Mapping[str, object] = {}
    tags: Mapping[str, str | None] = {}
    experiment: str | None = None
    keep_source: bool = True


def import_text(
    source: Path, understood: Understanding, run: RunPath, options: TextImport | None = None
) -> Literal["imported", "was there"]:
    """Write *understood*, which was read from *source*, as *run*.

    Raises:
        RunExistsError: *run* is another run.
        OSError: the log cannot be read, or the run not be written.
    """
    options = options or TextImport()
    data = source.read_bytes()
    digest = _digest(data, understood, options)
    if imported_before(run, digest):
        return "was there"
    origin: dict[str, object] = {
        "importer": "text",
        "file": source.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "lines": understood.lines,
        "left_out": len(understood.left_out),
    }
    with import_run(run, digest=digest, origin=origin) as imported:
        began = understood.first_us or int(source.stat().st_mtime * 1e6)
        imported.add(
            ev.RunStarted(name=run.run_id, experiment=options.experiment, tags=dict(options.tags)), began
        )
        _write(imported, source, understood, options)
        imported.ended_at = understood.last_us
    return "imported"


def _digest(data: bytes, understood: Understanding, options: TextImport) -> str:
    return hashlib.sha256(data + msgspec.json.encode((understood, options), order="sorted")).hexdigest()


def _write(imported: ImportedRun, source: Path, understood: Understanding, options: TextImport) -> None:
    params = {
        key_text(key): to_json(value) for key, value in (understood.params | dict(options.params)).items()
    }
    if params:
        imported.add(ev.Params(data=params))
    if options.keep_source:
        imported.recorder.artifact(source, f"{ARTIFACT}/{source.name}", "log", copy=True)
    placed = [*_points(understood.points), *_others(source, understood)]
    for _, event, t_us in sorted(placed, key=lambda one: one[0]):
        imported.add(event, t_us)
    if understood.final:
        imported.add(
            ev.Summary(data={key_text(key): to_json(value) for key, value in understood.final.items()}),
            understood.last_us,
        )


_Placed = tuple[int, ev.Event, int | None]


def _points(points: Sequence[Point]) -> list[_Placed]:
    """Return one event for the points of a line and step."""
    found: list[_Placed] = []
    for (line, step, t_us), group in groupby(points, key=lambda point: (point.line, point.step, point.t_us)):
        data: dict[str, int | float | str] = {}
        for point in group:
            if point.key in data:
                found.append((line, ev.Metrics(step=step, data=data), t_us))
                data = {}
            data[point.key] = metric_number(point.key, point.value)
        found.append((line, ev.Metrics(step=step, data=data), t_us))
    return found


def _others(source: Path, understood: Understanding) -> list[_Placed]:
    found: list[_Placed] = [(file.line, _file(source, file), file.t_us) for file in understood.files]
    for grid in understood.grids:
        rows = [[to_json(cell) for cell in row] for row in grid.rows]
        table = ev.Table(key=f"table_{grid.line}", step=grid.step, columns=grid.columns, rows=rows)
        found.append((grid.line, table, grid.t_us))
    return found


def _file(source: Path, saved: SavedFile) -> ev.Event:
    """Return an event for a file that the log names; where it is still there, with its size."""
    path = source.parent / Path(saved.path).expanduser()
    is_there = path.is_file()
    size_bytes = path.stat().st_size if is_there else None
    where = text(str(path.absolute() if is_there else saved.path))
    if saved.is_checkpoint:
        return ev.Checkpoint(path=where, step=saved.step, size_bytes=size_bytes)
    return ev.Artifact(
        name=text(Path(saved.path).name),
        path=where,
        size_bytes=size_bytes,
        stored="reference",
        source=text(saved.path),
    )
