"""Destinations that the test can look into, logs to deliver, and a death at any point between the two."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from eventlog.delivery import breaker as breakers
from eventlog.delivery.breaker import Breaker
from eventlog.delivery.pump import Delivered, deliver_run
from eventlog.delivery.shaping import Shape
from eventlog.errors import SinkRejectedError
from eventlog.events import Event, Note, RunEnded, RunStarted
from eventlog.sink import Batch, Entry, RunInfo, RunStatus, Traits
from eventlog.storage.artifacts import spill
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.layout import log_directory
from eventlog.storage.merge import RunReader
from tests.faults import Call, Killed, WatchedSystem
from tests.logs import WRITER_A, WRITER_B, LogMaker, die, metrics, open_buffer, put

Key = tuple[str, int]


def key_of(entry: Entry) -> Key:
    """Return what names an event in its run."""
    return entry.writer, entry.event.seq


class Deaths:
    """Counts the points at which a process may die, and ends it at number *at* and ever after."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count = at, 0

    def point(self, _: object = None) -> None:
        """Pass a point, or die there."""
        self.count += 1
        if self.at is not None and self.count >= self.at:
            raise Killed(self.count)

    def system(self) -> WatchedSystem:
        """Return a system each of whose calls is such a point."""

        def decide(call: Call) -> None:
            self.point(call)

        return UnsyncedSystem(decide)


class UnsyncedSystem(WatchedSystem):
    """A system that does not wait for the disk: what a process wrote outlives its death anyway."""

    def sync(self, fd: int) -> None:
        self.begin("sync", self.paths.get(fd))

    def sync_directory(self, path: Path) -> None:
        self.begin("sync_directory", path)


class Store:
    """What a destination holds, in the order of its coming; it outlives every process."""

    def __init__(self) -> None:
        self.rows: list[Entry] = []
        self.known: set[Key] = set()
        self.statuses: list[RunStatus | None] = []
        self.generations: list[int] = []

    @property
    def keys(self) -> list[Key]:
        """Return writer and seq of each row."""
        return [key_of(row) for row in self.rows]


class KeyedSink:
    """Keeps each event once, by writer and seq, as most destinations can.

    Attributes:
        refuses: events that it will never take.
        names: whether it says which of a batch those are.
        before_open, before_write, before_close: called first, and may raise.
    """

    def __init__(
        self,
        store: Store,
        *,
        traits: Traits | None = None,
        destination: str = "d",
        deaths: Deaths | None = None,
        refuses: Callable[[Entry], bool] | None = None,
        names: bool = True,
    ) -> None:
        self.traits = traits or Traits()
        self.destination = destination
        self.store, self.deaths = store, deaths or Deaths()
        self.refuses, self.names = refuses, names
        self.opened = 0
        self.info: RunInfo | None = None
        self.batches: list[Batch] = []
        self.before_open: Callable[[], None] = lambda: None
        self.before_write: Callable[[Batch], None] = lambda _: None
        self.before_close: Callable[[RunStatus | None], None] = lambda _: None

    def open(self, run: RunInfo) -> Checkpoint | None:
        self.deaths.point()
        self.before_open()
        self.opened += 1
        self.info = run
        self.store.generations.append(run.generation)
        self.begin(run)
        return None

    def begin(self, run: RunInfo) -> None:
        """Prepare for a run."""

    def write(self, batch: Batch) -> None:
        self.before_write(batch)
        self.batches.append(batch)
        bad = [key_of(e) for e in batch.entries() if self.refuses and self.refuses(e)]
        if bad and not self.names:
            raise SinkRejectedError("one of them is bad")
        for entry in batch.entries():
            self.deaths.point()
            if key_of(entry) not in bad:
                self.take(entry)
        self.deaths.point()
        if bad:
            raise SinkRejectedError("bad", bad)

    def take(self, entry: Entry) -> None:
        """Apply one event."""
        if key_of(entry) not in self.store.known:
            self.store.known.add(key_of(entry))
            self.store.rows.append(entry)

    def close(self, status: RunStatus | None) -> None:
        self.deaths.point()
        self.before_close(status)
        self.deaths.point()
        self.store.statuses.append(status)


class CountingSink(KeyedSink):
    """Appends whatever comes: shows what is sent twice."""

    def take(self, entry: Entry) -> None:
        self.store.rows.append(entry)


class RowSink(KeyedSink):
    """Numbers its rows; a row that is there is never replaced, so it has to be the same event each time."""

    def __init__(self, store: Store, *, batch_events: int = 7, **options: object) -> None:
        traits = Traits(fixed_batches=True, batch_events=batch_events)
        super().__init__(store, traits=traits, **options)  # type: ignore[arg-type]
        self._next = 0

    def begin(self, run: RunInfo) -> None:
        rows = run.state.get("rows", 0)
        assert isinstance(rows, int)
        self._next = rows

    def take(self, entry: Entry) -> None:
        if self._next < len(self.store.rows):
            assert self.store.rows[self._next] == entry, "a row changed its event"
        else:
            self.store.rows.append(entry)
        self._next += 1

    def state(self) -> dict[str, object]:
        return {"rows": self._next}


class TruncatingSink(RowSink):
    """Appends to a file that it first cuts back to where its state says."""

    def __init__(self, store: Store, *, batch_events: int = 7, **options: object) -> None:
        super().__init__(store, **options)  # type: ignore[arg-type]
        self.traits = Traits(batch_events=batch_events)

    def begin(self, run: RunInfo) -> None:
        super().begin(run)
        del self.store.rows[self._next :]


class FakeClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_us(self) -> int:
        return int(self.now * 1e6)

    def monotonic_s(self) -> float:
        return self.now


class FakeStop(threading.Event):
    """A stop signal whose waits move the clock instead of taking time."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock, self.waited = clock, 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.clock.now += timeout
        self.waited += timeout
        return self.is_set()


def fresh_breaker(sink_name: str = "fake", destination: str = "d") -> Breaker:
    """Put a new breaker without chance before a destination, as a new process would have it."""
    breaker = Breaker(jitter=lambda: 0.5)
    breakers._breakers[f"{sink_name} {destination}"] = breaker
    return breaker


def deliver(
    run: Path,
    sink: KeyedSink,
    *,
    shape: Shape | None = None,
    restart: bool = False,
    retry_letters: bool = False,
    timeout_s: float | None = 0.0,
) -> Delivered:
    """Deliver as a new process would, which may die at the points of *sink*."""
    clock = FakeClock()
    fresh_breaker(destination=sink.destination)
    return deliver_run(
        run,
        sink,
        "fake",
        shape=shape,
        restart=restart,
        retry_letters=retry_letters,
        timeout_s=timeout_s,
        stop=FakeStop(clock),
        clock=clock,
        system=sink.deaths.system(),
    )


def deliver_or_die(run: Path, sink: KeyedSink, **options: object) -> bool:
    """Deliver; tell whether the process lived to see the end."""
    try:
        deliver(run, sink, **options)  # type: ignore[arg-type]
    except Killed:
        return False
    return True


# --- logs ---------------------------------------------------------------------------------------


class Future(Event, frozen=True, kw_only=True, tag="from_the_future"):
    """An event of a type that this version does not know."""

    text: str = ""


def finished(count: int = 20) -> list[Event]:
    """Return the events of a small run that ended well."""
    return [RunStarted(name="a"), *metrics(count - 2), RunEnded(status="finished", exit_code=0)]


def put_log(run: Path, events: Sequence[Event], *, writer: str = WRITER_A) -> LogMaker:
    """Write *events* as one sealed segment of *writer*."""
    log = LogMaker(writer)
    put(run, 1, b"".join(log.segment(events)), writer=writer)
    return log


def put_odd_log(run: Path) -> None:
    """Write what a delivery may meet.

    Two ranks interleaved, segments, damage, a torn tail, a large event, an event of an unknown type, and a
    third writer that died and left most of its events in its ring.
    """
    a, b = LogMaker(WRITER_A), LogMaker(WRITER_B, start_ts=1_763_700_000_000_500)
    whole = b'{"text":"' + b"x" * 2_000_000 + b'"}'
    large = spill(run, "note", whole)
    put(
        run,
        1,
        b"".join(a.segment([RunStarted(name="a"), *metrics(9), Future(text="?"), Note(payload=large)])),
    )
    put(run, 1, b"".join(b.segment(metrics(8))), writer=WRITER_B)
    lines = a.segment(metrics(8, start=9), is_sealed=False)
    lines[3] = lines[3].replace(b'"loss"', b'"lost"')
    put(run, 2, b"".join(lines))
    lines = b.segment(metrics(8, start=8), is_sealed=False)
    put(run, 2, b"".join(lines)[:-20], writer=WRITER_B)
    third = open_buffer(run, system=UnsyncedSystem())
    third.append(RunStarted(name="b"))
    for event in metrics(8):
        third.append(event)
    die(third)


def put_ranks(run: Path, ranks: int = 2, count: int = 12) -> None:
    """Write a finished run of several ranks whose events alternate in time."""
    for rank, offset in zip(range(ranks), itertools.count(0, 300), strict=False):
        log = LogMaker(f"r{rank}-01KAHCZG000000000000000A0{rank}", start_ts=1_763_700_000_000_000 + offset)
        put(run, 1, b"".join(log.segment(finished(count))), writer=log.writer)


def all_entries(run: Path) -> list[Entry]:
    """Return what a sink should get of *run*."""
    return [Entry(part.writer, part.rank, event) for part in RunReader(run).slices() for event in part.events]


def by_writer(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return *entries* of each writer in their order."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.writer, []).append(entry)
    return found


def assert_delivered_once(run: Path, store: Store) -> None:
    """Make sure that *store* holds each event of *run* once, those of each writer in order."""
    twice = [key for key, count in Counter(store.keys).items() if count > 1]
    assert not twice, f"came twice: {twice}"
    assert by_writer(store.rows) == by_writer(all_entries(run))


def no_locks(run: Path) -> Iterator[str]:
    """Yield the names of leases and leftovers of *run*; there should be none."""
    directory = run / ".evlog" / "sinks"
    if directory.is_dir():
        yield from (
            path.name for path in directory.iterdir() if ".lock." in path.name or path.suffix == ".tmp"
        )


def log_bytes(run: Path) -> dict[str, bytes]:
    """Return the contents of the log's files."""
    return {path.name: path.read_bytes() for path in log_directory(run).iterdir()}
