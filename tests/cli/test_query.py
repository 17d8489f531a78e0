from __future__ import annotations

import csv
import io
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.cli.shell import Shell, _ends
from eventlog.query import Database
from eventlog.query.macros import SIGNATURES
from eventlog.tables import TABLES
from tests.cli.conftest import Evlog, log_run, real_evlog, start
from tests.waiting import wait_until

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


# --- the question ------------------------------------


def test_query_reads_sql_from_a_file(root: Path, evlog: Evlog, tmp_path: Path) -> None:
    """--file is for questions that are kept."""
    log_run(root, "one")
    (tmp_path / "q.sql").write_text("SELECT count(*) AS n FROM runs -- all of them\n")

    assert evlog("query", "--file", str(tmp_path / "q.sql"), "-f", "csv").out == "n\n1\n"


def test_query_binds_params(root: Path, evlog: Evlog) -> None:
    """Numbers, true, false and null are such; everything else, and what is in double quotes, is a text."""
    log_run(root, "one")
    sql = "SELECT $a AS a, $b AS b, $c AS c, $d AS d, $e AS e, typeof($f) AS f"
    named = ["a=1", "b=2.5", "c=it's=so", "d=true", "e=null", 'f="5"']

    out = evlog("query", "-f", "jsonl", sql, *[word for name in named for word in ("--param", name)]).out

    assert json.loads(out) == {"a": 1, "b": 2.5, "c": "it's=so", "d": True, "e": None, "f": "VARCHAR"}


@pytest.mark.parametrize(
    "words",
    [
        ["SELECT 1", "--file", "q.sql"],
        ["SELECT 1", "--param", "novalue"],
        ["SELECT 1", "--format", "parquet"],
        ["SELECT 1", "--sandbox", "--format", "parquet", "-o", "x"],
        ["SELECT 1", "--interactive"],
        ["--interactive", "--format", "arrow"],
        [" "],
        ["SELECT 1", "--format", "xml"],
    ],
)
def test_query_with_a_wrong_command_line_says_so(root: Path, evlog: Evlog, words: list[str]) -> None:
    """Exit code 2, and nothing on standard output."""
    log_run(root, "one")

    done = evlog("query", *words)

    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["SELECT nonsense FROM runs"], "nonsense"),
        (["SELECT $x"], "x"),
        (["SELECT 1", "--as-of", "yesterday"], "RUN:SEQ"),
        (["SELECT 1", "--as-of", "nobody:3"], "nobody"),
        (["SELECT 1", "--memory", "lots"], "2GB"),
        (["SELECT 1", "--memory", "1MB"], "too little"),
        (["SELECT 1", "--file", "nowhere.sql"], "Give one of them"),
        (["--file", "nowhere.sql"], "nowhere.sql"),
        (["SELECT 1", "--dir", "nowhere"], "no directory"),
        (["SELECT * FROM read_text('/etc/passwd')"], "disabled by configuration"),
        (["COPY (SELECT 1) TO 'x.csv'"], "disabled by configuration"),
        (["COPY (SELECT 1) TO 'x.csv'", "--sandbox"], "SELECT only"),
        (
            ["FROM range(100000000000)", "--sandbox", "--timeout", "1", "-f", "csv", "-o", "x"],
            "longer than 1 s",
        ),
        (["SELECT list(ts) FROM metrics"], "Cast it"),
        (["SELECT 1", "-f", "csv", "-o", "no/such/place"], "no/such/place"),
    ],
)
def test_query_that_cannot_be_answered_says_why(root: Path, words: list[str], said: str) -> None:
    """A sentence, no traceback, nothing half done."""
    log_run(root, "one")

    done = real_evlog("query", *words)

    assert done.code in {1, 2}
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert not Path("x").exists()


# --- the answer ------------------------------------


def test_query_writes_json_lines(root: Path, evlog: Evlog) -> None:
    """One object a line; nothing where there is no row."""
    log_run(root, "one", steps=2)

    assert evlog("query", "-f", "jsonl", LOSSES).out == (
        '{"run_id": "one", "step": 0, "value": 1.0}\n{"run_id": "one", "step": 1, "value": 0.5}\n'
    )
    assert evlog("query", "-f", "jsonl", "FROM runs WHERE false").out == ""


def test_query_writes_markdown(root: Path, evlog: Evlog) -> None:
    """A table to paste; what would break it is escaped."""
    log_run(root, "one")

    out = evlog("query", "-f", "markdown", "SELECT 'a|b' AS \"x|y\", E'c\\nd' AS z, NULL AS n").out

    assert out == "| x\\|y | z | n |\n|---|---|---|\n| a\\|b | c d |  |\n"


@pytest.mark.parametrize("walls", [[], ["--sandbox"]])
def test_query_writes_arrow(root: Path, evlog: Evlog, tmp_path: Path, walls: list[str]) -> None:
    """A stream that pyarrow reads."""
    pyarrow = pytest.importorskip("pyarrow")
    log_run(root, "one", steps=2)
    path = tmp_path / "out.arrow"

    done = evlog("query", *walls, "-f", "arrow", "-o", str(path), LOSSES)

    assert (done.code, done.out) == (0, "")
    with pyarrow.ipc.open_stream(path) as reader:
        assert reader.read_all().to_pydict() == {"run_id": ["one"] * 2, "step": [0, 1], "value": [1.0, 0.5]}


def test_query_arrow_without_its_package_says_how_to_get_it(
    root: Path, evlog: Evlog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message holds the command."""
    log_run(root, "one")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    done = evlog("query", "-f", "arrow", "-o", str(tmp_path / "x"), "SELECT 1")

    assert done.code == 1
    assert "pip install pyarrow" in done.err


def test_query_of_many_rows_has_the_widths_of_the_first(root: Path, evlog: Evlog) -> None:
    """A long table is written as it comes."""
    log_run(root, "one")

    lines = evlog(
        "query", "SELECT i, repeat('x', (i // 1000)::INT) AS s FROM range(3000) AS r(i)"
    ).out.splitlines()

    assert len(lines) == 3001
    assert (lines[1], lines[1001], lines[3000]) == ("  0", "1000  x", "2999  xx")


@pytest.mark.parametrize("walls", [[], ["--sandbox"]])
def test_query_shows_the_past(root: Path, evlog: Evlog, walls: list[str]) -> None:
    """--as-of RUN:SEQ is the state after that event."""
    log_run(root, "one", steps=3)
    sql = "SELECT status, (SELECT count(*) FROM metrics) AS n FROM runs"

    out = evlog("query", *walls, "-f", "csv", "--as-of", "one:3", sql).out

    assert out == "status,n\nrunning,1\n"


# --- the shell ------------------------------------


def test_shell_answers_one_question_after_the_other(root: Path) -> None:
    """A question ends with a semicolon and may have several lines; a mistake does not end the shell."""
    log_run(root, "one", steps=2)
    typed = b"SELECT count(*) AS n\nFROM runs;\nSELECT ';' AS semi; -- so\nSELEC;\n"

    typed += b".format csv\nSELECT 2 AS two;\n"
    done = real_evlog("query", "-i", stdin=typed + b".nonsense\n.schema params\n.quit\nSELECT 3;\n")

    assert done.code == 0
    assert [line for line in done.out.splitlines() if line.strip()][:6] == ["n", "1", "semi", ";", "two", "2"]
    assert "param of a run" in done.out
    assert "syntax error" in done.err
    assert "'.nonsense'" in done.err


def test_shell_knows_words(root: Path) -> None:
    """Tables, columns, functions, commands, and inside quotes the names of metrics."""
    log_run(root, "one")
    with Database.open(root) as database:
        shell = Shell(database)

        assert shell.completions("sum", "SELECT * FROM ") == ["summaries", "summary", "sum", "summarize"]
        assert "at_step" in shell.completions("at_", "FROM ")
        assert shell.completions(".sch") == [".schema"]
        assert shell.completions("lo", "SELECT * FROM metrics WHERE key = '") == ["loss"]
        assert shell.completions("SEL") == ["SELECT"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a terminal of its own")
def test_shell_completes_and_remembers(root: Path, tmp_path: Path) -> None:
    """On a terminal TAB completes a word, and the lines are there the next time."""
    pytest.importorskip("readline")
    log_run(root, "one")
    ours, theirs = os.openpty()
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "query", "-i", "-f", "csv"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
    )
    os.close(theirs)
    seen = b""

    def see(what: bytes) -> bool:
        nonlocal seen
        if select.select([ours], [], [], 0)[0]:
            seen += os.read(ours, 4096)
        return what in seen

    try:
        wait_until(lambda: see(b"evlog> "), "the prompt")
        os.write(ours, b"SELECT 41 + count(*) + 1 AS n FROM evaluation_r\t;\n")
        wait_until(lambda: see(b"42"), "the answer")
        # Before the next prompt the terminal would swallow it.
        wait_until(lambda: see(b"") and b"evlog> " in seen.partition(b"42")[2], "the next prompt")
        os.write(ours, b"\x04")
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(ours)

    assert "FROM evaluation_results" in (tmp_path / "state" / "evlog" / "query_history").read_text()


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("SELECT 1;", True),
        ("SELECT 1; ", True),
        ("SELECT ';'", False),
        ("SELECT ';", False),
        ("SELECT 1; -- more;", True),
        ("SELECT 1 -- ;", False),
        ("SELECT 1 /* ; */", False),
        ('SELECT 1 AS "a;', False),
        ("SELECT 'it''s;';", True),
    ],
)
def test_shell_knows_where_a_question_ends(text: str, ends: bool) -> None:
    """A semicolon in a text or a comment ends nothing."""
    assert _ends(text) == ends


# --- the tables, and the cache ------------------------------------


def test_schema_lists_tables_and_functions(evlog: Evlog) -> None:
    """All that a question can name."""
    out = evlog("schema").out

    assert [name for name in (*[t.name for t in TABLES], *SIGNATURES) if name not in out] == []
    assert list(json.loads(evlog("schema", "--json").out)) == [t.name for t in TABLES]


def test_schema_of_a_table_has_its_columns(root: Path, evlog: Evlog) -> None:
    """With types and meanings; that of the params has a column for each."""
    log_run(root, "one")

    found = {c["name"]: c["type"] for c in json.loads(evlog("schema", "run_params", "--json").out)}

    assert found == {"project": "VARCHAR", "run_id": "VARCHAR", "lr": "DOUBLE", "opt.name": "VARCHAR"}
    assert "smallest value" in evlog("schema", "SUMMARIES").out


def test_schema_of_no_table_names_those_there_are(evlog: Evlog) -> None:
    """The way out is in the message."""
    done = evlog("schema", "metric")

    assert done.code == 1
    assert "metrics" in done.err


def test_compact_fills_the_cache(root: Path, evlog: Evlog) -> None:
    """Afterwards the points are in Parquet files; without a root it says so."""
    log_run(root, "one", steps=3)

    out = evlog("compact").out

    assert out.startswith("1 runs, 7 events")
    assert list((root / ".evlog" / "cache").glob("points-*.parquet"))
    assert json.loads(evlog("compact", "--json").out)["runs"] == 1
    assert evlog("compact", "--dir", "nowhere").code == 1


def test_compact_keeps_the_cache_warm(root: Path) -> None:
    """--watch takes in what comes, until Ctrl-C."""
    log_run(root, "one")
    process = start("compact", "--watch", "--interval", "0.1")
    assert process.stdout is not None

    first = process.stdout.readline()
    log_run(root, "two")
    second = process.stdout.readline()
    process.send_signal(signal.SIGINT)

    assert (first[:6], second[:6]) == (b"1 runs", b"2 runs")
    assert process.wait(20) == 130
