"""Writers, readers, recoveries and checkpoints on a simulated machine, and what they promise.

What is held against evlog at every look:

- *kept*: what was promised is read back. While nothing worse than a kill has happened, that is every event
  whose call returned; over a power cut, every event that a sync had reached; after a recovery or a clean end,
  every event, also over a power cut;
- *nothing invented*: what is read was logged, and a (writer, seq) has one content for ever, whoever read it;
- *nothing hidden*: where numbers are missing below the last one that is read, a finding says so;
- *dropped is counted*: what a clean log does not hold is in its `dropped` events;
- *checkpoints* are the old one or the new one;
- recovery does nothing the second time.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import msgspec

from eventlog.codec import SUFFIX_BYTES, decode, encode_fields
from eventlog.delivery.ledger import Ledger, load_ledger, remove_leftovers, save_ledger
from eventlog.events import Dropped, Metrics, Note, SegmentSealed
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.chain import Chain
from eventlog.storage.layout import list_segments, log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import Recovery
from eventlog.storage.repair import recover_run as recover_run
from eventlog.storage.ring import YOUNG_SUFFIX
from tests.simos.disk import Choose, Disk
from tests.simos.faults import Fault, Injector
from tests.simos.system import Call, Killed, SimSystem

RUN = Path("/experiments/demo/run-1")
LEDGER = RUN / ".evlog" / "sinks" / "s.json"
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
                self.system.die()
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


class Found(NamedTuple):
    """What a reader found."""

    steps: dict[str, dict[int, int]]
    dropped: dict[str, int]
    findings: list[str]


class World:
    """A machine with a run, and what it owes.

    Attributes:
        owed: seqs that have to be read, for each writer that is dead, as long as the power stays on.
        owed_for_ever: those that have to be read after a power cut too.
        trace: what was done, for whoever has to find out why it went wrong.
        calls: how many calls all processes have made, but for those that are still there.
    """

    def __init__(self, *, options: WriterOptions = OPTIONS, crowd: int = 3) -> None:
        self.disk = Disk()
        self.options, self.crowd = options, crowd
        self.lives: list[Life] = []
        self.all: dict[str, Life] = {}
        self.owed: dict[str, set[int]] = {}
        self.owed_for_ever: dict[str, set[int]] = {}
        self.trace: list[str] = []
        self.calls = 0
        self._doubtful: set[str] = set()
        self._bodies: dict[tuple[str, int], bytes] = {}
        self._saved = self._tried = self._writers = 0

    # --- what may happen ----------------------------------------------------------------

    def open(self, *faults: Fault) -> Life | None:
        """Let a writer begin; None if it was killed while it opened."""
        self.trace.append(f"open {', '.join(map(str, faults))}")
        self._writers += 1
        try:
            life = Life(self.disk, self._writers, options=self.options, faults=faults, crowd=self.crowd)
        except Killed:
            return None
        self.lives.append(life)
        self.all[life.writer] = life
        return life

    def kill(self, life: Life) -> None:
        """End a writer at once."""
        self.trace.append(f"kill {life.writer[-4:]}")
        life.system.die()
        self.note_death(life)

    def note_death(self, life: Life) -> None:
        """Note what is owed of a writer that has been killed."""
        self.lives.remove(life)
        self.calls += len(life.system.calls)
        if life.died_of_a_failed_sync:
            self._doubtful.add(life.writer)
        self.owed[life.writer] = life.killproof
        self.owed_for_ever[life.writer] = {seq for seq in life.logged if seq < life.synced}

    def end(self, life: Life) -> bool:
        """Let a writer end properly; tell whether it could."""
        self.trace.append(f"close {life.writer[-4:]}")
        try:
            is_whole = life.close()
        except Killed:
            self.note_death(life)
            return False
        if is_whole:
            self.lives.remove(life)
            self.owed[life.writer] = self.owed_for_ever[life.writer] = set(life.logged)
        return is_whole

    def do(self, life: Life, *, log: int = 0, sync: bool | None = None) -> bool:
        """Log, then flush if *sync* is not None; tell whether the writer is still alive."""
        self.trace.append(f"{life.writer[-4:]} log {log} sync {sync}")
        try:
            life.log(log)
            if sync is not None:
                life.flush(sync=sync)
        except Killed:
            self.note_death(life)
            return False
        return True

    def cut_power(self, choose: Choose) -> None:
        """Cut the power."""
        self.trace.append("power cut")
        for life in list(self.lives):
            life.system.die()
            self.note_death(life)
        self.disk.cut_power(choose)
        self.owed = {writer: set(seqs) for writer, seqs in self.owed_for_ever.items()}
        self._tried = max(self._tried, self._saved)

    def recover(self, *faults: Fault) -> list[Recovery] | None:
        """Recover the run from another process; None if that was killed on the way."""
        self.trace.append(f"recover {', '.join(map(str, faults))}")
        system = SimSystem(self.disk)
        injector = Injector(system, *faults)
        try:
            done = recover_run(RUN, system=system)
        except Killed:
            done = None
        system.die()
        self.calls += len(system.calls)
        dead = self.all.keys() - {life.writer for life in self.lives}
        is_done = done is not None and not any(recovery.problem for recovery in done)
        if is_done:
            for writer in dead - self._doubtful:
                self.owed_for_ever[writer] = set(self.owed[writer])
        elif injector.failed_sync_at:
            # The kernel has forgotten what the dead writer wrote, told us, and we did not get to the end:
            # the next sync lies, and nobody knows. If the power goes too, what was not synced goes with it.
            self._doubtful |= dead
        return done

    def recover_elsewhere(self) -> None:
        """Let another host try, which sees the disk over the network: it may not touch ring or segment."""
        self.trace.append("recover elsewhere")
        before = self._logs()
        system = SimSystem(self.disk, host="there", boot="boot-9", kind="nfs4")
        recover_run(RUN, system=system)
        system.die()
        assert self._logs() == before, "another host has recovered what it cannot know"

    def _logs(self) -> dict[str, bytes]:
        contents = self.disk.contents().items()
        return {path: data for path, data in contents if path.endswith((".jsonl", ".ring"))}

    def save(self, *faults: Fault) -> SimSystem:
        """Save the next checkpoint; it may fail. Return the process that did it."""
        self._tried += 1
        self.trace.append(f"checkpoint {self._tried} {', '.join(map(str, faults))}")
        system = SimSystem(self.disk)
        Injector(system, *faults)
        try:
            remove_leftovers(LEDGER, system)
            save_ledger(LEDGER, Ledger(sink="s", events=self._tried), system)
            self._saved = self._tried
        except (Killed, OSError):
            pass
        system.die()
        return system

    # --- what has to hold ---------------------------------------------------------------

    def look(self, *, is_recovered: bool = False) -> Found:
        """Read everything and hold it against what is owed.

        Args:
            is_recovered: dead writers were recovered without a problem, so nothing owed may be in a ring.
        """
        found = self._read()
        for writer, steps in found.steps.items():
            life = self.all.get(writer)
            assert life is not None, f"a writer that never was: {writer}"
            for seq, step in steps.items():
                assert life.logged.get(seq) == step, f"invented: {writer} {seq} {step}"
            self._check_holes(writer, steps, life, found)
        if is_recovered:
            for writer, seqs in self.owed.items():
                missing = sorted(seqs - found.steps.get(writer, {}).keys())
                assert not missing, f"lost of {writer}: {missing}; read {sorted(found.steps.get(writer, {}))}"
        self._check_checkpoint()
        return found

    def _read(self) -> Found:
        system = SimSystem(self.disk)
        reader = RunReader(RUN, system=system)
        steps: dict[str, dict[int, int]] = {}
        dropped: dict[str, int] = {}
        for part in reader.slices():
            mine = steps.setdefault(part.writer, {})
            for event in part.events:
                assert event.seq not in mine, f"twice: {part.writer} {event.seq}"
                if isinstance(event, Dropped):
                    dropped[part.writer] = dropped.get(part.writer, 0) + sum(event.counts.values())
                elif isinstance(event, Note):
                    mine[event.seq] = int(event.text)
                else:
                    assert isinstance(event, Metrics), f"invented: {event}"
                    mine[event.seq] = event.step if event.step is not None else 0
        self._check_bodies(system)
        system.die()
        self.calls += len(system.calls)
        return Found(steps, dropped, [str(finding) for finding in reader.findings])

    def _check_bodies(self, system: SimSystem) -> None:
        """Compare every line of every segment with what anybody has read under its (writer, seq)."""
        from eventlog.storage.segment import SegmentReader

        log_dir = log_directory(RUN)
        for writer, names in list_segments(log_dir, system).items():
            for name in names:
                for block in SegmentReader(name.path(log_dir), name, system=system).read():
                    for seq, line in enumerate(block.lines, block.first_seq):
                        body = self._bodies.setdefault((writer, seq), line[:-SUFFIX_BYTES])
                        assert body == line[:-SUFFIX_BYTES], f"two contents of {writer} {seq}"

    def _check_holes(self, writer: str, steps: dict[int, int], life: Life, found: Found) -> None:
        last = max(steps, default=-1)
        holes = [seq for seq in life.logged if seq < last and seq not in steps]
        assert not holes or found.findings, f"hidden: {writer} has holes at {holes}, and nothing is said"

    def _check_checkpoint(self) -> None:
        system = SimSystem(self.disk)
        ledger = load_ledger(LEDGER, system)
        system.die()
        events = 0 if ledger is None else ledger.events
        assert self._saved <= events <= self._tried, f"checkpoint {events}, saved {self._saved}"

    def problems(self, *, choose: Choose | None = None) -> list[str]:
        """Look, recover for good and look again; return the first thing that should not be."""
        try:
            self.look()
            self.settle(choose=choose)
        except AssertionError as problem:
            return [str(problem)]
        return []

    def wrong_seals(self) -> list[str]:
        """Return the segments whose seal has another digest than what stands before it."""
        wrong = []
        for path, data in self.disk.contents().items():
            *before, last = data.splitlines(keepends=True) or [b""]
            seal = decode(last[:-1]) if b'"type":"segment_sealed"' in last else None
            if isinstance(seal, SegmentSealed) and seal.sha256 != sha256(b"".join(before)).hexdigest():
                wrong.append(path)
        return wrong

    def settle(self, *, choose: Choose | None = None) -> Found:
        """Recover until nothing is left to do, twice over, and look; with *choose* after a power cut too."""
        for _ in range(4):
            done = self.recover()
            assert done is not None
            if not any(recovery.problem for recovery in done):
                break
        found = self.look(is_recovered=True)
        before = self.disk.contents()
        assert self.recover() == [] or self.lives, "the second recovery found something to do"
        assert self.disk.contents() == before or self.lives, "the second recovery changed something"
        if choose is not None:
            self.cut_power(choose)
            self.recover()
            found = self.look(is_recovered=True)
        return found
