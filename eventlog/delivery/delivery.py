"""One run, one sink: read, shape, write, save.

What is saved is always true: cursors and the sink's state go to the ledger after the destination has what
they stand for. After any failure delivery goes on from the ledger, never from what is in memory.

A `Delivery` holds the lease of its run and destination from its making to `release`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.delivery import lease
from eventlog.delivery.batches import batches, find_start, halves, log_sizes
from eventlog.delivery.ledger import Ledger, Plan, ledger_path, load_ledger, save_ledger
from eventlog.delivery.letters import DeadLetters
from eventlog.delivery.shaping import Shape, Shaper
from eventlog.errors import BadShapeError, ShapeChangedError, SinkRejectedError
from eventlog.events import RunStarted
from eventlog.replay import is_running, living_writers
from eventlog.sink import Batch, KeepsState, RunInfo, RunStatus, Sink
from eventlog.storage.layout import is_network_file_system, log_directory
from eventlog.storage.merge import RunReader, Slice
from eventlog.storage.repair import recover_run
from eventlog.storage.system import SYSTEM, System


class Delivery:
    """A run on its way to a destination.

    Not safe for several threads. `connect`, then `pull` as often as there is something new, then `finish`;
    after an error `disconnect`, and `connect` again.

    Args:
        shape: what goes there; None as it was before.
        restart: forget what was delivered and deliver everything anew.

    Attributes:
        ledger: what is known of the delivery; on the disk as of the last save.
        save_every_s: how long delivered batches may wait for a save, in seconds.

    Raises:
        LeaseHeldError: another process delivers this run there now.
        ShapeChangedError: the run was delivered in another shape.
        CheckpointError: the ledger cannot be read.
    """

    def __init__(
        self,
        run: Path,
        sink: Sink,
        sink_name: str,
        *,
        shape: Shape | None = None,
        restart: bool = False,
        save_every_s: float = 0.0,
        on_batch: Callable[[int], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        system: System = SYSTEM,
    ) -> None:
        self.run, self.sink, self.sink_name = run, sink, sink_name
        self.save_every_s = save_every_s
        self._on_batch = on_batch
        self._clock, self._system = clock, system
        self._path = ledger_path(run, sink_name, sink.destination)
        self._reader: RunReader | None = None
        self._is_open = False
        self._skip: dict[str, int] = {}
        self._saved_at = 0.0
        self._is_dirty = False
        self._letters = DeadLetters(self._path, clock=clock, system=system)
        self._lease = lease.acquire(self._path.with_suffix(""))
        try:
            self.ledger = self._load(shape, restart=restart)
        except BaseException:
            self._lease.release()
            raise
        self._shaper = Shaper(self.ledger.shape)

    def _load(self, shape: Shape | None, *, restart: bool) -> Ledger:
        try:
            ledger = load_ledger(self._path)
        except Exception:
            if not restart:
                raise
            ledger = None
        fresh = Ledger(sink=self.sink_name, destination=self.sink.destination, shape=shape or Shape())
        if not fresh.shape.is_plain and not self.sink.traits.takes_shape:
            raise BadShapeError(
                f"{self.sink_name} copies the log as it is: {fresh.shape} cannot be had there"
            )
        if ledger is None:
            return fresh
        if restart:
            ledger.begin_anew(fresh.shape, generation=ledger.generation + 1)
            self._letters.clear()
            save_ledger(self._path, ledger, self._system)
        elif shape is not None and shape != ledger.shape and not self._is_projection:
            raise ShapeChangedError(self.run.name, self.sink_name, str(ledger.shape), str(shape))
        elif shape is not None:
            ledger.shape = shape
        return ledger

    @property
    def _is_projection(self) -> bool:
        return self.sink.traits.is_projection

    # --- what there is to do ---------------------------------------------------------------------

    def has_news(self) -> bool:
        """Tell whether the log has grown since the destination was told how the run ended."""
        closed = self.ledger.closed
        if self._is_projection or closed is None or closed.is_running:
            return True
        return self.ledger.plan is not None or log_sizes(self.run) != self.ledger.sizes

    @property
    def findings(self) -> int:
        """Return how many things were found wrong with the log."""
        return len(self._reader.findings) if self._reader else 0

    def is_alive(self) -> bool:
        """Tell whether a writer may still append."""
        return is_running(self.run)

    # --- delivering ------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the log and the sink where the ledger says, and repeat the batch that was begun.

        Raises:
            SinkUnavailableError: from the sink.
        """
        if self._is_dirty:
            self.ledger = load_ledger(self._path) or self._fresh()
            self._is_dirty = False
        if self._is_projection:
            self.ledger.begin_anew(self.ledger.shape, generation=self.ledger.generation)
        self._shaper = Shaper(self.ledger.shape, self.ledger.counts and self.ledger.counts.copy())
        self._reader = self._open_log()
        if self.ledger.shape.max_points is not None and self.ledger.counts is None:
            self._count_points()
        own = self.sink.open(self._info())
        self._is_open = True
        self._skip = {writer: cursor.seq for writer, cursor in own.cursors.items()} if own else {}
        if self.ledger.plan is not None:
            self._repeat(self.ledger.plan)
            self._reader = self._open_log()

    def _fresh(self) -> Ledger:
        old = self.ledger
        return Ledger(sink=old.sink, destination=old.destination, shape=old.shape, generation=old.generation)

    def _open_log(self) -> RunReader:
        recover_run(self.run)
        return RunReader(
            self.run,
            start=self.ledger.checkpoint,
            waits_on_nul=is_network_file_system(log_directory(self.run)),
        )

    def _info(self) -> RunInfo:
        return RunInfo(
            project=self.run.parent.name,
            run_id=self.run.name,
            path=self.run,
            started=self._shaped_start(),
            state=self.ledger.state,
            generation=self.ledger.generation,
        )

    def _shaped_start(self) -> RunStarted | None:
        found = find_start(self.run)
        if found is None:
            return None
        event = Shaper(self.ledger.shape).apply("", [found])[0]
        return event if isinstance(event, RunStarted) else None

    def _count_points(self) -> None:
        """Count all points before the first is delivered: ``max_points`` needs to know them."""
        counted = RunReader(self.run)
        for part in counted.slices():
            self._shaper.count(part.writer, part.events)
        if is_running(self.run):
            raise BadShapeError(
                f"{self.run.name} is still running, and --max-points needs to know all of its points. "
                "Deliver it when it has ended, or use --every"
            )

    def pull(self, stop: threading.Event | None = None) -> int:
        """Deliver what the log holds beyond what was delivered; return the number of events.

        Args:
            stop: when set, no further batch is begun; `connect` again to go on.

        Raises:
            SinkUnavailableError: from the sink.
            LeaseLostError: another process has taken over.
        """
        assert self._reader is not None
        count = 0
        for slices in batches(self._reader.slices(), self.sink.traits.batch_events):
            if stop is not None and stop.is_set():
                break
            self._deliver(slices)
            count += sum(len(part.events) for part in slices)
        return count

    def finish(self) -> RunStatus:
        """Tell the destination how the run stands now, and save everything.

        Raises:
            SinkUnavailableError: from the sink.
        """
        assert self._reader is not None
        # In this order: who is dead now has nothing to add to what is read afterwards.
        sizes, alive = log_sizes(self.run), living_writers(self.run)
        if not alive:
            recover_run(self.run)
        self.pull()
        status, end = self.ledger.life.status(alive)
        told = RunStatus(
            status=status,
            ended_at=end.ts if end else None if status == "running" else self.ledger.life.last_ts,
            exit_code=end.exit_code if end else None,
        )
        self.sink.close(told)
        self._is_open = False
        self.ledger.closed, self.ledger.sizes = told, sizes
        self.ledger.last_error = self.ledger.failed_at = None
        self.save()
        return told

    def disconnect(self) -> None:
        """Close the sink before the end; what was not saved will be repeated."""
        if self._is_open:
            self._is_open = False
            self.sink.close(None)
        self._reader = None

    def release(self) -> None:
        """Give the lease back."""
        self._lease.release()

    def note_error(self, error: BaseException) -> None:
        """Keep in the ledger, without moving it, what the last try said."""
        # From the disk: what is in memory may be ahead of what the sink holds.
        ledger = load_ledger(self._path) or self._fresh()
        ledger.last_error, ledger.failed_at = f"{error}", self._clock.now_us()
        self._lease.check()
        save_ledger(self._path, ledger, self._system)
        self._is_dirty = True

    def save(self) -> None:
        """Save what was delivered.

        Raises:
            LeaseLostError: another process has taken over; nothing was saved.
            OSError: the ledger could not be written; the old one stands.
        """
        self._lease.check()
        self._is_dirty = True
        # Asked for after what it stands for was delivered, and only now: it may cost the sink a sync.
        if isinstance(self.sink, KeepsState):
            self.ledger.state = self.sink.state()
        self.ledger.counts = self._shaper.counts if not self.ledger.shape.is_plain else None
        save_ledger(self._path, self.ledger, self._system)
        self._is_dirty = False
        self._saved_at = self._clock.monotonic_s()

    def save_if_due(self) -> None:
        """Save if something was delivered and the last save was long enough ago."""
        if self._is_dirty and self._clock.monotonic_s() - self._saved_at >= self.save_every_s:
            self.save()

    # --- one batch -----------------------------------------------------------------------------------

    def _deliver(self, slices: Sequence[Slice]) -> None:
        self._is_dirty = True
        if self.sink.traits.fixed_batches:
            self._begin(Plan(parts=[(part.writer, part.events[-1].seq + 1) for part in slices]))
        counts = self._shaper.counts.copy()
        batch = self._shaped(slices)
        try:
            if batch.count:
                self.sink.write(batch)
        except SinkRejectedError as error:
            if not error.events and batch.count > 1:
                self._shaper.counts = counts
                for half in halves(slices):
                    self._deliver(half)
                return
            self._bury(batch, error)
        self._advance(slices)

    def _shaped(self, slices: Sequence[Slice]) -> Batch:
        """Return what of *slices* goes to the sink: in shape, without what the destination has already."""
        parts = []
        for part in slices:
            events = part.events
            if not self.ledger.shape.is_plain:
                events = self._shaper.apply(part.writer, events)
            skip = self._skip.get(part.writer)
            if skip is not None:
                events = [event for event in events if event.seq >= skip]
            if events:
                parts.append(part._replace(events=events))
        return Batch(parts)

    def _bury(self, batch: Batch, error: SinkRejectedError) -> None:
        named = set(error.events)
        refused = [e for e in batch.entries() if not named or (e.writer, e.event.seq) in named]
        self.ledger.dead_letters = self._letters.add(refused, str(error))

    def _advance(self, slices: Sequence[Slice]) -> None:
        """Take note that *slices* are where they should be."""
        last: dict[str, Slice] = {}
        for part in slices:
            self.ledger.life.apply(part.writer, part.events)
            self.ledger.events += len(part.events)
            last[part.writer] = part
        for writer, part in last.items():
            self.ledger.cursors[writer] = part.cursor
        self.ledger.last_ts = self.ledger.life.last_ts
        self.ledger.delivered_at = self._clock.now_us()
        self.ledger.closed = None
        self.ledger.plan = None
        if self.sink.traits.fixed_batches:
            self.save()
        elif not self._is_projection:
            self.save_if_due()
        if self._on_batch is not None:
            self._on_batch(sum(len(part.events) for part in slices))

    def _begin(self, plan: Plan) -> None:
        """Put on the disk, before anything is sent, what the batch is made of."""
        self.ledger.plan = plan
        self.save()

    def _repeat(self, plan: Plan) -> None:
        if plan.letters:
            self._try_letters(set(plan.letters))
        elif plan.parts:
            assert self._reader is not None
            self._deliver(list(self._reader.take(plan.parts)))
        self.ledger.plan = None

    # --- dead letters --------------------------------------------------------------------------------

    def retry_letters(self) -> int:
        """Try all dead letters again; return how many are left.

        Raises:
            SinkUnavailableError: from the sink.
        """
        return self._try_letters({letter.key for letter in self._letters.read()})

    def _try_letters(self, keys: set[tuple[str, int]]) -> int:
        left = 0
        for letter in self._letters.read():
            if letter.key not in keys:
                continue
            if self.sink.traits.fixed_batches:
                self._begin(Plan(letters=[letter.key]))
            batch = Batch([letter.as_slice()])
            try:
                self.sink.write(batch)
            except SinkRejectedError as error:
                left = self._letters.add(batch.entries(), str(error))
            else:
                left = self._letters.remove([letter.key])
            self.ledger.dead_letters = left
            self.ledger.plan = None
            self.save()
        return left
