"""Time travel: the tables as they were are those of a log that was cut at that moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.errors import AmbiguousRunError, QueryError, RunNotFoundError
from eventlog.query import Database
from eventlog.query.asof import parse_time
from eventlog.tables import TABLES
from tests.logs import START_TS, WRITER_A, WRITER_B, LogMaker, put

MOMENT = START_TS + 10_000
"""Between the parts of `went_on`; `over` has ended by then and `later` has not begun."""


def started(name: str, ts: int, **more: object) -> ev.Event:
    return ev.RunStarted(name=name, ts=ts, **more)  # type: ignore[arg-type]


def write(root: Path, run: str, *logs: tuple[str, list[ev.Event]]) -> None:
    for writer, events in logs:
        put(root / "p" / run, 1, b"".join(LogMaker(writer).segment(events)), writer=writer)


def events_of_a_run(begin: int, end: int) -> list[ev.Event]:
    """Return one event of each kind that tables are made of, between two times."""
    step = (end - begin) // 16
    times = iter(range(begin, end, step))
    return [
        started("n", next(times), experiment="exp", tags={"a": "1"}, notes="begun"),
        ev.Params(ts=next(times), data={"lr": 0.1, "opt": {"name": "adam"}}),
        ev.Context(ts=next(times), kind="git", data={"commit": "c1", "branch": "main", "dirty": True}),
        ev.Metrics(ts=next(times), step=0, data={"loss": 2.0, "top": "NaN"}),
        ev.Artifact(ts=next(times), name="m", path="artifacts/m", size_bytes=3, sha256="ab"),
        ev.Checkpoint(ts=next(times), path="/c", step=1, metrics={"loss": 1.0}),
        ev.Evaluation(ts=next(times), benchmark="gsm", step=1, metrics={"acc": 0.5}, data={"n": 3}),
        ev.Sample(ts=next(times), benchmark="gsm", index=0, input="q", prediction={"x": 1}, latency_ms=2.5),
        ev.Metrics(ts=next(times), step=1, data={"loss": 1.0}),
        ev.Dataset(ts=next(times), name="d", version="1", rows=3),
        ev.System(ts=next(times), data={"cpu_percent": 50.5}),
        ev.Console(ts=next(times), stream="stdout", text="hello\nyou"),
        ev.Tags(ts=next(times), data={"b": None}, removed=["a"]),
        ev.Summary(ts=next(times), data={"best": 1.0}),
        ev.Params(ts=next(times), data={"opt": {"beta": 0.9}}),
        ev.Metrics(ts=next(times), step=2, data={"loss": 0.5}),
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "whole"
    ended = ev.RunEnded(status="finished", ts=MOMENT - 1)
    write(root, "over", (WRITER_A, [*events_of_a_run(START_TS, MOMENT - 100), ended]))
    many = events_of_a_run(MOMENT - 5_000, MOMENT + 5_000)
    others: list[ev.Event] = [ev.RunResumed(reason="joined", ts=MOMENT - 4_000)]
    others += [ev.Metrics(ts=MOMENT + n, step=n, data={"loss": float(n)}) for n in range(-3000, 3000, 1000)]
    write(
        root,
        "went_on",
        (WRITER_A, [*many, ev.RunEnded(status="failed", ts=MOMENT + 6_000)]),
        (WRITER_B, others),
    )
    write(root, "later", (WRITER_A, events_of_a_run(MOMENT + 1, MOMENT + 1_000)))
    return root


def cut(root: Path, to: Path) -> Path:
    """Write the lines of each log up to `MOMENT`; a log without any is not written."""
    for path in root.rglob("log/*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["ts"] <= MOMENT]
        if len(kept) > 1:  # more than the header
            target = to / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(kept))
    return to


def rows(database: Database, sql: str, **parameters: object) -> list[tuple[object, ...]]:
    return list(database.execute(sql, parameters).rows())


@pytest.fixture
def past(root: Path) -> Iterator[Database]:
    with Database.open(root, as_of=datetime.fromtimestamp(MOMENT / 1e6, UTC)) as database:
        yield database


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_a_table_is_that_of_a_log_cut_there(root: Path, past: Database, tmp_path: Path, table: str) -> None:
    """Nothing that came later is seen, and nothing that was there is missing."""
    # The log that was cut has no living writer, so it cannot say that a run went on.
    unlike = {"runs": "EXCLUDE (path, status)", "experiments": "EXCLUDE (status)"}.get(table, "")

    with Database.open(cut(root, tmp_path / "cut")) as truth:
        sql = f"SELECT * {unlike} FROM (SELECT COLUMNS(*)::VARCHAR FROM {table}) ORDER BY ALL"
        found, wanted = rows(past, sql), rows(truth, sql)

    assert found == wanted
    assert found or table == "damage"


def test_a_run_that_went_on_was_running(past: Database) -> None:
    """A run that ended by then has its end; one that had not is running."""
    assert rows(past, "SELECT run_id, status, ended_at IS NULL FROM runs ORDER BY run_id") == [
        ("over", "finished", False),
        ("went_on", "running", True),
    ]


def test_a_run_without_an_end_is_what_it_is_now(root: Path) -> None:
    """After the last event of a crashed run it is crashed."""
    with Database.open(root, as_of="2100-01-01") as database:
        assert rows(database, "SELECT status FROM runs WHERE run_id = 'later'") == [("crashed",)]


def test_an_event_is_a_moment(root: Path) -> None:
    """RUN:SEQ shows its writer's events up to that one, and of others what came before it."""
    with Database.open(root, as_of=f"went_on:{WRITER_A}:3") as database:
        seqs = rows(database, f"SELECT max(seq) FROM events WHERE run_id='went_on' AND writer='{WRITER_A}'")
        params = rows(database, "SELECT params FROM runs WHERE run_id = 'went_on'")
        runs = rows(database, "SELECT run_id FROM runs ORDER BY run_id")

    assert seqs == [(3,)]
    assert json.loads(str(params[0][0])) == {"lr": 0.1, "opt": {"name": "adam"}}
    assert runs == [("over",), ("went_on",)]


def test_an_event_of_several_writers_needs_a_writer(root: Path) -> None:
    """The message says how to name one."""
    with pytest.raises(QueryError, match=r"Say whose: went_on:WRITER:1"):
        Database.open(root, as_of="went_on:1")


@pytest.mark.parametrize(
    ("when", "error"),
    [
        ("yesterday", QueryError),
        ("", QueryError),
        ("2026-13-01", QueryError),
        ("over:999999", QueryError),
        ("nothing:1", RunNotFoundError),
        ("p/:1", AmbiguousRunError),
        ("o:1", None),
    ],
)
def test_what_is_no_moment_is_refused(root: Path, when: str, error: type[Exception] | None) -> None:
    """A wrong moment is an error that says what one looks like; the beginning of an id is enough."""
    if error is None:
        Database.open(root, as_of=when).close()
    else:
        with pytest.raises(error):
            Database.open(root, as_of=when)


def test_before_the_first_run_there_is_nothing(root: Path) -> None:
    """Every table is there, and empty."""
    with Database.open(root, as_of="2001-01-01T00:00:00Z") as database:
        assert [rows(database, f"SELECT * FROM {table.name}") for table in TABLES] == [[]] * len(TABLES)


def test_times_without_a_zone_are_utc() -> None:
    """A time is what it says, or UTC."""
    berlin = datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))

    assert parse_time("2026-01-01T12:00:00") == parse_time(berlin.isoformat()) == 1_767_268_800_000_000
    assert parse_time("went_on:3") is None
