"""What `Database` answers about runs on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eventlog import TrackingConfig
from eventlog.errors import QueryError
from eventlog.query import Database
from eventlog.tables import TABLES
from eventlog.tracker import Tracker


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed in range(2):
        config = TrackingConfig(
            project="p", experiment_name="exp", tags={"owner": "ada", "lr": None}, notes="n"
        )
        with Tracker((), config, output_dir=tmp_path) as tracker:
            tracker.start_run(f"run-{seed}")
            tracker.log_params({"opt": {"lr": 0.1 * (seed + 1)}, "seed": seed, "name": "it's"})
            for step in range(5):
                tracker.log_metrics({"loss": 1.0 / (step + 1), "odd": math.nan if step == 2 else step}, step)
            tracker.log_metrics({"top": math.inf})
            tracker.log_summary({"verdict": "good"})
    return tmp_path


@pytest.fixture
def database(root: Path) -> Iterator[Database]:
    with Database.open(root) as database:
        yield database


def rows(database: Database, sql: str, **parameters: object) -> list[tuple[object, ...]]:
    return list(database.execute(sql, parameters).rows())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_has_the_documented_columns(database: Database, table: object) -> None:
    """The definition in `tables` and the database agree on names and types."""
    described = rows(database, f"DESCRIBE {table.name}")  # type: ignore[attr-defined]

    long = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
    wanted = [(c.name, long.get(c.type, c.type)) for c in table.columns]  # type: ignore[attr-defined]
    assert [(row[0], row[1]) for row in described] == wanted


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_empty_root_has_empty_tables(tmp_path: Path, table: object) -> None:
    """Before the first run every table is there, with no row."""
    with Database.open(tmp_path / "nothing") as database:
        assert rows(database, f"SELECT * FROM {table.name}") == []  # type: ignore[attr-defined]


def test_metrics_keep_values_steps_and_order(database: Database) -> None:
    """A metric's points come back as they were logged."""
    found = rows(database, "SELECT step, value FROM metrics WHERE key='loss' AND run_id='run-1' ORDER BY seq")

    assert found == [(step, 1.0 / (step + 1)) for step in range(5)]


def test_non_finite_values_are_numbers_in_sql(database: Database) -> None:
    """NaN and infinities arrive as such, not as NULL."""
    found = rows(
        database, "SELECT value FROM metrics WHERE NOT isfinite(value) AND run_id='run-0' ORDER BY seq"
    )

    assert math.isnan(found[0][0])  # type: ignore[arg-type]
    assert found[1] == (math.inf,)


def test_runs_say_what_the_log_says(database: Database) -> None:
    """A row of runs holds name, experiment, status, times, tags and params."""
    sql = (
        "SELECT name, experiment, status, tags, params->>'$.opt.lr', note, ended_at FROM runs ORDER BY run_id"
    )
    name, experiment, status, tags, rate, note, ended = rows(database, sql)[0]

    assert (name, experiment, status, note) == ("run-0", "exp", "finished", "n")
    assert tags == {"owner": "ada", "lr": None}
    assert rate == "0.1"
    assert isinstance(ended, datetime)
    assert ended.tzinfo is UTC


def test_params_have_dotted_keys(database: Database) -> None:
    """Nested params are found under their dotted names."""
    sql = "SELECT value FROM params WHERE key='opt.lr' ORDER BY run_id"

    assert rows(database, sql) == [("0.1",), ("0.2",)]


def test_summaries_agree_with_the_points(database: Database) -> None:
    """The statistics of a metric are those of its rows."""
    columns = "last, min, max, count, first_step, last_step"
    sql = f"SELECT {columns} FROM summaries WHERE key='loss' AND run_id='run-0'"

    assert rows(database, sql) == [(0.2, 0.2, 1.0, 5, 0, 4)]


def test_events_hold_the_line_as_it_lies(database: Database, root: Path) -> None:
    """The payload of an event is its line, byte for byte."""
    line = next((root / "p" / "run-0" / "log").glob("*.jsonl")).read_text().splitlines()[1]

    assert rows(database, "SELECT payload FROM events WHERE run_id='run-0' ORDER BY seq LIMIT 1") == [(line,)]


def test_damaged_lines_never_become_rows(root: Path) -> None:
    """A flipped digit costs its event and is told in `damage`; it is never a wrong number."""
    path = next((root / "p" / "run-0" / "log").glob("*.jsonl"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"loss":0.25', b'"loss":9.25'))

    with Database.open(root) as database:
        values = rows(database, "SELECT value FROM metrics WHERE key='loss' AND run_id='run-0' ORDER BY seq")
        damage = rows(database, "SELECT run_id, problem, first_seq = last_seq FROM damage")

    assert values == [(1.0,), (0.5,), (1 / 3,), (0.2,)]
    assert damage == [("run-0", "damaged range", True)]


def test_a_running_job_is_seen(tmp_path: Path) -> None:
    """What was written is in the answer while the run goes on."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
        tracker.start_run("live")
        tracker.log_metrics({"loss": 0.5}, 1)
        tracker.flush()

        with Database.open(tmp_path) as database:
            found = rows(database, "SELECT status, value FROM runs JOIN metrics USING (project, run_id)")

    assert found == [("running", 0.5)]


def test_parameters_are_bound(database: Database) -> None:
    """Values go in by name, never by text."""
    assert rows(database, "SELECT count(*) FROM params WHERE value = $name", name="it's") == [(2,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/evlog-should-not-exist'",
        "ATTACH '/tmp/evlog-should-not-exist.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "SELECT * FROM nowhere",
        "SELEC 1",
        "",
    ],
)
def test_what_is_not_a_question_is_refused(database: Database, sql: str) -> None:
    """Files and settings are out of reach, and a mistake is an error with DuckDB's words."""
    with pytest.raises(QueryError):
        rows(database, sql)


def test_parquet_holds_the_rows(database: Database, tmp_path: Path) -> None:
    """A result can be kept as Parquet, which DuckDB reads back."""
    import duckdb

    path = tmp_path / "it's.parquet"

    assert database.write_parquet("SELECT * FROM metrics WHERE key='loss'", path) == 10
    name = str(path).replace("'", "''")
    assert duckdb.execute(f"SELECT count(*) FROM '{name}'").fetchall() == [(10,)]
