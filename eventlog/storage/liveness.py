"""Tells whether a writer lives, from here.

Where locks are kept by this machine's kernel, the lock of the ring tells everything. A network file system
may show a ring that another host has open without showing its lock; there only the process itself is proof,
and that can be asked only on its own machine. What cannot be asked counts as alive until it was silent for
long, and is never recovered from here.
"""

from __future__ import annotations

from pathlib import Path

from eventlog.events import SegmentOpened
from eventlog.storage.layout import is_network_file_system, list_rings, list_segments
from eventlog.storage.processes import Process
from eventlog.storage.system import SYSTEM, System

# A writer that cannot be asked gives no sign but its files: this long it counts as alive.
SILENCE_S = 600.0


def is_alive(
    log_dir: Path, writer: str, header: SegmentOpened | None, *, is_sealed: bool, system: System = SYSTEM
) -> bool:
    """Tell whether *writer* may still append.

    Args:
        header: of its newest segment.
        is_sealed: whether that segment is sealed.
    """
    rings = list_rings(log_dir, system).get(writer, [])
    if any(is_locked(name.ring_path(log_dir), system) for name in rings):
        return True
    if rings:
        return is_network_file_system(log_dir, system) and may_live(log_dir, writer, header, system)
    if header is None or is_sealed or header.ring is None or header.ring.kind == "file":
        return False
    return may_live(log_dir, writer, header, system)


def may_live(log_dir: Path, writer: str, header: SegmentOpened | None, system: System) -> bool:
    """Tell whether *writer*, whose lock says nothing here, is there or was a short while ago."""
    running = is_running(header, system)
    if running is not None:
        return running
    segments = list_segments(log_dir, system).get(writer, [])
    rings = list_rings(log_dir, system).get(writer, [])
    paths = [name.path(log_dir) for name in segments] + [name.ring_path(log_dir) for name in rings]
    return any(silence_s(path, system) < SILENCE_S for path in paths)


def is_running(header: SegmentOpened | None, system: System) -> bool | None:
    """Tell whether the process that *header* names is there; None if that cannot be known from here."""
    if header is None or not header.host:
        return None
    return system.is_running(Process(header.host, header.pid, header.pid_started))


def is_locked(path: Path, system: System) -> bool:
    """Tell whether a writer, or somebody who recovers it, holds *path*. Takes a shared lock for a moment."""
    try:
        return system.is_locked(path)
    except FileNotFoundError:
        return False
    except OSError:
        return silence_s(path, system) < SILENCE_S  # somebody else's run: go by its age


def silence_s(path: Path, system: System) -> float:
    """Return for how long *path* was not written to; for ever if it is gone."""
    try:
        return system.now_ns() / 1e9 - system.stat(path).modified_s
    except FileNotFoundError:
        return float("inf")
