"""The flusher's side of a writer: from the ring into segments, and what to do when the disk fails.

- Lines are written whole and in order; a segment is sealed when it is large, on request, and at the end.
- No space (ENOSPC, EDQUOT): the reserve file is given up, the same file goes on when there is room.
- Anything else, and every failed sync or close: the file is never touched again. Pages may be gone
  although a second sync would succeed, so all that was not synced is written again, with the same seqs,
  into a new segment over a new ring. The old ring is removed when the new one holds everything.

Not thread-safe: the buffer holds one lock around every call. The stream's lock is taken inside, briefly.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

from eventlog.codec import SUFFIX_BYTES, close_line
from eventlog.errors import warn_once
from eventlog.events import Previous, RingInfo
from eventlog.storage.layout import SegmentName, log_directory, reserve_path, why_no_ring_file
from eventlog.storage.options import Identity, WriterOptions
from eventlog.storage.ring import Ring
from eventlog.storage.stream import Place, Stream
from eventlog.storage.system import System
from eventlog.storage.writer import NO_SPACE, SegmentWriter, header_fields, seal_line

CHUNK_BYTES = 1 << 20
# The type's own place in a line: a user's value may hold the same text further on.
_FRAME = re.compile(rb'\{"seq":\d+,"ts":-?\d+,"type":"segment_(?:opened|sealed)"')


class SyncFailedError(OSError):
    """A sync or close failed: nothing that was not synced before can be trusted to this file."""


class Chain:
    """The segments that one incarnation writes, one after the other.

    Attributes:
        synced: place up to which everything is on the disk.
        failures: how often the disk failed, for those who wait for a sync that will not come.
    """

    def __init__(
        self, run: Path, identity: Identity, options: WriterOptions, stream: Stream, system: System
    ) -> None:
        self.identity = identity
        self.log_dir = log_directory(run)
        self.failures = 0
        self._options, self._stream, self._system = options, stream, system
        self._name = SegmentName(identity.writer, 1)
        self._segment: SegmentWriter | None = None
        self._first = Place(0, 0, 0)  # where the current segment begins
        self._prev: Previous | None = None
        self._written = 0
        self._turn: tuple[Place, Previous] | None = None  # behind a seal that waits to be written
        self._retry_at = 0.0
        self._backoff_s = 0.0
        self._why_memory: str | None = None
        self._kept: Ring | None = None  # the file ring of a segment that was given up
        self._has_reserve = False
        self._is_closing = False
        self.synced = Place(0, 0, 0)
        self._open(position=0, seq=0)
        self._make_reserve()

    @property
    def waiting_bytes(self) -> int:
        """Return how many bytes of the stream are not synced."""
        place = self._stream.place()
        return 0 if place is None else place.position - self.synced.position

    @property
    def ring_path(self) -> Path | None:
        """Return the ring's file, if it has one."""
        return self._stream.ring.path if self._stream.ring else None

    # --- opening ------------------------------------------------------------------------

    def _open(
        self, position: int, seq: int, *, size_bytes: int | None = None, origin: str = "writer"
    ) -> None:
        """Begin the stream anew at *position* with a header in a new ring; the file comes with `flush`."""
        ring = self._make_ring(size_bytes or self._options.ring_bytes)
        header, crc = self._header(ring, position, seq, origin)
        with self._stream.lock:
            self._stream.begin(ring, position, header, crc, seq)
        self._written = position
        self._first = self.synced = Place(position, 0, seq)

    def _make_ring(self, size_bytes: int) -> Ring:
        path = self._name.ring_path(self.log_dir)
        self._why_memory = self._why_memory or why_no_ring_file(self.log_dir)
        if self._why_memory is None and self._options.ring != "memory":
            try:
                return Ring.in_file(path, size_bytes, self._system)
            except OSError as error:
                self._why_memory = str(error)
        elif self._options.ring == "memory":
            self._why_memory = "asked for"
        return Ring.in_memory(size_bytes)

    def _header(self, ring: Ring, position: int, seq: int, origin: str) -> tuple[bytes, int]:
        identity = self.identity
        fields = header_fields(
            self._name,
            run_id=identity.run_id,
            project=identity.project,
            rank=identity.rank,
            stream_offset=position,
            prev=self._prev,
            origin=origin,
            durability=self._options.durability,
            ring=RingInfo(
                kind="file" if ring.path else "memory", size_bytes=ring.size_bytes, reason=self._why_memory
            ),
            forked_from=identity.forked_from,
        )
        return close_line(b'{"seq":%d,"ts":%d,%b' % (seq, time.time_ns() // 1000, fields[1:-1]), 0)

    def _make_reserve(self) -> None:
        """Set room aside, so that the end of a log fits on a disk that others have filled."""
        path = reserve_path(self.log_dir, self.identity.writer)
        with contextlib.suppress(OSError):
            fd = self._system.create(path)
            self._has_reserve = True
            try:
                self._system.preallocate(fd, self._options.reserve_bytes)
            finally:
                self._system.close(fd)

    def _release_reserve(self) -> None:
        if self._has_reserve:
            self._has_reserve = False
            with contextlib.suppress(OSError):
                self._system.unlink(reserve_path(self.log_dir, self.identity.writer))

    # --- the ordinary way ---------------------------------------------------------------

    def flush(self, *, sync: bool, force: bool = False) -> bool:
        """Write what waits, and sync it if asked; tell whether all that was asked for was done.

        Args:
            force: try also while backing off after a failure.
        """
        if not force and time.monotonic() < self._retry_at:
            return False
        try:
            place = self._write_waiting()
            if sync and place is not None:
                self._sync(place)
        except (SyncFailedError, FileExistsError) as error:
            self._rewrite(error)
        except OSError as error:
            self._fail(error)
        else:
            self._recovered()
            return True
        return False

    def _write_waiting(self) -> Place | None:
        """Write all lines that are in the ring now; return the place after the last one."""
        place = self._stream.place()
        while place is not None and self._written < place.position:
            self._write_until(place.position)
            if (
                self._segment is not None
                and self._turn is None
                and self._segment.size_bytes >= self._options.segment_bytes
                and self._seal("rotated")
            ):
                place = self._stream.place()
        self._stream.written(self._written)
        return place

    def _write_until(self, position: int) -> None:
        ring = self._stream.ring
        assert ring is not None
        while self._written < position:
            if self._segment is None:
                self._segment = SegmentWriter(self.log_dir, self._name, self._system)
            end = min(position, self._turn[0].position if self._turn else position)
            size = min(end - self._written, CHUNK_BYTES)
            self._written += self._segment.write(ring.get(self._written, size))
            if self._turn and self._written == self._turn[0].position:
                self._turn_over()

    def _sync(self, place: Place) -> None:
        """Sync everything up to *place*, which is written."""
        if self._segment is None or place.position <= self.synced.position:
            return
        self._sync_segment(self._segment)
        self.synced = place
        self._remove_kept()
        self._stream.release(place.position)

    def _remove_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.remove(self._system)

    def _sync_segment(self, segment: SegmentWriter) -> None:
        try:
            segment.sync()
        except OSError as error:
            raise SyncFailedError(*error.args) from error

    # --- the end of a segment -----------------------------------------------------------

    def _seal(self, reason: str) -> bool:
        """Put a seal into the stream, and the next segment's header unless this is the end."""
        segment = self._segment
        assert segment is not None
        with self._stream.lock:
            place = self._stream.place()
            ring = self._stream.ring
            if place is None or ring is None:
                return False
            rest = ring.get(self._written, place.position - self._written)
            line, crc = seal_line(
                segment,
                rest,
                seq=place.seq,
                first_seq=self._first.seq,
                ts=time.time_ns() // 1000,
                seed=place.crc,
                reason=reason,
            )
            sealed = self._stream.put_frame(line, crc)
            if sealed is None:
                return False
            size = sealed.position - self._first.position
            prev = Previous(segment=self._name.segment, seq=sealed.seq, crc=f"{crc:08x}", size_bytes=size)
            self._turn = (sealed, prev)
            if reason == "rotated":
                self._put_next_header(sealed, prev)
        return True

    def _put_next_header(self, sealed: Place, prev: Previous) -> None:
        ring = self._stream.ring
        assert ring is not None
        name, mine, before = self._name, self._name, self._prev
        try:
            self._name, self._prev = name._replace(segment=name.segment + 1), prev
            header, crc = self._header(ring, sealed.position, sealed.seq, "writer")
        finally:
            self._name, self._prev = mine, before
        if self._stream.put_frame(header, crc) is None:
            # There is room for a seal and none for a header: metrics keep an eighth of the ring free,
            # so only a disk that fails for long gets here. `_rewrite` starts afresh.
            raise SyncFailedError("no room in the ring for the next segment's header")

    def _turn_over(self) -> None:
        """Finish the sealed segment; the next bytes of the stream begin a new one."""
        assert self._turn is not None
        assert self._segment is not None
        (sealed, prev), segment = self._turn, self._segment
        self._sync_segment(segment)
        self._segment = None
        try:
            segment.finish()
        except OSError as error:
            raise SyncFailedError(*error.args) from error
        self._turn, self._prev = None, prev
        self._name = self._name._replace(segment=self._name.segment + 1)
        self._first = self.synced = Place(sealed.position, 0, sealed.seq)
        self._stream.release(sealed.position)

    def close(self, reason: str) -> bool:
        """Write and seal everything, and remove the ring; tell whether that was done."""
        # Only the first try is out of turn: each failed one may leave a segment and a ring behind.
        is_first, self._is_closing = not self._is_closing, True
        if not self.flush(sync=False, force=is_first):
            return False
        try:
            if self._segment is not None and self._turn is None and not self._seal(reason):
                return False
            self._write_waiting()
        except (SyncFailedError, FileExistsError) as error:
            self._rewrite(error)
            return False
        except OSError as error:
            self._fail(error)
            return False
        if self._stream.ring is not None:
            self._stream.ring.remove(self._system)
        self._remove_kept()
        self._release_reserve()
        return True

    def abandon(self) -> None:
        """Let go of descriptors and mapping without writing: in a forked child, or when closing failed."""
        if self._segment is not None:
            self._segment.abandon()
        for ring in (self._stream.ring, self._kept):
            if ring is not None:
                ring.abandon()

    # --- when the disk fails ------------------------------------------------------------

    def _fail(self, error: OSError) -> None:
        """Back off after an error that cost nothing yet; give up the reserve for want of space."""
        self.failures += 1
        if error.errno in NO_SPACE:
            self._release_reserve()
        elif self._segment is not None:
            self._rewrite(error)
            return
        self._back_off(error)

    def _back_off(self, error: OSError) -> None:
        self._backoff_s = min(5.0, self._backoff_s * 2 or 0.1)
        self._retry_at = time.monotonic() + self._backoff_s
        self._stream.notify_waiting()
        warn_once(
            f"disk {self.log_dir}",
            f"the log of run {self.identity.run_id} cannot be written: {error.strerror or error}. Up to "
            f"{self._options.ring_bytes >> 20} MiB of events are kept and training goes on; evlog keeps "
            f"trying. Make room on, or mend, the file system of {self.log_dir}.",
        )

    def _recovered(self) -> None:
        if self._retry_at:
            self._retry_at = self._backoff_s = 0.0
            self._make_reserve()

    def _rewrite(self, error: OSError) -> None:
        """Give up the segment; put everything that is not synced into a new one over a new ring."""
        self.failures += 1
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None
        with self._stream.lock:
            place = self._stream.place()
            old = self._stream.ring
            if place is None or old is None:
                return
            lines = old.get(self.synced.position, place.position - self.synced.position)
            self._begin_again(lines, place)
        # Only now: until the new ring held everything, the old one was the only copy. It stays the only
        # one that survives SIGKILL if the new one could not be a file.
        new = self._stream.ring
        if old.path is not None and new is not None and new.path is None and self._kept is None:
            self._kept = old
        else:
            old.remove(self._system)
        self._back_off(error)

    def _begin_again(self, lines: bytes, place: Place) -> None:
        synced, first = self.synced, self._first
        if synced.position > first.position:
            self._prev = Previous(
                segment=self._name.segment,
                seq=synced.seq,
                crc=f"{synced.crc:08x}",
                size_bytes=synced.position - first.position,
            )
        self._name = self._name._replace(segment=self._name.segment + (2 if self._turn else 1))
        self._turn = None
        size = self._options.ring_bytes
        needed = len(lines) + 4096
        while size < needed:
            size *= 2
        # The new ring's first byte is the header: recovery finds it without knowing the position.
        position = (place.position // size + 1) * size
        self._open(position, synced.seq, size_bytes=size, origin="rewrite")
        for line in lines.split(b"\n")[:-1]:
            if not _FRAME.match(line):
                at = self._stream.place()
                assert at is not None
                self._append_again(line, at)
        self._stream.written(position)

    def _append_again(self, line: bytes, at: Place) -> None:
        again, crc = close_line(line[:-SUFFIX_BYTES], at.crc)
        put = self._stream.put_frame(again, crc)
        assert put is not None
        self._stream.set_seq(at.seq + 1)
