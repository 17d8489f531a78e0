"""What the rows of one experiment become: events, each with the time that it had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import tzinfo

import msgspec

from eventlog import events as ev
from eventlog.compat.benchmark_results import events_of
from eventlog.errors import BadValueError
from eventlog.importers import sqlite_columns as columns
from eventlog.importers.sqlite_rows import Database, Row, Source
from eventlog.values import key_text, metric_number, step_number, text, to_json

Timed = tuple[int | None, ev.Event]

_CONTEXTS = frozenset(
    {"command", "git", "environment", "hardware", "scheduler", "lineage", "seeds", "evaluation", "import"}
)


class Experiment(msgspec.Struct, kw_only=True):
    """An experiment as events.

    Attributes:
        start: of the run.
        contexts, params, summary: what else is known of it.
        timed: metrics, evaluations and checkpoints in the order of their times.
        left_out: what no event was made of, with counts.
        counts: of the rows that were read, by table.
    """

    start: ev.RunStarted
    started_us: int | None
    ended_us: int | None
    status: str
    contexts: list[ev.Context]
    params: dict[str, object]
    summary: dict[str, object]
    timed: list[Timed] = []
    left_out: Counter[str] = msgspec.field(default_factory=Counter)
    counts: Counter[str] = msgspec.field(default_factory=Counter)

    def events(self) -> Iterator[Timed]:
        """Yield everything, each event with its time; None: when the one before was."""
        times = [t_us for t_us, _ in self.timed if t_us is not None]
        yield self.started_us if self.started_us is not None else min(times, default=None), self.start
        for context in self.contexts:
            yield None, context
        if self.params:
            yield None, ev.Params(data=self.params)
        yield from self.timed
        if self.summary:
            yield None, ev.Summary(data=self.summary)


def experiment_of(database: Database, row: Row, zone: tzinfo) -> Experiment:
    """Return what *database* says of the experiment in *row*.

    Args:
        zone: of times that name none.
    """
    found = _described(database.sources["experiments"], row, zone)
    timed: list[Timed] = []
    for table, read in (
        ("training_metrics", _metrics),
        ("evaluation_results", _evaluations),
        ("checkpoints", _checkpoints),
    ):
        source = database.sources.get(table)
        if source is not None:
            reader = _Reader(source, zone, found)
            timed += _filled(read(reader, database.rows(table, row)), found.started_us)
    found.timed = sorted(timed, key=lambda pair: pair[0] or 0)
    return found


def _filled(timed: Iterator[Timed], start_us: int | None) -> Iterator[Timed]:
    """Give rows without a time that of the row before."""
    last = start_us
    for t_us, event in timed:
        last = t_us if t_us is not None else last
        yield last, event


# --- the experiment itself -------------------------------------------------------------------------


def _described(source: Source, row: Row, zone: tzinfo) -> Experiment:
    cells = {role: row[column] for role, column in source.roles.items()}
    config = columns.parsed(cells.get("config"))
    others = _others(source, row)
    left_out: Counter[str] = Counter()
    if config is None:
        params = others  # a column for each hyper-parameter
    else:
        params = config if isinstance(config, dict) else {"config": config}
        left_out = Counter({f"experiments.{name} (kept as context)": 1 for name in others})
    ended_us = columns.time_us(cells.get("end"), zone)
    contexts = _contexts(cells)
    if config is not None and others:
        contexts.append(ev.Context(kind="columns", data=_json(others)))
    name = cells.get("name")
    return Experiment(
        start=ev.RunStarted(
            name=text(str(name or cells["id"])),
            experiment=_text(cells.get("experiment")),
            tags=_tags(cells.get("tags")),
            notes=_text(cells.get("notes")),
        ),
        started_us=columns.time_us(cells.get("start"), zone),
        ended_us=ended_us,
        status=columns.status_of(cells.get("status"), has_end=ended_us is not None),
        contexts=contexts,
        params=_json(params),
        summary=_json(columns.json_object(cells.get("summary")) or {}),
        left_out=left_out,
        counts=Counter(experiments=1),
    )


def _contexts(cells: Mapping[str, object]) -> list[ev.Context]:
    found: dict[str, dict[str, object]] = {}
    environment = columns.json_object(cells.get("environment"))
    if (
        environment
        and set(environment) <= _CONTEXTS
        and all(isinstance(v, dict) for v in environment.values())
    ):
        found = {kind: _json(data) for kind, data in environment.items() if isinstance(data, dict)}
    elif environment:
        found = {"environment": _json(environment)}
    git = found.get("git", {})
    told = {"commit": _text(cells.get("commit")), "branch": _text(cells.get("branch"))}
    git |= {name: value for name, value in told.items() if value and name not in git}
    if cells.get("dirty") is not None and "is_dirty" not in git:
        git["is_dirty"] = str(cells["dirty"]).lower() in ("1", "true", "yes")
    if git:
        found["git"] = git
    return [ev.Context(kind=kind, data=data) for kind, data in found.items() if kind != "import"]


def _tags(value: object) -> dict[str, str | None]:
    given = columns.parsed(value)
    if isinstance(given, dict):
        return {text(k): None if v is None else text(str(v)) for k, v in given.items()}
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",")]
    return {key_text(tag): None for tag in given if tag} if isinstance(given, list) else {}


# --- rows with times -------------------------------------------------------------------------------


class _Reader:
    """The columns of a table, and what is left out of it."""

    def __init__(self, source: Source, zone: tzinfo, found: Experiment) -> None:
        self.source, self.roles, self._zone, self._found = source, source.roles, zone, found

    def cell(self, row: Row, role: str) -> object:
        column = self.roles.get(role)
        return row[column] if column is not None else None

    def time(self, row: Row) -> int | None:
        value = self.cell(row, "time")
        t_us = columns.time_us(value, self._zone)
        if value is not None and t_us is None:
            self.leave_out(f"{self.source.name}.{self.roles['time']}: times that cannot be read")
        return t_us

    def step(self, row: Row) -> int | None:
        try:
            value = self.cell(row, "step")
            return step_number(float(value) if isinstance(value, str) else value)
        except (BadValueError, ValueError):
            self.leave_out(f"{self.source.name}.{self.roles['step']}: steps that are no whole numbers")
            return None

    def count(self) -> None:
        self._found.counts[self.source.table] += 1

    def leave_out(self, what: str) -> None:
        self._found.left_out[what] += 1

    def others(self, row: Row) -> dict[str, object]:
        """Return the cells that no role was found for."""
        return _others(self.source, row)


def _metrics(reader: _Reader, rows: Iterator[Row]) -> Iterator[Timed]:
    """Yield metrics: one event for consecutive values of the same step and time."""
    current: tuple[int | None, int | None] | None = None
    data: dict[str, int | float | str] = {}
    for row in rows:
        reader.count()
        place, given = (reader.time(row), reader.step(row)), _values(reader, row)
        if data and (place != current or given.keys() & data.keys()):
            assert current is not None
            yield current[0], ev.Metrics(step=current[1], data=data)
            data = {}
        current = place
        data |= given
    if data and current is not None:
        yield current[0], ev.Metrics(step=current[1], data=data)


def _values(reader: _Reader, row: Row) -> dict[str, int | float | str]:
    """Return the numbers of a row: a name and a value, a JSON object, or a column for each."""
    where = reader.source.name
    if {"name", "value"} <= reader.roles.keys():
        value = columns.number(reader.cell(row, "value"))
        if value is None:
            reader.leave_out(f"{where}: values that are no numbers")
            return {}
        return {key_text(reader.cell(row, "name")): value}
    packed = columns.json_object(reader.cell(row, "metrics"))
    if packed is not None:
        return columns.numbers(packed)
    cells = reader.others(row)
    # A column of such a name that holds a number is a metric of its own.
    cells |= {
        reader.roles[role]: reader.cell(row, role) for role in ("name", "value") if role in reader.roles
    }
    found: dict[str, int | float | str] = {}
    for name, cell in cells.items():
        if isinstance(cell, (int, float)):
            found[name] = metric_number(name, cell)
        elif cell is not None:
            reader.leave_out(f"{where}.{name}: texts")
    return found


def _evaluations(reader: _Reader, rows: Iterator[Row]) -> Iterator[Timed]:
    if {"name", "value"} <= reader.roles.keys() and "metrics" not in reader.roles:
        yield from _long_evaluations(reader, rows)
        return
    for row in rows:
        reader.count()
        t_us, step = reader.time(row), reader.step(row)
        benchmark = str(reader.cell(row, "benchmark") or "evaluation")
        result = columns.json_object(reader.cell(row, "result"))
        measured = columns.json_object(reader.cell(row, "metrics"))
        told = reader.others(row) | (result or {})
        for event in events_of(benchmark, told if measured is None else told | {"metrics": measured}, step):
            if measured is not None and isinstance(event, ev.Evaluation):
                # The column stands for itself: it is not part of the data too.
                event = msgspec.structs.replace(event, metrics=columns.numbers(measured), data=_json(told))
            yield t_us, event


def _long_evaluations(reader: _Reader, rows: Iterator[Row]) -> Iterator[Timed]:
    """Yield evaluations of tables with a row for each number."""
    current: tuple[int | None, str, int | None] | None = None
    data: dict[str, int | float | str] = {}
    for row in rows:
        reader.count()
        place = (reader.time(row), str(reader.cell(row, "benchmark") or "evaluation"), reader.step(row))
        given = _values(reader, row)
        if current is not None and (place != current or given.keys() & data.keys()):
            yield current[0], ev.Evaluation(benchmark=text(current[1]), step=current[2], metrics=data)
            data = {}
        current = place
        data = data | given
    if current is not None:
        yield current[0], ev.Evaluation(benchmark=text(current[1]), step=current[2], metrics=data)


def _checkpoints(reader: _Reader, rows: Iterator[Row]) -> Iterator[Timed]:
    for row in rows:
        reader.count()
        path = reader.cell(row, "path")
        if path is None:
            reader.leave_out(f"{reader.source.name}: checkpoints without a path")
            continue
        measured = columns.json_object(reader.cell(row, "metrics")) or {}
        yield (
            reader.time(row),
            ev.Checkpoint(
                path=text(str(path)),
                step=reader.step(row),
                metrics=columns.numbers(measured),
                size_bytes=_size(reader.cell(row, "size_bytes"), reader.cell(row, "size_mb")),
                sha256=_text(reader.cell(row, "sha256")),
            ),
        )


def _size(size: object, size_mb: object) -> int | None:
    """Return a number of bytes, or None if neither cell holds one that a file may have."""
    if size is None and isinstance(size_mb, (int, float)) and 0 <= size_mb < 1 << 43:
        return round(size_mb * 1024 * 1024)
    return size if isinstance(size, int) and size >= 0 else None


def _others(source: Source, row: Row) -> dict[str, object]:
    """Return the cells that no role was found for, but for the row's own number and what is empty."""
    return {
        name: columns.parsed(row[name])
        for name in source.others
        if row[name] is not None and name.lower() not in {"id", "rowid", "project"}
    }


def _json(value: Mapping[str, object]) -> dict[str, object]:
    converted = to_json(value)
    return converted if isinstance(converted, dict) else {}


def _text(value: object) -> str | None:
    return None if value is None or value == "" else text(str(value))
