"""Follows a run while it grows. Correctness comes from sizes and offsets, never from a notification."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from eventlog.replay import alive_writers
from eventlog.storage.layout import is_network_file_system, log_directory
from eventlog.storage.merge import RunReader, Slice
from eventlog.storage.repair import recover_run

POLL_S = 0.025


def follow(run: Path, *, stop: threading.Event | None = None, poll_s: float = POLL_S) -> Iterator[Slice]:
    """Yield the events of *run*, old and new, until it has ended or *stop* is set.

    An event is seen at most the writer's write interval and *poll_s* after its call.
    """
    stop = stop or threading.Event()
    recover_run(run)
    reader = RunReader(run, waits_on_nul=is_network_file_system(log_directory(run)))
    quiet = 0
    while not stop.is_set():
        seen = False
        for part in reader.slices():
            seen = True
            yield part
        quiet = 0 if seen else quiet + 1
        # Liveness costs a lock per writer: look once in a while, and read once more after the last sign.
        if quiet and quiet % 20 == 0 and not alive_writers(reader):
            recover_run(run)
            yield from reader.slices()
            return
        stop.wait(poll_s)
