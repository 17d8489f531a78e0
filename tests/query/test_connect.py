"""`eventlog.connect`: runs as objects, metrics as arrays, answers as data frames."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import eventlog
from eventlog import TrackingConfig
from eventlog.errors import AmbiguousRunError, QueryError, RunNotFoundError
from eventlog.query import series as series_module
from eventlog.query.answer import MissingExtraError
from eventlog.query.connect import Connection, MetricNotFoundError
from eventlog.query.limits import parse_memory
from eventlog.query.series import Series, series
from eventlog.tracker import Tracker

SUMMARY = "SELECT run_id, last FROM summaries WHERE key = $key ORDER BY run_id"


def log(root: Path, run: str, *, project: str = "p", steps: int = 4, seed: int = 0) -> None:
    config = TrackingConfig(project=project, tags={"owner": "ada", "seed": str(seed)})
    with Tracker((), config, output_dir=root) as tracker:
        tracker.start_run(run)
        tracker.log_params({"lr": 0.5, "opt": {"name": "<b>adam</b>"}})
        for step in range(steps):
            tracker.log_metrics({"loss": 1.0 / (step + 1)}, step)
        tracker.log_metrics({"free": math.inf})
        tracker.log_summary({"verdict": "good"})
        path = tracker.run_dir
        assert path is not None
        (path / "weights").write_bytes(b"abc")
        tracker.log_artifact(path / "weights", "model")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    log(root, "one")
    log(root, "two", seed=1)
    return root


@pytest.fixture(params=[False, True], ids=["here", "sandbox"])
def connection(root: Path, request: pytest.FixtureRequest) -> Iterator[Connection]:
    with eventlog.connect(root, sandbox=request.param) as connection:
        yield connection


def test_importing_the_package_does_not_load_duckdb() -> None:
    """A job that only logs does not pay for queries."""
    code = "import sys, eventlog; eventlog.connect; print('duckdb' in sys.modules, 'numpy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"


def test_sql_binds_arguments_by_name(connection: Connection) -> None:
    """Rows come as tuples, all at once, one, or in a loop."""
    answer = connection.sql(SUMMARY, key="loss")

    assert answer.columns == ["run_id", "last"]
    assert answer.types == ["VARCHAR", "DOUBLE"]
    assert answer.fetchall() == [("one", 0.25), ("two", 0.25)]
    assert answer.fetchone() == ("one", 0.25)
    assert list(answer) == answer.fetchall()


def test_a_run_has_typed_attributes(connection: Connection, root: Path) -> None:
    """What the log says of a run, as Python's own types."""
    run = connection.run("one")

    assert (run.project, run.id, run.name, run.status) == ("p", "one", "one", "finished")
    assert run.params == {"lr": 0.5, "opt": {"name": "<b>adam</b>"}}
    assert run.summary == {"verdict": "good"}
    assert run.tags == {"owner": "ada", "seed": "0"}
    assert isinstance(run.started_at, datetime)
    assert run.started_at.tzinfo is UTC
    assert run.path == root / "p" / "one"
    assert [(a.name, a.version, a.size_bytes) for a in run.artifacts()] == [("model", 1, 3)]
    assert run.keys() == ["free", "loss"]
    assert (run.statistics()["loss"].min, run.statistics()["loss"].last_step) == (0.25, 3)


def test_runs_are_chosen_by_a_condition(connection: Connection) -> None:
    """The condition is SQL on the table `runs`; the newest run comes first."""
    assert [run.id for run in connection.runs()] == ["two", "one"]
    assert [run.id for run in connection.runs("tags['seed'] = $seed -- mine", seed="1")] == ["two"]
    assert [run.id for run in connection.runs()[1:]] == ["one"]


def test_metrics_are_arrays(connection: Connection) -> None:
    """Steps, values and times in the order of the steps; a point without a step has NaN there."""
    loss, free = connection.metrics("one", "loss"), connection.run("two").metrics("free", rank=0)

    assert loss.steps.tolist() == [0, 1, 2, 3]
    assert loss.values.tolist() == [1.0, 0.5, 1 / 3, 0.25]
    assert (loss.steps.dtype, loss.values.dtype, loss.times.dtype) == (np.int64, np.float64, "datetime64[us]")
    assert np.isnan(free.steps).all()
    assert free.values.tolist() == [math.inf]


def test_metrics_without_numpy_are_plain_arrays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy is not needed to read a metric."""
    monkeypatch.setattr(series_module, "has_numpy", lambda: False)
    monkeypatch.setattr("eventlog.query.connect.has_numpy", lambda: False)

    with eventlog.connect(root) as connection:
        loss = connection.metrics("one", "loss")

    assert loss.steps == [0, 1, 2, 3]
    assert loss.values == array("d", [1.0, 0.5, 1 / 3, 0.25])
    assert loss.thinned(2).steps == [0, 3]


def test_what_is_not_there_is_an_error_with_a_hint(connection: Connection, root: Path) -> None:
    """A wrong name says what would be right."""
    log(root, "twofold")
    connection.refresh()

    with pytest.raises(MetricNotFoundError, match=r"Near: loss\."):
        connection.metrics("one", "lose")
    with pytest.raises(RunNotFoundError):
        connection.metrics("p/three", "loss")
    with pytest.raises(AmbiguousRunError):
        connection.run("tw")
    assert connection.run("two").id == "two"
    assert connection.run("twof").id == "twofold"


def test_refresh_takes_in_what_was_logged_since(connection: Connection, root: Path) -> None:
    """A connection shows one state until it is asked for the next; an answer that is being read goes on."""
    rows = iter(connection.sql("SELECT run_id FROM runs ORDER BY run_id"))
    first = next(rows)
    log(root, "three")

    before = len(connection.runs())
    after = len(connection.refresh().runs())

    assert (before, after) == (2, 3)
    assert [first, *rows] == [("one",), ("two",)]


def test_a_running_job_is_seen(root: Path) -> None:
    """Also what was written a moment ago, also from a sandbox."""
    with Tracker((), TrackingConfig(project="p"), output_dir=root) as tracker:
        tracker.start_run("live")
        tracker.log_metrics({"loss": 7.0}, 1)
        tracker.flush()

        for sandbox in (False, True):
            with eventlog.connect(root, sandbox=sandbox) as connection:
                assert connection.run("live").status == "running"
                assert connection.metrics("live", "loss").values.tolist() == [7.0]


def test_data_frames(connection: Connection) -> None:
    """pandas and Arrow get the columns under their names."""
    answer = connection.sql("SELECT run_id, last FROM summaries WHERE key = $key ORDER BY run_id", key="loss")

    assert answer.arrow().to_pydict() == {"run_id": ["one", "two"], "last": [0.25, 0.25]}
    if importlib.util.find_spec("pandas"):
        assert answer.df()["run_id"].tolist() == ["one", "two"]


def test_a_missing_package_is_named_with_the_way_out(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message holds the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    answer = connection.sql("SELECT 1 AS a")

    for call, package in ((answer.df, "pandas"), (answer.pl, "polars"), (answer.arrow, "pyarrow")):
        with pytest.raises(MissingExtraError, match=f"pip install {package}"):
            call()


def test_notebooks_show_tables(connection: Connection) -> None:
    """Answers, runs and the connection are HTML; what was logged cannot bring tags of its own."""
    answer = connection.sql("SELECT params FROM runs")._repr_html_()

    assert answer.startswith("<table>")
    assert "&lt;b&gt;adam" in answer
    assert "<b>" not in answer + connection.runs()._repr_html_()
    assert "<td>p</td><td>2</td>" in connection._repr_html_()
    assert "the first 30 rows" in connection.sql("FROM range(31)")._repr_html_()


def test_a_mistake_is_an_error_of_ours(connection: Connection) -> None:
    """DuckDB's words, no exception of its own."""
    with pytest.raises(QueryError, match="nonsense"):
        connection.sql("SELECT nonsense FROM runs")


def test_a_closed_connection_says_so(root: Path) -> None:
    """Closing twice is once."""
    connection = eventlog.connect(root)
    connection.close()
    connection.close()

    with pytest.raises(QueryError, match="closed"):
        connection.sql("SELECT 1")
    with pytest.raises(QueryError, match="closed"):
        connection.refresh()


def test_threads_ask_and_refresh_at_once(root: Path) -> None:
    """Every answer is that of one state, whatever the others do."""

    def ask(i: int) -> int:
        if i % 8 == 7:
            shared.refresh()
        (count,) = shared.sql("SELECT count(*) + $i FROM metrics", i=i).fetchone() or (None,)
        assert isinstance(count, int)
        return count - i

    with eventlog.connect(root) as shared, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(64))) == {10}


def test_a_connection_knows_the_past(root: Path) -> None:
    """`as_of` shows every table as it was."""
    with eventlog.connect(root) as connection:
        between = connection.run("two").started_at

    with (
        eventlog.connect(root, as_of=between) as connection,
        eventlog.connect(root, as_of="one:3") as earlier,
    ):
        assert [(run.id, run.status) for run in connection.runs()] == [
            ("two", "running"),
            ("one", "finished"),
        ]
        assert [run.id for run in earlier.runs()] == ["one"]


def test_the_root_comes_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every command: EVLOG_DIR, or ./experiments."""
    monkeypatch.setenv("EVLOG_DIR", os.fspath(root))

    with eventlog.connect() as connection:
        assert connection.root == root


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("512MiB", 512 << 20), ("1.5 g", 1_500_000_000), ("268435456", 1 << 28)],
)
def test_memory_has_units(text: str, size: int) -> None:
    """As people write it."""
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "10MB", "1e9", "2 XB"])
def test_memory_that_is_none_is_refused(text: str) -> None:
    """Also too little of it."""
    with pytest.raises(QueryError):
        parse_memory(text)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 1000])
def test_thinning_keeps_the_ends_and_the_peaks(count: int) -> None:
    """At most so many points, the first, the last and a peak among them."""
    rows = [(i, i, 100.0 if i == 77 else math.sin(i / 9)) for i in range(200)] + [(200, 200, math.nan)]

    thin: Series = series(rows).thinned(count)

    assert len(thin.values) == min(count, 200)
    assert count < 2 or (thin.steps[0], thin.steps[-1]) == (0, 199)
    assert count < 10 or 77 in thin.steps.tolist()
    assert thin.steps.tolist() == sorted(set(thin.steps.tolist()))


@pytest.mark.parametrize("sandbox", [False, True])
def test_a_root_whose_name_reads_as_a_pattern_can_be_asked(tmp_path: Path, sandbox: bool) -> None:
    """Brackets and stars in a directory's name mean themselves."""
    root = tmp_path / "odd [x]* dir"
    with Tracker([], output_dir=root) as tracker:
        tracker.log_metrics({"a": 1.0}, step=1)

    with eventlog.connect(root, sandbox=sandbox) as runs:
        assert runs.sql("SELECT count(*) FROM metrics").fetchall() == [(1,)]
