"""How much is waiting is told from the ends of the files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.delivery.backlog import Backlog, backlog
from eventlog.delivery.ledger import ledger_path, load_ledger
from eventlog.events import Note, RunStarted
from eventlog.storage.repair import recover_run
from tests.delivery.fakes import (
    FakeClock,
    FakeStop,
    RowSink,
    Store,
    all_entries,
    deliver,
    finished,
    put_log,
    put_ranks,
)
from tests.logs import WRITER_B, LogMaker, die, metrics, open_buffer, put


def test_backlog_of_nothing_is_nothing(tmp_path: Path) -> None:
    """No log, or an empty file."""
    assert backlog(tmp_path, {}) == Backlog(0, None)

    put(tmp_path, 1, b"")

    assert backlog(tmp_path, {}) == Backlog(0, None)


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize("torn", [b"", b'{"seq":99,"ts":5', b"\0" * 20_000])
def test_backlog_is_exact(tmp_path: Path, is_sealed: bool, torn: bytes) -> None:
    """Several segments and writers, sealed or not, with a torn end."""
    a, b = LogMaker(), LogMaker(WRITER_B)
    put(tmp_path, 1, b"".join(a.segment(metrics(10))))
    put(tmp_path, 2, b"".join(a.segment(metrics(7), is_sealed=is_sealed)) + torn)
    put(
        tmp_path,
        1,
        b"".join(b.segment([*metrics(3), Note(text="x" * 100_000)], is_sealed=is_sealed)),
        writer=WRITER_B,
    )

    found = backlog(tmp_path, {})

    assert found == Backlog(21, max(log.events[-1].ts for log in (a, b)))


def test_backlog_of_a_segment_that_just_began(tmp_path: Path) -> None:
    """Its header counts what came before; one that is empty or torn counts through the one before it."""
    log = LogMaker()
    put(tmp_path, 1, b"".join(log.segment(metrics(10))))
    header = log.segment([], is_sealed=False)[0]

    for data in (header, header[:30], b""):
        put(tmp_path, 2, data)
        assert backlog(tmp_path, {}).events == 10


def test_backlog_looks_past_a_damaged_end(tmp_path: Path) -> None:
    """A last line that is no event: those before it count."""
    lines = LogMaker().segment(metrics(10), is_sealed=False)
    put(tmp_path, 1, b"".join(lines) + b"garbage\n")

    assert backlog(tmp_path, {}).events == 10


def test_backlog_of_a_recovered_run_is_exact(tmp_path: Path) -> None:
    """What lay in the ring counts once it is in the log."""
    buffer = open_buffer(tmp_path)
    buffer.append(RunStarted(name="a"))
    for event in metrics(20):
        buffer.append(event)
    die(buffer)
    assert backlog(tmp_path, {}).events == 1

    recover_run(tmp_path)

    assert backlog(tmp_path, {}).events == 21


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 30), batches=st.integers(1, 5))
def test_backlog_after_a_part_was_delivered_is_the_rest(size: int, batches: int) -> None:
    """However far the cursors are."""
    with tempfile.TemporaryDirectory() as root:
        run, store, clock = Path(root) / "p" / "run", Store(), FakeClock()
        put_ranks(run, count=20)
        stop = FakeStop(clock)
        sink = RowSink(store, batch_events=size)
        sink.before_write = lambda _: stop.set() if len(sink.batches) + 1 >= batches else None
        from eventlog.delivery.pump import deliver_run

        deliver_run(run, sink, "fake", clock=clock, stop=stop)

        ledger = load_ledger(ledger_path(run, "fake", "d"))
        assert ledger is not None
        assert backlog(run, ledger.cursors).events == len(all_entries(run)) - len(store.rows)


def test_backlog_of_a_delivered_run_is_empty(tmp_path: Path) -> None:
    """Seals and headers are no events."""
    run = tmp_path / "p" / "run"
    put_log(run, finished())
    deliver(run, RowSink(Store()))

    ledger = load_ledger(ledger_path(run, "fake", "d"))
    assert ledger is not None
    assert backlog(run, ledger.cursors).events == 0
