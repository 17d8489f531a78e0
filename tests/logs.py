"""Logs for tests: made byte by byte, or written by a buffer that then ends as a killed process does."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from eventlog.codec import encode_line
from eventlog.events import FORMAT, AnyEvent, Event, Metrics, Previous, SegmentOpened, SegmentSealed
from eventlog.storage.block import Finding
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import SegmentName, log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.options import WriterOptions
from eventlog.storage.reader import Policy, SegmentReport
from eventlog.storage.system import SYSTEM, System

WRITER_A = "r0-01KAHCZG000000000000000A00"
WRITER_B = "r1-01KAHCZG000000000000000B00"
START_TS = 1_763_700_000_000_000
MANUAL = WriterOptions(
    write_interval_s=1000.0, sync_interval_s=1000.0, ring_bytes=1 << 16, reserve_bytes=4096, max_block_s=0.0
)
"""The flusher does nothing of its own accord: what a call does not ask for stays in the ring."""


class LogMaker:
    """Makes the segments of one writer with given bytes: same calls, same bytes.

    Attributes:
        events: what was put into segments so far, as a reader should return it.
    """

    def __init__(self, writer: str = WRITER_A, *, start_ts: int = START_TS) -> None:
        self.writer = writer
        self.events: list[Event] = []
        self._segment = 0
        self._stream_offset = 0
        self._prev: Previous | None = None
        self._ts = start_ts

    def segment(
        self,
        events: Sequence[Event],
        *,
        is_sealed: bool = True,
        format: int = FORMAT,
        reason: str = "rotated",
    ) -> list[bytes]:
        """Return the lines of the next segment; an event without a time gets the next millisecond."""
        self._segment += 1
        line, crc = encode_line(self._header(format), seq=self._seq, ts=self._ts, seed=0)
        lines, first = [line], self._seq
        for event in events:
            self._ts = event.ts or self._ts + 1000
            seq = self._seq
            line, crc = encode_line(event, seq=seq, ts=self._ts, seed=crc)
            lines.append(line)
            self.events.append(msgspec.structs.replace(event, seq=seq, ts=self._ts))
        if is_sealed:
            data = b"".join(lines)
            seal = SegmentSealed(
                events=self._seq - first,
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                reason=reason,
            )
            line, crc = encode_line(seal, seq=self._seq, ts=self._ts, seed=crc)
            lines.append(line)
        size = sum(map(len, lines))
        self._stream_offset += size
        self._prev = Previous(segment=self._segment, seq=self._seq, crc=f"{crc:08x}", size_bytes=size)
        return lines

    @property
    def _seq(self) -> int:
        return len(self.events)

    def _header(self, format: int) -> SegmentOpened:
        return SegmentOpened(
            format=format,
            run_id="run-1",
            project="demo",
            writer=self.writer,
            segment=self._segment,
            stream_offset=self._stream_offset,
            salt=f"{crc32(f'{self.writer}.{self._segment}'.encode()):08x}",
            prev=self._prev,
            rank=int(self.writer[1]),
            software="evlog 0.1.0",
        )


class ReadBack(NamedTuple):
    """What a reader says of a run whose writers are dead."""

    events: list[AnyEvent]
    findings: list[Finding]
    reports: list[SegmentReport]

    @property
    def is_clean(self) -> bool:
        """Tell whether the reader noticed nothing at all."""
        return not self.findings and all(r.state == "complete" and r.is_verified for r in self.reports)

    @property
    def steps(self) -> list[int | None]:
        """Return the steps of the metrics."""
        return [event.step for event in self.events if isinstance(event, Metrics)]


def metrics(count: int, *, start: int = 0) -> list[Event]:
    """Return *count* metrics events with consecutive steps."""
    return [Metrics(step=step, data={"loss": step + 0.5}) for step in range(start, start + count)]


def put(run: Path, segment: int, data: bytes, *, writer: str = WRITER_A) -> Path:
    """Write *data* as a segment's file and return its path."""
    log_dir = log_directory(run)
    log_dir.mkdir(parents=True, exist_ok=True)
    path = SegmentName(writer, segment).path(log_dir)
    path.write_bytes(data)
    return path


def read_back(run: Path, *, policy: Policy = "salvage") -> ReadBack:
    """Read everything in *run*."""
    reader = RunReader(run, policy=policy)
    events = [event for part in reader.slices() for event in part.events]
    reports = [report for writer in reader.writers.values() for report in writer.reports(is_alive=False)]
    tails = [finding for writer in reader.writers.values() for finding in writer.tail_findings()]
    return ReadBack(events, reader.findings + tails, reports)


def open_buffer(
    run: Path, *, options: WriterOptions = MANUAL, system: System = SYSTEM, strict: bool = False
) -> LogBuffer:
    """Return a buffer whose log is open."""
    buffer = LogBuffer(run, run_id="run-1", project="demo", options=options, system=system, strict=strict)
    buffer.open()
    return buffer


def die(buffer: LogBuffer) -> None:
    """Leave the files of *buffer* as they are and its lock free, as SIGKILL would."""
    with buffer._io:
        buffer.after_fork_in_child()


def names(run: Path, suffix: str = "") -> list[str]:
    """Return the names in the run's log that end with *suffix*, sorted."""
    return sorted(path.name for path in log_directory(run).iterdir() if path.name.endswith(suffix))


def headers(run: Path) -> list[SegmentOpened]:
    """Return the good headers of the run's segments, in the order of their names."""
    found = []
    for name in names(run, ".jsonl"):
        with contextlib.suppress(msgspec.MsgspecError):
            line = (log_directory(run) / name).read_bytes().split(b"\n")[0]
            found.append(msgspec.json.decode(line, type=SegmentOpened))
    return found


def leave_ring(run: Path) -> Path:
    """Leave five events in the ring of a dead writer; return its path."""
    buffer = open_buffer(run)
    for event in metrics(5):
        buffer.append(event)
    die(buffer)
    (name,) = names(run, ".ring")
    return log_directory(run) / name
