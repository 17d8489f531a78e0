"""What `Database` answers about runs on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eventlog import TrackingConfig
from eventlog.errors import QueryError
from eventlog.query import Database
from eventlog.query.macros import MACROS, SIGNATURES
from eventlog.tables import RUN_PARAMS, TABLES
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
    found = [(row[0], row[1]) for row in described]
    assert found == wanted or (table is RUN_PARAMS and found[:2] == wanted)


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


def test_parquet_holds_the_rows(root: Path, tmp_path: Path) -> None:
    """A result can be kept as Parquet, which DuckDB reads back; it goes to one file, named beforehand."""
    import duckdb

    path = tmp_path / "it's.parquet"

    with Database.open(root, writes_to=path) as database:
        assert database.write_parquet("SELECT * FROM metrics WHERE key=$key", path, {"key": "loss"}) == 10
        with pytest.raises(QueryError):
            database.write_parquet("SELECT 1", tmp_path / "other.parquet")
    name = str(path).replace("'", "''")
    assert duckdb.execute(f"SELECT count(*) FROM '{name}'").fetchall() == [(10,)]


# --- params with types ------------------------------------


def log_params(root: Path, run: str, params: dict[str, object]) -> None:
    with Tracker((), TrackingConfig(project="p"), output_dir=root) as tracker:
        tracker.start_run(run)
        tracker.log_params(params)


def test_params_have_a_type_where_all_runs_agree(tmp_path: Path) -> None:
    """Whole numbers, numbers and booleans where every run has one, else text; NULL where a run has none."""
    log_params(
        tmp_path,
        "a",
        {"n": 3, "lr": 0.5, "flag": True, "mixed": 1, "id": "007", "opt": {"x": 1}, "bad": math.nan},
    )
    log_params(tmp_path, "b", {"n": 4, "lr": 1, "flag": False, "mixed": "many", "id": "008"})

    with Database.open(tmp_path) as database:
        described = {row[0]: row[1] for row in rows(database, "DESCRIBE run_params")}
        found = rows(database, 'SELECT n, lr, flag, mixed, id, "opt.x" FROM run_params ORDER BY run_id')

    assert described == {
        "project": "VARCHAR",
        "run_id": "VARCHAR",
        "n": "BIGINT",
        "lr": "DOUBLE",
        "flag": "BOOLEAN",
        "mixed": "VARCHAR",
        "id": "VARCHAR",
        "opt.x": "BIGINT",
        "bad": "DOUBLE",
    }
    assert found == [(3, 0.5, True, "1", "007", 1), (4, 1.0, False, "many", "008", None)]


def test_params_with_taken_names_get_a_number(tmp_path: Path) -> None:
    """DuckDB's columns have no upper and lower case, and the run has its names already."""
    log_params(tmp_path, "a", {"lr": 1, "LR": 2, "project": "mine", 'a"b': 3})

    with Database.open(tmp_path) as database:
        found = rows(database, 'SELECT run_id, "LR", lr_2, project_2, "a""b" FROM run_params')

    assert found == [("a", 2, 1, "mine", 3)]


# --- macros ------------------------------------


@pytest.fixture
def curves(tmp_path: Path) -> Iterator[Database]:
    """Two runs: `down` falls from 9 to 0 with a NaN at step 5; `up` rises."""
    for run, sign in (("down", -1), ("up", 1)):
        with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
            tracker.start_run(run)
            for step in range(10):
                value = math.nan if (run, step) == ("down", 5) else float(step if sign > 0 else 9 - step)
                tracker.log_metrics({"x": value}, step)
    with Database.open(tmp_path) as database:
        yield database


def test_series_is_one_metric_of_one_run(curves: Database) -> None:
    """In the order of steps; the run is named by its id or with its project."""
    assert rows(curves, "SELECT step, value FROM series('up', 'x') LIMIT 2") == [(0, 0.0), (1, 1.0)]
    assert rows(curves, "SELECT count(*) FROM series('p/up', 'x')") == [(10,)]
    assert rows(curves, "SELECT count(*) FROM series('other/up', 'x')") == [(0,)]


def test_smooth_is_the_mean_of_the_last_points(curves: Database) -> None:
    """Of the last n points of each run, without those that are no number."""
    sql = "SELECT smoothed FROM smooth('x', 3) WHERE run_id = 'down' ORDER BY step"

    assert rows(curves, sql) == [
        (9.0,),
        (8.5,),
        (8.0,),
        (7.0,),
        (6.0,),
        (5.5,),
        (4.0,),
        (2.5,),
        (2.0,),
        (1.0,),
    ]


def test_best_is_the_extreme_point_of_each_run(curves: Database) -> None:
    """The smallest or largest number, with its step; any other mode is an error."""
    assert rows(curves, "SELECT run_id, step, value FROM best('x', 'min') ORDER BY run_id") == [
        ("down", 9, 0.0),
        ("up", 0, 0.0),
    ]
    assert rows(curves, "SELECT run_id, step FROM best('x', 'max') ORDER BY run_id") == [
        ("down", 0),
        ("up", 9),
    ]
    with pytest.raises(QueryError, match="'min' or 'max'"):
        rows(curves, "FROM best('x', 'middle')")


def test_at_step_is_the_last_value_up_to_a_step(curves: Database) -> None:
    """Where no value has that step, the one before it counts."""
    assert rows(curves, "SELECT run_id, step, value FROM at_step('x', 3) ORDER BY run_id") == [
        ("down", 3, 6.0),
        ("up", 3, 3.0),
    ]
    assert rows(curves, "SELECT step FROM at_step('x', 1000) WHERE run_id = 'up'") == [(9,)]


@pytest.mark.parametrize("count", [1, 2, 4, 6, 10, 100])
def test_downsample_keeps_extremes(tmp_path: Path, count: int) -> None:
    """At most n points, real ones, in order, the largest and the smallest among them."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
        tracker.start_run("r")
        for step in range(50):
            tracker.log_metrics(
                {"x": {17: -5.0, 31: 99.0}.get(step, math.nan if step % 7 == 0 else 1.0)}, step
            )

    with Database.open(tmp_path) as database:
        found = rows(database, f"SELECT step, value FROM downsample('r', 'x', {count})")

    assert len(found) <= max(2, count)
    assert {(17, -5.0), (31, 99.0)} <= set(found)
    assert found == sorted(found, key=lambda row: row[0])  # type: ignore[arg-type, return-value]


# --- limits and threads ------------------------------------


def test_a_question_beyond_its_memory_spills(root: Path) -> None:
    """What does not fit into memory goes to disk, and nothing is left of it."""
    sql = "SELECT count(*) FROM (SELECT range || 'x' AS a FROM range(4000000) ORDER BY hash(a) OFFSET 1)"

    with Database.open(root, memory=128 << 20) as database:
        assert rows(database, sql) == [(3_999_999,)]

    assert not list((root / ".evlog").rglob(".scratch-spill*"))


def test_threads_ask_at_once(database: Database) -> None:
    """Each answer has a cursor of its own; tables are made by whoever comes first."""

    def ask(i: int) -> list[tuple[object, ...]]:
        table = ("runs", "params", "summaries", "run_params")[i % 4]
        return rows(database, f"SELECT count(*), $i FROM {table}", i=i)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(64)))

    counts = (2, 6, 6, 2)
    assert found == [[(counts[i % 4], i)] for i in range(64)]


def test_answers_are_read_in_turns(database: Database) -> None:
    """One answer does not end another."""
    one = database.execute("SELECT step FROM metrics WHERE key='loss' ORDER BY step").rows()
    two = database.execute("SELECT count(*) FROM metrics").rows()

    assert (next(one), next(two), next(one)) == ((0,), (22,), (0,))


def test_times_inside_lists_say_how_to_cast_them(database: Database) -> None:
    """DuckDB's message would name a package that nobody needs."""
    with pytest.raises(QueryError, match="Cast it"):
        rows(database, "SELECT list(ts) FROM metrics")


def test_the_reference_names_every_function() -> None:
    """`docs/reference/query.md` has a row for each, with its parameters."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "query.md").read_text()

    assert [name for name in SIGNATURES if f"| `{name}` |" not in page] == []
    assert {name.partition("(")[0] for name in SIGNATURES} == set(MACROS)
