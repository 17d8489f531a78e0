"""The tables whose columns are taken out of the payload of events, and views with an older tool's names."""

from __future__ import annotations

_RUN = "project, run_id"
_WHO = "writer, rank, seq"
_TS = "TRY(make_timestamptz(ts)) AS ts"


def _text(name: str) -> str:
    return f"(payload->>'$.{name}') AS \"{name}\""


def _whole(name: str) -> str:
    return f"TRY_CAST((payload->>'$.{name}') AS BIGINT) AS \"{name}\""


def _json(name: str) -> str:
    return f"(payload->'$.{name}')::JSON AS \"{name}\""


_METRICS = "TRY_CAST((payload->'$.metrics')::JSON AS MAP(VARCHAR, DOUBLE)) AS metrics"


def _of(kind: str, *columns: str) -> str:
    return f"SELECT {_RUN}, {', '.join(columns)}, {_TS}, {_WHO} FROM all_events WHERE type = '{kind}'"


EXTRACTED = {
    "checkpoints": _of(
        "checkpoint", _text("path"), _whole("step"), _METRICS, _whole("size_bytes"), _text("sha256")
    ),
    "evaluations": _of("evaluation", _text("benchmark"), _whole("step"), _METRICS, _json("data")),
    "samples": _of(
        "sample",
        _text("benchmark"),
        _whole("index"),
        _json("input"),
        _json("target"),
        _json("prediction"),
        _METRICS,
        "TRY_CAST((payload->>'$.latency_ms') AS DOUBLE) AS latency_ms",
    ),
    "datasets": _of(
        "dataset",
        *map(_text, ("name", "version", "split", "path", "sha256")),
        _whole("rows"),
        _json("data"),
    ),
    "system": f"""
        SELECT {_RUN}, unnest(map_keys(numbers)) AS key, unnest(map_values(numbers)) AS value, {_TS}, {_WHO}
        FROM (SELECT *, TRY_CAST((payload->'$.data')::JSON AS MAP(VARCHAR, DOUBLE)) AS numbers
              FROM all_events WHERE type = 'system')
    """,
    "console": _of("console", _text("stream"), "coalesce((payload->>'$.text'), '') AS text"),
    "experiments": """
        SELECT r.project, r.run_id AS experiment_id, r.name, r.experiment, r.params AS config, r.status,
               r.note AS notes, r.git_commit, g.branch AS git_branch, g.dirty AS git_dirty,
               r.started_at AS created_at, r.ended_at AS finished_at, r.duration_s
        FROM runs AS r LEFT JOIN (
            SELECT project, run_id, arg_max((payload->>'$.data.branch'), ts) AS branch,
                   arg_max(TRY_CAST((payload->>'$.data.dirty') AS BOOLEAN), ts) AS dirty
            FROM all_events WHERE type = 'context' AND (payload->>'$.kind') = 'git' GROUP BY project, run_id
        ) AS g ON g.project = r.project AND g.run_id = r.run_id
    """,
    "training_metrics": """
        SELECT project, run_id AS experiment_id, step, key AS metric_name, value AS metric_value,
               ts AS timestamp
        FROM metrics
    """,
    "evaluation_results": """
        SELECT project, run_id AS experiment_id, benchmark, step, unnest(map_keys(metrics)) AS metric_name,
               unnest(map_values(metrics)) AS metric_value, ts AS timestamp
        FROM evaluations
    """,
}
"""The SQL of each of these views by its name, over the views of `eventlog.query.views`."""
