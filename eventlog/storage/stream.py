"""The caller's side of a writer: lines into the ring, without a system call.

The state is one tuple, replaced in one store: an exception that strikes in the middle of an append
(Ctrl-C, a signal handler that raises) leaves the old state, and the half-written line is written over by
the next one. Whoever appends to the stream, or changes it, holds the lock and takes the state away; who finds
none strikes in the middle of something that the same thread does (a signal handler, a finalizer), and leaves
its event to that, which takes it at its end.

Thread-safe. Never does I/O, never raises because of the disk.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from eventlog.codec import body_of, close_line, encode_fields
from eventlog.events import Dropped
from eventlog.storage.ring import Ring
from eventlog.storage.wake import Wake


class Place(NamedTuple):
    """A place between two lines of a stream."""

    position: int
    crc: int
    seq: int


MOST_DEFERRED = 1000
"""Of events that struck in the middle of others, and wait for room."""
LATER = Place(-1, 0, -1)
"""What an append returns that struck in the middle of another one: its event follows that one's."""


class Stream:
    """Lines, chained, in a ring.

    Attributes:
        lock: held for every change of the state.
        ring: None until `begin`.
        is_closed: nothing is taken any more.
        wake: set when the flusher should look sooner than its interval.
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Begin with nothing and with locks of one's own; the object stays, for others point to it."""
        lock = threading.RLock()
        self.lock: contextlib.AbstractContextManager[object] = lock
        self.ring: Ring | None = None
        self.is_closed = False
        self.wake = Wake()
        self._room = threading.Condition(lock)
        self._size = 0
        self._state: tuple[int, int, int] | None = (0, 0, 0)
        self._mark = -1  # beyond it an append takes the slow path: to open, to wake, to wait
        self._released = 0
        self._is_stuck = False
        self._held = 0, 0, 0  # the state of a stream that is being changed
        self._deferred: deque[tuple[bytes, str]] = deque()
        self._dropped: dict[str, int] = {}
        self._dropped_from = self._dropped_to = 0
        self._drop_reason = ""

    # --- the hot path -------------------------------------------------------------------

    def append_metrics(self, step: int, data: bytes) -> bool:
        """Append a ``metrics`` line; *data* is its JSON object. Return False if it needs `append`.

        Every line here costs 0.1 µs of the two that a call may take; `append` is the same, readably.
        """
        with self.lock:
            state = self._state
            if state is None:
                return False
            try:
                self._state = None
                head, seed, seq = state
                body = b'{"seq":%d,"ts":%d,"type":"metrics","step":%d,"data":%b' % (
                    seq,
                    self._now_ns() // 1000,
                    step,
                    data,
                )
                crc = crc32(body, seed)
                line = b'%b,"crc":"%08x"}\n' % (body, crc)
                end = head + len(line)
                if end > self._mark and not self._has_room(end):
                    self._state = state
                    return False
                start = head % self._size
                stop = start + len(line)
                if stop <= self._size:
                    self.ring.mapping[start:stop] = line  # type: ignore[union-attr]  # _mark is -1 without
                else:
                    self.ring.put(head, line)  # type: ignore[union-attr]
                self._state = (end, crc, seq + 1)
            except BaseException:
                self._state = state
                if self._deferred:
                    self.append_deferred()
                raise
            if self._deferred:
                self.append_deferred()
        return True

    def _has_room(self, end: int) -> bool:
        """Wake the flusher; tell whether a metric may reach *end*."""
        if self.ring is None or self.is_closed or self._dropped:
            return False
        self.notify_flusher()
        self._mark = self._metrics_limit()
        return end <= self._mark

    # --- everything else ----------------------------------------------------------------

    def append(self, fields: bytes, kind: str, *, max_block_s: float) -> Place | None:
        """Append an event's *fields*; wait for room at most *max_block_s*, then drop and count it.

        Returns:
            The place after the line, LATER if that will be known later, or None if the event was dropped.
        """
        with self.lock:
            if self._state is None and not self.is_closed:
                self._deferred.append((fields, kind))
                return LATER
            try:
                return self._append(fields, kind, max_block_s)
            finally:
                if self._deferred:
                    self.append_deferred()

    def append_deferred(self, *, is_end: bool = False) -> None:
        """Append what arrived in the middle of something else that the same thread did to the stream.

        What there is no room for waits for the next look, by a call or by the flusher, unless *is_end*.
        """
        with self.lock, contextlib.suppress(IndexError):  # a handler may strike here, too, and take some
            while self._deferred and self._state is not None and self.ring is not None:
                fields, kind = self._deferred.popleft()
                if not self.is_closed and self._put(fields, kind) is not None:
                    continue
                if is_end or self.is_closed or self._is_stuck or len(self._deferred) >= MOST_DEFERRED:
                    self.count_dropped(kind, "the run has ended" if self.is_closed else "the ring was full")
                else:
                    self._deferred.appendleft((fields, kind))
                    self.notify_flusher()
                    return

    def _append(self, fields: bytes, kind: str, max_block_s: float) -> Place | None:
        deadline: float | None = None
        while True:
            place = None if self.is_closed else self._put(fields, kind)
            if place is not None:
                return place
            if deadline is None:
                deadline = time.monotonic() + max_block_s
            left = 0.0 if self._is_stuck else deadline - time.monotonic()
            self.notify_flusher()
            if self.is_closed or left <= 0 or not self._room.wait(left):
                # One wait in vain is enough: until the disk moves, later calls do not wait at all.
                self._is_stuck = True
                self.count_dropped(kind, "the run has ended" if self.is_closed else "the ring was full")
                return None

    def _put(self, fields: bytes, kind: str) -> Place | None:
        """Put a line behind the others, after a note of what was dropped; None if there is no room."""
        limit = self._metrics_limit() if kind == "metrics" else self._released + self._size
        if self._dropped:
            note = Dropped(
                counts=dict(self._dropped),
                reason=self._drop_reason,
                first_ts=self._dropped_from,
                last_ts=self._dropped_to,
            )
            if self._put_line(encode_fields(note), limit) is None:
                return None
            self._dropped.clear()
        return self._put_line(fields, limit)

    def _put_line(self, fields: bytes, limit: int) -> Place | None:
        state = self._state
        assert state is not None
        assert self.ring is not None
        try:
            self._state = None
            head, seed, seq = state
            line, crc = close_line(body_of(fields, seq, self._now_ns() // 1000), seed)
            place = Place(head + len(line), crc, seq + 1)
            if place.position > limit:
                self._state = state
                return None
            self.ring.put(head, line)
            self._state = (place.position, place.crc, place.seq)
        except BaseException:
            self._state = state
            raise
        if place.position > self._mark:
            self.notify_flusher()
        return place

    def count_dropped(self, kind: str, reason: str) -> None:
        """Count an event that is lost; the next one that finds room says so in the log."""
        now = self._now_ns() // 1000
        with self.lock:
            if not self._dropped:
                self._dropped_from, self._drop_reason = now, reason
            self._dropped_to = now
            self._dropped[kind] = self._dropped.get(kind, 0) + 1
            self._mark = -1

    @property
    def dropped(self) -> dict[str, int]:
        """Return the numbers of lost events that the log does not tell yet, by type."""
        return dict(self._dropped)

    # --- for the flusher ----------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[Place | None]:
        """Hold the stream for `begin`, `put_frame` and `take_over`, which are for nobody else.

        Gives the place after the newest line, or None in the middle of something that this thread does: then
        nothing may be changed.
        """
        with self.lock:
            place = self.place()
            if place is None:
                yield None
                return
            self._held, self._state = place, None
            try:
                yield place
            finally:
                self._state = self._held
                self.append_deferred()

    def begin(self, ring: Ring, position: int, header: bytes, header_crc: int, seq: int) -> Place:
        """Start at *position* of *ring* with a header."""
        self.take_over(ring, position, Place(position, 0, seq))
        place = self.put_frame(header, header_crc)
        assert place is not None
        self._mark = position + self._size // 4
        return place

    def put_frame(self, line: bytes, crc: int) -> Place | None:
        """Put a frame's *line*; frames do not count. None if there is no room."""
        assert self.ring is not None
        head, _, seq = self._held
        if head + len(line) > self._released + self._size:
            return None
        self.ring.put(head, line)
        self._held = place = Place(head + len(line), crc, seq)
        return place

    def take_over(self, ring: Ring, begin: int, place: Place) -> None:
        """Go on at *place* of *ring*, which holds everything from *begin* on."""
        # Without a call between them, so that no exception parts a ring from its state.
        self._held = place
        self.ring = ring
        self._size = ring.size_bytes
        self._released = begin
        self._mark = -1
        self._room.notify_all()

    def place(self) -> Place | None:
        """Return the place after the newest line; None in the middle of something that this thread does."""
        with self.lock:
            return None if self._state is None else Place(*self._state)

    def release(self, position: int) -> None:
        """Let the bytes before *position*, which are synced, be written over."""
        with self._room:
            self._released = position
            self._is_stuck = False
            self._room.notify_all()

    def written(self, position: int, look_at: int) -> None:
        """Wake the flusher again at *look_at*, or when a quarter of the ring waits beyond *position*."""
        with self.lock:
            if not self._dropped and not self.is_closed:
                self._mark = min(look_at, position + self._size // 4, self._metrics_limit())

    def notify_flusher(self) -> None:
        """Let the flusher look now. Safe in a signal handler."""
        self.wake.set()

    def notify_waiting(self) -> None:
        """Let those who wait look at what changed."""
        with self._room:
            self._room.notify_all()

    def wait(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until *until* holds; return whether it does."""
        with self._room:
            return self._room.wait_for(until, timeout_s)

    def close(self) -> None:
        """Take nothing any more."""
        if self.is_closed:
            return
        with self._room:
            self.append_deferred(is_end=True)
            self.is_closed = True
            self._mark = -1
            self._room.notify_all()

    def retire(self) -> None:
        """Close, and refuse without a lock: a thread that the interpreter's end stops holds it for ever."""
        self.close()
        self.lock = contextlib.nullcontext()

    def _metrics_limit(self) -> int:
        # Metrics leave an eighth of the ring to what is rare and matters more.
        return self._released + self._size - self._size // 8
