from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.cli.conftest import Evlog, log_run, real_evlog

LOSSES = "SELECT run_id, step, value FROM metrics WHERE key = 'loss' ORDER BY run_id, step"


def test_query_prints_a_table(root: Path, evlog: Evlog) -> None:
    """The default is for eyes: a header, then columns."""
    log_run(root, "one", steps=2)

    assert [line.split() for line in evlog("query", LOSSES).out.splitlines()] == [
        ["run_id", "step", "value"],
        ["one", "0", "1.0"],
        ["one", "1", "0.5"],
    ]


def test_query_writes_csv(root: Path, evlog: Evlog) -> None:
    """CSV quotes what has to be quoted; NULL is empty."""
    log_run(root, "one", steps=1)

    out = evlog("query", "--format", "csv", "SELECT 'a,\"b\"' AS x, NULL AS y, 1.5::DOUBLE AS z").out

    assert list(csv.reader(io.StringIO(out))) == [["x", "y", "z"], ['a,"b"', "", "1.5"]]


def test_query_writes_json_with_times_as_iso(root: Path, evlog: Evlog) -> None:
    """An array of objects; times are ISO 8601 in UTC, non-finite numbers strings."""
    log_run(root, "one")
    sql = (
        "SELECT TIMESTAMPTZ '2026-01-02 03:04:05+00' AS t, 'nan'::DOUBLE AS n, [1, 2] AS l, 10::HUGEINT AS h"
    )

    rows = json.loads(evlog("query", "--format", "json", sql).out)

    assert rows == [{"t": "2026-01-02T03:04:05+00:00", "n": "NaN", "l": [1, 2], "h": 10}]


def test_query_without_rows_is_an_empty_array(root: Path, evlog: Evlog) -> None:
    """A program gets JSON whatever the answer is."""
    log_run(root, "one")

    assert json.loads(evlog("query", "--json", "FROM runs WHERE false").out) == []


def test_query_writes_parquet(root: Path, evlog: Evlog, tmp_path: Path) -> None:
    """Parquet goes to a file that DuckDB reads back."""
    import duckdb

    log_run(root, "one", steps=3)
    path = tmp_path / "o'ut.parquet"

    done = evlog("query", "--format", "parquet", "--output", str(path), LOSSES)

    assert (done.code, done.out) == (0, "")
    with duckdb.connect() as connection:
        assert connection.read_parquet(str(path)).fetchall() == [
            ("one", 0, 1.0),
            ("one", 1, 0.5),
            ("one", 2, 1 / 3),
        ]


def test_query_reads_sql_from_standard_input(root: Path, evlog: Evlog) -> None:
    """'-' is the way for long questions."""
    log_run(root, "one")

    assert evlog("query", "-", "--format", "csv", stdin="SELECT count(*) AS n\nFROM runs;\n").out == "n\n1\n"


def test_query_that_fails_leaves_the_old_file(root: Path, evlog: Evlog, tmp_path: Path) -> None:
    """Half an answer never replaces a whole one."""
    log_run(root, "one")
    path = tmp_path / "out.csv"
    path.write_text("old")

    done = evlog("query", "--format", "csv", "-o", str(path), "SELECT 1 UNION ALL SELECT error('stop')::INT")

    assert done.code == 1
    assert path.read_text() == "old"
    assert not list(tmp_path.glob(".out*"))


def test_query_says_what_is_wrong_with_the_sql(root: Path) -> None:
    """DuckDB's message reaches the user."""
    log_run(root, "one")

    done = real_evlog("query", "SELECT nonsense FROM runs")

    assert done.code == 1
    assert "nonsense" in done.err
