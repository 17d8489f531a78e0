"""The flusher's side of a writer: from the ring into segments, and what to do when the disk fails.

- Lines are written whole and in order; a segment is sealed when it is large, on request, and at the end.
- No space (ENOSPC, EDQUOT): the reserve file is given up, the same file goes on when there is room.
- Anything else, and every failed sync or close: the file is never touched again. Pages may be gone
  although a second sync would succeed, so all that was not synced is written again, with the same seqs,
  into a new segment over a new ring. The old ring is removed when the new one holds everything.

Not thread-safe: the buffer holds one lock around every call. The stream's lock is taken inside, briefly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eventlog.codec import body_of, close_line
from eventlog.errors import warn_once
from eventlog.events import Previous, RingInfo
from eventlog.storage.files import make_directories
from eventlog.storage.layout import SegmentName, log_directory, why_no_ring_file
from eventlog.storage.options import Identity, WriterOptions
from eventlog.storage.reserve import Reserve
from eventlog.storage.rewrite import LOCKED_BYTES, Rewrite, ring_size_for
from eventlog.storage.ring import Ring
from eventlog.storage.stream import Place, Stream
from eventlog.storage.system import System
from eventlog.storage.writer import NO_SPACE, SegmentWriter, header_fields, seal_line

CHUNK_BYTES = 1 << 20


class SyncFailedError(OSError):
    """A sync or close failed: nothing that was not synced before can be trusted to this file."""


class Chain:
    """The segments that one incarnation writes, one after the other; made while the stream is changed.

    Attributes:
        synced: place up to which everything is on the disk.
        failures: how often the disk failed, for those who wait for a sync that will not come.
    """

    def __init__(
        self,
        run: Path,
        identity: Identity,
        options: WriterOptions,
        stream: Stream,
        system: System,
        *,
        above: Sequence[Path] = (),
    ) -> None:
        self.identity = identity
        self.log_dir = log_directory(run)
        self.failures = 0
        self._options, self._stream, self._system = options, stream, system
        self._name = SegmentName(identity.writer, 1)
        self._segment: SegmentWriter | None = None
        self._above = above  # directories whose names lead here and may not be on the disk yet
        self._process = system.this_process()
        self._first = Place(0, 0, 0)  # where the current segment begins
        self._prev: Previous | None = None
        self._written = 0
        self._turn: tuple[Place, Previous] | None = None  # behind a seal that waits to be written
        self._retry_at = 0.0
        self._backoff_s = 0.0
        self._why_memory: str | None = None
        self._kept: Ring | None = None  # the file ring of a segment that was given up
        self._reserve = Reserve(self.log_dir, identity.writer, options.reserve_bytes, system)
        self._is_closing = False
        self.synced = Place(0, 0, 0)
        self._begin()
        self._reserve.make()

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

    def _begin(self) -> None:
        """Begin the stream with a header in a ring; the file comes with `flush`."""
        ring = self._make_ring(self._name, self._options.ring_bytes)
        header, crc = self._header(ring, self._name, None, 0, 0, "writer")
        self._stream.begin(ring, 0, header, crc, 0)

    def _make_ring(self, name: SegmentName, size_bytes: int) -> Ring:
        path = name.ring_path(self.log_dir)
        self._why_memory = self._why_memory or why_no_ring_file(self.log_dir, self._system)
        if self._why_memory is None and self._options.ring != "memory":
            try:
                return Ring.in_file(path, size_bytes, self._system)
            except OSError as error:
                self._why_memory = str(error)
        elif self._options.ring == "memory":
            self._why_memory = "asked for"
        return Ring.in_memory(size_bytes)

    def _header(
        self, ring: Ring, name: SegmentName, prev: Previous | None, position: int, seq: int, origin: str
    ) -> tuple[bytes, int]:
        identity = self.identity
        fields = header_fields(
            name,
            run_id=identity.run_id,
            project=identity.project,
            rank=identity.rank,
            stream_offset=position,
            prev=prev,
            origin=origin,
            durability=self._options.durability,
            ring=RingInfo(
                kind="file" if ring.path else "memory", size_bytes=ring.size_bytes, reason=self._why_memory
            ),
            process=self._process,
            forked_from=identity.forked_from,
        )
        return close_line(body_of(fields, seq, self._system.now_ns() // 1000), 0)

    # --- the ordinary way ---------------------------------------------------------------

    def flush(self, *, sync: bool, force: bool = False) -> bool:
        """Write what waits, and sync it if asked; tell whether all that was asked for was done.

        Args:
            force: try also while backing off after a failure.
        """
        if not force and self._system.monotonic_s() < self._retry_at:
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
        place, ring = self._stream.place(), self._stream.ring
        assert ring is not None
        look_at = ring.look(place.position if place else self._written)
        while place is not None and self._written < place.position:
            self._write_until(place.position)
            if self._is_due():
                newest = self._stream.place()
                if self._may_seal(newest):
                    self._seal("rotated", goes_on=True)
                    newest = self._stream.place()
                place = newest
        self._stream.written(self._written, look_at)
        return place

    def _is_due(self) -> bool:
        size = self._segment.size_bytes if self._segment is not None else 0
        return self._turn is None and size >= self._options.segment_bytes

    def _may_seal(self, newest: Place | None) -> bool:
        """Tell whether little enough waits to be hashed while callers wait; else it is written before."""
        if newest is None or self._segment is None:
            return False
        is_late = self._segment.size_bytes >= 2 * self._options.segment_bytes
        return newest.position - self._written <= LOCKED_BYTES or is_late

    def _open_segment(self) -> SegmentWriter:
        try:
            segment = SegmentWriter(self.log_dir, self._name, self._system, above=self._above)
        except FileNotFoundError:
            if self._name.segment > 1:
                raise  # somebody has removed the run
            # There was no room for the directory when the log was opened.
            self._above = [*self._above, *make_directories(self.log_dir, self._system)]
            segment = SegmentWriter(self.log_dir, self._name, self._system, above=self._above)
        self._above = ()
        return segment

    def _write_until(self, position: int) -> None:
        ring = self._stream.ring
        assert ring is not None
        while self._written < position:
            if self._segment is None:
                self._segment = self._open_segment()
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
            kept.remove()

    def _sync_segment(self, segment: SegmentWriter) -> None:
        try:
            segment.sync()
        except OSError as error:
            raise SyncFailedError(*error.args) from error

    # --- the end of a segment -----------------------------------------------------------

    def _seal(self, reason: str, *, goes_on: bool = False) -> bool:
        """Put a seal into the stream, and the next segment's header if it *goes_on*."""
        segment = self._segment
        assert segment is not None
        with self._stream.changing() as place:
            ring = self._stream.ring
            if place is None or ring is None:
                return False
            rest = ring.get(self._written, place.position - self._written)
            line, crc = seal_line(
                segment,
                rest,
                seq=place.seq,
                first_seq=self._first.seq,
                ts=self._system.now_ns() // 1000,
                seed=place.crc,
                reason=reason,
            )
            sealed = self._stream.put_frame(line, crc)
            if sealed is None:
                return False
            size = sealed.position - self._first.position
            prev = Previous(segment=self._name.segment, seq=sealed.seq, crc=f"{crc:08x}", size_bytes=size)
            self._turn = (sealed, prev)
            if goes_on:
                self._put_next_header(sealed, prev)
        return True

    def _put_next_header(self, sealed: Place, prev: Previous) -> None:
        ring = self._stream.ring
        assert ring is not None
        name = self._name._replace(segment=self._name.segment + 1)
        header, crc = self._header(ring, name, prev, sealed.position, sealed.seq, "writer")
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
        ring = self._stream.ring
        assert ring is not None  # it goes here and in a forked child, which has no chain
        ring.remove()
        self._remove_kept()
        self._reserve.release()
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
            self._reserve.release()
        elif self._segment is not None:
            self._rewrite(error)
            return
        self._back_off(error)

    def _back_off(self, error: OSError) -> None:
        # The first try again comes before a call that waits for room gives up.
        first_s = min(0.1, self._options.max_block_s / 4) or 0.1
        self._backoff_s = min(5.0, self._backoff_s * 2 or first_s)
        self._retry_at = self._system.monotonic_s() + self._backoff_s
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
            self._reserve.make()

    def _rewrite(self, error: OSError) -> None:
        """Give up the segment; put everything that is not synced into a new one over a new ring."""
        self.failures += 1
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None
        old = self._stream.ring
        if old is None or self._stream.place() is None:
            return
        try:
            new = self._begin_again(old)
        except OSError:
            self._back_off(error)  # not even memory: the old ring stays, and the next try comes here again
            return
        # Only now: until the new ring held everything, the old one was the only copy. It stays the only
        # one that survives SIGKILL if the new one could not be a file.
        if old.path is not None and new.path is None and self._kept is None:
            self._kept = old
        else:
            old.remove()
        self._back_off(error)

    def _begin_again(self, old: Ring) -> Ring:
        """Let the stream go on in a new ring that holds what is not synced; return that ring."""
        synced, first, prev = self.synced, self._first, self._prev
        if synced.position > first.position:
            prev = Previous(
                segment=self._name.segment,
                seq=synced.seq,
                crc=f"{synced.crc:08x}",
                size_bytes=synced.position - first.position,
            )
        name = self._name._replace(segment=self._name.segment + (2 if self._turn else 1))
        size = ring_size_for(self.waiting_bytes, self._options.ring_bytes)
        while True:
            ring = self._make_ring(name, size)
            begin = ((synced.position + self.waiting_bytes) // size + 1) * size
            header, crc = self._header(ring, name, prev, begin, synced.seq, "rewrite")
            again = Rewrite(ring, begin, header, crc=crc, seq=synced.seq)
            if again.move(self._stream, old, synced.position):
                break
            # Callers have appended more than it has room for.
            ring.remove()
            size *= 2
        self._name, self._prev, self._turn = name, prev, None
        self._written = begin
        self._first = self.synced = Place(begin, 0, synced.seq)
        self._stream.written(begin, begin + size)
        return ring
