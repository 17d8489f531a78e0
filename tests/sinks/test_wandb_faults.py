"""The `wandb` sink and a service that misbehaves: each row is there once, whatever happened."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog.errors import SinkUnavailableError
from eventlog.events import Console, Event, Media, Params, System
from sinks._wandb.api import WandBRefusedError
from sinks._wandb.stream import ForeignRunError
from tests.sinks.wandb_support import Pump, environment, info, make_log, quick_sink, rows
from tests.standin import Fault, StandIn, cut, hang, lose_answer, stale, status, torn
from tests.standin.service import Offsets

KINDS = ("RunResumeStatus", "UpsertBucket", "file_stream", "CreateRunFiles", "upload", "RunState")
PASSING: dict[str, list[Fault]] = {
    "429": [status(429, retry_after_s=1)],
    "500": [status(500)],
    "503 twice": [status(503), status(503)],
    "400": [status(400)],
    "404": [status(404)],
    "409": [status(409)],
    "cut before": [cut("before")],
    "cut inside": [cut("inside")],
    "answer lost": [lose_answer()],
    "answer lost twice": [lose_answer(), lose_answer()],
}
"""What goes by; a service that answers 409 to a new run has deleted it, and says so for ever."""


@pytest.fixture(params=["overwrite", "append"])
def service(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    offsets: Offsets = request.param
    with StandIn(offsets) as stand_in:
        for name, value in environment(stand_in, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield stand_in


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_log(tmp_path / "demo" / "run-1", everything_but_artifacts())


def everything_but_artifacts() -> list[Event]:
    lines: list[Event] = [Console(stream="stdout", text=f"line {i}") for i in range(8)]
    load: list[Event] = [System(data={"cpu": float(i)}) for i in range(8)]
    pages: list[Event] = [Media(key="page", media_type="html", text=f"<b>{i}</b>") for i in range(3)]
    mixed = [e for four in itertools.zip_longest(rows(20), lines, load, pages) for e in four if e]
    return [Params(data={"lr": 0.1}), *mixed]


def assert_exact(stand_in: StandIn) -> None:
    """Each line and file of `everything_but_artifacts` is there once, in order, and the run is over."""
    run = stand_in.only_run
    found = run.rows()
    assert [row["_step"] for row in found] == list(range(23))
    assert len({row["_evlog"] for row in found}) == 23
    assert [row["i"] for row in found if "i" in row] == list(range(20))
    assert [row["step"] for row in found if "i" in row] == [2 * i for i in range(20)]
    assert [line.split(" ", 1)[1] for line in run.output()] == [f"line {i}" for i in range(8)]
    assert [line["system.cpu"] for line in run.stats()] == [float(i) for i in range(8)]
    assert sorted(run.files) == sorted(row["page"]["path"] for row in found if "page" in row)
    assert run.user_config() == {**run.user_config(), "lr": 0.1}
    assert (run.state, run.exit_code, run.summary["status"]) == ("finished", 0, "finished")
    assert run.summary["i"] == 19


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PASSING)
def test_what_passes_costs_nothing(service: StandIn, run: Path, kind: str, name: str) -> None:
    """After any failure that passes, of any request, everything is there once."""
    if kind == "UpsertBucket" and name == "409":
        pytest.skip("that one says that the run was deleted")
    after = 2 if kind in ("file_stream", "RunResumeStatus") else 0
    service.faults.add(kind, *PASSING[name], after=after)

    pump = Pump(run)
    pump.deliver(quick_sink())

    assert len(service.faults.used) == len(PASSING[name])
    assert len(pump.failures) == len(PASSING[name])
    assert_exact(service)


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("name", ["500", "409", "cut before", "cut inside", "answer lost"])
def test_each_post_may_fail(service: StandIn, run: Path, name: str, after: int) -> None:
    """It does not matter which of the posts it is: the first, one between, or the one that ends the run."""
    service.faults.add("file_stream", *PASSING[name], after=after)

    Pump(run).deliver(quick_sink())

    assert_exact(service)


@pytest.mark.parametrize("is_taken", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hanging_service_is_left(service: StandIn, run: Path, kind: str, is_taken: bool) -> None:
    """A request without an answer ends in time, whether its data were taken or not."""
    release = threading.Event()
    service.faults.add(kind, hang(release, is_taken=is_taken))

    Pump(run).deliver(quick_sink(timeout_s=0.2))

    release.set()
    assert_exact(service)


@pytest.mark.parametrize("behind", [1, 2, 3, 9])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_stale_status_is_asked_again(service: StandIn, run: Path, behind: int, after: int) -> None:
    """A status from before what was confirmed is no reason to send anything again."""
    service.faults.add("file_stream", status(500), after=2)
    service.faults.add("RunResumeStatus", stale(behind), after=after, times=2)

    Pump(run).deliver(quick_sink())

    assert_exact(service)


@pytest.mark.parametrize(
    ("after", "answers"),
    [
        (0, [stale(1)]),
        (0, [stale(2), stale(1)]),
        (0, [stale(3), stale(2), stale(1)]),
        (0, [torn(1)] * 3),
        (0, [torn(2), stale(1)]),
        (1, [stale(1)]),
        (1, [stale(1)] * 3),
        (2, [stale(3)] * 2),
        (1, [torn(1)] * 3),
    ],
)
def test_answers_that_still_grow_are_waited_out(
    service: StandIn, run: Path, monkeypatch: pytest.MonkeyPatch, answers: list[Fault], after: int
) -> None:
    """After an unclear post no status is believed before it stays the same and fits together."""
    monkeypatch.setattr("sinks._wandb.stream.POST_BYTES", 300)
    service.faults.add("file_stream", lose_answer(), after=4)
    pump, sink = Pump(run, size=100), quick_sink()
    with pytest.raises(AssertionError):
        pump.deliver(sink, tries=1)
    service.faults.add("RunResumeStatus", *answers, after=after)

    pump.deliver(sink)

    assert not service.faults.waiting
    assert_exact(service)


def test_many_failures_in_a_row_pass(service: StandIn, run: Path) -> None:
    """Failures of all kinds one after the other cost time only."""
    faults = [status(500), lose_answer(), status(429), cut("inside"), lose_answer(), cut("before")]
    service.faults.add("file_stream", *faults, after=1)
    service.faults.add("RunResumeStatus", status(502), stale(1), after=4)

    Pump(run, size=3).deliver(quick_sink(), tries=40)

    assert_exact(service)


def test_what_the_service_said_of_time_is_handed_on(service: StandIn, run: Path) -> None:
    """Retry-After reaches the pump."""
    service.faults.add("file_stream", status(429, retry_after_s=7))
    sink = quick_sink()
    sink.open(info(run))

    with pytest.raises(SinkUnavailableError) as caught:
        sink.write(next(iter(Pump(run)._batches)))

    sink.close(None)
    assert caught.value.retry_after_s == 7


def test_a_service_that_forgets_is_not_believed(service: StandIn, run: Path) -> None:
    """Rows that were taken and are not shown are no delivered rows."""
    pump = Pump(run)
    service.faults.add("RunResumeStatus", stale(1), after=1, times=None)
    with pytest.raises(AssertionError, match="does not show all"):
        pump.deliver(quick_sink(confirm_s=0.05), tries=1)
    assert pump.at == 0
    service.faults.clear()

    pump.deliver(quick_sink())

    assert_exact(service)


@pytest.mark.parametrize("code", [401, 403])
def test_a_key_that_may_not_is_told_at_once(service: StandIn, run: Path, code: int) -> None:
    """Waiting mends no key; afterwards it goes on where it was."""
    service.faults.add("file_stream", status(code), after=1)
    pump, sink = Pump(run), quick_sink()
    with pytest.raises(WandBRefusedError, match="key"):
        pump.deliver(sink)
    sink.close(None)

    pump.deliver(sink)

    assert_exact(service)


def test_a_wrong_key_is_told(service: StandIn, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the service and the way out."""
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)

    with pytest.raises(WandBRefusedError, match=rf"{service.url} answered 401.*wandb login"):
        Pump(run).deliver(quick_sink())


def test_no_key_is_told(service: StandIn, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is tried."""
    monkeypatch.delenv("WANDB_API_KEY")

    with pytest.raises(WandBRefusedError, match="no API key was found"):
        quick_sink().open(info(run))

    assert not service.requests()


def test_a_deleted_run_is_told(service: StandIn, run: Path) -> None:
    """W&B never gives the id of a deleted run again."""
    Pump(run).deliver(quick_sink())
    service.only_run.is_deleted = True

    with pytest.raises(WandBRefusedError, match="does not give a deleted run's id again"):
        Pump(run).deliver(quick_sink())


def test_a_run_that_is_gone_is_told(service: StandIn, run: Path) -> None:
    """Confirmed rows that are gone with their run are not silently made anew without the others."""
    pump = Pump(run)
    service.faults.add("file_stream", status(401), after=2)
    with pytest.raises(WandBRefusedError):
        pump.deliver(quick_sink())
    service.service.runs.clear()

    with pytest.raises(ForeignRunError, match="is gone"):
        pump.deliver(quick_sink(confirm_s=0.05))


@pytest.mark.parametrize("mark", [None, "r9-OTHER:7"])
def test_rows_of_somebody_else_are_told(service: StandIn, run: Path, mark: str | None) -> None:
    """A run of the same id that holds other rows is left as it is."""
    other, _ = service.service.make_run("demo", "run-1")
    row: dict[str, object] = {"_step": 0, "x": 1}
    line = json.dumps(row if mark is None else {**row, "_evlog": mark})
    other.stream({"files": {"wandb-history.jsonl": {"offset": 0, "content": [line]}}}, "overwrite")

    with pytest.raises(ForeignRunError):
        Pump(run, size=2).deliver(quick_sink())

    assert [row["x"] for row in other.rows()] == [1]


def test_rows_that_came_twice_are_told(service: StandIn, run: Path) -> None:
    """If the service holds more rows than were sent, nothing is called delivered."""
    sink, pump = quick_sink(), Pump(run, size=5)
    sink.open(info(run))
    sink.write(pump._batches[0])
    lines = service.only_run.lines["wandb-history.jsonl"]
    lines.update({len(lines) + i: lines[0] for i in range(9)})

    with pytest.raises(ForeignRunError, match="where"):
        sink.write(pump._batches[1])

    sink.close(None)
