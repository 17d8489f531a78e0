"""The tables that people ask, made of the cache and of what lies over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventlog.query import convert
from eventlog.query.merge import gone_rows
from eventlog.query.refresh import Refreshed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TIME = "TRY(make_timestamptz({name})) AS {name}"

_DATA = """json_group_object(
    key, CASE WHEN isfinite(value) THEN to_json(value) ELSE to_json(value::VARCHAR) END)"""
"""The points of one event, as it was logged; whether a number was whole is not known any more."""

_BODIES = {
    "runs": f"""
        SELECT project, run_id, name, experiment, status, {_TIME.format(name="started_at")},
               {_TIME.format(name="ended_at")}, duration_s, parent_run_id, tags, note, params, summary,
               error_type, error_message, exit_code, events, dropped, damage, host, git_commit, path
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
        SELECT project, run_id, writer, rank, seq, {_TIME.format(name="ts")}, type, payload::JSON AS payload
        FROM all_events
        UNION ALL
        SELECT project, run_id, writer, rank, seq, {_TIME.format(name="ts")}, 'metrics' AS type,
               CASE WHEN step IS NULL
                    THEN json_object('seq', seq, 'ts', ts, 'type', 'metrics', 'data', {_DATA})
                    ELSE json_object('seq', seq, 'ts', ts, 'type', 'metrics', 'step', step, 'data', {_DATA})
               END AS payload
        FROM all_points GROUP BY project, run_id, writer, rank, seq, ts, step
    """,
}


def create_views(connection: DuckDBPyConnection, state: Refreshed) -> None:
    """Create all tables of `eventlog.tables` as views in *connection*."""
    gone = [*state.manifest.gone, *state.overlay.replaced]
    for table in convert.STORED:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW all_{table} AS {_all(table, state, gone)}")
    for name, body in _BODIES.items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {body}")


def _all(table: str, state: Refreshed, gone: list[tuple[str, str, int]]) -> str:
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
        return f"SELECT * FROM ({union}) SEMI JOIN all_runs USING (project, run_id, generation)"
    return union
