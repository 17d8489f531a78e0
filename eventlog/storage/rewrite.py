"""Puts the events that are not synced into a new ring, with their seqs, behind a new header.

The bulk is copied while callers go on appending to the old ring, so that none of them waits for it.
"""

from __future__ import annotations

import re

from eventlog.codec import SUFFIX_BYTES, close_line
from eventlog.storage.ring import Ring
from eventlog.storage.stream import Place, Stream

# What may be copied, or hashed for a seal, while callers wait: about 0.2 ms of work.
LOCKED_BYTES = 1 << 15
# For the header, and for seqs that never take more digits than those they replace.
HEADROOM_BYTES = 4096
# The type's own place in a line: a user's value may hold the same text further on.
_FRAME = re.compile(rb'\{"seq":\d+,"ts":-?\d+,"type":"segment_(?:opened|sealed)"')


class Rewrite:
    """A stream that begins anew.

    Attributes:
        begin: position of its header. It is the ring's first byte, so that recovery finds it.
        place: where the next line goes.
    """

    def __init__(self, ring: Ring, begin: int, header: bytes, *, crc: int, seq: int) -> None:
        self.ring, self.begin = ring, begin
        ring.put(begin, header)
        self.place = Place(begin + len(header), crc, seq)

    def take(self, lines: bytes) -> None:
        """Append the events of *lines*; frames belong to the segment that was given up."""
        for line in lines.split(b"\n")[:-1]:
            if not _FRAME.match(line):
                position, seed, seq = self.place
                again, crc = close_line(line[:-SUFFIX_BYTES], seed)
                self.ring.put(position, again)
                self.place = Place(position + len(again), crc, seq + 1)

    def move(self, stream: Stream, old: Ring, at: int) -> bool:
        """Take over what *old* holds from position *at* on, and *stream* with it; False if it has no room.

        Callers wait only while the last bit is copied.
        """
        begin = at
        while True:
            place = _known(stream.place())
            if not self._has_room(place.position - begin):
                return False
            if place.position - at <= LOCKED_BYTES:
                break
            self.take(old.get(at, place.position - at))
            at = place.position
        with stream.changing() as now:
            place = _known(now)
            if not self._has_room(place.position - begin):
                return False
            self.take(old.get(at, place.position - at))
            stream.take_over(self.ring, self.begin, self.place)
        return True

    def _has_room(self, waiting_bytes: int) -> bool:
        return waiting_bytes + HEADROOM_BYTES <= self.ring.size_bytes


def _known(place: Place | None) -> Place:
    assert place is not None  # nobody comes here in the middle of something else
    return place


def ring_size_for(waiting_bytes: int, wanted_bytes: int) -> int:
    """Return the size of a ring that has room for *waiting_bytes* and a header, at least *wanted_bytes*."""
    size = wanted_bytes
    while size < waiting_bytes + HEADROOM_BYTES:
        size *= 2
    return size
