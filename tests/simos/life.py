"""One writer on a simulated machine, driven by hand, and what it promises at each moment."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import msgspec

from eventlog.codec import encode_fields
from eventlog.events import Metrics, Note
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.chain import Chain
from eventlog.storage.options import WriterOptions
from eventlog.storage.ring import YOUNG_SUFFIX
from tests.simos.disk import Disk
from tests.simos.faults import Fault, Injector
from tests.simos.system import Call, SimSystem

RUN = Path("/experiments/demo/run-1")
OPTIONS = WriterOptions(
    ring_bytes=4096,
    segment_bytes=1500,
    reserve_bytes=512,
    write_interval_s=1000.0,
    sync_interval_s=1000.0,
    max_block_s=0.0,
)


class SteppedBuffer(LogBuffer):
    """A buffer whose flusher does nothing of its own accord: its chain is driven by hand."""

    def _run(self, chain: Chain) -> None:
        pass


class Life:
    """One writer, from its opening to its end.

    Attributes:
        logged: step of each event that was kept, by seq; a note's is negative.
        dropped: how many events were not kept.
        crowd: how many events other threads log while a call goes wrong.
    """

    def __init__(
        self,
        disk: Disk,
        number: int,
        *,
        options: WriterOptions = OPTIONS,
        faults: tuple[Fault, ...] = (),
        crowd: int = 3,
    ) -> None:
        self.disk, self.system = disk, SimSystem(disk)
        self.injector = Injector(self.system, *faults, meanwhile=self._log_meanwhile)
        self.crowd, self._in_kept_ring = crowd, 0
        self.chain: Chain = None  # type: ignore[assignment]  # until it is open
        self.logged: dict[int, int] = {}
        self.dropped = 0
        self.synced = 0
        self._step = number * 100_000
        self.writer = f"r0-01KAHCZG{number:018d}"
        self.buffer = SteppedBuffer(
            RUN,
            run_id="run-1",
            project="demo",
            options=options,
            system=self.system,
            now_ns=self.system.now_ns,
        )
        self.stream = self.buffer.stream
        with patch("eventlog.storage.buffer.new_writer_id", lambda _: self.writer):
            self.buffer.open()
        assert self.buffer._chain is not None
        self.chain = self.buffer._chain
        # From here on a system call under the callers' lock would let training wait for the disk.
        self.system.guard = self.stream.lock._is_owned  # type: ignore[attr-defined]

    def _log_meanwhile(self, call: Call) -> None:
        """Log while the flusher is in a call: that must not wait for it."""
        if self.chain is not None:
            self.log(self.crowd)
            place = self.stream.place()
            is_another_ring = call.path is not None and call.path.suffix == YOUNG_SUFFIX
            if is_another_ring and self.chain.ring_path is not None and place is not None:
                self._in_kept_ring = place.seq  # if there can be no other file, this one has to stay

    def log(self, count: int) -> None:
        """Log *count* events, every fifth a note, by both ways in."""
        for _ in range(count):
            self._step += 1
            is_note = self._step % 5 == 0
            step = -self._step if is_note else self._step
            event = Note(text=str(step)) if is_note else Metrics(step=step, data={"loss": step / 8})
            if not is_note and self.stream.append_metrics(step, msgspec.json.encode(event.data)):  # type: ignore[union-attr]
                kept = self.stream.place()
            else:
                kind = "note" if is_note else "metrics"
                kept = self.stream.append(encode_fields(event), kind, max_block_s=0.0)
            if kept is None:
                self.dropped += 1
            else:
                self.logged[kept.seq - 1] = step

    def flush(self, *, sync: bool, force: bool = False) -> None:
        """Do what the flusher would."""
        try:
            self.chain.flush(sync=sync, force=force)
        finally:
            self.synced = max(self.synced, self.chain.synced.seq)

    def close(self, *, tries: int = 30) -> bool:
        """End the log as `LogBuffer.close` does, with time passing between the flusher's looks."""
        self.stream.close()
        self.buffer._is_closing, self.buffer._deadline = True, float("inf")
        for _ in range(tries):
            self.buffer._tick(self.chain)
            self.synced = max(self.synced, self.chain.synced.seq)
            if self.buffer._is_done.is_set():
                self.synced = max(self.synced, max(self.logged, default=-1) + 1)
                self.system.end()
                return True
            self.disk.advance(6.0)
        return False

    @property
    def died_of_a_failed_sync(self) -> bool:
        """Tell whether it was killed after a sync had failed and before its new ring was there.

        The kernel has told a process that is gone; whoever syncs next is told nothing. Nothing is lost by the
        kill, but what was not synced is owed over a power cut by nobody.
        """
        failed_at = self.injector.failed_sync_at
        undone = {hit.partition(" ")[2] for hit in self.injector.hits if hit.startswith("kill")}
        rings = [call for call in self.system.calls if call.name == "rename" and str(call) not in undone]
        return failed_at > max((call.number for call in rings), default=0)

    @property
    def untold(self) -> int:
        """Return how many lost events the log does not tell of yet."""
        return sum(self.stream.dropped.values())

    @property
    def killproof(self) -> set[int]:
        """Return the seqs that survive a kill."""
        if self.chain.ring_path is not None:
            return set(self.logged)
        return {seq for seq in self.logged if seq < max(self.synced, self._in_kept_ring)}
