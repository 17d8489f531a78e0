"""A writer that lives for a while in a process of its own, and what it tells us before it dies.

It logs from several threads, by every way in, and notes each call in memory that it shares with us: that
the call returned, and whether it promised the disk. Whatever is read back later is compared with that.
"""

from __future__ import annotations

import faulthandler
import hashlib
import mmap
import os
import random
import threading
import time
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from eventlog.events import AnyEvent, Artifact, Dropped, Metrics, Note, Params, RunStarted
from eventlog.storage.artifacts import store
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import parse_segment
from eventlog.storage.options import WriterOptions
from eventlog.storage.system import RealSystem

CALLS = 1 << 12
"""The most calls of one thread; then it waits for its death."""
SEGMENTS = 512
NOTE_EVERY, PARAMS_EVERY, ARTIFACT_EVERY = 97, 211, 503
TRIED, RETURNED, ON_DISK = 1, 2, 3
"""What is noted of a call: it was refused, it is kept, it is on the disk."""


class Plan(NamedTuple):
    """How a writer lives.

    Attributes:
        calls: of each thread.
        closes: whether it ends its log after them; else it waits for its death.
        has_files: whether it logs artifacts.
    """

    options: WriterOptions
    threads: int
    calls: int
    closes: bool
    has_files: bool


class Notes:
    """Memory that a writer shares with us.

    Attributes:
        marks: one byte for each call, by thread.
        times_ns: when each call had returned.
        synced_bytes: of each segment, by number, as far as a sync of ours has returned.
        closed: 1 when `close` has said that everything is in segments.
        faults: how many syncs have failed, and how often a file was used after that.
        promised: marks, synced bytes and closed as they were at `freeze`.
    """

    def __init__(self, threads: int) -> None:
        self._marks = mmap.mmap(-1, threads * CALLS)
        self.marks = memoryview(self._marks)
        self.times_ns = memoryview(mmap.mmap(-1, threads * CALLS * 8)).cast("q")
        self.synced_bytes = memoryview(mmap.mmap(-1, SEGMENTS * 8)).cast("q")
        self.closed = memoryview(mmap.mmap(-1, 1))
        self.faults = memoryview(mmap.mmap(-1, 16)).cast("q")
        self.promised: tuple[bytes, list[int], bool] | None = None

    def freeze(self) -> None:
        """Let nothing count as promised that is noted after this."""
        closed, synced = bool(self.closed[0]), self.synced_bytes.tolist()
        self.promised = (bytes(self._marks), synced, closed)

    @property
    def has_begun(self) -> bool:
        """Tell whether the first call has returned."""
        return self.marks[0] != 0

    def of(self, thread: int) -> bytes:
        """Return the marks of one thread up to its last, as they are now."""
        return self._marks[thread * CALLS : (thread + 1) * CALLS].rstrip(b"\0")

    def numbers(self, thread: int, least: int) -> set[int]:
        """Return the calls of *thread* that are marked *least* or more, or were when this was frozen."""
        marks = self.of(thread)
        if self.promised is not None:
            marks = self.promised[0][thread * CALLS : (thread + 1) * CALLS]
        return {number for number, mark in enumerate(marks.rstrip(b"\0")) if mark >= least}


class NotingSystem(RealSystem):
    """The real system, which notes how much of each segment is on the disk, and what failed."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._written: dict[int, list[int]] = {}
        self._failed: set[int] = set()

    def create(self, path: Path) -> int:
        fd = super().create(path)
        name = parse_segment(path.name)
        if name is not None and name.segment < SEGMENTS:
            self._written[fd] = [name.segment, 0]
        return fd

    def write(self, fd: int, data: bytes) -> int:
        self._notes.faults[1] += fd in self._failed
        taken = super().write(fd, data)
        if fd in self._written:
            self._written[fd][1] += taken
        return taken

    def sync(self, fd: int) -> None:
        self._notes.faults[1] += fd in self._failed
        try:
            super().sync(fd)
        except OSError:
            self._notes.faults[0] += 1
            self._failed.add(fd)
            raise
        if fd in self._written:
            segment, size = self._written[fd]
            self._notes.synced_bytes[segment] = size

    def close(self, fd: int) -> None:
        self._written.pop(fd, None)
        self._failed.discard(fd)
        super().close(fd)


def plan(chance: random.Random, *, durability: str | None = None, most_calls: int = CALLS) -> Plan:
    """Return a plan; the same *chance* gives the same one."""
    is_synced = durability == "synced" or (durability is None and chance.random() < 0.15)
    options = WriterOptions(
        durability="synced" if is_synced else "buffered",
        segment_bytes=chance.choice([1 << 14, 1 << 16, 1 << 20, 64 << 20]),
        ring_bytes=chance.choice([1 << 16] * 6 + [1 << 18] * 2 + [1 << 20] * 2 + [8 << 20]),
        write_interval_s=chance.choice([0.0005, 0.002, 0.05]),
        sync_interval_s=chance.choice([0.001, 0.004, 0.02, 1.0]),
        reserve_bytes=chance.choice([1 << 12, 1 << 12, 1 << 14, 256 << 10]),
    )
    return Plan(
        options=options,
        threads=chance.choice([1, 1, 2, 3]),
        calls=min(most_calls, chance.choice([20, 60, 150, 400, 1000, 4000])),
        closes=chance.random() < 0.2,
        has_files=chance.random() < 0.5,
    )


def start(run: Path, how: Plan, notes: Notes) -> int:
    """Start a writer in a process of its own and return its pid; it lives until it is killed or done."""
    pid = os.fork()
    if pid == 0:
        try:
            # What it says when its disk fails is tested elsewhere; here it would only be noise.
            warnings.simplefilter("ignore")
            faulthandler.disable()
            live(run, how, notes)
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def live(run: Path, how: Plan, notes: Notes) -> None:
    """Log as planned, then end the log or wait for the end."""
    buffer = LogBuffer(run, run_id="r", project="p", options=how.options, system=NotingSystem(notes))
    buffer.append(RunStarted(name="x"))
    others = [
        threading.Thread(target=_log, args=(run, buffer, how, notes, number), daemon=True)
        for number in range(1, how.threads)
    ]
    for other in others:
        other.start()
    _log(run, buffer, how, notes, 0)
    for other in others:
        other.join()
    if how.closes and buffer.close():
        notes.closed[0] = 1
        os._exit(0)
    threading.Event().wait()


def _log(run: Path, buffer: LogBuffer, how: Plan, notes: Notes, thread: int) -> None:
    fast, base = buffer.stream.append_metrics, thread * CALLS
    marks, times_ns, now = notes.marks, notes.times_ns, time.monotonic_ns
    is_synced = how.options.durability == "synced"
    for number in range(how.calls):
        kind = kind_of(number)
        if kind == "metrics":
            data = b'{"t":%d,"loss":%d.5}' % (thread, number)
            if is_synced:
                mark = ON_DISK if buffer.append_metrics_synced(number, data) else TRIED
            elif fast(number, data) or _append_slowly(buffer, number, data):
                mark = RETURNED
            else:
                mark = TRIED
        else:
            mark = _append_rare(run, buffer, thread, number, has_files=how.has_files)
        times_ns[base + number] = now()
        marks[base + number] = mark


def _append_slowly(buffer: LogBuffer, number: int, data: bytes) -> bool:
    return buffer.append_fields(
        b'{"type":"metrics","step":%d,"data":%b}' % (number, data), "metrics", sync=False
    )


def _append_rare(run: Path, buffer: LogBuffer, thread: int, number: int, *, has_files: bool) -> int:
    kind = kind_of(number)
    is_synced = buffer.options.durability == "synced"
    if kind == "note" or (kind == "artifact" and not has_files):
        is_kept = buffer.append(Note(text=f"{thread} {number}"))
        return TRIED if not is_kept else ON_DISK if is_synced else RETURNED
    if kind == "params":
        return ON_DISK if buffer.append(Params(data={"t": thread, "n": number})) else TRIED
    name = f"{thread}-{number}.bin"
    source = run.with_name(f".{run.name}-{name}")
    try:
        source.write_bytes(_content(thread, number))
        stored = store(run, source, name, 1)
    except OSError:
        return TRIED  # the disk is gone
    event = Artifact(
        name=name, path=stored.path, size_bytes=stored.size_bytes, sha256=stored.sha256, version=1
    )
    return ON_DISK if buffer.append(event) else TRIED


def kind_of(number: int) -> str:
    """Return what the call *number* of a thread logs."""
    if number % NOTE_EVERY == 0:
        return "note"
    if number % PARAMS_EVERY == 5:
        return "params"
    return "artifact" if number % ARTIFACT_EVERY == 7 else "metrics"


def _content(thread: int, number: int) -> bytes:
    return b"%d %d\n" % (thread, number) * (1 + number % 700)


# --- reading back -----------------------------------------------------------------------------


def call_of(run: Path, event: AnyEvent) -> tuple[int, int] | None:
    """Return thread and number of the call that logged *event*, or None if no call of ours did."""
    if isinstance(event, Metrics) and event.step is not None:
        thread = event.data.get("t")
        is_ours = event.data == {"t": thread, "loss": event.step + 0.5}
        return (int(thread), event.step) if is_ours and isinstance(thread, int) else None
    if isinstance(event, Note):
        thread_text, _, number_text = event.text.partition(" ")
        return int(thread_text), int(number_text)
    if isinstance(event, Params):
        of_thread, number = event.data.get("t"), event.data.get("n")
        return (of_thread, number) if isinstance(of_thread, int) and isinstance(number, int) else None
    if isinstance(event, Artifact):
        thread_text, _, number_text = event.name.removesuffix(".bin").partition("-")
        call = int(thread_text), int(number_text)
        is_ours = event.sha256 == hashlib.sha256(_content(*call)).hexdigest()
        copy = run / event.path
        is_whole = copy.is_file() and copy.read_bytes() == _content(*call)
        return call if is_ours and is_whole else None
    return None


class Compared(NamedTuple):
    """What was read back, against the notes.

    Attributes:
        read: the calls that are there, by thread.
        invented: events that no call logged, that come twice, or in another order than they were logged.
        dropped: calls that the log itself counts as lost.
    """

    read: list[set[int]]
    invented: list[str]
    dropped: int

    def missing(self, notes: Notes, least: int) -> list[tuple[int, int]]:
        """Return the calls, marked *least* or more, that are not there."""
        return [
            (thread, number)
            for thread, there in enumerate(self.read)
            for number in sorted(notes.numbers(thread, least) - there)
        ]


def compare(run: Path, events: Iterable[AnyEvent], threads: int, notes: Notes) -> Compared:
    """Compare *events* as they were read with what the writer noted."""
    read: list[set[int]] = [set() for _ in range(threads)]
    newest, limits = [-1] * threads, [0] * threads
    invented, dropped = [], 0
    for event in events:
        if isinstance(event, RunStarted):
            continue
        if isinstance(event, Dropped):
            dropped += sum(event.counts.values())
            continue
        call = call_of(run, event)
        if call is not None and 0 <= call[0] < threads and call[1] > limits[call[0]]:
            limits[call[0]] = len(notes.of(call[0]))  # it may live, and go on
        # One call more than was noted is right: death came between the append and the note.
        if call is None or not 0 <= call[0] < threads or call[1] > limits[call[0]]:
            invented.append(f"never logged: {event}"[:300])
        elif call[1] <= newest[call[0]]:
            invented.append(f"after {newest[call[0]]}: {event}"[:300])
        else:
            newest[call[0]] = call[1]
            read[call[0]].add(call[1])
    return Compared(read, invented, dropped)
