"""What `evlog query` offers: tables, columns, types and units.

The one definition: queries, the reference page and its test are made from it.
"""

from __future__ import annotations

import msgspec


class Column(msgspec.Struct, frozen=True):
    """A column: its name, its type in DuckDB, and what it means."""

    name: str
    type: str
    meaning: str


class Table(msgspec.Struct, frozen=True):
    """A table and what one row of it is."""

    name: str
    row: str
    columns: tuple[Column, ...]


_RUN = (
    Column("project", "VARCHAR", "project of the run"),
    Column("run_id", "VARCHAR", "id of the run, which is its directory's name"),
)
_WHO = (
    Column("writer", "VARCHAR", "process that logged it"),
    Column("rank", "INTEGER", "rank of that process, 0 without ranks"),
    Column("seq", "BIGINT", "number of the event in its writer's stream"),
)
_TS = Column("ts", "TIMESTAMPTZ", "time of the call, UTC")

RUNS = Table(
    "runs",
    "a run",
    (
        *_RUN,
        Column("name", "VARCHAR", "name that the run was given"),
        Column("experiment", "VARCHAR", "experiment that it belongs to"),
        Column("status", "VARCHAR", "running, finished, failed, killed or crashed"),
        Column("started_at", "TIMESTAMPTZ", "start, UTC"),
        Column("ended_at", "TIMESTAMPTZ", "end, UTC; NULL while there is none"),
        Column("duration_s", "DOUBLE", "seconds from the start to the end or to the last event"),
        Column("parent_run_id", "VARCHAR", "run that this one is nested in"),
        Column("tags", "MAP(VARCHAR, VARCHAR)", "labels; NULL for those without a value"),
        Column("note", "VARCHAR", "notes, joined by newlines"),
        Column("params", "JSON", "params, nested as they were logged"),
        Column("summary", "JSON", "final values and texts"),
        Column("error_type", "VARCHAR", "type of the exception that ended the run"),
        Column("error_message", "VARCHAR", "its message"),
        Column("exit_code", "INTEGER", "exit code of the command, under evlog run"),
        Column("events", "BIGINT", "number of events"),
        Column("dropped", "BIGINT", "number of events that a full disk cost"),
        Column("damage", "BIGINT", "number of places where the log is damaged"),
        Column("host", "VARCHAR", "machine that it ran on"),
        Column("git_commit", "VARCHAR", "commit of its code"),
        Column("path", "VARCHAR", "directory of the run"),
        Column(
            "devices",
            "MAP(VARCHAR, DOUBLE)",
            "hours by name of the device: its GPUs, or `host` for a machine without; NULL if not known",
        ),
        Column("device_hours", "DOUBLE", "their sum"),
        Column("energy_kwh", "DOUBLE", "kilowatt-hours that its devices measured; NULL if none did"),
        Column("cost", "DOUBLE", "hours times the prices of evlog.toml; NULL if a price is not known"),
        Column("currency", "VARCHAR", "what the cost is in, as evlog.toml says"),
    ),
)
METRICS = Table(
    "metrics",
    "one value of one metric",
    (
        *_RUN,
        Column("key", "VARCHAR", "name of the metric"),
        Column("step", "BIGINT", "step; NULL if none was given"),
        _TS,
        Column("value", "DOUBLE", "value; NaN and infinities as they were"),
        *_WHO,
    ),
)
PARAMS = Table(
    "params",
    "one param of a run",
    (
        *_RUN,
        Column("key", "VARCHAR", "name, nested ones dotted"),
        Column("value", "VARCHAR", "value; what is no text as JSON"),
    ),
)
SUMMARIES = Table(
    "summaries",
    "one metric of a run, in few numbers",
    (
        *_RUN,
        Column("key", "VARCHAR", "name of the metric; those of other ranks begin with rank<k>/"),
        Column("last", "DOUBLE", "last value"),
        Column("min", "DOUBLE", "smallest value that is a number"),
        Column("max", "DOUBLE", "largest value that is a number"),
        Column("mean", "DOUBLE", "arithmetic mean"),
        Column("count", "BIGINT", "number of values"),
        Column("first_step", "BIGINT", "step of the first value that has one"),
        Column("last_step", "BIGINT", "step of the last value that has one"),
    ),
)
EVENTS = Table(
    "events",
    "one event, as it lies in the log",
    (
        *_RUN,
        *_WHO,
        _TS,
        Column("type", "VARCHAR", "kind of the event"),
        Column("payload", "JSON", "the whole line"),
    ),
)
TAGS = Table(
    "tags",
    "one label of a run",
    (*_RUN, Column("tag", "VARCHAR", "name"), Column("value", "VARCHAR", "value, NULL for none")),
)
ARTIFACTS = Table(
    "artifacts",
    "one version of a logged file or directory",
    (
        *_RUN,
        Column("name", "VARCHAR", "name below artifacts/"),
        Column("type", "VARCHAR", "kind that the user gave"),
        Column("version", "INTEGER", "1, 2, … for one name"),
        Column("path", "VARCHAR", "below the run for copies, else where it lies"),
        Column("stored", "VARCHAR", "copy or reference"),
        Column("size_bytes", "BIGINT", "bytes"),
        Column("sha256", "VARCHAR", "hash of the content"),
        _TS,
    ),
)
DAMAGE = Table(
    "damage",
    "one place where a log is not what was written",
    (
        *_RUN,
        Column("writer", "VARCHAR", "process whose log it is"),
        Column("segment", "INTEGER", "number of the segment"),
        Column("problem", "VARCHAR", "damaged range, missing events, cut or newer format"),
        Column("start_byte", "BIGINT", "first byte in the segment"),
        Column("end_byte", "BIGINT", "byte after the last"),
        Column("first_seq", "BIGINT", "first event that is lost, if known"),
        Column("last_seq", "BIGINT", "last event that is lost, if known"),
        Column("detail", "VARCHAR", "what was seen"),
    ),
)

_METRICS = Column("metrics", "MAP(VARCHAR, DOUBLE)", "values by metric; NaN and infinities as they were")
CHECKPOINTS = Table(
    "checkpoints",
    "one saved state of a model",
    (
        *_RUN,
        Column("path", "VARCHAR", "where it lies"),
        Column("step", "BIGINT", "step at which it was saved; NULL if none was given"),
        _METRICS,
        Column("size_bytes", "BIGINT", "bytes"),
        Column("sha256", "VARCHAR", "hash of the content"),
        _TS,
        *_WHO,
    ),
)
EVALUATIONS = Table(
    "evaluations",
    "one result of a benchmark",
    (
        *_RUN,
        Column("benchmark", "VARCHAR", "name of the benchmark"),
        Column("step", "BIGINT", "step of the model; NULL if none was given"),
        _METRICS,
        Column("data", "JSON", "what else was said of it"),
        _TS,
        *_WHO,
    ),
)
SAMPLES = Table(
    "samples",
    "one item of an evaluation",
    (
        *_RUN,
        Column("benchmark", "VARCHAR", "name of the benchmark"),
        Column("index", "BIGINT", "number of the item"),
        Column("input", "JSON", "what went in"),
        Column("target", "JSON", "what was wanted"),
        Column("prediction", "JSON", "what came out"),
        _METRICS,
        Column("latency_ms", "DOUBLE", "milliseconds that it took"),
        _TS,
        *_WHO,
    ),
)
DATASETS = Table(
    "datasets",
    "one data set that a run read",
    (
        *_RUN,
        Column("name", "VARCHAR", "its name"),
        Column("version", "VARCHAR", "its version"),
        Column("split", "VARCHAR", "part of it, such as train"),
        Column("path", "VARCHAR", "where it lies"),
        Column("sha256", "VARCHAR", "hash of the content"),
        Column("rows", "BIGINT", "number of rows"),
        Column("data", "JSON", "what else was said of it"),
        _TS,
        *_WHO,
    ),
)
SYSTEM = Table(
    "system",
    "one value of the machine's load",
    (
        *_RUN,
        Column("key", "VARCHAR", "what was measured; the unit stands in the name"),
        Column("value", "DOUBLE", "value in that unit"),
        _TS,
        *_WHO,
    ),
)
CONSOLE = Table(
    "console",
    "lines that a run printed at once",
    (
        *_RUN,
        Column("stream", "VARCHAR", "stdout or stderr"),
        Column("text", "VARCHAR", "the lines"),
        _TS,
        *_WHO,
    ),
)
RUN_PARAMS = Table(
    "run_params",
    "a run, with a column for each param: BIGINT, DOUBLE or BOOLEAN where all runs agree, else VARCHAR; a "
    "name that is taken gets _2, _3, …",
    _RUN,
)
EXPERIMENTS = Table(
    "experiments",
    "a run, under the names of an older tool",
    (
        _RUN[0],
        Column("experiment_id", "VARCHAR", "runs.run_id"),
        Column("name", "VARCHAR", "runs.name"),
        Column("experiment", "VARCHAR", "runs.experiment"),
        Column("config", "JSON", "runs.params"),
        Column("status", "VARCHAR", "runs.status"),
        Column("notes", "VARCHAR", "runs.note"),
        Column("git_commit", "VARCHAR", "commit of its code"),
        Column("git_branch", "VARCHAR", "branch of its code"),
        Column("git_dirty", "BOOLEAN", "whether files differed from the commit"),
        Column("created_at", "TIMESTAMPTZ", "runs.started_at, UTC"),
        Column("finished_at", "TIMESTAMPTZ", "runs.ended_at, UTC"),
        Column("duration_s", "DOUBLE", "runs.duration_s"),
    ),
)
TRAINING_METRICS = Table(
    "training_metrics",
    "one value of one metric, under the names of an older tool",
    (
        _RUN[0],
        Column("experiment_id", "VARCHAR", "metrics.run_id"),
        Column("step", "BIGINT", "metrics.step"),
        Column("metric_name", "VARCHAR", "metrics.key"),
        Column("metric_value", "DOUBLE", "metrics.value"),
        Column("timestamp", "TIMESTAMPTZ", "metrics.ts, UTC"),
    ),
)
EVALUATION_RESULTS = Table(
    "evaluation_results",
    "one metric of one evaluation, under the names of an older tool",
    (
        _RUN[0],
        Column("experiment_id", "VARCHAR", "evaluations.run_id"),
        Column("benchmark", "VARCHAR", "evaluations.benchmark"),
        Column("step", "BIGINT", "evaluations.step"),
        Column("metric_name", "VARCHAR", "name in evaluations.metrics"),
        Column("metric_value", "DOUBLE", "value in evaluations.metrics"),
        Column("timestamp", "TIMESTAMPTZ", "evaluations.ts, UTC"),
    ),
)

TABLES = (
    RUNS,
    METRICS,
    PARAMS,
    RUN_PARAMS,
    SUMMARIES,
    EVENTS,
    TAGS,
    ARTIFACTS,
    CHECKPOINTS,
    EVALUATIONS,
    SAMPLES,
    DATASETS,
    SYSTEM,
    CONSOLE,
    DAMAGE,
    EXPERIMENTS,
    TRAINING_METRICS,
    EVALUATION_RESULTS,
)


def reference_page() -> str:
    """Return the reference of all tables, as Markdown."""
    parts = [
        "# Tables",
        "",
        "What `evlog query` offers. This page is generated from `eventlog/tables.py`.",
        "Times are `TIMESTAMPTZ` in UTC. Only lines whose checksum verified become rows.",
    ]
    for table in TABLES:
        parts += ["", f"## {table.name}", "", f"A row is {table.row}.", "", "| column | type | meaning |"]
        parts += ["|---|---|---|"]
        parts += [f"| `{c.name}` | {c.type} | {c.meaning} |" for c in table.columns]
    return "\n".join(parts) + "\n"
