"""Databases of experiments become runs: once, with the same numbers and times."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

import eventlog
from eventlog import events as ev
from eventlog.analysis.facts import load, results
from eventlog.cli.app import app
from eventlog.compat.experiment_tracker import DatabaseError, LocalBackend
from eventlog.delivery.pump import deliver_run
from eventlog.importers.sqlite import SourceDatabaseError, import_database
from eventlog.importers.sqlite_columns import status_of, time_us
from eventlog.replay import events, view
from eventlog.storage.layout import iter_runs
from eventlog.testing import make_run
from sinks.sqlite import SQLiteSink
from tests.tracker.support import start_job

START_US = 1_737_642_622_000_000  # 2025-01-23 14:30:22 UTC


def database(path: Path, script: str, rows: dict[str, Sequence[tuple[object, ...]]] | None = None) -> Path:
    """Make a database of tables and rows."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    for table, values in (rows or {}).items():
        marks = ", ".join("?" * len(values[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    connection.commit()
    connection.close()
    return path


def older(path: Path) -> Path:
    """Make a database as the older tracker has it."""
    return database(
        path,
        """
        CREATE TABLE experiments (id TEXT PRIMARY KEY, name TEXT, config_json TEXT, git_hash TEXT,
            is_dirty INTEGER, status TEXT, notes TEXT, tags TEXT, start_time TEXT, end_time TEXT,
            machine TEXT);
        CREATE TABLE training_metrics (id INTEGER PRIMARY KEY, experiment_id TEXT, step INTEGER,
            metric_name TEXT, metric_value REAL, timestamp TEXT);
        CREATE TABLE evaluation_results (id INTEGER PRIMARY KEY, experiment_id TEXT, benchmark TEXT,
            metrics TEXT, per_sample_results TEXT, num_samples INTEGER, timestamp TEXT);
        CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, experiment_id TEXT, step INTEGER,
            checkpoint_path TEXT, size_mb REAL, metrics TEXT, timestamp TEXT);
        """,
        {
            "experiments": [
                (
                    *("exp_1", "base", '{"lr": 0.1, "lora": {"rank": 8}}', "abc", 1, "completed", "why"),
                    *('["a", "b"]', "2025-01-23T14:30:22", "2025-01-23T15:00:00", "tpu-v3"),
                ),
                ("exp_2", None, "{}", None, None, "running", None, None, "2025-01-24 10:00:00", None, None),
            ],
            "training_metrics": [
                (1, "exp_1", 0, "loss", 1.0, "2025-01-23T14:30:23"),
                (2, "exp_1", 0, "reward", 0.5, "2025-01-23T14:30:23"),
                (3, "exp_2", 0, "loss", 9.0, "2025-01-24 10:00:01"),
                (4, "exp_1", 1, "loss", None, "2025-01-23T14:30:24.500000"),
                (5, "exp_1", 2, "loss", 0.25, "2025-01-23T14:30:25"),
                (6, "lost", 2, "loss", 0.25, "2025-01-23T14:30:25"),
            ],
            "evaluation_results": [
                (
                    *(1, "exp_1", "gsm8k", '{"accuracy": 0.5, "format": NaN}'),
                    '[{"question": "q", "answer": "1", "predicted": "1", "correct": true},'
                    ' {"question": "r", "answer": "2", "predicted": "3", "correct": false}]',
                    *(2, "2025-01-23T14:50:00"),
                )
            ],
            "checkpoints": [(1, "exp_1", 2, "/x.pt", 1.5, '{"loss": 0.25}', "2025-01-23T14:55:00")],
        },
    )


# --- what an experiment becomes -------------------------------------------------------------------


def test_experiment_becomes_a_run_with_its_times(tmp_path: Path) -> None:
    """Start, end, params, git, tags and notes are those of the database."""
    import_database(older(tmp_path / "e.db"), tmp_path / "runs", project="old")
    seen = view(tmp_path / "runs" / "old" / "exp_1")

    assert (seen.name, seen.status, seen.notes, seen.tags) == (
        "base",
        "finished",
        ["why"],
        {"a": None, "b": None},
    )
    assert (seen.started_at, seen.ended_at) == (START_US, START_US + 1_778_000_000)
    assert seen.params == {"lr": 0.1, "lora": {"rank": 8}}
    assert seen.context["git"] == {"commit": "abc", "is_dirty": True}
    assert seen.context["columns"] == {"machine": "tpu-v3"}
    assert view(tmp_path / "runs" / "old" / "exp_2").status == "killed"


def test_rows_become_events_with_their_times(tmp_path: Path) -> None:
    """Values of one step and time are one event; NULL is NaN, which SQLite cannot hold."""
    import_database(older(tmp_path / "e.db"), tmp_path / "runs", project="old")
    run = tmp_path / "runs" / "old" / "exp_1"
    found = [event for event in events(run) if isinstance(event, ev.Metrics)]
    (evaluation,) = [event for event in events(run) if isinstance(event, ev.Evaluation)]
    (checkpoint,) = [event for event in events(run) if isinstance(event, ev.Checkpoint)]
    samples = [event for event in events(run) if isinstance(event, ev.Sample)]

    assert [(e.step, e.ts - START_US, e.data) for e in found] == [
        (0, 1_000_000, {"loss": 1.0, "reward": 0.5}),
        (1, 2_500_000, {"loss": "NaN"}),
        (2, 3_000_000, {"loss": 0.25}),
    ]
    assert (evaluation.benchmark, evaluation.metrics) == ("gsm8k", {"accuracy": 0.5, "format": "NaN"})
    assert evaluation.data["num_samples"] == 2
    assert [(s.index, s.target, s.prediction, s.metrics) for s in samples] == [
        (0, "1", "1", {"correct": 1}),
        (1, "2", "3", {"correct": 0}),
    ]
    assert (checkpoint.path, checkpoint.step, checkpoint.size_bytes) == ("/x.pt", 2, 1_572_864)
    assert checkpoint.metrics == {"loss": 0.25}


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    """Rows of no experiment, and columns that no event has a place for."""
    done = import_database(older(tmp_path / "e.db"), tmp_path / "runs", project="old")

    assert done.left_out == {
        "training_metrics: rows of no experiment": 1,
        "experiments.machine (kept as context)": 1,
    }
    assert [(one.run_id, one.result, one.values, one.samples) for one in done.experiments] == [
        ("exp_1", "imported", 4, 2),
        ("exp_2", "imported", 1, 0),
    ]


def test_queries_over_the_runs_give_the_numbers_of_the_database(tmp_path: Path) -> None:
    """Sums, counts and times, asked in both places."""
    path = older(tmp_path / "e.db")
    import_database(path, tmp_path / "runs", project="old")
    source = sqlite3.connect(path)
    wanted = source.execute(
        "SELECT experiment_id, metric_name, count(*), sum(metric_value) FROM training_metrics"
        " WHERE experiment_id != 'lost' AND metric_value IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall()
    source.close()

    with eventlog.connect(tmp_path / "runs") as runs:
        found = runs.sql(
            "SELECT run_id, key, count(*), sum(value) FROM metrics WHERE NOT isnan(value)"
            " GROUP BY ALL ORDER BY ALL"
        ).fetchall()

    assert found == wanted


def test_database_of_our_own_comes_back_as_it_was(tmp_path: Path) -> None:
    """Log to database to log: the same points, params, evaluations and checkpoints."""
    root, again = tmp_path / "runs", tmp_path / "again"
    logged: list[ev.Event] = [
        ev.Context(kind="git", data={"commit": "abc", "branch": "main", "is_dirty": False}),
        ev.Params(data={"lr": 0.1, "opt": {"name": "adam"}}),
        ev.Metrics(step=1, data={"loss": 0.5, "nan": "NaN", "inf": "-Infinity"}),
        ev.Metrics(data={"loss": 0.25}),
        ev.Evaluation(benchmark="b", step=1, metrics={"f1": 0.5, "n": "NaN"}, data={"split": "test"}),
        ev.Checkpoint(path="/x", step=1, metrics={"loss": 0.5}, size_bytes=3),
        ev.Summary(data={"best": 0.5, "verdict": "good"}),
        ev.Tags(data={"k": "v"}),
    ]
    for project in ("p", "q"):
        run = make_run(root / project / "same", logged)
        deliver_run(run, SQLiteSink(path=tmp_path / "e.db"), "sqlite")
    import_database(tmp_path / "e.db", again)

    for project in ("p", "q"):
        was, now = (load(place / project / "same") for place in (root, again))
        assert str(results(was)) == str(results(now))
        assert (was.view.params, was.view.tags, was.view.summary) == (
            now.view.params,
            now.view.tags,
            now.view.summary,
        )
        assert (was.view.started_at, was.view.status) == (now.view.started_at, now.view.status)
        assert was.view.context["git"] == now.view.context["git"]
        assert [(e.ts, e.metrics, e.data) for e in was.evaluations] == [
            (e.ts, e.metrics, e.data) for e in now.evaluations
        ]
        times = [
            [(e.ts, e.step, e.data) for e in events(place / project / "same") if isinstance(e, ev.Metrics)]
            for place in (root, again)
        ]
        assert times[0] == times[1]


def test_ids_of_several_projects_stay_apart_in_one(tmp_path: Path) -> None:
    """With --project, equal ids of two projects become two runs."""
    for project in ("p", "q"):
        run = make_run(tmp_path / "runs" / project / "same", [ev.Metrics(step=1, data={project: 1.0})])
        deliver_run(run, SQLiteSink(path=tmp_path / "e.db"), "sqlite")
    import_database(tmp_path / "e.db", tmp_path / "again", project="one")

    found = {run.run_id: set(view(run.path).metrics) for run in iter_runs(tmp_path / "again")}
    assert found == {"same": {"p"}, "q-same": {"q"}}


# --- other shapes ---------------------------------------------------------------------------------


def test_metrics_may_be_columns_or_json(tmp_path: Path) -> None:
    """A column for each metric, or all of them in one JSON object."""
    path = database(
        tmp_path / "e.db",
        """
        CREATE TABLE runs (run_id INTEGER PRIMARY KEY, learning_rate REAL, lora_rank INTEGER, created REAL);
        CREATE TABLE metrics (run_id INTEGER, epoch INTEGER, loss REAL, acc REAL, comment TEXT);
        CREATE TABLE evaluations (run_id INTEGER, task TEXT, accuracy REAL, f1 REAL);
        """,
        {
            "runs": [(7, 0.1, 8, 1737642622.5)],
            "metrics": [(7, 0, 1.0, None, "bad"), (7, 1, 0.5, 0.75, None)],
            "evaluations": [(7, "gsm8k", 0.5, 0.25)],
        },
    )
    packed = database(
        tmp_path / "packed.db",
        """
        CREATE TABLE experiments (experiment_id TEXT, hyperparameters TEXT);
        CREATE TABLE training_metrics (experiment_id TEXT, step INTEGER, metrics TEXT, timestamp INTEGER);
        CREATE TABLE evaluation_results (experiment_id, benchmark, metric_name, metric_value REAL);
        """,
        {
            "experiments": [("a", '{"lr": 1}')],
            "training_metrics": [("a", 5, '{"loss": 1.5, "by": {"class": 2}, "text": "x"}', 1737642622123)],
            "evaluation_results": [("a", "b", "f1", 0.5), ("a", "b", "em", 0.25), ("a", "c", "f1", 1.0)],
        },
    )
    done = import_database(path, tmp_path / "runs")
    import_database(packed, tmp_path / "runs")
    wide = load(tmp_path / "runs" / "e" / "7")
    long = load(tmp_path / "runs" / "packed" / "a")

    assert wide.view.params == {"learning_rate": 0.1, "lora_rank": 8}
    assert wide.view.started_at == START_US + 500_000
    assert results(wide) == {"loss": 0.5, "acc": 0.75, "gsm8k/accuracy": 0.5, "gsm8k/f1": 0.25}
    assert wide.view.metrics["loss"].last_step == 1
    assert done.left_out == {"metrics.comment: texts": 1}
    assert results(long) == {"loss": 1.5, "by.class": 2.0, "b/f1": 0.5, "b/em": 0.25, "c/f1": 1.0}
    assert long.view.started_at == START_US + 123_000


def test_rows_may_name_the_number_of_an_experiment(tmp_path: Path) -> None:
    """Where experiments have a number and a name, whichever the other tables use is found."""
    path = database(
        tmp_path / "e.db",
        "CREATE TABLE experiments (id INTEGER PRIMARY KEY, experiment_id TEXT, config TEXT);"
        "CREATE TABLE training_metrics (experiment_id INTEGER, step INTEGER, name TEXT, value REAL)",
        {
            "experiments": [(1, "exp_a", "{}"), (2, "exp_b", "{}")],
            "training_metrics": [(1, 0, "loss", 1.0), (2, 0, "loss", 2.0)],
        },
    )
    import_database(path, tmp_path / "runs", project="p")

    assert view(tmp_path / "runs" / "p" / "exp_b").metrics["loss"].last == 2.0


def test_events_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    """Rows of several tables, and rows that were written late, are put in order."""
    path = database(
        tmp_path / "e.db",
        "CREATE TABLE experiments (experiment_id TEXT, created_at INTEGER);"
        "CREATE TABLE training_metrics (experiment_id TEXT, step INTEGER, name TEXT, value REAL, time);"
        "CREATE TABLE evaluation_results (experiment_id TEXT, benchmark TEXT, f1 REAL, time INTEGER)",
        {
            "experiments": [("a", 1737642622)],
            "training_metrics": [("a", 2, "loss", 0.5, 1737642632), ("a", 1, "loss", 1.0, 1737642625)],
            "evaluation_results": [("a", "b", 0.5, 1737642628)],
        },
    )
    import_database(path, tmp_path / "runs", project="p")
    found = [
        (type(event), event.ts - START_US)
        for event in events(tmp_path / "runs" / "p" / "a")
        if isinstance(event, (ev.Metrics, ev.Evaluation))
    ]

    assert found == [(ev.Metrics, 3_000_000), (ev.Evaluation, 6_000_000), (ev.Metrics, 10_000_000)]


def test_odd_values_cost_themselves_only(tmp_path: Path) -> None:
    """Broken or deep JSON, bytes, texts for numbers, times that are none: the rest is imported, and told."""
    path = database(
        tmp_path / "e.db",
        "CREATE TABLE experiments (experiment_id TEXT, config TEXT, created_at TEXT);"
        "CREATE TABLE training_metrics (experiment_id TEXT, step, metric_name, metric_value, timestamp)",
        {
            "experiments": [
                ("../up", "{broken", "yesterday"),
                ("=1+1 ü\n", None, None),
                ("", "[1, 2]", ""),
                ("d", "[" * 100_000, ""),
            ],
            "training_metrics": [
                ("../up", 0, "loss", 1.0, 1737642622),
                ("../up", "1", "loss", "0.5", "nonsense"),
                ("../up", 1.5, "loss", 0.25, None),
                ("../up", 2, "loss", "high", None),
                ("../up", 3, None, 1.0, None),
                ("../up", 2**62, "loss", math.inf, None),
                ("../up", 4, "loss", b"\xff", None),
            ],
        },
    )
    done = import_database(path, tmp_path / "runs", project="p")
    run = tmp_path / "runs" / "p" / done.experiments[0].run_id

    assert all(one.result == "imported" for one in done.experiments)
    assert view(run).params == {"config": "{broken"}
    assert [
        (e.step, e.data.get("loss")) for e in events(run) if isinstance(e, ev.Metrics) and "loss" in e.data
    ] == [(0, 1.0), (1, 0.5), (None, 0.25), (2**62, "Infinity")]
    assert done.left_out == {
        "training_metrics.timestamp: times that cannot be read": 1,
        "training_metrics.step: steps that are no whole numbers": 1,
        "training_metrics: values that are no numbers": 2,
    }


@pytest.mark.parametrize(
    ("value", "offset_us"),
    [
        ("2025-01-23T14:30:22", 0),
        ("2025-01-23 14:30:22.000001", 1),
        ("2025-01-23T15:30:22+01:00", 0),
        ("2025-01-23T14:30:22Z", 0),
        (1737642622, 0),
        (1737642622.25, 250_000),
        ("1737642622", 0),
        (1737642622001, 1000),
        (1737642622000001, 1),
        (1737642622000001000, 1),
    ],
)
def test_time_is_read(value: object, offset_us: int) -> None:
    """ISO 8601, what SQLite writes, and numbers of any usual unit."""
    assert time_us(value, UTC) == START_US + offset_us


@pytest.mark.parametrize("value", [None, "", "soon", -1, 0, math.nan, math.inf, 1e30, True, b"x"])
def test_time_that_is_none_is_none(value: object) -> None:
    """What cannot be read is no time."""
    assert time_us(value, UTC) is None


def test_times_without_a_zone_are_in_the_one_that_is_given(tmp_path: Path) -> None:
    """Old trackers wrote local times."""
    import_database(older(tmp_path / "e.db"), tmp_path / "runs", project="p", zone=ZoneInfo("Asia/Tokyo"))

    started = view(tmp_path / "runs" / "p" / "exp_1").started_at
    assert started is not None
    assert datetime.fromtimestamp(started / 1e6, UTC) == datetime(2025, 1, 23, 5, 30, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "has_end", "status"),
    [
        ("COMPLETED", False, "finished"),
        ("Crashed", True, "failed"),
        (None, True, "finished"),
        (None, False, "killed"),
        ("running", False, "killed"),
        ("interrupted", True, "killed"),
    ],
)
def test_status_is_one_of_ours(word: object, has_end: bool, status: str) -> None:
    """What did not end well nor fail was killed, as far as anybody knows."""
    assert status_of(word, has_end=has_end) == status


# --- once -----------------------------------------------------------------------------------------


def everything(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_second_import_adds_nothing(tmp_path: Path) -> None:
    """Runs that are there from the same rows are known."""
    path = older(tmp_path / "e.db")
    import_database(path, tmp_path / "runs", project="p")
    before = everything(tmp_path / "runs")

    again = import_database(path, tmp_path / "runs", project="p")

    assert {one.result for one in again.experiments} == {"known"}
    assert everything(tmp_path / "runs") == before


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    """It tells the same counts."""
    path = older(tmp_path / "e.db")

    dry = import_database(path, tmp_path / "runs", project="p", dry_run=True)
    done = import_database(path, tmp_path / "again", project="p")

    assert not (tmp_path / "runs").exists()
    assert [(one.values, one.evaluations) for one in dry.experiments] == [
        (one.values, one.evaluations) for one in done.experiments
    ]
    assert {one.result for one in dry.experiments} == {"would import"}


def test_interrupted_import_goes_on(tmp_path: Path) -> None:
    """What was whole is known; the rest is imported; nothing half is left."""
    path = older(tmp_path / "e.db")

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_database(path, tmp_path / "runs", project="p", on_experiment=stop)
    (tmp_path / "runs" / "p" / ".exp_2.123.importing" / "log").mkdir(parents=True)
    rest = import_database(path, tmp_path / "runs", project="p")

    assert [one.result for one in rest.experiments] == ["known", "imported"]
    assert [run.run_id for run in iter_runs(tmp_path / "runs")] == ["exp_1", "exp_2"]


def test_imports_at_once_make_each_run_once(tmp_path: Path) -> None:
    """Of two that come at the same time one wins each run, and no run is doubled or half."""
    older(tmp_path / "e.db")
    code = """
        import sys
        from pathlib import Path
        from eventlog.importers.sqlite import import_database
        sys.stdin.readline()
        import_database(Path("e.db"), Path("runs"), project="p")
    """
    jobs = [start_job(code, tmp_path, PYTHONPATH=str(Path(__file__).parents[2])) for _ in range(2)]
    ends = [job.communicate("go\n", timeout=60) for job in jobs]

    assert [job.returncode for job in jobs] == [0, 0], ends
    assert [run.run_id for run in iter_runs(tmp_path / "runs")] == ["exp_1", "exp_2"]
    assert view(tmp_path / "runs" / "p" / "exp_1").metrics["loss"].count == 3


def test_run_of_another_origin_is_left_alone(tmp_path: Path) -> None:
    """An id that is taken is told, and so is an experiment that has changed since."""
    path = older(tmp_path / "e.db")
    make_run(tmp_path / "runs" / "p" / "exp_2", [])
    import_database(path, tmp_path / "runs", project="p")
    source = sqlite3.connect(path)
    source.execute("INSERT INTO training_metrics VALUES (9, 'exp_1', 3, 'loss', 0.1, NULL)")
    source.commit()
    source.close()
    before = everything(tmp_path / "runs")

    done = import_database(path, tmp_path / "runs", project="p")

    assert [one.result for one in done.experiments] == ["taken", "taken"]
    assert not done.is_good
    assert everything(tmp_path / "runs") == before


def test_database_is_not_changed(tmp_path: Path) -> None:
    """It is only read; who reads it as one of ours is told how to import it."""
    path = older(tmp_path / "e.db")
    before = path.read_bytes()
    import_database(path, tmp_path / "runs", project="p")

    with pytest.raises(DatabaseError, match="evlog import sqlite"):
        LocalBackend(path).get_all_experiments()
    assert path.read_bytes() == before


# --- files that cannot be imported ----------------------------------------------------------------


def evlog(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, args, prog_name="evlog")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"", "empty"), (b"rubbish" * 99, "no SQLite database")]
)
def test_file_that_is_no_database_is_told(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """One line says what it is not, and what was expected."""
    path = tmp_path / "e.db"
    if content is not None:
        path.write_bytes(content)

    code, _, err = evlog("import", "sqlite", str(path), "--dir", str(tmp_path / "runs"))

    assert code == 1
    assert reason in err
    assert "training_metrics" in err


def test_damaged_database_is_told(tmp_path: Path) -> None:
    """A file that only begins as a database is an error, not a traceback."""
    path = older(tmp_path / "e.db")
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)

    with pytest.raises(SourceDatabaseError):
        import_database(path, tmp_path / "runs", project="p")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("CREATE TABLE songs (title TEXT)", "its tables: songs"),
        ("CREATE TABLE experiments (title TEXT)", "no id among its columns (title)"),
    ],
)
def test_database_of_another_shape_is_told(tmp_path: Path, script: str, reason: str) -> None:
    """The message names what is there and what was expected."""
    path = database(tmp_path / "e.db", script)

    with pytest.raises(SourceDatabaseError) as told:
        import_database(path, tmp_path / "runs", project="p")

    assert reason in str(told.value)


# --- the command ----------------------------------------------------------------------------------


def test_command_imports_and_tells(tmp_path: Path) -> None:
    """A table of the runs, what was left out on stderr; with --json one object."""
    path, root = older(tmp_path / "e.db"), tmp_path / "runs"
    dry = evlog("import", "sqlite", str(path), "--project", "P", "--dry-run", "--dir", str(root))
    code, out, err = evlog("import", "sqlite", str(path), "--project", "P", "--dir", str(root))
    known = evlog("import", "sqlite", str(path), "--project", "P", "--dir", str(root), "--json")

    assert (dry[0], code, known[0]) == (0, 0, 0)
    assert "would import" in dry[1]
    assert "P/exp_1" in out
    assert "rows of no experiment" in err
    assert [one["result"] for one in json.loads(known[1])["experiments"]] == ["known", "known"]


def test_command_ends_with_1_if_a_run_is_taken(tmp_path: Path) -> None:
    """A script notices that not everything is there."""
    make_run(tmp_path / "runs" / "P" / "exp_1", [])
    code, _, err = evlog(
        *("import", "sqlite", str(older(tmp_path / "e.db")), "-p", "P", "--dir", str(tmp_path / "runs"))
    )

    assert code == 1
    assert "exp_1" in err


@pytest.mark.parametrize("option", [("--timezone", "Mars/Olympus"), ("--no-such",)])
def test_wrong_command_line_ends_with_2(tmp_path: Path, option: tuple[str, ...]) -> None:
    """As all commands do."""
    assert evlog("import", "sqlite", str(older(tmp_path / "e.db")), *option)[0] == 2
