"""Time travel: every table as it was at a moment.

Rows that came later are left out. What is known of a run as a whole (its status, params, tags, artifacts,
summaries) is folded anew for those runs that went on after the moment; of all others it is what it is now.
Damage has no time: it is shown as it is found today.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from eventlog.codec import decode
from eventlog.devices import Span
from eventlog.errors import BadValueError, QueryError
from eventlog.events import AnyEvent
from eventlog.projections import RunFold
from eventlog.query import convert
from eventlog.query.convert import quoted
from eventlog.query.gather import FOLDED, Gathering, ScratchError
from eventlog.query.naming import pick_run
from eventlog.query.refresh import NEVER, Refreshed
from eventlog.query.rows import Usage, energy_of, usage_of
from eventlog.query.views import rows_that_count
from eventlog.storage.artifacts import resolve
from eventlog.storage.layout import RunPath

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_EVENT = re.compile(r"(?P<run>.+?)(?::(?P<writer>r\d+-[0-9A-Z]{26}))?:(?P<seq>\d+)", re.DOTALL)
_SOMEBODY = ("somebody",)
_FOLDED = ("runs", "params", "tags", "artifacts")


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A time, or an event: then of its writer everything up to it counts, of all others what came before.

    Attributes:
        ts: microseconds since the epoch, UTC.
        event: project, run id, writer and seq.
    """

    ts: int
    event: tuple[str, str, str, int] | None = None

    def sql(self) -> str:
        """Return the condition that a row of points or events was there."""
        if self.event is None:
            return f"ts <= {self.ts}"
        project, run_id, writer, seq = self.event
        is_its = f"(project = {quoted(project)} AND run_id = {quoted(run_id)} AND writer = {quoted(writer)})"
        return f"(CASE WHEN {is_its} THEN seq <= {seq} ELSE ts <= {self.ts} END)"


def parse_time(text: str) -> int | None:
    """Return a time in ISO 8601 as microseconds; UTC if it names no zone; None if it is no time."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return microseconds(time)


def microseconds(time: datetime) -> int:
    """Return *time* as microseconds since the epoch; UTC if it has no zone."""
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class Past:
    """The tables as they were, over those of now in the same connection."""

    def __init__(self, root: Path, connection: DuckDBPyConnection, state: Refreshed) -> None:
        self._root, self._connection, self._state = root, connection, state

    def definitions(self, when: str | datetime) -> dict[str, str]:
        """Return the SQL of each ``all_<table>`` at *when*, and of what it needs.

        Raises:
            QueryError: *when* is neither a time nor an event.
            RunNotFoundError, AmbiguousRunError: it names no run, or several.
        """
        now = rows_that_count(self._state, "now")
        for name, body in now.items():
            self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS {body}")
        moment = self._moment(when)
        self._find_later(moment)
        tables = self._fold(moment)
        return now | self._definitions(moment, tables)

    # --- the moment --------------------------------------------------------------------------------

    def _moment(self, when: str | datetime) -> Moment:
        if isinstance(when, datetime):
            return Moment(ts=microseconds(when))
        ts = parse_time(when)
        if ts is not None:
            return Moment(ts=ts)
        match = _EVENT.fullmatch(when)
        if match is None:
            raise QueryError(
                f"{when!r} is no moment. Give a time such as 2026-01-31T12:00:00 (UTC unless it says "
                "otherwise), or RUN:SEQ, the number of an event of a run."
            )
        return self._event(match["run"], match["writer"], int(match["seq"]))

    def _event(self, name: str, writer: str | None, seq: int) -> Moment:
        project, run_id = self._run(name)
        is_run = f"project = {quoted(project)} AND run_id = {quoted(run_id)}"
        found = self._connection.execute(
            f"SELECT DISTINCT writer, ts FROM (SELECT * FROM now_events WHERE {is_run} "
            f"UNION ALL BY NAME SELECT * FROM now_points WHERE {is_run}) WHERE seq = $seq ORDER BY writer",
            {"seq": seq},
        ).fetchall()
        if writer is not None:
            found = [row for row in found if row[0] == writer]
        if not found:
            raise QueryError(f"The run {run_id!r} has no event {seq}. `SELECT seq FROM events` shows them.")
        if len(found) > 1:
            raise QueryError(
                f"{len(found)} writers of the run {run_id!r} have an event {seq}. Say whose: "
                f"{run_id}:WRITER:{seq}, where WRITER is one of {', '.join(row[0] for row in found)}."
            )
        return Moment(ts=found[0][1], event=(project, run_id, found[0][0], seq))

    def _run(self, name: str) -> tuple[str, str]:
        runs: list[tuple[str, str]] = self._connection.execute(
            "SELECT project, run_id FROM now_runs ORDER BY ALL"
        ).fetchall()
        return pick_run(runs, name, self._root)

    # --- runs that went on -------------------------------------------------------------------------

    def _find_later(self, moment: Moment) -> None:
        later = " UNION ".join(
            f"SELECT project, run_id FROM {table} WHERE ts > {moment.ts}"
            for table in ("now_points", "now_events")
        )
        if moment.event:
            later += f" UNION SELECT {quoted(moment.event[0])}, {quoted(moment.event[1])}"
        self._connection.execute(
            f"CREATE OR REPLACE TABLE asof_later AS SELECT DISTINCT project, run_id FROM ({later})"
        )

    def _fold(self, moment: Moment) -> list[str]:
        """Make ``asof_<table>`` of what was known of the runs that went on; return the tables."""
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=self._state.directory) as scratch:
            chunk = Gathering(Path(scratch), NEVER)
            try:
                for run, fold, damage, usage in self._folds(moment):
                    # Who was alive then is not known; a run that went on afterwards was running.
                    chunk.add_run(run, fold.view(set(_SOMEBODY), findings=damage), [], usage)
            except ScratchError as error:
                raise error.error from error
            finally:
                chunk.close()
            tables = convert.load(self._connection, chunk, "asof")
        keep(self._connection, "asof", tables)
        return tables

    def _folds(self, moment: Moment) -> Iterator[tuple[RunPath, RunFold, int, Usage]]:
        there = f"SEMI JOIN asof_later USING (project, run_id) WHERE {moment.sql()}"
        counts = self._connection.execute(f"""
            SELECT found.project, found.run_id, count(DISTINCT (writer, seq)), max(ts),
                   any_value(r.path), any_value(r.damage)
            FROM (SELECT project, run_id, writer, seq, ts FROM now_points {there}
                  UNION ALL SELECT project, run_id, writer, seq, ts FROM now_events {there}) AS found
            JOIN now_runs AS r ON r.project = found.project AND r.run_id = found.run_id
            GROUP BY found.project, found.run_id
        """).fetchall()
        lines = self._lines(moment, {(row[0], row[1]): Path(row[4]) for row in counts})
        ends, energies = self._ends(there), self._energies(there)
        for project, run_id, events, last_ts, path, damage in counts:
            fold = RunFold(project, run_id)
            told = lines.get((project, run_id), [])
            for writer, rank, event, _ in told:
                fold.apply_slice(writer, rank, [event])
            fold.skip(int(events) - fold.events)
            fold.note_time(last_ts)
            spans: dict[str, Span] = {}
            for writer, _, _, at in told:
                spans.setdefault(writer, (at, ends.get((project, run_id, writer), at)))
            usage = usage_of((line[:3] for line in told), spans, energies.get((project, run_id), []))
            yield RunPath(project, run_id, Path(path)), fold, damage, usage

    def _ends(self, there: str) -> dict[tuple[str, str, str], int]:
        """Return the time of the last event of each writer."""
        found = self._connection.execute(f"""
            SELECT project, run_id, writer, max(ts) FROM (
                SELECT project, run_id, writer, ts FROM now_points {there}
                UNION ALL SELECT project, run_id, writer, ts FROM now_events {there})
            GROUP BY ALL
        """).fetchall()
        return {(project, run_id, writer): at for project, run_id, writer, at in found}

    def _energies(self, there: str) -> dict[tuple[str, str], list[float | None]]:
        """Return what each writer had measured."""
        found = self._connection.execute(f"""
            SELECT project, run_id, writer, arg_max(payload, seq) FROM now_events {there}
            AND type = 'system' AND (payload->'$.data.energy_kwh') IS NOT NULL GROUP BY ALL
        """).fetchall()
        energies: dict[tuple[str, str], list[float | None]] = {}
        for project, run_id, _, payload in found:
            energies.setdefault((project, run_id), []).append(energy_of(decode(payload.encode())))
        return energies

    def _lines(
        self, moment: Moment, paths: Mapping[tuple[str, str], Path]
    ) -> dict[tuple[str, str], list[tuple[str, int, AnyEvent, int]]]:
        kinds = ", ".join(map(quoted, FOLDED))
        cursor = self._connection.execute(
            "SELECT project, run_id, writer, rank, payload, coalesce(sorted_at, ts) FROM now_events "
            f"SEMI JOIN asof_later USING (project, run_id) WHERE type IN ({kinds}) AND {moment.sql()} "
            "ORDER BY coalesce(sorted_at, ts), writer, seq"
        )
        lines: dict[tuple[str, str], list[tuple[str, int, AnyEvent, int]]] = {}
        while batch := cursor.fetchmany(10_000):
            for project, run_id, writer, rank, payload, at in batch:
                event = _whole(paths[(project, run_id)], decode(payload.encode()))
                lines.setdefault((project, run_id), []).append((writer, rank, event, at or event.ts))
        return lines

    # --- the tables --------------------------------------------------------------------------------

    def _definitions(self, moment: Moment, tables: list[str]) -> dict[str, str]:
        before = " ANTI JOIN asof_later USING (project, run_id)"
        found = {
            "all_points": f"SELECT * FROM now_points WHERE {moment.sql()}",
            "all_events": f"SELECT * FROM now_events WHERE {moment.sql()}",
            "all_parts": f"SELECT * FROM now_parts{before} UNION ALL BY NAME "
            + convert.parts_of("(SELECT * FROM all_points SEMI JOIN asof_later USING (project, run_id))"),
        }
        for table in _FOLDED:
            found[f"all_{table}"] = f"SELECT * FROM now_{table}{before}"
            if table in tables:
                found[f"all_{table}"] += f" UNION ALL BY NAME SELECT * FROM asof_{table}"
        found["all_damage"] = "SELECT * FROM now_damage SEMI JOIN all_runs USING (project, run_id)"
        return found


def _whole(run: Path, event: AnyEvent) -> AnyEvent:
    """Return *event* with its fields, also if they lie in a file beside the log."""
    try:
        return resolve(run, event)
    except (OSError, BadValueError, msgspec.MsgspecError):
        return event  # the table `damage` says so


def keep(connection: DuckDBPyConnection, prefix: str, tables: list[str]) -> None:
    """Make the temporary tables ``<prefix>_<table>`` ones that every cursor of *connection* sees."""
    for table in tables:
        name = f"{prefix}_{table}"
        connection.execute(f"CREATE OR REPLACE TABLE memory.main.{name} AS FROM temp.main.{name}")
        connection.execute(f"DROP TABLE temp.main.{name}")
