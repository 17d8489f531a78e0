"""Spark over the lake, on a real cluster of two workers; skipped where pyspark or Java is not installed."""

from __future__ import annotations

import math
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.errors import QueryError
from eventlog.events import (
    Artifact,
    Checkpoint,
    Console,
    Context,
    Dataset,
    Evaluation,
    Event,
    Metrics,
    Params,
    RunEnded,
    RunStarted,
    Sample,
    System,
)
from eventlog.lake.publish import publish
from eventlog.lake.spark import SparkLake
from eventlog.query import Database
from tests.lake import spark_cluster
from tests.lake.support import RunMaker

WHY_NOT = spark_cluster.why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

QUESTIONS = tomllib.loads(Path(__file__).with_name("questions.toml").read_text())["question"]


def test_there_are_thirty_questions() -> None:
    """Each has a name of its own."""
    assert len({question["name"] for question in QUESTIONS}) == len(QUESTIONS) >= 30


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with runs of two projects, several ranks, all kinds of events, and odd values."""
    root: Path = tmp_path_factory.mktemp("spark") / "root"
    for project, count in (("vision", 4), ("text", 3), ("007", 1), ("ü {x}=%2F", 1)):
        for number in range(count):
            RunMaker(root, f"run-{number:02}", project=project).put(_events(number, len(project)))
    for rank in (1, 2):
        RunMaker(root, "run-00", project="vision", rank=rank).put(
            [Metrics(step=s, data={"loss": rank / (s + 1)}) for s in range(5)]
        )
    return root


def _events(number: int, salt: int) -> list[Event]:
    tags: dict[str, str | None] = {"owner": "ada" if number % 2 else "bob", "quick": None} if number else {}
    found: list[Event] = [
        RunStarted(name=f"näme {number}", tags=tags),
        Params(data={"lr": 0.01 * (number % 3 + 1), "optimizer": {"name": ["sgd", "adam"][number % 2]}}),
        Context(kind="git", data={"branch": f"b{number}", "dirty": number % 2 == 0}),
        Dataset(name="digits", split="train", rows=100 + number),
    ]
    for step in range(30):
        loss = (
            "NaN"
            if (number, step) == (1, 7)
            else "-Infinity"
            if (number, step) == (2, 3)
            else salt / (step + 1)
        )
        found.append(Metrics(step=step, data={"loss": loss, "val/acc": math.sin(step * salt + number)}))
    return [
        *found,
        Metrics(data={"final": number + 0.5}),
        Checkpoint(path=f"/c/{number}", step=29, metrics={"loss": 0.5 * number}, size_bytes=5),
        Evaluation(benchmark="mmlu", step=29, metrics={"acc": number / 7, "ppl": "Infinity"}),
        *(Sample(benchmark="mmlu", index=i, target=i % 2, prediction=i % 3 % 2) for i in range(4)),
        Artifact(name="m", path="artifacts/m", artifact_type="model", size_bytes=7, sha256="ab"),
        System(data={"cpu_percent": 10.0 * number, "ram_bytes": 1 << 33}),
        Console(stream="stdout", text=f"line of {number}\n\tand 'more' \"text\""),
        *([RunEnded(status="finished")] if number != 2 else []),
    ]


@pytest.fixture(scope="module")
def spark(root: Path) -> Iterator[SparkLake]:
    """Yield a session on a cluster, over the published lake."""
    lake = str(root.parent / "la [ke]")
    publish(root, lake, keep=timedelta(0))
    with (
        spark_cluster.running() as master,
        SparkLake.open(lake, master=master, settings=spark_cluster.SETTINGS) as spark,
    ):
        yield spark


@pytest.fixture(scope="module")
def database(root: Path) -> Iterator[Database]:
    """Yield what `evlog query` asks."""
    with Database.open(root) as database:
        yield database


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["name"])
def test_both_engines_answer_alike(question: dict[str, str], spark: SparkLake, database: Database) -> None:
    """A question, in each engine's own SQL, has one answer."""
    asked = database.execute(question["duckdb"])
    expected = [_comparable(row) for row in asked.rows()]

    columns, rows = spark.query(question.get("spark", question["duckdb"]))

    assert [_comparable(row) for row in rows] == expected
    assert expected != []
    assert len(columns) == len(asked.columns)


def test_both_workers_take_part(spark: SparkLake) -> None:
    """The answers come from a cluster, not from this process."""
    executors = spark.session.sparkContext._jsc.sc().getExecutorMemoryStatus().size()

    assert executors == spark_cluster.WORKERS + 1


def test_all_tables_have_the_columns_of_the_reference(spark: SparkLake, database: Database) -> None:
    """Names and order are those of `evlog query`, except for what is made of the data."""
    from eventlog.tables import TABLES

    for table in TABLES:
        if table.name != "run_params":
            columns, _ = spark.query(f"SELECT * FROM {table.name} LIMIT 0")
            assert columns == [column.name for column in table.columns], table.name


def test_projects_are_texts(spark: SparkLake) -> None:
    """A project whose name is a number keeps its zeros, and odd letters are what they were."""
    _, rows = spark.query("SELECT DISTINCT project FROM metrics ORDER BY project")

    assert list(rows) == [("007",), ("text",), ("vision",), ("ü {x}=%2F",)]


@pytest.mark.parametrize("sql", ["SELECT nope FROM runs", "SELEC 1", "SELECT 1 / 0", "SELECT * FROM nowhere"])
def test_what_spark_refuses_is_told_in_few_lines(spark: SparkLake, sql: str) -> None:
    """Its own message, without the trace of its source."""
    with pytest.raises(QueryError) as caught:
        list(spark.query(sql)[1])

    assert "[" in str(caught.value)
    assert "at org.apache" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 12


def _comparable(cell: object) -> object:
    """Return a value that is equal for both: sums of floats differ in the last digits."""
    if isinstance(cell, (tuple, list)):
        return [_comparable(item) for item in cell]
    if isinstance(cell, (float, Decimal)):
        return f"{float(cell):.9g}"
    if isinstance(cell, datetime):
        return cell.astimezone(UTC)
    return cell


def test_the_command_answers_from_the_lake(root: Path, spark: SparkLake, tmp_path: Path) -> None:
    """`evlog query --engine spark` starts Spark by itself, finds the lake, and writes the rows."""
    code = f"""
from pathlib import Path
from eventlog.cli.formats import Format
from eventlog.cli.spark import answer
sql = "SELECT project, count(*) AS n, min(started_at) AS t FROM runs GROUP BY project ORDER BY 1 LIMIT 2"
answer(sql, Format.CSV, Path("answer.csv"), root=Path({str(root)!r}), lake=None, master="local[1]")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=120, check=False)

    assert done.returncode == 0
    assert (tmp_path / "answer.csv").read_text() == (
        "project,n,t\n007,1,2025-11-21T04:40:00.001000+00:00\ntext,3,2025-11-21T04:40:00.001000+00:00\n"
    )
