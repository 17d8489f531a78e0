"""Reads a ring's file in pieces: however large it says that it is, memory is needed for its lines only."""

from __future__ import annotations

from eventlog.storage.files import read_from
from eventlog.storage.system import System

LONGEST_LINE_BYTES = 1 << 21
_PIECE_BYTES = 1 << 18
_ZEROS = bytes(_PIECE_BYTES)


class RingFile:
    """The content of a ring from a position of the stream on, once around.

    Attributes:
        file_bytes: size of the file.
        size_bytes: size of the ring; what the file lacks of it reads as NUL, what it has more is not read.
    """

    def __init__(self, fd: int, file_bytes: int, system: System) -> None:
        self.size_bytes = self.file_bytes = file_bytes
        self._fd, self._system = fd, system
        self._start = 0
        self._window, self._window_at = b"", 0

    def begin_at(self, position: int, size_bytes: int) -> None:
        """Count offsets from stream *position* on, in a ring of *size_bytes*."""
        self.size_bytes = size_bytes
        self._start = position
        self._window, self._window_at = b"", 0

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes from *offset* on, or what is left of the round."""
        parts, left = [], min(size, self.size_bytes - offset)
        place = (self._start + offset) % max(1, self.size_bytes)
        while left > 0:
            wanted = min(left, self.size_bytes - place)
            part = read_from(self._fd, self._system, offset=place, at_most=wanted)
            parts.append(part.ljust(wanted, b"\0"))
            place, left = 0, left - wanted
        return b"".join(parts)

    def line_at(self, offset: int) -> bytes | None:
        """Return the line at *offset* without its newline, None if it is longer than any of ours."""
        begin = offset - self._window_at
        if not 0 <= begin <= len(self._window):
            self._window, self._window_at, begin = b"", offset, 0
        end = self._window.find(b"\n", begin)
        while end < 0 and len(self._window) - begin < LONGEST_LINE_BYTES:
            more = self.read(self._window_at + len(self._window), _PIECE_BYTES)
            if not more:
                return None
            self._window, self._window_at, begin = self._window[begin:] + more, offset, 0
            end = self._window.find(b"\n", len(self._window) - len(more))
        return self._window[begin:end] if end >= 0 else None

    def is_empty(self) -> bool:
        """Tell whether it holds nothing but NUL: it never got anything, or lost it in a power cut."""
        for offset in range(0, self.size_bytes, _PIECE_BYTES):
            piece = self.read(offset, _PIECE_BYTES)
            if piece != _ZEROS[: len(piece)]:
                return False
        return True
