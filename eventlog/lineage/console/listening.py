"""Logs what this process prints, while a run is active.

The method ``write`` of the two streams is replaced, not the streams: whoever holds one (a handler of
`logging`, a progress bar) is heard too, and ``isatty``, ``encoding`` and ``fileno`` stay what they are. The
text is passed on first, at once; a thread logs the lines later. So a kill costs the log at most what was
printed in the last `INTERVAL_S`, and the terminal nothing. What does not go through ``write`` (programs that
were started, libraries in C, ``sys.stdout.buffer``) is not seen; ``evlog run`` sees all of it.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Literal

from eventlog import events as ev
from eventlog.lineage.console.lines import LineSplitter
from eventlog.lineage.console.tee import Tee
from eventlog.lineage.running import Recorder

INTERVAL_S = 0.5
EAGER_CHARS = 1 << 16
"""So much is logged without waiting for the interval."""
MAX_EVENT_CHARS = 1 << 16
MAX_WAITING_CHARS = 16 << 20
"""What is printed faster than it can be logged is left out beyond this, and the log says how much."""

Stream = Literal["stdout", "stderr"]


class Console:
    """What this process prints, as events of the run that is innermost at the time.

    `begin` and `end` may be called from any thread, and nest. A forked child passes its output on without
    logging it.
    """

    def __init__(self) -> None:
        self._runs: list[Recorder] = []
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._tees: list[Tee] = []
        self._has_ended: threading.Event | None = None
        # Both can be put into from a signal handler that interrupts a put; a lock could not be taken there.
        self._heard: deque[tuple[Stream, str]] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._waiting_chars = 0
        self._left_out = 0
        self._splitters = {name: LineSplitter() for name in ("stdout", "stderr")}

    def begin(self, run: Recorder) -> None:
        """Log into *run* from now on; what was printed before belongs to the run around it."""
        with self._lock:
            if self._pid != os.getpid():
                self._forget()
            if self._runs:
                self._log(is_end=True)
            if self._has_ended is None:
                self._listen()
            self._runs.append(run)

    def end(self, run: Recorder, timeout_s: float = 1.0) -> None:
        """Log what is left of *run*; the run around it goes on, or the streams are given back."""
        with self._lock:
            if self._pid != os.getpid() or not any(one is run for one in self._runs):
                return
            if len(self._runs) == 1:
                for tee in self._tees:
                    tee.remove()
            if self._runs[-1] is run:
                self._log(is_end=True)
            self._runs = [one for one in self._runs if one is not run]
            has_ended = None if self._runs else self._has_ended
            if has_ended is not None:
                self._tees, self._has_ended = [], None
                self._wake.put(False)
        if has_ended is not None:
            has_ended.wait(timeout_s)

    def _forget(self) -> None:
        """Let go of what a forked child has inherited; the lock is fresh, for `after_fork` made it."""
        for tee in self._tees:
            tee.remove()
        self._runs = []
        self._reset()

    def after_fork(self) -> None:
        """Make a lock of the child's own: the parent's may be held by a thread that is not here."""
        self._lock = threading.Lock()

    def _listen(self) -> None:
        has_ended, wake = threading.Event(), SimpleQueue[bool]()
        # Not a `Thread`: its start waits until the thread runs, 5 ms where the processors are busy.
        _thread.start_new_thread(self._work, (wake, has_ended))
        self._has_ended, self._wake = has_ended, wake
        seen: list[object] = []
        names: tuple[Stream, Stream] = ("stdout", "stderr")
        for name in names:
            stream = getattr(sys, name)
            if stream is None or any(stream is one for one in seen):
                continue  # no console at all, or one for both
            seen.append(stream)
            with contextlib.suppress(AttributeError, TypeError):
                self._tees.append(Tee(stream, self._hears(name)))

    def _hears(self, name: Stream) -> Callable[[str], None]:
        def hear(text: str) -> None:
            if self._pid != os.getpid():
                return
            if self._waiting_chars > MAX_WAITING_CHARS:
                self._left_out += len(text)
                return
            before = self._waiting_chars
            self._waiting_chars = before + len(text)
            self._heard.append((name, text))
            if before < EAGER_CHARS <= self._waiting_chars:
                self._wake.put(True)

        return hear

    def _work(self, wake: SimpleQueue[bool], has_ended: threading.Event) -> None:
        goes_on = True
        while goes_on:
            with contextlib.suppress(Empty):
                goes_on = wake.get(timeout=INTERVAL_S)
            if self._heard:
                with self._lock:
                    if wake is self._wake and self._runs:
                        self._log(is_end=False)
        has_ended.set()

    # --- what was heard -------------------------------------------------------------------------

    def _log(self, *, is_end: bool) -> None:
        """Log the lines that were heard; the lock is held."""
        self._waiting_chars = 0
        heard, left_out = self._take(), self._left_out
        if left_out:
            self._left_out = 0
            heard.append(("stderr", f"\n[evlog: {left_out} characters were printed too fast to be logged]\n"))
        for name, text in heard:
            self._add(name, self._splitters[name].feed(text.encode(errors="backslashreplace")))
        if is_end:
            for name in ("stdout", "stderr"):
                self._add(name, self._splitters[name].end())

    def _take(self) -> list[tuple[Stream, str]]:
        """Return what was heard, joined as long as it is of one stream."""
        found: list[tuple[Stream, list[str]]] = []
        for _ in range(len(self._heard)):
            name, text = self._heard.popleft()
            if not found or found[-1][0] != name:
                found.append((name, []))
            found[-1][1].append(text)
        return [(name, "".join(texts)) for name, texts in found]

    def _add(self, name: str, lines: list[str]) -> None:
        stream: Stream = "stdout" if name == "stdout" else "stderr"
        part: list[str] = []
        size = 0
        for line in lines:
            if part and size + len(line) > MAX_EVENT_CHARS:
                self._runs[-1].add(ev.Console(stream=stream, text="\n".join(part)))
                part, size = [], 0
            part.append(line)
            size += len(line) + 1
        if part:
            self._runs[-1].add(ev.Console(stream=stream, text="\n".join(part)))


class Listener:
    """The console of one run: a part of `eventlog.lineage.running.Running`."""

    def __init__(self, run: Recorder) -> None:
        self._run = run

    def begin(self) -> None:
        """Listen."""
        CONSOLE.begin(self._run)

    def end(self, timeout_s: float) -> None:
        """Log what is left."""
        CONSOLE.end(self._run, timeout_s)

    def forget(self) -> None:
        """Do nothing: in a forked child nothing is logged, for its process has another number."""


CONSOLE = Console()
"""The one of this process: it has one standard output."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CONSOLE.after_fork)
