from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventlog.errors import EvlogError
from eventlog.lake import append, replace, tidy
from eventlog.lake.delta import Live, New, Table
from eventlog.lake.publish import publish, run_key
from eventlog.lake.verify import verify
from tests.lake.support import (
    RunMaker,
    delta_files,
    delta_rows,
    every_kind,
    finished,
    make_runs,
    plain_rows,
    steps,
)

NOW = timedelta(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with three runs that ended."""
    make_runs(tmp_path / "root", 3)
    return tmp_path / "root"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Return where the lake is to be."""
    return tmp_path / "lake"


def test_publish_makes_parquet_that_anybody_reads(root: Path, lake: Path) -> None:
    """Points lie in a long layout, partitioned by project as Hive does it, beside a table of runs."""
    publish(root, str(lake))

    found = plain_rows(
        lake,
        "SELECT m.project, m.run_id, key, step, value, name FROM {metrics} m "
        "JOIN {runs} r USING (project, run_id) WHERE step = 1 AND key = 'loss' ORDER BY ALL",
    )
    assert found == [("demo", f"run-{n:03}", "loss", 1, 0.5, "n") for n in range(3)]


def test_publish_twice_adds_nothing(root: Path, lake: Path) -> None:
    """What is in the lake is not published again, and no commit is made."""
    publish(root, str(lake))
    before = {table: delta_files(lake, table) for table in ("metrics", "runs", "params")}

    done = publish(root, str(lake))

    assert (done.rows, done.runs) == ({}, 0)
    assert {table: delta_files(lake, table) for table in before} == before


def test_publish_adds_what_a_run_has_grown_by(tmp_path: Path, lake: Path) -> None:
    """Of a run that goes on only the new events are added, and what is known of it is replaced."""
    root = tmp_path / "root"
    run = RunMaker(root, "grows")
    run.put(steps(10))
    publish(root, str(lake), keep=NOW)
    run.put(steps(5, start=10))

    done = publish(root, str(lake), keep=NOW)

    assert done.rows == {"metrics": 10}
    assert plain_rows(lake, "SELECT count(*), count(DISTINCT step), max(step) FROM {metrics}") == [
        (30, 15, 14)
    ]
    assert plain_rows(lake, "SELECT run_id, events FROM {runs}") == [("grows", 15)]
    assert plain_rows(lake, "SELECT key, count, last_step FROM {summaries} ORDER BY key") == [
        ("acc", 15, 14),
        ("loss", 15, 14),
    ]


def test_published_rows_are_what_the_logs_hold(tmp_path: Path, lake: Path) -> None:
    """Every table is proved equal, with values that files tend to lose and odd names of runs."""
    root = tmp_path / "root"
    for project in ("demo", "sp ace=%2F", "ü[x]"):
        RunMaker(root, "r [1]*", project=project, rank=1).put(every_kind())

    publish(root, str(lake))
    found = verify(root, str(lake))

    assert found.differences == []
    assert found.rows["metrics"] == 18
    assert {name for name, rows in found.rows.items() if rows == 0} == {"damage"}
    assert plain_rows(lake, "SELECT DISTINCT project FROM {metrics} ORDER BY 1") == [
        ("demo",),
        ("sp ace=%2F",),
        ("ü[x]",),
    ]
    assert delta_rows(lake, "metrics", "SELECT count(*) FROM t WHERE project = 'ü[x]'") == [(6,)]


def test_publish_from_several_roots_fills_one_lake(tmp_path: Path, lake: Path) -> None:
    """Hosts with disks of their own publish their runs into the same tables."""
    make_runs(tmp_path / "a", 2)
    make_runs(tmp_path / "b", 2, first=2)

    for root in ("a", "b", "a"):
        publish(tmp_path / root, str(lake), keep=NOW)

    assert plain_rows(lake, "SELECT count(*) FROM {metrics}") == [(160,)]
    assert plain_rows(lake, "SELECT run_id FROM {runs} ORDER BY 1") == [(f"run-{n:03}",) for n in range(4)]
    assert verify(tmp_path / "a", str(lake)).is_good
    assert verify(tmp_path / "b", str(lake)).is_good


def test_publish_of_an_older_copy_takes_nothing_back(tmp_path: Path, lake: Path) -> None:
    """A mirror that lags behind does not undo what the lake knows of a run."""
    ahead, behind = RunMaker(tmp_path / "ahead", "run"), RunMaker(tmp_path / "behind", "run")
    behind.writer = ahead.writer
    for maker in (ahead, behind):
        maker.put(finished(10)[:-1])
    ahead.put([*steps(5, start=10), *finished(0)[-1:]])
    publish(tmp_path / "ahead", str(lake), keep=NOW)

    done = publish(tmp_path / "behind", str(lake), keep=NOW)

    assert (done.rows, done.runs) == ({}, 0)
    assert plain_rows(lake, "SELECT status, events FROM {runs}") == [("finished", 18)]


def test_small_files_become_few(tmp_path: Path, lake: Path) -> None:
    """Many small publications end in few files, and readers without Delta see each row once."""
    root = tmp_path / "root"
    for number in range(tidy.MANY + 2):
        make_runs(root, 1, first=number)
        publish(root, str(lake), keep=NOW)

    assert len(delta_files(lake, "metrics")) < tidy.MANY
    assert len(delta_files(lake, "runs")) == 1
    count = (tidy.MANY + 2) * 40
    assert plain_rows(lake, "SELECT count(*), count(DISTINCT (run_id, key, step)) FROM {metrics}") == [
        (count, count)
    ]
    assert verify(root, str(lake)).useless == []


def test_replaced_files_stay_for_readers_at_work(tmp_path: Path, lake: Path) -> None:
    """A reader that has begun on an older state can read on: what was replaced stays for a while."""
    root = tmp_path / "root"
    make_runs(root, 1)
    publish(root, str(lake))
    before = delta_files(lake, "runs")
    make_runs(root, 1, first=1)

    publish(root, str(lake), keep=timedelta(hours=1))

    assert before != delta_files(lake, "runs")
    assert all(Path(name).exists() for name in before)
    assert verify(root, str(lake)).useless != []
    publish(root, str(lake), keep=NOW)
    assert verify(root, str(lake)).useless == []


def test_deleted_runs_stay_until_they_are_pruned(root: Path, lake: Path) -> None:
    """What was published from here and is gone is taken out on request; what others published is not."""
    import shutil

    make_runs(root.parent / "other", 1, first=7)
    publish(root.parent / "other", str(lake))
    publish(root, str(lake))
    shutil.rmtree(root / "demo" / "run-001")

    publish(root, str(lake), keep=NOW)
    kept = plain_rows(lake, "SELECT count(DISTINCT run_id) FROM {metrics}")
    done = publish(root, str(lake), keep=NOW, prune=True)

    assert kept == [(4,)]
    assert done.removed == 1
    for table in ("metrics", "events", "runs", "params", "summaries", "tags"):
        found = plain_rows(lake, f"SELECT DISTINCT run_id FROM {{{table}}} ORDER BY 1")
        assert found == [("run-000",), ("run-002",), ("run-007",)], table
    make_runs(root, 1, first=1)
    publish(root, str(lake), keep=NOW)
    assert verify(root, str(lake)).is_good


@pytest.mark.parametrize("name", ["runs", "summaries", "metrics"])
def test_two_hosts_that_replace_one_file_at_once_double_no_row(
    root: Path, lake: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wrote new files in the place of some that another has replaced meanwhile begins anew."""
    other, original = root.parent / "other", Table._try
    monkeypatch.setattr(tidy, "MANY", 2)
    publish(root, str(lake), keep=NOW)
    make_runs(root, 1, first=3)
    make_runs(other, 1, first=7)

    def beaten(self: Table, adds: Sequence[New], removes: Sequence[Live], *rest: Any, **more: Any) -> None:
        if removes and self.table.name == name:
            monkeypatch.setattr(Table, "_try", original)
            publish(other, str(lake), keep=NOW)
        original(self, adds, removes, *rest, **more)

    monkeypatch.setattr(Table, "_try", beaten)
    publish(root, str(lake), keep=NOW)

    assert Table._try is original
    assert plain_rows(lake, f"SELECT count(*), count(DISTINCT run_id) FROM {{{name}}}") == [
        ({"runs": 5, "summaries": 10, "metrics": 200}[name], 5)
    ]
    assert verify(root, str(lake)).differences == []
    assert verify(other, str(lake)).differences == []


def test_a_run_that_took_anothers_name_is_named(root: Path, lake: Path) -> None:
    """Rows of a deleted run are not mixed in silence with those of a new one of its name."""
    import shutil

    publish(root, str(lake))
    shutil.rmtree(root / "demo" / "run-000")
    RunMaker(root, "run-000").put(finished(5))

    done = publish(root, str(lake), keep=NOW)
    is_good = verify(root, str(lake)).is_good
    again = publish(root, str(lake), keep=NOW, remove=[run_key("demo/run-000")])

    assert "demo/run-000" in "".join(done.problems)
    assert not is_good
    assert again.problems == []
    assert verify(root, str(lake)).is_good
    assert plain_rows(lake, "SELECT count(*) FROM {metrics} WHERE run_id = 'run-000'") == [(10,)]


def test_large_roots_go_in_several_files_and_commits(
    root: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the rows are cut into files and commits, each is there once."""
    monkeypatch.setattr(append, "FILE_POINTS", 50)
    monkeypatch.setattr(append, "COMMIT_POINTS", 70)
    monkeypatch.setattr(replace, "SMALL_BYTES", 0)

    publish(root, str(lake))

    assert len(delta_files(lake, "metrics")) == 3
    assert verify(root, str(lake)).is_good


def test_verify_names_what_is_missing_and_what_is_wrong(root: Path, lake: Path) -> None:
    """A row that was changed, one that is there twice and one that is not there are all found."""
    import duckdb

    publish(root, str(lake))
    (file,) = delta_files(lake, "metrics")
    duckdb.connect().execute(
        "COPY (SELECT run_id, key, step, ts, value + (step = 3 AND run_id = 'run-001')::INT AS value, "
        f"writer, rank, seq FROM read_parquet('{file}', hive_partitioning = false) "
        f"WHERE NOT (run_id = 'run-002' AND seq = 9)) TO '{file}' (FORMAT parquet)"
    )
    RunMaker(root, "new").put(steps(1))

    found = verify(root, str(lake))

    wrong = {(one.run_id, one.key) for one in found.differences if one.table == "metrics"}
    assert {("run-001", "loss"), ("run-001", "acc"), ("run-002", "loss"), ("run-002", "acc")} <= wrong
    assert any(one.run_id == "new" for one in found.differences)
    assert not any(one.run_id == "run-000" for one in found.differences)


def test_damaged_lines_never_come_to_the_lake(tmp_path: Path, lake: Path) -> None:
    """What did not verify is a row of damage in the lake too."""
    root = tmp_path / "root"
    make_runs(root, 1)
    (segment,) = (root / "demo" / "run-000" / "log").iterdir()
    data = bytearray(segment.read_bytes())
    data[data.index(b'"step":7') + 7] = ord("8")
    segment.write_bytes(data)

    publish(root, str(lake))

    assert plain_rows(lake, "SELECT count(*) FROM {metrics} WHERE step = 7") == [(0,)]
    assert plain_rows(lake, "SELECT count(*) > 0 FROM {damage}") == [(True,)]


def test_a_column_of_a_newer_evlog_is_added(root: Path, lake: Path) -> None:
    """A lake that an older evlog made gets the columns that it did not know; old rows have NULL there."""
    from deltalake import DeltaTable

    from eventlog.lake import tables

    lacking = tables.LAKE_TABLES["runs"].schema()
    lacking = lacking.remove(lacking.get_field_index("git_commit"))
    DeltaTable.create(str(lake / "runs"), schema=lacking, partition_by=["project"])

    publish(root, str(lake))

    assert delta_rows(lake, "runs", "SELECT count(*), count(git_commit) FROM t") == [(3, 0)]


@pytest.mark.parametrize("text", ["demo", "demo/", "/run", "demo/run/more"])
def test_a_run_of_a_lake_is_named_with_its_project(text: str) -> None:
    """Nothing is taken out that was not named in full."""
    with pytest.raises(EvlogError, match="PROJECT/RUN_ID"):
        run_key(text)


def test_a_lake_that_cannot_be_made_is_told(root: Path) -> None:
    """A file in the way is an error with its path, not a traceback of a library."""
    with pytest.raises(EvlogError, match="root"):
        publish(
            root,
            str(root / "demo" / "run-000" / "log" / next((root / "demo" / "run-000" / "log").iterdir()).name),
        )
