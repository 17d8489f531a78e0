"""What a dead writer left: where its segments end, and what its ring holds beyond that.

A ring has no framing, so what does not belong there has to be told by the lines themselves: they are chained
by checksums that begin with a random salt, numbered, and the headers among them name their writer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from eventlog.codec import SUFFIX_BYTES, seq_of, stored_crc, verifies
from eventlog.events import FORMAT, Previous, SegmentOpened, SegmentSealed, UnknownEvent
from eventlog.storage.circle import RingFile
from eventlog.storage.cursor import NO_CRC
from eventlog.storage.frames import frame_of, seq_if_any
from eventlog.storage.layout import LAST_SEGMENT, SegmentName, list_segments
from eventlog.storage.segment import SegmentReader
from eventlog.storage.system import System

LARGEST_RING_BYTES = 1 << 30


class NotOursError(Exception):
    """The ring cannot be used: it belongs to another log, or what ties it to this one is damaged."""


class Held(NamedTuple):
    """What a ring holds that no segment does.

    Attributes:
        lines: the events, without newlines, in the order of their seqs.
        problem: what is wrong with the ring, empty if nothing is.
    """

    lines: list[bytes]
    problem: str


class Remains:
    """The segments of a dead writer, as one of its rings goes on from them.

    Attributes:
        header: of the segment from which the ring goes on, then of the newest one in the ring itself.
        any_header: of the newest segment that has one.
        last_segment: the highest number that is taken.
        prev: how the last good segment ends.
        next_seq: seq after the last event that a segment holds for sure.
        unsure: segments of which nobody knows whether they are on the disk.
        given_up: those of them after which the writer began anew; a sync has failed, and the next one lies.
    """

    def __init__(self, log_dir: Path, ring: SegmentName, below: int, system: System) -> None:
        self.ring = ring
        self.next_seq = 0
        self.last_segment = ring.segment - 1
        self.header: SegmentOpened | None = None
        self.any_header: SegmentOpened | None = None
        self.prev: Previous | None = None
        self.newest_format = 0
        self.unsure: list[SegmentName] = []
        self.given_up: list[SegmentName] = []
        self._position = 0
        self._seed = 0
        self._expected: int | None = None
        self._last_line = b""
        self._is_over = False
        for name in list_segments(log_dir, system).get(ring.writer, []):
            self._look_at(log_dir, name, is_base=ring.segment <= name.segment < below, system=system)
        if below < sys.maxsize:
            self.given_up = [name for name in self.unsure if name.segment < below]

    def _look_at(self, log_dir: Path, name: SegmentName, *, is_base: bool, system: System) -> None:
        reader = SegmentReader(name.path(log_dir), name, system=system)
        last = b""
        for block in reader.read():
            last = block.lines[-1]
        self.last_segment = max(self.last_segment, name.segment)
        header = reader.header
        # An earlier segment was given up because a sync failed, after which its bytes may be in the cache
        # only, whatever a later sync says. What it may have lost is in this ring, from its first event on.
        if name.segment >= self.ring.segment or (header is not None and header.origin == "recovery"):
            self.next_seq = max(self.next_seq, reader.next_seq or 0)
        if name.segment >= self.ring.segment:
            self.unsure.append(name)  # sealed ones too: the seal may be in the cache only
        if header is None:
            return
        self.any_header = header
        self.newest_format = max(self.newest_format, header.format)
        if header.origin == "recovery" or reader.has_bad_tail or name.segment < self.ring.segment:
            return
        self.prev = Previous(
            segment=name.segment,
            seq=reader.next_seq or 0,
            crc=reader.crc if reader.verified_end else NO_CRC,
            size_bytes=reader.verified_end,
        )
        if header.origin == "rewrite" and name.segment > self.ring.segment:
            self.given_up = self.unsure[:-1]
            self._is_over = True  # from here on the stream lay in another ring
        if is_base and not self._is_over:
            self.header = header
            self._position = header.stream_offset + reader.verified_end
            self._seed = 0 if reader.seal is not None else int(reader.crc, 16)
            self._expected = reader.next_seq
            self._last_line = b"" if reader.seal is not None else last

    @property
    def is_of_later_version(self) -> bool:
        """Tell whether these segments, or the ring, have a format that is not known here."""
        return self.newest_format > FORMAT

    def held_by(self, ring: RingFile) -> Held:
        """Return what *ring* holds beyond the segments.

        Raises:
            NotOursError: it does not go on from these segments.
        """
        if self.header is None:
            self._begin_with(ring)
        if self.is_of_later_version:
            return Held([], "it was left by a later version")
        size, problem = self._full_size(ring)
        ring.begin_at(self._position, size)
        if not self._goes_on_in(ring):
            raise NotOursError("what it holds does not go on where the log ends")
        walk = _Walk(ring, self._seed, self._expected, self.ring.writer)
        lines = [line for line in walk.events() if seq_of(line) >= self.next_seq]
        self.header = walk.header or self.header
        self.last_segment = max(self.last_segment, walk.last_segment)
        if self.last_segment >= LAST_SEGMENT:
            raise NotOursError(f"no segment can follow number {self.last_segment}")
        lost = [(first, last) for first, last in walk.lost if last >= self.next_seq]
        if lost:
            ranges = ", ".join(f"{max(first, self.next_seq)}-{last}" for first, last in lost)
            problem = "; ".join(filter(None, [problem, f"it is damaged: events {ranges} are lost"]))
        return Held(lines, problem)

    def _begin_with(self, ring: RingFile) -> None:
        """Take the header from the ring itself: no segment has one."""
        line = ring.line_at(0) or b""
        is_good = bool(line) and verifies(line, 0)
        frame = frame_of(line) if is_good else None
        if is_good and (frame is None or isinstance(frame, UnknownEvent)):
            self.newest_format = FORMAT + 1  # whole, and nothing that this version knows
            return
        if not isinstance(frame, SegmentOpened):
            if not ring.is_empty():
                raise NotOursError("its first line is damaged, and there is no segment to go on from")
            return
        if (frame.writer, frame.segment) != self.ring:
            raise NotOursError(f"it is the ring of {frame.writer}, segment {frame.segment}")
        self.header, self.prev = frame, frame.prev
        self.newest_format = max(self.newest_format, frame.format)

    def _full_size(self, ring: RingFile) -> tuple[int, str]:
        """Return the size of *ring*: positions count modulo what its header says; and what was wrong."""
        info = self.header.ring if self.header else None
        if info is None or info.kind != "file" or info.size_bytes == ring.file_bytes:
            return ring.file_bytes, ""
        if not 0 < info.size_bytes <= LARGEST_RING_BYTES:
            raise NotOursError(f"its header says that it has {info.size_bytes} bytes")
        return info.size_bytes, f"it has {ring.file_bytes} bytes instead of {info.size_bytes}"

    def _goes_on_in(self, ring: RingFile) -> bool:
        """Tell whether *ring*, from our position on, belongs to these segments.

        It repeats their last line right before our position, or goes on with a line that is chained to it.
        A ring of zeros is one that never got anything, as after a power cut.
        """
        last = self._last_line + b"\n" if self._last_line else b""
        is_known = 0 < len(last) <= ring.size_bytes
        if is_known and ring.read(ring.size_bytes - len(last), len(last)) == last:
            return True
        line = ring.line_at(0)
        if line and verifies(line, self._seed):
            frame = frame_of(line)
            return not isinstance(frame, SegmentOpened) or frame.writer == self.ring.writer
        # Without a line to compare with nothing is taken: the walk ends at its first one.
        return not is_known or ring.is_empty()


class _Walk:
    """Goes through lines as long as they are chained and numbered, and over damage between them.

    Attributes:
        header: the newest among the lines.
        lost: first and last seq of what was damaged.
    """

    def __init__(self, ring: RingFile, seed: int, expected: int | None, writer: str) -> None:
        self.header: SegmentOpened | None = None
        self.last_segment = 0
        self.lost: list[tuple[int, int]] = []
        self._ring, self._at, self._writer = ring, 0, writer
        self._seed, self._expected = seed, expected

    def events(self) -> Iterator[bytes]:
        """Yield the events."""
        while (line := self._next()) is not None or (line := self._beyond_damage()) is not None:
            seq, frame = seq_of(line), frame_of(line)
            self._at += len(line) + 1
            self._seed = 0 if isinstance(frame, SegmentSealed) else int(line[-10:-2], 16)
            self._expected = seq if frame else seq + 1
            if frame is None:
                yield line
            elif isinstance(frame, SegmentOpened):
                if frame.writer != self._writer:
                    return
                self.header, self.last_segment = frame, frame.segment

    def _next(self) -> bytes | None:
        line = self._ring.line_at(self._at)
        if line is None or not verifies(line, self._seed):
            return None
        seq = seq_if_any(line)
        return line if seq is not None and self._expected in (None, seq) else None

    def _beyond_damage(self) -> bytes | None:
        """Return the next line that goes on after damaged ones, if there is one.

        What follows the newest line is of an earlier lap, with lower seqs, or was never written.
        """
        if self._expected is None or not self._at:
            return None  # nothing before proves that what comes is of this stream
        # Also what the first damaged line should have carried, if the damage hit its checksum itself.
        at, seeds, own = self._at, {0}, None
        while (line := self._ring.line_at(at)) is not None:
            seq = seq_if_any(line)
            if seq is not None and seq >= self._expected and any(verifies(line, seed) for seed in seeds):
                if seq > self._expected:
                    self.lost.append((self._expected, seq - 1))
                self._at = at
                return line
            own = crc32(line[:-SUFFIX_BYTES], self._seed) if own is None else 0
            seeds = {0, own, stored_crc(line) or 0}
            at += len(line) + 1
        return None


def below_which(ring: SegmentName, rings: list[SegmentName]) -> int:
    """Return the number of the first segment whose stream lies in a later ring."""
    return min((other.segment for other in rings if other.segment > ring.segment), default=sys.maxsize)


def suffix_of(line: bytes) -> bytes:
    """Return *line* without its checksum, to be chained anew."""
    return line[:-SUFFIX_BYTES]
