"""The tables that people ask, made of the cache and of what lies over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventlog.query import convert
from eventlog.query.extracted import EXTRACTED
from eventlog.query.prices import Prices
from eventlog.query.refresh import Refreshed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TIME = "TRY(make_timestamptz({name})) AS {name}"

_DATA = """json_group_object(
    key, CASE WHEN isfinite(value) THEN to_json(value) WHEN isnan(value) THEN to_json('NaN')
              WHEN value > 0 THEN to_json('Infinity') ELSE to_json('-Infinity') END)"""
"""The points of one event, as it was logged; whether a number was whole is not known any more."""

_BODIES = {
    "runs": f"""
        SELECT project, run_id, name, experiment, status, {_TIME.format(name="started_at")},
               {_TIME.format(name="ended_at")}, duration_s, parent_run_id, tags, note, params, summary,
               error_type, error_message, exit_code, events, dropped, damage, host, git_commit, path,
               devices, list_sum(map_values(devices)) AS device_hours, energy_kwh,
               {{cost}} AS cost, {{currency}} AS currency
        FROM all_runs
    """,
    "metrics": f"""
        SELECT project, run_id, key, step, {_TIME.format(name="ts")}, value, writer, rank, seq FROM all_points
    """,
    "params": "SELECT project, run_id, key, value FROM all_params",
    "tags": "SELECT project, run_id, tag, value FROM all_tags",
    "artifacts": f"""
        SELECT project, run_id, name, type, version, path, stored, size_bytes, sha256,
               {_TIME.format(name="ts")}
        FROM all_artifacts
    """,
    "damage": """
        SELECT project, run_id, writer, segment, problem, start_byte, end_byte, first_seq, last_seq, detail
        FROM all_damage
    """,
    "summaries": """
        SELECT project, run_id, key, arg_max(last, last_at) AS last, min(min) AS min, max(max) AS max,
               sum(sum) / sum(count) AS mean, sum(count)::BIGINT AS count,
               arg_min(first_step, first_step_at) AS first_step, arg_max(last_step, last_step_at) AS last_step
        FROM all_parts GROUP BY project, run_id, key
    """,
    "events": f"""
        SELECT project, run_id, writer, rank, seq, {_TIME.format(name="ts")}, type, payload
        FROM all_events
        UNION ALL
        SELECT project, run_id, writer, rank, seq, {_TIME.format(name="ts")}, 'metrics' AS type,
               CASE WHEN step IS NULL
                    THEN json_object('seq', seq, 'ts', ts, 'type', 'metrics', 'data', data)
                    ELSE json_object('seq', seq, 'ts', ts, 'type', 'metrics', 'step', step, 'data', data)
               END AS payload
        FROM (
            SELECT m.project, m.run_id, m.writer, m.rank, m.seq, m.ts, m.step, {_DATA} AS data
            FROM all_points AS m ANTI JOIN (
                SELECT project, run_id, writer, seq FROM all_events WHERE type = 'metrics'
            ) AS whole ON m.project = whole.project AND m.run_id = whole.run_id
                      AND m.writer = whole.writer AND m.seq = whole.seq
            GROUP BY m.project, m.run_id, m.writer, m.rank, m.seq, m.ts, m.step
        ) AS of_event
    """,
}


def create_views(connection: DuckDBPyConnection, state: Refreshed, prices: Prices | None = None) -> None:
    """Create all tables of `eventlog.tables` as views in *connection*."""
    for name, body in definitions(state, prices).items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {body}")


def definitions(state: Refreshed, prices: Prices | None = None) -> dict[str, str]:
    """Return the SQL of every view by its name; each needs only views that come before it.

    Args:
        prices: what runs cost follows from; without, the cost is NULL.
    """
    prices = prices or Prices()
    runs = _BODIES["runs"].format(cost=prices.cost_sql(), currency=prices.currency_sql())
    return rows_that_count(state) | _BODIES | {"runs": runs} | EXTRACTED


def rows_that_count(state: Refreshed, prefix: str = "all") -> dict[str, str]:
    """Return the SQL of ``<prefix>_<table>`` for each table of the cache: what is in it, and over it."""
    gone = [*state.manifest.gone, *state.overlay.replaced]
    return {f"{prefix}_{table}": _all(table, state, gone, prefix) for table in convert.STORED}


def _all(table: str, state: Refreshed, gone: list[tuple[str, str, int]], prefix: str) -> str:
    """Return the SQL for the rows of *table* that count."""
    files = state.manifest.files.get(table, [])
    parts = []
    if files:
        source = f"SELECT * FROM {convert.read_parquet(state.directory, files)} AS t"
        if gone:
            source += f" ANTI JOIN {gone_rows(gone)} AS gone ON t.project = gone.project"
            source += " AND t.run_id = gone.run_id AND t.generation <= gone.generation"
        parts.append(source)
    if table in state.overlay.tables:
        parts.append(f"SELECT * FROM live_{table}")
    if not parts:
        return f"SELECT * FROM {convert.empty(table)}"
    union = " UNION ALL BY NAME ".join(parts)
    if table == "runs":
        newest = "max(generation) OVER (PARTITION BY project, run_id)"
        return f"SELECT * FROM ({union}) QUALIFY generation = {newest}"
    if table in convert.OF_RUNS:
        return f"SELECT * FROM ({union}) SEMI JOIN {prefix}_runs USING (project, run_id, generation)"
    return union


def gone_rows(gone: list[tuple[str, str, int]]) -> str:
    """Return the SQL for a relation of what does not count any more."""
    rows = ", ".join(f"({convert.quoted(p)}, {convert.quoted(r)}, {g})" for p, r, g in gone)
    return f"(SELECT * FROM (VALUES {rows}) AS g(project, run_id, generation))"
