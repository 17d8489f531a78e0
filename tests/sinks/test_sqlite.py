"""The database: what stands in its tables, and that each event is there once."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventlog import events as ev
from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.events import Event
from eventlog.sink import Batch, RunInfo
from eventlog.storage.merge import RunReader
from eventlog.testing import make_run
from sinks.sqlite import OccupiedError, RowsLostError, SQLiteSink
from tests.crash.deliveries import Destination, deliver_and_die
from tests.tracker.support import start_job
from tests.waiting import wait_until

JOB = """
    from pathlib import Path
    from eventlog.delivery.pump import deliver_run
    from eventlog.sink import Traits
    from sinks.sqlite import SQLiteSink

    SQLiteSink.traits = Traits(batch_events=20)
    deliver_run(Path("logs/p/a"), SQLiteSink(path="e.db"), "sqlite")
"""


def points(count: int, *, start: int = 0) -> list[Event]:
    return [ev.Metrics(step=step, data={"loss": step / 2}) for step in range(start, start + count)]


def deliver(run: Path, path: Path, *, restart: bool = False) -> None:
    deliver_run(run, SQLiteSink(path=path), "sqlite", timeout_s=0, restart=restart)


def select(path: Path, sql: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(path)
    try:
        return list(database.execute(sql))
    finally:
        database.close()


def is_proven(run: Path, path: Path) -> bool:
    return prove(run, SQLiteSink(path=path), "sqlite").result == "proven"


# --- what stands in it --------------------------------------------------------------------------------


def test_experiment_has_config_status_and_origin(tmp_path: Path) -> None:
    """The row of a run says what was logged of it, under the names of the tables."""
    events: list[Event] = [
        ev.Context(kind="git", data={"commit": "abc", "branch": "main", "is_dirty": True}),
        ev.Params(data={"lr": 0.1, "opt": {"name": "adam"}}),
        ev.Params(data={"opt": {"nesterov": True}}),
        ev.Note(text="first"),
        ev.Note(text="second"),
        ev.Tags(data={"owner": "ada", "old": None}),
        ev.Tags(removed=["old"]),
        ev.Summary(data={"best": 0.9}),
    ]
    deliver(make_run(tmp_path / "logs" / "p" / "a", events), tmp_path / "e.db")

    (row,) = select(
        tmp_path / "e.db",
        "SELECT project, experiment_id, status, config, notes, tags, summary,"
        " git_commit, git_branch, git_dirty, created_at IS NOT NULL,"
        " finished_at >= created_at FROM experiments",
    )

    assert row[:3] == ("p", "a", "completed")
    assert json.loads(row[3]) == {"lr": 0.1, "opt": {"name": "adam", "nesterov": True}}
    assert row[4] == "first\nsecond"
    assert (json.loads(row[5]), json.loads(row[6])) == ({"owner": "ada"}, {"best": 0.9})
    assert row[7:] == ("abc", "main", 1, 1, 1)


def test_metrics_keep_step_rank_and_odd_values(tmp_path: Path) -> None:
    """NaN is NULL, infinity is infinite, other ranks have their prefix."""
    events: list[Event] = [
        ev.Metrics(step=1, data={"loss": 0.5}),
        ev.Metrics(step=1, data={"loss": "NaN"}),
        ev.Metrics(data={"loss": "Infinity"}),
    ]
    deliver(make_run(tmp_path / "logs" / "p" / "a", events, ranks=2), tmp_path / "e.db")

    found = select(tmp_path / "e.db", "SELECT step, metric_name, metric_value FROM training_metrics")

    assert set(found) == {(1, "loss", 0.5), (1, "rank1/loss", None), (None, "loss", float("inf"))}


def test_evaluations_and_checkpoints_have_rows(tmp_path: Path) -> None:
    """The view gives a row for each number of an evaluation."""
    events: list[Event] = [
        ev.Evaluation(benchmark="gsm8k", step=3, metrics={"accuracy": 0.5, "f1": 0.25}, data={"n": 4}),
        ev.Evaluation(benchmark="qa", metrics={"score": 1}, data={"sample": 0}),
        ev.Checkpoint(path="/x.pt", step=3, metrics={"loss": 1.0}, size_bytes=7),
    ]
    deliver(make_run(tmp_path / "logs" / "p" / "a", events), tmp_path / "e.db")

    assert select(tmp_path / "e.db", "SELECT benchmark, step, metrics, result FROM evaluation_results") == [
        ("gsm8k", 3, '{"accuracy": 0.5, "f1": 0.25}', '{"n": 4}')
    ]
    assert select(
        tmp_path / "e.db", "SELECT benchmark, metric_name, metric_value FROM evaluation_metrics"
    ) == [
        ("gsm8k", "accuracy", 0.5),
        ("gsm8k", "f1", 0.25),
    ]
    assert select(tmp_path / "e.db", "SELECT path, step, metrics, size_bytes FROM checkpoints") == [
        ("/x.pt", 3, '{"loss": 1.0}', 7)
    ]


def test_resumed_run_goes_on_in_its_row(tmp_path: Path) -> None:
    """A run has one row, however often it is resumed, and the status of its last end."""
    run = make_run(tmp_path / "logs" / "p" / "a", points(3))
    deliver(run, tmp_path / "e.db")
    make_run(run, points(2, start=3), status="failed")
    deliver(run, tmp_path / "e.db")

    assert select(tmp_path / "e.db", "SELECT status FROM experiments") == [("failed",)]
    assert select(tmp_path / "e.db", "SELECT count(*), count(DISTINCT step) FROM training_metrics") == [
        (5, 5)
    ]


# --- places that are not what they should be --------------------------------------------------------------


def test_database_that_was_deleted_is_noticed(tmp_path: Path) -> None:
    """What was delivered and is gone is never taken for delivered; --restart delivers it anew."""
    run = make_run(tmp_path / "logs" / "p" / "a", points(3))
    deliver(run, tmp_path / "e.db")
    (tmp_path / "e.db").unlink()
    make_run(run, points(2, start=3))

    with pytest.raises(RowsLostError, match="--restart"):
        deliver(run, tmp_path / "e.db")
    deliver(run, tmp_path / "e.db", restart=True)

    assert select(tmp_path / "e.db", "SELECT count(*) FROM training_metrics") == [(5,)]


def test_delivery_goes_on_where_the_database_says(tmp_path: Path) -> None:
    """With the checkpoint lost, nothing is written twice."""
    run = make_run(tmp_path / "logs" / "p" / "a", points(30))
    deliver(run, tmp_path / "e.db")
    shutil.rmtree(run / ".evlog")
    make_run(run, points(5, start=30))
    deliver(run, tmp_path / "e.db")

    assert is_proven(run, tmp_path / "e.db")


def test_another_run_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """Two runs never mix."""
    deliver(make_run(tmp_path / "one" / "p" / "a", points(3)), tmp_path / "e.db")
    other = make_run(tmp_path / "other" / "p" / "a", points(3))

    with pytest.raises(OccupiedError, match="p/a"):
        deliver(other, tmp_path / "e.db")


def test_database_of_another_tool_is_left_alone(tmp_path: Path) -> None:
    """A table of the same name with other columns is not written to; the way out is told."""
    database = sqlite3.connect(tmp_path / "e.db")
    database.execute("CREATE TABLE experiments (id TEXT)")
    database.commit()
    database.close()
    before = (tmp_path / "e.db").read_bytes()

    with pytest.raises(EvlogError, match="evlog import sqlite"):
        deliver(make_run(tmp_path / "logs" / "p" / "a", points(3)), tmp_path / "e.db")

    assert (tmp_path / "e.db").read_bytes() == before


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """The error says what it is not."""
    (tmp_path / "e.db").write_bytes(b"rubbish" * 1000)

    with pytest.raises(EvlogError, match="not a database"):
        deliver(make_run(tmp_path / "logs" / "p" / "a", points(3)), tmp_path / "e.db")


def test_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A directory that cannot be there makes the destination unavailable, not broken."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(SinkUnavailableError, match="file"):
        deliver(make_run(tmp_path / "logs" / "p" / "a", points(3)), tmp_path / "file" / "e.db")


# --- once, whatever happens ----------------------------------------------------------------------------


def test_runs_delivered_at_once_are_all_there(tmp_path: Path) -> None:
    """Several deliveries wait for each other and lose nothing."""
    runs = [make_run(tmp_path / "logs" / "p" / f"r{n}", points(50)) for n in range(6)]
    threads = [threading.Thread(target=deliver, args=(run, tmp_path / "e.db")) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(is_proven(run, tmp_path / "e.db") for run in runs)
    assert select(tmp_path / "e.db", "SELECT count(*) FROM experiments") == [(6,)]


def test_two_that_deliver_one_run_write_it_once(tmp_path: Path) -> None:
    """Where no lease keeps them apart, the one that comes late is told to look again."""
    run = make_run(tmp_path / "logs" / "p" / "a", points(3))
    one, late = (SQLiteSink(path=tmp_path / "e.db") for _ in range(2))
    info = RunInfo(project="p", run_id="a", path=run)
    batch = Batch(list(RunReader(run).slices()))
    one.open(info)
    late.open(info)
    one.write(batch)

    with pytest.raises(SinkUnavailableError, match="another process"):
        late.write(batch)
    late.close(None)
    late.open(info)
    late.write(batch)
    late.close(None)
    one.close(None)

    assert select(tmp_path / "e.db", "SELECT count(*) FROM training_metrics") == [(3,)]


def test_delivery_killed_at_any_step_arrives_once(tmp_path: Path) -> None:
    """Before and after each call of the sink and the system."""
    run = make_run(tmp_path / "logs" / "p" / "a", points(60), ranks=2)
    options = {"path": str(tmp_path / "e.db")}
    step, is_killed = 0, True
    while is_killed:
        step += 1
        for stale in tmp_path.glob("e.db*"):
            stale.unlink()
        shutil.rmtree(run / ".evlog", ignore_errors=True)
        is_killed = deliver_and_die(run, Destination("sqlite", options, batch_events=30), step)
        deliver(run, tmp_path / "e.db")

        assert is_proven(run, tmp_path / "e.db"), step
    assert step > 10


def has_rows_or_ended(path: Path, wanted: int, job: subprocess.Popen[str]) -> bool:
    if job.poll() is not None:
        return True
    try:
        return bool(select(path, "SELECT count(*) FROM training_metrics")[0][0] >= wanted)
    except sqlite3.Error:
        return False  # not made yet, or just being made


def test_deliveries_killed_at_any_moment_arrive_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL in the middle of transactions: each row is there once in the end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    run = make_run(tmp_path / "logs" / "p" / "a", points(3000))
    fresh, wanted, kills = random.Random(2), 0, 0
    for _ in range(6):
        wanted += fresh.randrange(50, 500)
        job = start_job(JOB, tmp_path)
        wait_until(partial(has_rows_or_ended, tmp_path / "e.db", wanted, job), "rows arrive")
        job.send_signal(signal.SIGKILL)
        job.communicate()
        kills += job.returncode == -signal.SIGKILL
    deliver(run, tmp_path / "e.db")

    assert kills >= 3
    assert is_proven(run, tmp_path / "e.db")
    assert select(tmp_path / "e.db", "SELECT count(*), count(DISTINCT step) FROM training_metrics") == [
        (3000, 3000)
    ]
