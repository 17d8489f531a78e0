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
from eventlog.delivery.batches import batches, halves, log_sizes, named
from eventlog.delivery.counting import count_points, shaped_start
from eventlog.delivery.ledger import (
    Ledger,
    Plan,
    ledger_path,
    open_ledger,
    remove_leftovers,
    restart_ledger,
    save_ledger,
)
from eventlog.delivery.letters import DeadLetter, DeadLetters
from eventlog.delivery.shaping import Shape, Shaper
from eventlog.errors import EvlogError, SinkRejectedError
from eventlog.replay import is_running, living_writers
from eventlog.sink import Batch, Entry, KeepsState, RunInfo, RunStatus, Sink
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
        saves: how often the ledger was saved.

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
        self._on_batch, self._shape = on_batch, shape
        self._clock, self._system = clock, system
        self._path = ledger_path(run, sink_name, sink.destination)
        self._is_on_network = is_network_file_system(log_directory(run), system)
        self._reader: RunReader | None = None
        self._is_open = self._is_dirty = False
        self._skip: dict[str, int] = {}
        self._saved_at = 0.0
        self.saves = 0
        self._letters = DeadLetters(self._path, clock=clock, system=system)
        self._lease = lease.acquire(self._path.with_suffix(""), system)
        try:
            remove_leftovers(self._path, system)
            if restart:
                restart_ledger(self._path, sink, sink_name, shape, clock=clock, system=system)
                self._letters.clear()
            self.ledger = self._load()
        except BaseException:
            self._lease.release()
            raise
        self._shaper = Shaper(self.ledger.shape)

    def _load(self) -> Ledger:
        sink, name = self.sink, self.sink_name
        return open_ledger(self._path, sink, name, self._shape, run_id=self.run.name, system=self._system)

    @property
    def _is_projection(self) -> bool:
        return self.sink.traits.is_projection

    # --- what there is to do ---------------------------------------------------------------------

    def has_news(self) -> bool:
        """Tell whether the log has grown since the destination was told how the run ended."""
        closed = self.ledger.closed
        if self._is_projection or closed is None or closed.is_running:
            return True
        if self.ledger.plan is not None or self.ledger.retried:
            return True  # whoever began it was killed
        sizes = log_sizes(self.run)
        # What lies in a ring changes no size.
        return sizes != self.ledger.sizes or any(name.endswith(".ring") for name in sizes)

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
            self.ledger = self._load()
            self._is_dirty = False
        if self._is_projection:
            self.ledger.begin_anew(self.ledger.shape, generation=self.ledger.generation)
        self._forget_letters()
        self._shaper = Shaper(self.ledger.shape, self.ledger.counts and self.ledger.counts.copy())
        self._reader = self._open_log()
        if self.ledger.shape.max_points is not None:
            count_points(self.run, self._shaper)
        own = self.sink.open(self._info())
        self._is_open = True
        self._skip = {writer: cursor.seq for writer, cursor in own.cursors.items()} if own else {}
        if self.ledger.plan is not None:
            self._repeat(self.ledger.plan)
            self._reader = self._open_log()

    def _forget_letters(self) -> None:
        """Forget letters that were delivered, and those of events that come once more."""
        gone = set(self.ledger.retried)
        for letter in self._letters.read():
            cursor = self.ledger.cursors.get(letter.writer)
            if cursor is None or letter.seq >= cursor.seq:
                gone.add(letter.key)
        self.ledger.dead_letters = self._letters.remove(gone)
        self.ledger.retried = []

    def _open_log(self) -> RunReader:
        recover_run(self.run, system=self._system)
        start, waits = self.ledger.checkpoint, self._is_on_network
        return RunReader(self.run, start=start, waits_on_nul=waits, system=self._system)

    def _info(self) -> RunInfo:
        return RunInfo(
            project=self.run.parent.name,
            run_id=self.run.name,
            path=self.run,
            started=shaped_start(self.run, self.ledger.shape),
            state=self.ledger.state,
            generation=self.ledger.generation,
        )

    def pull(self, stop: threading.Event | None = None, *, relist: bool = True) -> int:
        """Deliver what the log holds beyond what was delivered; return the number of events.

        Args:
            stop: when set, no further batch is begun; `connect` again to go on.
            relist: look for new files of the log too.

        Raises:
            SinkUnavailableError: from the sink.
            LeaseLostError: another process has taken over.
        """
        assert self._reader is not None
        count = 0
        for slices in batches(self._reader.slices(relist=relist), self.sink.traits.batch_events):
            if stop is not None and stop.is_set():
                break
            self._deliver(slices)
            count += sum(len(part.events) for part in slices)
        # What was delivered by fixed batches was saved together with the plan of the next one; not the last.
        if not self._is_projection:
            self.save_if_due()
        return count

    def finish(self) -> RunStatus:
        """Tell the destination how the run stands now, and save everything.

        Raises:
            SinkUnavailableError: from the sink.
        """
        assert self._reader is not None
        # In this order: who is dead now has nothing to add to what is read afterwards.
        known, alive = set(self._reader.known_writers()), living_writers(self.run)
        if not alive:
            recover_run(self.run, system=self._system)
        sizes = log_sizes(self.run)
        self.pull()
        # Somebody may have resumed the run meanwhile.
        alive |= living_writers(self.run) - known
        status, end = self.ledger.life.status(alive)
        told = RunStatus(
            status=status,
            ended_at=end.ts if end else None if status == "running" else self.ledger.life.last_ts,
            exit_code=end.exit_code if end else None,
        )
        self.sink.close(told)
        self._is_open = False
        self.ledger.closed, self.ledger.sizes = told, {} if self._has_gaps() else sizes
        self.ledger.last_error = self.ledger.failed_at = None
        self.save()
        return told

    def _has_gaps(self) -> bool:
        """Tell whether bytes may still arrive where the files already count them, from another host."""
        readers = self._reader.writers.values() if self._reader else ()
        return self._is_on_network and any(reader.tail_findings() for reader in readers)

    def disconnect(self) -> None:
        """Close the sink before the end; what was not saved will be repeated."""
        self._reader = None
        if self._is_open:
            self._is_open = False
            self.sink.close(None)

    def release(self) -> None:
        """Give the lease back."""
        self._lease.release()

    def note_error(self, error: BaseException) -> None:
        """Keep in the ledger, without moving it, what the last try said."""
        # From the disk: what is in memory may be ahead of what the sink holds.
        self._is_dirty = True
        ledger = self._load()
        is_ours = isinstance(error, EvlogError) and str(error)
        ledger.last_error = str(error) if is_ours else f"{type(error).__name__}: {error}"
        ledger.failed_at = self._clock.now_us()
        self._lease.check()
        save_ledger(self._path, ledger, self._system)

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
        self.saves += 1

    def save_if_due(self) -> None:
        """Save if something was delivered and the last save was long enough ago."""
        if self._is_dirty and self._clock.monotonic_s() - self._saved_at >= self.save_every_s:
            self.save()

    # --- one batch -----------------------------------------------------------------------------------

    def _deliver(self, slices: Sequence[Slice]) -> None:
        self._is_dirty = True
        if self.sink.traits.fixed_batches:
            self._begin(Plan(parts=[(part.writer, part.events[-1].seq + 1) for part in slices]))
        elif not (self.ledger.is_begun or self._is_projection):
            self._begin(None)
        counts = None if self._shaper.is_plain else self._shaper.counts.copy()
        batch = self._shaped(slices)
        try:
            if batch.count:
                self._write(batch)
        except SinkRejectedError as error:
            refused = named(batch, error)
            if not refused and batch.count > 1:
                if counts is not None:
                    self._shaper.counts = counts
                for half in halves(slices):
                    self._deliver(half)
                return
            self.ledger.dead_letters = self._letters.add(refused or batch.entries(), str(error))
        self._advance(slices)

    def _write(self, batch: Batch) -> None:
        # Somebody who slept would send what another one has sent by now.
        self._lease.check_if_slept()
        self.sink.write(batch)

    def _shaped(self, slices: Sequence[Slice]) -> Batch:
        """Return what of *slices* goes to the sink: in shape, without what the destination has already."""
        is_plain = self._shaper.is_plain
        if is_plain and not self._skip:
            return Batch(list(slices))
        parts = []
        for part in slices:
            events = part.events
            if not is_plain:
                events = self._shaper.apply(part.writer, events)
            skip = self._skip.get(part.writer)
            if skip is not None:
                events = [event for event in events if event.seq >= skip]
            if events:
                parts.append(part._replace(events=events))
        return Batch(parts)

    def _advance(self, slices: Sequence[Slice]) -> None:
        """Take note that *slices* are where they should be."""
        ledger, last, count = self.ledger, {part.writer: part for part in slices}, 0
        for part in slices:
            ledger.life.apply(part.writer, part.events)
            count += len(part.events)
        for writer, part in last.items():
            ledger.cursors[writer] = part.cursor
        ledger.events += count
        ledger.last_ts = ledger.life.last_ts
        ledger.delivered_at = self._clock.now_us()
        ledger.closed = ledger.plan = None
        if not (self.sink.traits.fixed_batches or self._is_projection):
            self.save_if_due()
        if self._on_batch is not None:
            self._on_batch(count)

    def _begin(self, plan: Plan | None) -> None:
        """Put on the disk, before anything is sent, that it will be, and what the batch is made of."""
        self.ledger.is_begun, self.ledger.plan = True, plan
        self.save()
        self._is_dirty = True

    def _repeat(self, plan: Plan) -> None:
        if plan.letters:
            self._try_letters(plan.letters)
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
        return self._try_letters([letter.key for letter in self._letters.read()])

    def _try_letters(self, keys: Sequence[tuple[str, int]]) -> int:
        letters = {letter.key: letter for letter in self._letters.read()}
        wanted = [letters[key] for key in keys if key in letters]
        limit = self.sink.traits.batch_events
        for begin in range(0, len(wanted), limit):
            self._retry(wanted[begin : begin + limit])
        return self.ledger.dead_letters

    def _retry(self, letters: Sequence[DeadLetter]) -> None:
        self._is_dirty = True
        if self.sink.traits.fixed_batches:
            self._begin(Plan(letters=[letter.key for letter in letters]))
        batch = Batch([letter.as_slice() for letter in letters])
        refused: list[Entry] = []
        try:
            self._write(batch)
        except SinkRejectedError as error:
            refused = named(batch, error)
            if not refused and len(letters) > 1:
                middle = len(letters) // 2
                self._retry(letters[:middle])
                self._retry(letters[middle:])
                return
            refused = refused or list(batch.entries())
            self._letters.add(refused, str(error))
        left = {(entry.writer, entry.event.seq) for entry in refused}
        # Together with the state in which the destination has them; only then are they forgotten.
        self.ledger.retried = [letter.key for letter in letters if letter.key not in left]
        self.ledger.dead_letters -= len(self.ledger.retried)
        self.ledger.plan = None
        self.save()
        self._letters.remove(self.ledger.retried)
        self.ledger.retried = []
