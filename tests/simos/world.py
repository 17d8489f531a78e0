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

from eventlog.codec import SUFFIX_BYTES, decode
from eventlog.delivery.ledger import Ledger, load_ledger, remove_leftovers, save_ledger
from eventlog.events import Dropped, Metrics, Note, Previous, SegmentSealed
from eventlog.storage.frames import header_of
from eventlog.storage.layout import SegmentName, list_segments, log_directory, parse_segment
from eventlog.storage.merge import RunReader
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import Recovery
from eventlog.storage.repair import recover_run as recover_run
from tests.simos.disk import Choose, Disk
from tests.simos.faults import Fault, Injector
from tests.simos.life import OPTIONS, RUN, Life
from tests.simos.system import Killed, SimSystem

LEDGER = RUN / ".evlog" / "sinks" / "s.json"


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
        system.end()
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
        system.end()
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
        system.end()
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
        system.end()
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
        system.end()
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

    def wrong_headers(self) -> list[str]:
        """Return the segments whose header says wrongly how the one before ended."""
        wrong, contents, ended = [], dict[SegmentName, bytes](), dict[SegmentName, int]()
        for path, data in sorted(self.disk.contents().items()):
            name, header = parse_segment(Path(path).name), header_of(data.split(b"\n")[0])
            if name is None or header is None:
                continue
            # Of those before it, the last one with events of before it; one behind that may have none.
            with_events = [
                one for one, seq in ended.items() if one.writer == name.writer and seq < header.seq
            ]
            contents[name], ended[name] = data, header.seq
            if with_events and header.origin != "recovery":
                prev = header.prev or Previous(segment=0, seq=0, crc="", size_bytes=0)
                named = contents.get(name._replace(segment=prev.segment), b"")[: prev.size_bytes]
                is_right = named.endswith(f'"crc":"{prev.crc}"}}\n'.encode()) and prev.seq == header.seq
                if not is_right or prev.segment < with_events[-1].segment:
                    wrong.append(f"{path}: {prev}")
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
