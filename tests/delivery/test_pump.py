"""The pump: a destination that is out of reach, what it is told in the end, and what a look costs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.delivery import lease
from eventlog.delivery.delivery import Delivery
from eventlog.delivery.ledger import Ledger, ledger_path, load_ledger
from eventlog.delivery.pump import deliver_run
from eventlog.delivery.shaping import Shape
from eventlog.errors import BadShapeError, DurabilityError, ShapeChangedError, SinkUnavailableError
from eventlog.events import Event, RunEnded, RunResumed, RunStarted
from eventlog.sink import Batch, RunStatus, Traits
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import list_rings, log_directory
from tests.delivery.fakes import (
    CountingSink,
    FakeClock,
    FakeStop,
    KeyedSink,
    RowSink,
    Store,
    TruncatingSink,
    assert_delivered_once,
    deliver,
    finished,
    fresh_breaker,
    no_locks,
    put_log,
    put_odd_log,
    put_ranks,
)
from tests.faults import Killed
from tests.logs import WRITER_B, LogMaker, die, metrics, open_buffer, put

SINKS: list[Callable[..., KeyedSink]] = [KeyedSink, RowSink, TruncatingSink]


class Down:
    """Fails so many times, then works."""

    def __init__(self, times: int, *, every: int = 1, retry_after_s: float | None = None) -> None:
        self.left, self.calls = times, 0
        self._every, self._retry_after_s = every, retry_after_s

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.left and self.calls % self._every == 0:
            self.left -= 1
            raise SinkUnavailableError("nobody answers", self._retry_after_s)


def ledger_of(run: Path) -> Ledger:
    """Return the ledger of *run*."""
    ledger = load_ledger(ledger_path(run, "fake", "d"))
    assert ledger is not None
    return ledger


# --- out of reach --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("where", ["before_open", "before_write", "before_close"])
def test_unavailable_destination_is_tried_until_it_is_there(
    tmp_path: Path, make: Callable[..., KeyedSink], where: str
) -> None:
    """Wherever it fails, and several times: then everything is there once."""
    run, store = tmp_path / "p" / "run", Store()
    put_odd_log(run)
    sink = make(store)
    setattr(sink, where, Down(5, every=2))

    done = deliver(run, sink, timeout_s=60.0)

    assert_delivered_once(run, store)
    assert done.events == len(store.rows)
    assert ledger_of(run).last_error is None


def test_unavailable_destination_is_given_up_in_time(tmp_path: Path) -> None:
    """After the time that was given the error comes through; nothing is lost, and the ledger says why."""
    run, clock = tmp_path / "p" / "run", FakeClock()
    put_log(run, finished())
    sink = KeyedSink(Store())
    sink.before_write = Down(10**9)
    stop = FakeStop(clock)
    fresh_breaker()

    with pytest.raises(SinkUnavailableError, match=r"nobody answers.*given up after 100 s"):
        deliver_run(run, sink, "fake", timeout_s=100.0, clock=clock, stop=stop)

    assert 20 < stop.waited <= 100
    assert ledger_of(run).last_error == "nobody answers"
    assert list(no_locks(run)) == []


@pytest.mark.parametrize("is_projection", [True, False])
def test_destination_that_fails_at_the_end_each_time_is_given_up(tmp_path: Path, is_projection: bool) -> None:
    """Repeating what went through before is no progress: the time runs on."""
    run, clock = tmp_path / "p" / "run", FakeClock()
    put_log(run, finished())
    sink = CountingSink(Store(), traits=Traits(is_projection=is_projection, batch_events=5))
    sink.before_close = Down(200)
    fresh_breaker()

    with pytest.raises(SinkUnavailableError):
        deliver_run(run, sink, "fake", timeout_s=100.0, clock=clock, stop=FakeStop(clock))

    assert sink.opened < 20


def test_delivery_waits_as_long_as_the_destination_says(tmp_path: Path) -> None:
    """Retry-After is honoured."""
    run, clock = tmp_path / "p" / "run", FakeClock()
    put_log(run, finished())
    sink = KeyedSink(Store())
    sink.before_write = Down(1, retry_after_s=40.0)
    stop = FakeStop(clock)
    fresh_breaker()

    deliver_run(run, sink, "fake", timeout_s=100.0, clock=clock, stop=stop)

    assert 40 < stop.waited < 42


def test_runs_share_what_is_known_of_a_destination(tmp_path: Path) -> None:
    """The second run does not wait the whole time again for a destination that is known to be down."""
    clock, stop = FakeClock(), threading.Event()
    stop = FakeStop(clock)
    fresh_breaker()
    down = Down(10**9)
    for name in ("a", "b", "c"):
        run = tmp_path / "p" / name
        put_log(run, finished())
        sink = KeyedSink(Store())
        sink.before_open = down
        with pytest.raises(SinkUnavailableError):
            deliver_run(run, sink, "fake", timeout_s=50.0, clock=clock, stop=stop)
        if name == "a":
            waited, calls = stop.waited, down.calls

    assert stop.waited == waited
    assert down.calls == calls


def test_stopped_delivery_goes_on_where_it_was(tmp_path: Path) -> None:
    """It ends after the batch it is at, and says so."""
    run, store, clock = tmp_path / "p" / "run", Store(), FakeClock()
    put_log(run, finished())
    stop = FakeStop(clock)
    sink = RowSink(store)
    sink.before_write = lambda _: stop.set()
    fresh_breaker()

    first = deliver_run(run, sink, "fake", clock=clock, stop=stop)
    second = deliver(run, RowSink(store))

    assert (first.is_stopped, first.events, first.status) == (True, 7, "")
    assert (second.is_stopped, second.events, second.status) == (False, 13, "finished")
    assert_delivered_once(run, store)


def test_stopped_delivery_does_not_wait_for_a_destination_that_is_down(tmp_path: Path) -> None:
    """Waiting ends with the signal."""
    run, clock = tmp_path / "p" / "run", FakeClock()
    put_log(run, finished())
    stop = FakeStop(clock)
    sink = KeyedSink(Store())

    def fail() -> None:
        stop.set()
        raise SinkUnavailableError("nobody answers")

    sink.before_open = fail
    fresh_breaker()

    assert deliver_run(run, sink, "fake", timeout_s=None, clock=clock, stop=stop).is_stopped


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("where", ["before_open", "before_write", "before_close"])
def test_sink_that_breaks_leaves_everything_right(
    tmp_path: Path, make: Callable[..., KeyedSink], where: str, error: BaseException
) -> None:
    """The error comes through; ledger and lease are as they should be, and the next try goes on."""
    run, store = tmp_path / "p" / "run", Store()
    put_odd_log(run)
    sink, calls = make(store), 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        if where != "before_write" or calls == 2 or make is KeyedSink:
            raise error

    setattr(sink, where, fail)

    with pytest.raises(type(error)):
        deliver(run, sink)

    assert list(no_locks(run)) == []
    assert (ledger_of(run).last_error or "").startswith(type(error).__name__)
    deliver(run, make(store))
    assert_delivered_once(run, store)
    assert ledger_of(run).last_error is None


def test_progress_is_told_once(tmp_path: Path) -> None:
    """What is repeated after an outage is not counted twice, also for a projection."""
    run, clock = tmp_path / "p" / "run", FakeClock()
    put_log(run, finished())
    sink = CountingSink(Store(), traits=Traits(is_projection=True, batch_events=5))
    sink.before_close = Down(2)
    fresh_breaker()
    told: list[int] = []

    done = deliver_run(run, sink, "fake", clock=clock, stop=FakeStop(clock), on_batch=told.append)

    assert sum(told) == done.events == 20


# --- what the destination is told ------------------------------------------------------------------


def last(store: Store) -> RunStatus:
    """Return what was told last."""
    status = store.statuses[-1]
    assert status is not None
    return status


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (RunEnded(status="finished", exit_code=0), ("finished", 0)),
        (RunEnded(status="failed", exit_code=1), ("failed", 1)),
        (RunEnded(status="killed", signal="SIGTERM"), ("killed", None)),
    ],
)
def test_destination_is_told_how_the_run_ended(
    tmp_path: Path, ended: Event, told: tuple[str, int | None]
) -> None:
    """Status, time and exit code are those of the end event."""
    run, store = tmp_path / "p" / "run", Store()
    log = put_log(run, [RunStarted(name="a"), *metrics(3), ended])

    done = deliver(run, KeyedSink(store))

    assert (last(store).status, last(store).exit_code) == told
    assert last(store).ended_at == log.events[-1].ts
    assert done.status == told[0]


def test_destination_is_told_that_a_run_goes_on_and_then_that_it_crashed(tmp_path: Path) -> None:
    """A death that adds nothing to the log is news for the destination."""
    run, store = tmp_path / "p" / "run", Store()
    buffer = open_buffer(run)
    buffer.append(RunStarted(name="a"))
    buffer.append(metrics(1)[0])
    buffer.sync()

    deliver(run, KeyedSink(store))
    running = last(store)
    die(buffer)
    deliver(run, KeyedSink(store))

    assert running == RunStatus(status="running")
    assert last(store).status == "crashed"
    assert last(store).ended_at == store.rows[-1].event.ts


def test_destination_is_told_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    """Finished, then resumed by another writer and crashed, then resumed and finished."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    deliver(run, KeyedSink(store))
    told = [last(store).status]

    for number, ending in enumerate([[], [RunEnded(status="finished")]]):
        writer = f"r0-01KAHCZG000000000000000C0{number}"
        log = LogMaker(writer, start_ts=1_763_800_000_000_000 + number * 10**9)
        resumed: list[Event] = [RunResumed(), *metrics(2), *ending]
        put(run, 1, b"".join(log.segment(resumed)), writer=writer)
        deliver(run, KeyedSink(store))
        told.append(last(store).status)

    assert told == ["finished", "crashed", "finished"]
    assert_delivered_once(run, store)


# --- what a look costs ------------------------------------------------------------------------------


def test_finished_run_without_news_opens_nothing(tmp_path: Path) -> None:
    """The sink is not even opened, and nothing is written."""
    run, store = tmp_path / "p" / "run", Store()
    put_ranks(run)
    deliver(run, KeyedSink(store))
    before = ledger_path(run, "fake", "d").stat().st_mtime_ns

    again = KeyedSink(store)
    done = deliver(run, again)

    assert again.opened == 0
    assert (done.events, done.status, done.is_stopped) == (0, "finished", False)
    assert ledger_path(run, "fake", "d").stat().st_mtime_ns == before


def test_crashed_run_without_news_opens_nothing(tmp_path: Path) -> None:
    """Also after what it left was recovered."""
    run, store = tmp_path / "p" / "run", Store()
    put_odd_log(run)
    deliver(run, KeyedSink(store))

    again = KeyedSink(store)
    done = deliver(run, again)

    assert again.opened == 0
    assert done.status == "crashed"


def test_ring_of_another_writer_is_news_although_no_size_changes(tmp_path: Path) -> None:
    """Rank 0 has ended, rank 1 is killed with events in its ring: they come."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    other = open_buffer(run)
    other.append(RunResumed(reason="joined"))
    for event in metrics(3):
        other.append(event)
    deliver(run, KeyedSink(store))
    assert last(store).status == "finished"
    die(other)

    deliver(run, KeyedSink(store))

    assert not list_rings(log_directory(run))
    assert_delivered_once(run, store)
    assert len(store.rows) == 24


def test_writer_that_resumes_during_the_last_look_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is not called crashed because its new writer came between two looks."""
    run, store = tmp_path / "p" / "run", Store()
    log = LogMaker()
    put(run, 1, b"".join(log.segment([RunStarted(name="a"), *metrics(5)])))
    looks: list[Path] = []
    resumed: list[LogBuffer] = []

    def resume(path: Path, **_: object) -> None:
        looks.append(path)
        if len(looks) == 2:  # the first is before, the second at the end
            resumed.append(open_buffer(run))
            resumed[0].append(RunResumed())

    monkeypatch.setattr("eventlog.delivery.delivery.recover_run", resume)
    try:
        deliver(run, KeyedSink(store))

        assert last(store).status == "running"
    finally:
        resumed[0].close()


def test_projection_gets_everything_each_time(tmp_path: Path) -> None:
    """Every event, also when there is no news; and the ledger says how far it is."""
    run, store = tmp_path / "p" / "run", Store()
    put_ranks(run)
    sink = CountingSink(store, traits=Traits(is_projection=True))
    deliver(run, sink)

    done = deliver(run, sink)

    assert done.events == 24
    assert len(store.rows) == 48
    assert ledger_of(run).events == 24


# --- shapes and generations ----------------------------------------------------------------------------


def test_changed_shape_is_noticed(tmp_path: Path) -> None:
    """Half a run in one shape and half in another is refused; without one it stays as it was."""
    run, store = tmp_path / "p" / "run", Store()
    log = put_log(run, finished())
    deliver(run, KeyedSink(store), shape=Shape(every=2))
    put(run, 2, b"".join(log.segment(metrics(4))))

    with pytest.raises(ShapeChangedError, match=r"--every 2.*everything.*--restart"):
        deliver(run, KeyedSink(store), shape=Shape())

    deliver(run, KeyedSink(store))
    assert ledger_of(run).shape == Shape(every=2)


def test_shape_is_noticed_from_the_first_batch_on(tmp_path: Path) -> None:
    """A process that is killed before its first checkpoint may have sent something."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    sink = KeyedSink(store)

    def check(_: Batch) -> None:
        next(ledger_path(run, "fake", "d").parent.glob("*.lock.*")).unlink()
        with pytest.raises(ShapeChangedError):
            Delivery(run, KeyedSink(store), "fake", shape=Shape(every=3))
        raise Killed

    sink.before_write = check
    with pytest.raises(Killed):
        deliver(run, sink, shape=Shape(every=2))


def test_shape_may_change_while_nothing_was_sent(tmp_path: Path) -> None:
    """A try that failed before the first batch binds nobody."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    sink = KeyedSink(store)
    sink.before_open = Down(100)
    with pytest.raises(SinkUnavailableError):
        deliver(run, sink, shape=Shape(every=2))

    deliver(run, KeyedSink(store), shape=Shape(every=3))

    assert ledger_of(run).shape == Shape(every=3)


def test_projection_takes_another_shape_also_after_a_failure(tmp_path: Path) -> None:
    """It is made anew each time, in the shape that is wanted now."""
    run, store, clock = tmp_path / "p" / "run", Store(), FakeClock()
    put_log(run, finished())
    traits = Traits(is_projection=True)
    deliver(run, CountingSink(store, traits=traits))
    sink = CountingSink(store, traits=traits)
    sink.before_close = Down(1)
    fresh_breaker()
    store.rows.clear()

    deliver_run(run, sink, "fake", shape=Shape(exclude=("loss",)), clock=clock, stop=FakeStop(clock))

    assert {row.event.__class__ for row in store.rows} == {RunStarted, RunEnded}


def test_restart_delivers_everything_anew(tmp_path: Path) -> None:
    """Another generation, no state, any shape."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    deliver(run, TruncatingSink(store))
    fresh = Store()

    sink = TruncatingSink(fresh)
    done = deliver(run, sink, restart=True, shape=Shape(exclude=("loss",)))

    assert fresh.generations == [1]
    assert sink.info is not None
    assert sink.info.state == {}
    assert (done.events, len(fresh.rows)) == (20, 2)
    assert ledger_of(run).generation == 1


def test_shape_is_refused_by_copies_of_the_log(tmp_path: Path) -> None:
    """A sink that copies the log cannot leave anything out; the error comes before anything is forgotten."""
    run = tmp_path / "p" / "run"
    put_log(run, finished())
    deliver(run, KeyedSink(Store()))
    copy = KeyedSink(Store(), traits=Traits(takes_shape=False))

    with pytest.raises(BadShapeError, match="--every 2"):
        deliver(run, copy, shape=Shape(every=2), restart=True)

    assert ledger_of(run).generation == 0
    assert list(no_locks(run)) == []


def test_two_destinations_of_one_sink_stand_side_by_side(tmp_path: Path) -> None:
    """Each has its own ledger."""
    run, stores = tmp_path / "p" / "run", [Store(), Store()]
    put_log(run, finished())

    deliver(run, KeyedSink(stores[0], destination="d"))
    deliver(run, KeyedSink(stores[1], destination="https://b"))

    for store in stores:
        assert_delivered_once(run, store)
    assert len(list(ledger_path(run, "fake", "d").parent.glob("*.json"))) == 2


# --- max_points -----------------------------------------------------------------------------------------


def test_max_points_waits_for_the_end(tmp_path: Path) -> None:
    """A run that goes on has more points to come."""
    run = tmp_path / "p" / "run"
    buffer = open_buffer(run)
    buffer.append(RunStarted(name="a"))
    buffer.sync()
    try:
        with pytest.raises(BadShapeError, match="still running"):
            deliver(run, KeyedSink(Store()), shape=Shape(max_points=5))
    finally:
        buffer.close()


def test_max_points_holds_for_a_resumed_run(tmp_path: Path) -> None:
    """The points of the new writer are counted, too, before the first of them goes."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished(50))
    deliver(run, KeyedSink(store), shape=Shape(max_points=5))
    log = LogMaker(WRITER_B, start_ts=1_763_800_000_000_000)
    put(
        run,
        1,
        b"".join(log.segment([RunResumed(), *metrics(40), RunEnded(status="finished")])),
        writer=WRITER_B,
    )

    deliver(run, KeyedSink(store))

    points = [row.writer for row in store.rows if hasattr(row.event, "step")]
    assert 2 <= points.count(WRITER_B) <= 5


# --- rights ------------------------------------------------------------------------------------------------


def test_run_in_which_nothing_can_be_written_says_what_to_do(tmp_path: Path) -> None:
    """Somebody else's run: the error names the directory and the way out."""
    run = tmp_path / "p" / "run"
    put_log(run, finished())
    (run / ".evlog").write_bytes(b"")  # as root nothing is forbidden, but a file is no directory

    with pytest.raises(DurabilityError, match="deliver a copy"):
        deliver(run, KeyedSink(Store()))


def test_lease_is_given_back_and_nothing_is_left(tmp_path: Path) -> None:
    """After a delivery there is the ledger, and no other file."""
    run = tmp_path / "p" / "run"
    put_log(run, finished())
    old = ledger_path(run, "fake", "d")
    old.parent.mkdir(parents=True)
    (old.parent / f".{old.name}.1.abc.tmp").write_bytes(b"left by a killed process")

    deliver(run, KeyedSink(Store()))

    assert [path.name for path in old.parent.iterdir()] == [old.name]
    assert lease.holder_of(old.with_suffix("")) is None
