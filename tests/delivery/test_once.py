"""Each event reaches the destination once, whenever and however often delivery is killed."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.events import RunStarted
from eventlog.sink import RunInfo
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.merge import RunReader
from tests.delivery.fakes import (
    Deaths,
    KeyedSink,
    RowSink,
    Store,
    TruncatingSink,
    all_entries,
    assert_delivered_once,
    deliver,
    deliver_or_die,
    finished,
    no_locks,
    put_log,
    put_odd_log,
    put_ranks,
)
from tests.logs import WRITER_B, die, metrics, open_buffer

SINKS: list[Callable[..., KeyedSink]] = [KeyedSink, RowSink, TruncatingSink]
LOGS = [put_ranks, put_odd_log]


def runs(root: Path) -> Iterator[Path]:
    """Yield new runs for ever."""
    return (root / "p" / f"run-{n}" for n in itertools.count())


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("put", LOGS)
def test_delivery_is_complete(
    tmp_path: Path, make: Callable[..., KeyedSink], put: Callable[[Path], None]
) -> None:
    """Without any trouble everything arrives, and nothing is left behind."""
    run, store = tmp_path / "p" / "run", Store()
    put(run)

    done = deliver(run, make(store))

    assert_delivered_once(run, store)
    assert done.events == len(store.rows) == len(all_entries(run))
    assert list(no_locks(run)) == []


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("put", LOGS)
def test_delivery_killed_at_any_point_goes_on(
    tmp_path: Path, make: Callable[..., KeyedSink], put: Callable[[Path], None]
) -> None:
    """One death, at each system call and between any two steps of the destination; then a second try."""
    for at, run in zip(itertools.count(1), runs(tmp_path), strict=False):
        put(run)
        store = Store()

        lived = deliver_or_die(run, make(store, deaths=Deaths(at)))
        deliver(run, make(store))

        assert_delivered_once(run, store)
        assert list(no_locks(run)) == []
        if lived:
            break
    assert at > 40


@settings(max_examples=40, deadline=None)
@given(
    deaths=st.lists(st.integers(1, 60), max_size=12),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=13),
    make=st.sampled_from([RowSink, TruncatingSink]),
    put=st.sampled_from(LOGS),
)
def test_delivery_killed_many_times_goes_on(
    deaths: list[int],
    sizes: list[int],
    make: Callable[..., KeyedSink],
    put: Callable[[Path], None],
) -> None:
    """Any row of deaths, with batches of another size each time."""
    with tempfile.TemporaryDirectory() as root:
        run, store = Path(root) / "p" / "run", Store()
        put(run)

        for at, size in zip(deaths, itertools.cycle(sizes)):
            deliver_or_die(run, make(store, batch_events=size, deaths=Deaths(at)))
        deliver(run, make(store, batch_events=sizes[0]))

        assert_delivered_once(run, store)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40)), min_size=1, max_size=8),
    make=st.sampled_from([RowSink, TruncatingSink]),
    is_killed=st.booleans(),
)
def test_delivery_of_growing_logs_goes_on(
    steps: list[tuple[int, int]], make: Callable[..., KeyedSink], is_killed: bool
) -> None:
    """Two writers go on, in turns, between the deaths; the order of what was begun stays."""
    with tempfile.TemporaryDirectory() as root:
        run, store = Path(root) / "p" / "run", Store()
        buffers = [open_buffer(run), open_buffer(run)]
        buffers[0].append(RunStarted(name="a"))
        try:
            for number, (count, at) in enumerate(steps):
                for event in metrics(count):
                    buffers[number % 2].append(event)
                buffers[number % 2].sync()
                deliver_or_die(run, make(store, deaths=Deaths(at)))
        finally:
            for buffer in buffers:
                die(buffer) if is_killed else buffer.close()
        deliver(run, make(store))

        assert_delivered_once(run, store)
        assert store.statuses[-1] is not None
        assert store.statuses[-1].status == "crashed"


def test_batch_that_was_begun_stays_as_it_was(tmp_path: Path) -> None:
    """Events of another writer that belong between its events come to the log after the death: they wait."""
    for at, run in zip(itertools.count(1), runs(tmp_path), strict=False):
        store = Store()
        put_log(run, finished(10))

        lived = deliver_or_die(run, RowSink(store, deaths=Deaths(at)))
        put_log(run, finished(10), writer=WRITER_B)
        deliver(run, RowSink(store))

        assert_delivered_once(run, store)
        if lived:
            break


def test_delivery_goes_on_from_what_the_destination_says(tmp_path: Path) -> None:
    """A destination that is ahead of the ledger gets only what it does not have."""
    run, store = tmp_path / "p" / "run", Store()
    log = put_log(run, finished(20))
    part = next(RunReader(run).slices())
    own = Checkpoint(cursors={log.writer: part.block.cursor_after(12)})

    deliver(run, SinkThatKnows(store, own))

    assert [key[1] for key in store.keys] == list(range(12, 20))


class SinkThatKnows(KeyedSink):
    """Says itself how far it came."""

    def __init__(self, store: Store, own: Checkpoint) -> None:
        super().__init__(store)
        self._own = own

    def open(self, run: RunInfo) -> Checkpoint | None:
        super().open(run)
        return self._own
