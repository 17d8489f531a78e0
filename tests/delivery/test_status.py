"""How a run stands at its destinations, told from the ledgers and the ends of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.delivery import lease
from eventlog.delivery.ledger import ledger_path, load_ledger, save_ledger
from eventlog.delivery.shaping import Shape
from eventlog.delivery.status import Standing, events_left, standings
from eventlog.errors import SinkUnavailableError
from eventlog.events import RunEnded, RunStarted
from eventlog.sink import Batch, RunStatus
from tests.delivery.fakes import KeyedSink, Store, deliver, finished, put_log
from tests.logs import LogMaker, die, metrics, open_buffer, put


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "p" / "run"


def only(run: Path) -> Standing:
    (one,) = standings(run)
    return one


def test_a_run_that_never_went_anywhere_has_no_standing(run: Path) -> None:
    """Nor does looking make one."""
    put_log(run, finished())

    assert standings(run) == []
    assert not (run / ".evlog").exists()


def test_a_delivered_run_is_complete(run: Path) -> None:
    """With what the destination was told, and how far each writer's log is there."""
    log = put_log(run, finished(20))
    deliver(run, KeyedSink(Store()))

    one = only(run)

    assert (one.project, one.run_id, one.sink, one.destination) == ("p", "run", "fake", "d")
    assert (one.state, one.told, one.events, one.lag_events, one.lag_s) == (
        "complete",
        "finished",
        20,
        0,
        0.0,
    )
    assert one.last_seq == {log.writer: 19}
    assert one.delivered_at is not None


def test_a_run_that_went_on_is_behind(run: Path) -> None:
    """By so many events, and by the time between the newest of both."""
    log = LogMaker()
    put(run, 1, b"".join(log.segment([RunStarted(name="a"), *metrics(9)])))
    deliver(run, KeyedSink(Store()))
    put(run, 2, b"".join(log.segment(metrics(5, start=9))))

    one = only(run)

    assert (one.state, one.events, one.lag_events) == ("behind", 10, 5)
    assert one.lag_s == pytest.approx(0.005)


def test_a_run_whose_end_is_not_known_there_is_behind(run: Path) -> None:
    """It was going on when it was delivered, and died without another word."""
    buffer = open_buffer(run)
    buffer.append(RunStarted(name="a"))
    buffer.sync()
    deliver(run, KeyedSink(Store()))
    alive = only(run)
    die(buffer)

    dead = only(run)

    assert (alive.state, alive.told) == ("complete", "running")
    assert (dead.state, dead.told, dead.lag_events) == ("behind", "running", 0)


def test_the_last_error_shows_until_a_delivery_succeeds(run: Path) -> None:
    """With what it said, and when."""
    put_log(run, finished())
    sink = KeyedSink(Store())

    def fail(_: Batch) -> None:
        raise SinkUnavailableError("no route")

    sink.before_write = fail
    with pytest.raises(SinkUnavailableError):
        deliver(run, sink)
    failing = only(run)
    deliver(run, KeyedSink(sink.store))

    assert (failing.state, failing.last_error) == ("failing", "no route")
    assert failing.failed_at is not None
    assert (only(run).state, only(run).last_error) == ("complete", "")


def test_refused_events_are_counted(run: Path) -> None:
    """The rest is there."""
    put_log(run, finished())
    deliver(run, KeyedSink(Store(), refuses=lambda entry: entry.event.seq in {3, 4}))

    assert (only(run).state, only(run).dead_letters) == ("complete", 2)


def test_a_ledger_that_cannot_be_read_hides_no_other(run: Path) -> None:
    """It is named, and what it says is shown."""
    put_log(run, finished())
    deliver(run, KeyedSink(Store()))
    ledger_path(run, "aaa", "").write_bytes(b"garbage")

    bad, good = standings(run)

    assert (bad.sink, bad.state, good.state) == ("aaa", "unreadable", "complete")
    assert "--restart" in bad.last_error


def test_each_destination_of_a_sink_stands_for_itself(run: Path) -> None:
    """A run may go to two servers."""
    put_log(run, finished())
    deliver(run, KeyedSink(Store(), destination="one"))
    deliver(run, KeyedSink(Store(), destination="two"), shape=Shape(every=2))

    assert {one.destination: one.shape for one in standings(run)} == {"one": "", "two": "--every 2"}


def test_who_delivers_at_this_moment_is_named(run: Path) -> None:
    """So that nobody wonders why it is busy."""
    put_log(run, finished())
    deliver(run, KeyedSink(Store()))
    held = lease.acquire(ledger_path(run, "fake", "d").with_suffix(""))
    during = only(run).holder
    held.release()

    assert during.startswith("process ")
    assert only(run).holder == ""


def test_an_event_without_a_time_in_the_ledger_gives_no_lag(run: Path) -> None:
    """Nothing was delivered yet: there is no newest event there to compare with."""
    put_log(run, finished())
    deliver(run, KeyedSink(Store()))
    path = ledger_path(run, "fake", "d")
    ledger = load_ledger(path)
    assert ledger is not None
    ledger.cursors, ledger.last_ts, ledger.closed = {}, None, RunStatus(status="running")
    save_ledger(path, ledger)

    assert (only(run).state, only(run).lag_s) == ("behind", 0.0)


def test_events_left_is_what_the_slowest_sink_has_not(run: Path) -> None:
    """A sink that never got anything has all of it to come."""
    log = LogMaker()
    put(run, 1, b"".join(log.segment([RunStarted(name="a"), *metrics(9)])))
    deliver(run, KeyedSink(Store()))
    put(run, 2, b"".join(log.segment([*metrics(4, start=9), RunEnded(status="finished")])))

    assert events_left(run, ["fake"]) == 5
    assert events_left(run, ["fake", "other"]) == 15
    assert events_left(run, []) == 0
