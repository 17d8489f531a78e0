"""The writer as callers see it: append now, on the disk soon, closed properly whatever happens.

One thread, the flusher, does all I/O. A caller never waits for the disk unless it asks to (`synced`,
the kinds in `ALWAYS_SYNCED`, `close`), and then with a limit, because a server that hangs must not
hang the training. The log is opened at the first append, so that a forked child that never logs
leaves no trace.

Thread-safe.
"""

from __future__ import annotations

import _thread
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from threading import get_ident

from eventlog.codec import MAX_LINE_BYTES, encode_fields
from eventlog.errors import DurabilityError, warn_once
from eventlog.events import ALWAYS_SYNCED, Event, type_name
from eventlog.ids import new_writer_id
from eventlog.storage.chain import Chain
from eventlog.storage.files import directories_above, make_directories
from eventlog.storage.layout import log_directory
from eventlog.storage.options import Identity, WriterOptions
from eventlog.storage.stream import LATER, Place, Stream
from eventlog.storage.system import SYSTEM, System

LET_GO_S = 0.1
"""What a flusher that is not stuck gets to let go of everything, when the time to close is over."""


class LineTooLongError(ValueError):
    """An event that does not fit a line; its payload belongs into a file."""


class LogBuffer:
    """Appends events to a run as one writer; a forked child becomes another writer.

    Args:
        now_ns: the time of an event, nanoseconds since the Unix epoch; importers give the one it had.

    Attributes:
        writer: id of this incarnation, None before the first append.
        stream: where lines go; `stream.append_metrics` is the fast way in.
    """

    def __init__(
        self,
        run: Path,
        *,
        run_id: str,
        project: str,
        rank: int = 0,
        options: WriterOptions | None = None,
        system: System = SYSTEM,
        strict: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.run, self.run_id, self.project, self.rank = run, run_id, project, rank
        self.options = options or WriterOptions()
        self.writer: str | None = None
        self.stream = Stream(now_ns)
        self._system = system
        self._strict = strict
        self._chain: Chain | None = None
        self._forked_from: str | None = None
        self._io = threading.RLock()
        self._wanted_seq = 0
        self._is_closing = False
        self._is_done = threading.Event()
        self._last_sync_s = 0.0
        self._flusher: int | None = None  # the threads that work here, whose finalizers cannot wait for them
        self._ticking: int | None = None

    # --- appending ----------------------------------------------------------------------

    @property
    def max_line_bytes(self) -> int:
        """Return the longest line that may be appended."""
        return min(MAX_LINE_BYTES, self.options.ring_bytes // 8)

    def append(self, event: Event, *, sync: bool | None = None) -> bool:
        """Append *event*; tell whether it is kept as its durability promises.

        Args:
            sync: wait until it is on the disk; None leaves that to the kind of the event and the options.

        Raises:
            LineTooLongError: put the payload into a file and refer to it.
            TypeError, ValueError: a field holds what JSON cannot.
            DurabilityError: with ``strict``, when it is not kept.
        """
        fields = encode_fields(event)
        if len(fields) > self.max_line_bytes - 128:
            raise LineTooLongError(f"{type_name(event)}: {len(fields)} bytes")
        if sync is None:
            sync = self.options.durability == "synced" or isinstance(event, ALWAYS_SYNCED)
        return self.append_fields(fields, type_name(event), sync=sync)

    def append_fields(self, fields: bytes, kind: str, *, sync: bool) -> bool:
        """Append an event that is encoded already; see `append`."""
        if self._chain is None and not self.stream.is_closed:
            self.open()
        self._see_to_work()
        place = self.stream.append(fields, kind, max_block_s=self.options.max_block_s)
        if place is None:
            return self._not_kept(
                "an event could not be kept: the disk does not keep up, or the run has ended"
            )
        if place is LATER:  # in a signal handler or finalizer: nothing can be waited for in there
            return not sync
        return self.sync(place) if sync else True

    def append_metrics_synced(self, step: int, data: bytes) -> bool:
        """Append a ``metrics`` line and wait for the disk; *data* is its JSON object."""
        return self.append_fields(
            b'{"type":"metrics","step":%d,"data":%b}' % (step, data), "metrics", sync=True
        )

    def sync(self, place: Place | None = None) -> bool:
        """Wait until everything up to *place* (None: up to now) is on the disk; tell whether it is."""
        chain = self._chain
        if chain is None:
            return True
        place = place or self.stream.place()
        if place is None or get_ident() in {self._flusher, self._ticking}:
            return False  # a signal handler or finalizer: what it would wait for goes on after it
        if chain.synced.seq >= place.seq:
            return True
        self._see_to_work(sync=True)
        failures = chain.failures
        self._wanted_seq = max(self._wanted_seq, place.seq)
        self.stream.notify_flusher()
        # Without a flusher the work was done in here, and nobody will do it while this waits.
        timeout_s = 0.0 if self._flusher is None else self.options.sync_timeout_s
        self.stream.wait(lambda: chain.synced.seq >= place.seq or chain.failures > failures, timeout_s)
        if chain.synced.seq >= place.seq:
            return True
        return self._not_kept("events are not on the disk yet")

    def _not_kept(self, what: str) -> bool:
        if self._strict:
            raise DurabilityError(log_directory(self.run), what)
        if not self.stream.is_closed:
            warn_once(
                f"lost {self.run}", f"run {self.run_id}: {what}. Look at the file system of {self.run}."
            )
        return False

    # --- opening and the flusher --------------------------------------------------------

    def open(self) -> None:
        """Begin the log, if that was not done; never raises for want of a working disk."""
        with self._io, self.stream.changing() as place:
            if place is None or self._chain is not None or self.stream.is_closed:
                return
            self._begin()
        self._see_to_work()

    def _begin(self) -> None:
        self.writer = new_writer_id(self.rank)
        identity = Identity(
            run_id=self.run_id,
            project=self.project,
            writer=self.writer,
            rank=self.rank,
            forked_from=self._forked_from,
        )
        above = directories_above(self.run)
        try:
            make_directories(log_directory(self.run), self._system, changed=above)
        except OSError as error:
            if self._strict:
                raise DurabilityError(log_directory(self.run), str(error)) from error
        above = list(dict.fromkeys(above))
        self._last_sync_s = self._system.monotonic_s()
        self._chain = Chain(self.run, identity, self.options, self.stream, self._system, above=above)

    def _see_to_work(self, *, sync: bool = False) -> None:
        """See to it that there is a flusher; where no thread can be had, do its work.

        Only there: an exception (Ctrl-C) that strikes in the middle of the work would break the log.
        """
        chain, is_there = self._chain, self._flusher is not None and not sys.is_finalizing()
        if chain is None or is_there or self._is_done.is_set():
            return
        # Not threading.Thread: its locks are not safe to take in a signal handler or a fresh fork.
        with contextlib.suppress(RuntimeError):  # too many of them, or the interpreter's end
            self._flusher = _thread.start_new_thread(self._run, (chain,))
            return
        # With a limit: whom it interrupts may hold the stream, which the holder of this lock waits for.
        if self.stream.place() is not None and self._io.acquire(timeout=self.options.max_block_s):
            try:
                self._tick(chain, sync=sync)
            finally:
                self._io.release()

    def _run(self, chain: Chain) -> None:
        try:
            while True:
                self.stream.wake.wait(self.options.write_interval_s)
                if self._chain is not chain or self._is_done.is_set():
                    return
                with self._io:
                    self._tick(chain)
        finally:
            if self._chain is chain:
                self._flusher = None

    def _tick(self, chain: Chain, *, sync: bool = False) -> None:
        """Do what is due: write, sync, finish."""
        if self._ticking is not None or self._is_done.is_set():
            return  # a finalizer or a signal handler in the middle of it, or one that comes after the end
        self._ticking = get_ident()
        try:
            self._do_what_is_due(chain, sync=sync)
        finally:
            self._ticking = None

    def _do_what_is_due(self, chain: Chain, *, sync: bool) -> None:
        self.stream.append_deferred()
        now = self._system.monotonic_s()
        waiting = chain.waiting_bytes
        sync = sync or self._wanted_seq > chain.synced.seq or waiting > self.options.ring_bytes // 2
        sync = sync or (waiting > 0 and now - self._last_sync_s >= self.options.sync_interval_s)
        if (waiting or sync) and chain.flush(sync=sync) and sync:
            self._last_sync_s = now
            self.stream.notify_waiting()
        if self._is_closing:
            self._finish(chain)

    # --- the end ------------------------------------------------------------------------

    def close(self, reason: str = "ended") -> bool:
        """Write, sync and seal what was appended; tell whether all of it is in segments.

        Called twice, the second call does nothing. Waits for the disk at most ``close_timeout_s``.
        """
        with self.stream.lock:
            if self._chain is None or self.stream.is_closed:
                self.stream.close()
                return True
        self._reason = reason
        self._deadline = self._system.monotonic_s() + self.options.close_timeout_s
        self._is_closing = True
        if self.stream.place() is None:  # in the middle of this thread's own append: the flusher waits for it
            self.stream.notify_flusher()
            return False
        self.stream.close()
        while not self._is_done.is_set() and self._system.monotonic_s() < self._deadline + LET_GO_S:
            self.stream.notify_flusher()
            if not self._is_done.wait(0.002):
                self._see_to_work()
        return self._report_end()

    _reason = "ended"
    _deadline = 0.0
    _is_whole = False

    def _finish(self, chain: Chain) -> None:
        self.stream.close()
        self._is_whole = chain.close(self._reason)
        if self._is_whole or self._system.monotonic_s() > self._deadline:
            if not self._is_whole:
                chain.abandon()
            self._is_done.set()
            self.stream.notify_flusher()  # whose thread goes now, not at its next look

    def _report_end(self) -> bool:
        chain = self._chain
        assert chain is not None
        what = []
        if not self._is_whole:
            where = chain.ring_path
            kept = (
                f"They are kept in {where}; `evlog verify` moves them into the log."
                if where
                else "They are lost."
            )
            what.append(f"{chain.waiting_bytes} bytes of events could not be written. {kept}")
        if lost := sum(self.stream.dropped.values()):
            what.append(f"{lost} events were dropped, and the log could not take a note of it.")
        if what and self._strict:
            raise DurabilityError(log_directory(self.run), " ".join(what))
        if what:
            warn_once(f"end {self.run}", f"run {self.run_id}: {' '.join(what)}")
        return not what

    # --- fork ---------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Become a new writer, which opens its own log at its first append; write nothing."""
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.abandon()
        is_closed = self.stream.is_closed
        self._forked_from, self.writer = self.writer, None
        self.stream.reset_after_fork()
        if is_closed:
            self.stream.close()
        self._io = threading.RLock()
        self._is_done = threading.Event()
        self._is_closing = False
        self._flusher = None
        self._ticking = None
        self._wanted_seq = 0
