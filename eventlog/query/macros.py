"""Questions with a name: functions that give a table, to be asked like one.

`docs/reference/query.md` describes each. A run is named by its id, or as PROJECT/ID.
"""

from __future__ import annotations

_IS_RUN = (
    "m.run_id = split_part(run, '/', -1) "
    "AND (NOT contains(run, '/') OR m.project = split_part(run, '/', 1)) AND m.key = metric"
)
"""Of constants only, so that DuckDB finds the run's rows without reading those of others."""

SIGNATURES = {
    "series(run, metric)": "the points of one metric of one run, by step",
    "smooth(metric, n)": "each run's points, and the mean of the last n of them that are finite",
    "best(metric, mode)": "each run's smallest ('min') or largest ('max') point",
    "at_step(metric, n)": "each run's last point up to step n",
    "downsample(run, metric, n)": "at most n points of one metric of one run, the extremes among them",
}
"""How each is called, and what its rows are."""

MACROS = {
    "series": f"""
        series(run, metric) AS TABLE
        SELECT m.step, m.ts, m.value, m.project, m.run_id, m.writer, m.rank, m.seq
        FROM metrics AS m WHERE {_IS_RUN} ORDER BY m.step, m.ts, m.writer, m.seq
    """,
    "smooth": """
        smooth(metric, n) AS TABLE
        SELECT m.project, m.run_id, m.rank, m.step, m.ts, m.value,
               avg(m.value) FILTER (isfinite(m.value)) OVER (
                   PARTITION BY m.project, m.run_id, m.rank ORDER BY m.step, m.ts, m.writer, m.seq
                   ROWS BETWEEN (n - 1) PRECEDING AND CURRENT ROW) AS smoothed
        FROM metrics AS m WHERE m.key = metric
    """,
    "best": """
        best(metric, mode) AS TABLE
        SELECT project, run_id, point.step AS step, point.ts AS ts, point.value AS value
        FROM (SELECT m.project, m.run_id,
                     arg_min({'step': m.step, 'ts': m.ts, 'value': m.value},
                             {'v': CASE mode WHEN 'min' THEN m.value WHEN 'max' THEN -m.value
                                             ELSE error('best(metric, mode): ''min'' or ''max''.') END,
                              's': m.step, 't': m.ts}) AS point
              FROM metrics AS m WHERE m.key = metric AND NOT isnan(m.value)
              GROUP BY m.project, m.run_id)
    """,
    "at_step": """
        at_step(metric, n) AS TABLE
        SELECT project, run_id, point.step AS step, point.ts AS ts, point.value AS value
        FROM (SELECT m.project, m.run_id,
                     arg_max({'step': m.step, 'ts': m.ts, 'value': m.value},
                             {'s': m.step, 't': m.ts, 'w': m.writer, 'q': m.seq}) AS point
              FROM metrics AS m WHERE m.key = metric AND m.step <= n
              GROUP BY m.project, m.run_id)
    """,
    "downsample": f"""
        downsample(run, metric, n) AS TABLE
        WITH numbered AS (
            SELECT m.step, m.ts, m.value, row_number() OVER (ORDER BY m.step, m.ts, m.writer, m.seq) AS place,
                   count(*) OVER () AS total
            FROM metrics AS m WHERE {_IS_RUN}
        ), bucketed AS (
            SELECT *, CASE WHEN total <= n THEN place
                           ELSE (place - 1) * greatest(1, n // 2) // total END AS bucket
            FROM numbered
        ), kept AS (
            SELECT unnest([
                coalesce(arg_min(place, value) FILTER (NOT isnan(value)), min(place)),
                coalesce(arg_max(place, value) FILTER (NOT isnan(value)), min(place))
            ]) AS place
            FROM bucketed GROUP BY bucket
        )
        SELECT step, ts, value FROM numbered SEMI JOIN kept USING (place) ORDER BY place
    """,
}
"""What stands behind ``CREATE MACRO``, by name. No parameter has the name of a column."""
