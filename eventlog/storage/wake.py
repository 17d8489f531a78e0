"""How the flusher is told to look, from anywhere: a call, a signal handler, a finalizer.

Not by a `threading.Event`, whose lock a thread cannot take twice, nor by a lock that is released once too
often, whose error shows above a Ctrl-C that strikes just there.
"""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class Wake:
    """One who waits, and many who may wake it. Setting it again before it was seen changes nothing."""

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()  # its put may strike in the middle of another one

    def set(self) -> None:
        """Wake who waits, or the next one who will. Never waits, never raises."""
        if self._told.empty():  # otherwise it would grow where no thread can be had to empty it
            self._told.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait at most *timeout_s*, seconds; tell whether somebody woke it."""
        with contextlib.suppress(Empty):
            self._told.get(timeout=timeout_s)
            return True
        return False
