"""Reads what a command prints: passes the bytes on as they come, and logs the lines."""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING, Literal

from eventlog import events as ev
from eventlog.lineage.console.lines import LineSplitter, last_state

if TYPE_CHECKING:
    from eventlog.tracker.recording import RunRecorder

READ_BYTES = 1 << 16
LAST_WORDS_BYTES = 8192


class Capture:
    """A pipe in place of one output of a command. `run` belongs to a thread of its own.

    Attributes:
        target_fd: ours, to which the bytes are passed on, and the command's that the pipe replaces.
        write_fd: the command's end of the pipe.
        last_words: the end of what was printed.
    """

    def __init__(self, target_fd: int, stream: Literal["stdout", "stderr"], recorder: RunRecorder) -> None:
        self.target_fd, self._stream, self._recorder = target_fd, stream, recorder
        self._read_fd, self.write_fd = os.pipe()
        self._splitter = LineSplitter()
        self._tail = b""

    @property
    def last_words(self) -> str:
        """Return the last `LAST_WORDS_BYTES`, without the first of their lines if it is torn."""
        states = (last_state(line.removesuffix(b"\r")) for line in self._lines())
        return "\n".join(state.decode(errors="replace") for state in states).strip("\n")

    def _lines(self) -> list[bytes]:
        lines = self._tail[-LAST_WORDS_BYTES:].split(b"\n")
        return lines[1:] if len(self._tail) > LAST_WORDS_BYTES and len(lines) > 1 else lines

    def close_writing(self) -> None:
        """Leave the write end to the command alone."""
        os.close(self.write_fd)

    def abandon(self) -> None:
        """Close the read end: there is no command."""
        os.close(self._read_fd)

    def run(self) -> None:
        """Read until every holder of the write end has closed it, or nobody wants the output any more."""
        try:
            while data := os.read(self._read_fd, READ_BYTES):
                self._tail = (self._tail + data)[-LAST_WORDS_BYTES - 1 :]
                self._log(self._splitter.feed(data))
                pass_on(self.target_fd, data)
        except BrokenPipeError:
            pass  # closing our end tells the command what it would have heard without us
        finally:
            self._log(self._splitter.end())
            with contextlib.suppress(OSError):
                os.close(self._read_fd)

    def _log(self, lines: list[str]) -> None:
        if lines:
            self._recorder.add(ev.Console(stream=self._stream, text="\n".join(lines)))


def pass_on(fd: int, data: bytes) -> None:
    """Write all of *data*, also to a descriptor that somebody made non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
