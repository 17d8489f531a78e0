"""Cuts what a process prints into lines of text, with bounded memory."""

from __future__ import annotations

MAX_LINE_BYTES = 1 << 15


class LineSplitter:
    r"""Cuts a stream of bytes into lines of text.

    Of a line that was written over with ``\r``, as progress bars do, the last state is kept. A line of
    more than `MAX_LINE_BYTES` comes in pieces, so memory is bounded. What is not UTF-8 becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that *data* completes."""
        head, newline, rest = (self._rest + data).rpartition(b"\n")
        lines = self._whole(head.replace(b"\r\n", b"\n")) if newline else []
        rest = last_state(rest)
        while len(rest) > MAX_LINE_BYTES:
            piece, rest = _cut(rest)
            lines.append(piece.decode(errors="replace"))
        self._rest = rest
        return lines

    def _whole(self, block: bytes) -> list[str]:
        lines = block.split(b"\n")
        if b"\r" not in block and max(map(len, lines)) <= MAX_LINE_BYTES:
            # The usual case, thirty times as fast as line by line.
            return block.decode(errors="replace").split("\n")
        pieces = (piece for line in lines for piece in _pieces(last_state(line)))
        return [piece.rstrip(b"\r").decode(errors="replace") for piece in pieces]

    def end(self) -> list[str]:
        """Return what came after the last newline."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        return [rest.decode(errors="replace")] if rest else []


def last_state(line: bytes) -> bytes:
    r"""Return what stands after the last ``\r``; one at the very end may still belong to ``\r\n``."""
    start = line.rfind(b"\r", 0, len(line.rstrip(b"\r"))) + 1
    return line[start:]


def _pieces(line: bytes) -> list[bytes]:
    pieces = []
    while len(line) > MAX_LINE_BYTES:
        piece, line = _cut(line)
        pieces.append(piece)
    return [*pieces, line]


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """Split *line* before the character that goes beyond the limit."""
    at = MAX_LINE_BYTES
    while at > MAX_LINE_BYTES - 4 and line[at] & 0xC0 == 0x80:
        at -= 1
    return line[:at], line[at:]
