"""Tells whether a writer lives, and moves what a dead one left in its ring into the log.

Recovery is safe when several processes try at once (the ring's lock lets one in), when it is killed at
any point (the new segment appears by a rename, the ring goes last) and when it is repeated. It only adds
a segment; what lies in the log stays as it is, torn tails included.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.codec import SUFFIX_BYTES as _SUFFIX
from eventlog.codec import body_of, close_line, decode, encode_fields, seq_of, verifies
from eventlog.events import Previous, SegmentOpened, SegmentSealed
from eventlog.storage.cursor import NO_CRC
from eventlog.storage.layout import (
    SegmentName,
    list_names,
    list_rings,
    list_segments,
    log_directory,
    reserve_path,
)
from eventlog.storage.ring import lock_file
from eventlog.storage.segment import SegmentReader
from eventlog.storage.system import SYSTEM, System, host_name, write_all
from eventlog.storage.writer import header_fields, process_start

# A writer on another host, whose ring is memory, gives no sign but its files: this long it counts as alive.
SILENCE_S = 600.0


class Recovery(NamedTuple):
    """What was done about one ring."""

    writer: str
    events: int
    segment: Path | None
    problem: str = ""


def is_alive(log_dir: Path, writer: str, header: SegmentOpened | None, *, is_sealed: bool) -> bool:
    """Tell whether *writer* may still append.

    Args:
        header: of its newest segment.
        is_sealed: whether that segment is sealed.
    """
    rings = list_rings(log_dir).get(writer, [])
    if rings:
        return any(_is_locked(name.ring_path(log_dir)) for name in rings)
    if header is None or is_sealed or header.ring is None or header.ring.kind == "file":
        return False
    if header.host == host_name():
        started = process_start(header.pid)
        return started is not None and started == header.pid_started
    newest = max(
        (name.path(log_dir).stat().st_mtime for name in list_segments(log_dir).get(writer, [])), default=0
    )
    return time.time() - newest < SILENCE_S


def _is_locked(path: Path) -> bool:
    """Tell whether a writer, or somebody who recovers it, holds *path*. Takes a shared lock for a moment."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return False
    except OSError:
        return time.time() - path.stat().st_mtime < SILENCE_S  # somebody else's run: go by its age
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBRLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def recover_run(run: Path, *, system: System = SYSTEM) -> list[Recovery]:
    """Bring what dead writers of *run* left in their rings into the log; do nothing for living ones.

    Never raises because of the disk: what could not be done stands in `Recovery.problem`, and the ring
    stays for the next try.
    """
    log_dir = log_directory(run)
    done = []
    for writer, rings in list_rings(log_dir).items():
        for name in rings:
            try:
                recovery = _recover_ring(log_dir, name, rings, system)
            except OSError as error:
                recovery = Recovery(writer, 0, None, f"{name.ring_path(log_dir)}: {error.strerror or error}")
            if recovery is not None:
                done.append(recovery)
    _remove_reserves(log_dir, system)
    return done


def _remove_reserves(log_dir: Path, system: System) -> None:
    """Remove the reserve files of dead writers whose ring was memory."""
    segments, rings = list_segments(log_dir), list_rings(log_dir)
    for name in list_names(log_dir):
        writer, _, kind = name.partition(".")
        if kind != "reserve" or writer in rings or writer not in segments:
            continue
        with contextlib.suppress(OSError):
            newest = segments[writer][-1]
            reader = SegmentReader(newest.path(log_dir), newest)
            for _block in reader.read():
                pass
            if not is_alive(log_dir, writer, reader.header, is_sealed=reader.seal is not None):
                system.unlink(log_dir / name)


def _recover_ring(
    log_dir: Path, name: SegmentName, rings: list[SegmentName], system: System
) -> Recovery | None:
    path = name.ring_path(log_dir)
    try:
        fd = _lock_dead(path)
    except FileNotFoundError:
        return None
    if fd is None:
        return None
    try:
        later = [other.segment for other in rings if other.segment > name.segment]
        found = _Found(log_dir, name, min(later, default=sys.maxsize))
        data = _read(fd)
        if not found.is_mirrored_by(data):
            system.rename(path, path.with_suffix(".ring-unusable"))
            return Recovery(name.writer, 0, None, f"{path} does not belong to this log; it was set aside")
        lines = list(found.lines_beyond(data))
        segment = _write_recovered(log_dir, found, lines, system) if lines else None
        # The ring goes last: until the new segment is durable it is the only copy, and without it nobody
        # would come back for the rest.
        for leftover in (reserve_path(log_dir, name.writer), path.with_suffix(".ring-new"), path):
            system.unlink(leftover)
        return Recovery(name.writer, len(lines), segment)
    finally:
        os.close(fd)


def _lock_dead(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a dead writer's ring, None if it lives or is gone."""
    for _ in range(20):
        fd = lock_file(path)
        if fd is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == path.stat().st_ino:
                    return fd
            os.close(fd)
            return None
        if not _is_locked_for_long(path):
            continue
        return None
    return None


def _is_locked_for_long(path: Path) -> bool:
    """Tell a writer's lock from the moment in which somebody merely looks."""
    time.sleep(0.001)
    return _is_locked(path)


def _read(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)


class _Found:
    """What the segments of a dead writer hold, and where its ring goes on from there."""

    def __init__(self, log_dir: Path, ring: SegmentName, below: int) -> None:
        self.ring = ring
        self.next_seq = 0
        self.last_segment = ring.segment - 1
        self.header: SegmentOpened | None = None
        self.prev: Previous | None = None
        self.position = 0
        self.seed = 0
        self.expected: int | None = None
        self.last_line = b""
        self._is_over = False
        for name in list_segments(log_dir).get(ring.writer, []):
            self._look_at(log_dir, name, is_base=ring.segment <= name.segment < below)

    def _look_at(self, log_dir: Path, name: SegmentName, *, is_base: bool) -> None:
        reader = SegmentReader(name.path(log_dir), name)
        last = b""
        for block in reader.read():
            last = block.lines[-1]
        self.last_segment = max(self.last_segment, name.segment)
        self.next_seq = max(self.next_seq, reader.next_seq or 0)
        header = reader.header
        if header is None or header.origin == "recovery" or reader.has_bad_tail:
            return
        self.prev = Previous(
            segment=name.segment,
            seq=reader.next_seq or 0,
            crc=reader.crc if reader.verified_end else NO_CRC,
            size_bytes=reader.verified_end,
        )
        if header.origin == "rewrite" and name.segment > self.ring.segment:
            self._is_over = True  # from here on the stream lay in another ring
        if is_base and not self._is_over:
            self.header = header
            self.position = header.stream_offset + reader.verified_end
            self.seed = 0 if reader.seal is not None else int(reader.crc, 16)
            self.expected = reader.next_seq
            self.last_line = b"" if reader.seal is not None else last

    def is_mirrored_by(self, ring: bytes) -> bool:
        """Tell whether *ring* belongs to these segments: it repeats their last line, or is still empty."""
        if not ring:
            return False
        if self.header is None:
            return verifies(ring.partition(b"\n")[0], 0) or not ring.strip(b"\0")
        if not self.last_line or len(self.last_line) >= len(ring):
            return True
        start = (self.position - len(self.last_line) - 1) % len(ring)
        return (ring[start:] + ring[:start]).startswith(self.last_line + b"\n")

    def lines_beyond(self, ring: bytes) -> Iterator[bytes]:
        """Yield the events, without newlines, that the ring holds and no segment does."""
        start = self.position % len(ring)
        data = ring[start:] + ring[:start]
        seed, expected, at = self.seed, self.expected, 0
        while (end := data.find(b"\n", at)) > 0:
            line = data[at:end]
            if not verifies(line, seed):
                return
            seq = seq_of(line)
            if expected is not None and seq != expected:
                return
            frame = _frame(line)
            if frame is None:
                if seq >= self.next_seq:
                    yield line
                expected = seq + 1
            else:
                expected = seq
                if isinstance(frame, SegmentOpened):
                    self.header = frame
                    self.last_segment = max(self.last_segment, frame.segment)
            seed = 0 if isinstance(frame, SegmentSealed) else int(line[-10:-2], 16)
            at = end + 1


def _frame(line: bytes) -> SegmentOpened | SegmentSealed | None:
    if b'"type":"segment_' not in line[:80]:
        return None
    with contextlib.suppress(msgspec.MsgspecError):
        event = decode(line)
        if isinstance(event, (SegmentOpened, SegmentSealed)):
            return event
    return None


def _write_recovered(log_dir: Path, found: _Found, lines: list[bytes], system: System) -> Path:
    """Write *lines* as a sealed segment of their writer, with the seqs that they have."""
    from hashlib import sha256

    assert found.header is not None
    name = SegmentName(found.ring.writer, found.last_segment + 1)
    first, now = seq_of(lines[0]), time.time_ns() // 1000
    fields = header_fields(
        name,
        run_id=found.header.run_id,
        project=found.header.project,
        rank=found.header.rank,
        stream_offset=0,
        prev=found.prev,
        origin="recovery",
        durability=found.header.durability,
        ring=None,
        forked_from=found.header.forked_from,
    )
    line, crc = close_line(body_of(fields, first, now), 0)
    parts = [line]
    for old in lines:
        line, crc = close_line(old[:-_SUFFIX], crc)
        parts.append(line)
    data = b"".join(parts)
    seal = SegmentSealed(
        events=len(lines), size_bytes=len(data), sha256=sha256(data).hexdigest(), reason="recovered"
    )
    line, _ = close_line(body_of(encode_fields(seal), first + len(lines), now), crc)
    path = name.path(log_dir)
    _put(path, data + line, system)
    return path


def _put(path: Path, data: bytes, system: System) -> None:
    young = path.with_suffix(".recovering")
    system.unlink(young)  # of a recovery that was killed; we hold the lock
    fd = system.create(young)
    try:
        write_all(system, fd, data)
        system.sync(fd)
    finally:
        system.close(fd)
    with contextlib.suppress(OSError):
        system.make_read_only(young)
    system.rename(young, path)
    system.sync_directory(path.parent)
