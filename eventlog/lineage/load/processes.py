"""The load of a process with all that it started, and of the machine, or container, that it runs on."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

import psutil

CGROUPS = Path("/sys/fs/cgroup")
Values = dict[str, int | float | str]


class _Seen(NamedTuple):
    """What one process had used when it was looked at last."""

    cpu_s: float
    read_bytes: int
    write_bytes: int


class ProcessTree:
    """This process and all that it started. For one thread.

    A process that began after this object counts from its beginning, others from the first reading.

    Args:
        with_children: of a rank that shares its host the others are measured by another.
        with_self: False if only what it started counts.
    """

    def __init__(self, *, with_children: bool = True, with_self: bool = True) -> None:
        self._root = psutil.Process()
        self._with_children, self._with_self = with_children, with_self
        self._since = time.time()
        self._seen: dict[tuple[int, float], _Seen] = {}
        self._at_s: float | None = None
        self._read_bytes = self._write_bytes = 0
        self._has_disk = True

    def read(self) -> Values:
        """Return CPU and memory; the first reading has no CPU, for it has no time that it is of."""
        found: dict[tuple[int, float], _Seen] = {}
        cpu_s, rss = 0.0, 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                key = process.pid, process.create_time()
                seen = self._look(process)
                is_new = key not in self._seen and key[1] >= self._since
                before = self._seen.get(key, _Seen(0.0, 0, 0) if is_new else seen)
                cpu_s += seen.cpu_s - before.cpu_s
                self._read_bytes += seen.read_bytes - before.read_bytes
                self._write_bytes += seen.write_bytes - before.write_bytes
                rss += process.memory_info().rss
                found[key] = seen
        now_s, last_s = time.monotonic(), self._at_s
        self._seen, self._at_s = found, now_s
        values: Values = {"memory/rss_bytes": rss} if found else {}
        if last_s is not None and now_s > last_s:
            values["cpu/percent"] = round(100 * cpu_s / (now_s - last_s), 2)
        return values

    def read_disk(self) -> Values:
        """Return what was read and written until the last `read`."""
        if not self._has_disk:
            raise psutil.AccessDenied(self._root.pid)
        return {"disk/read_bytes": self._read_bytes, "disk/write_bytes": self._write_bytes}

    def _processes(self) -> list[psutil.Process]:
        children: list[psutil.Process] = []
        if self._with_children:
            with contextlib.suppress(psutil.NoSuchProcess):
                children = self._root.children(recursive=True)
        return [self._root, *children] if self._with_self else children

    def _look(self, process: psutil.Process) -> _Seen:
        times = process.cpu_times()
        read = written = 0
        if self._has_disk:
            try:
                counters = process.io_counters()
                read, written = counters.read_bytes, counters.write_bytes
            except (AttributeError, NotImplementedError, psutil.AccessDenied):
                # Not on every system; a child that runs as somebody else is not ours to look into.
                self._has_disk = process.pid != self._root.pid
        return _Seen(times.user + times.system, read, written)


class Network:
    """What this machine sent and received since the first reading, but to itself."""

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None

    def read(self) -> Values:
        """Return the bytes sent and received."""
        cards = psutil.net_io_counters(pernic=True)
        others = [card for name, card in cards.items() if not name.startswith("lo")]
        now = sum(card.bytes_sent for card in others), sum(card.bytes_recv for card in others)
        first = self._first = self._first or now
        return {
            "network/sent_bytes": max(0, now[0] - first[0]),
            "network/received_bytes": max(0, now[1] - first[1]),
        }


def memory() -> Values:
    """Return the memory in use: of this container, if it has a limit, else of the machine."""
    machine = psutil.virtual_memory()
    bounded = container_memory(machine.total)
    used, total = bounded or (machine.total - machine.available, machine.total)
    return {"memory/used_bytes": used, "memory/percent": round(100 * used / total, 2)}


def container_memory(
    machine_bytes: int, cgroups: Path = CGROUPS, own: str | None = None
) -> tuple[int, int] | None:
    """Return used and limit, in bytes, of the control group that this process is in.

    Args:
        own: what ``/proc/self/cgroup`` says, for tests.

    Returns:
        None if there is no limit below that of the machine, or it cannot be read.

    Source: Linux, ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
    """
    try:
        lines = (Path("/proc/self/cgroup").read_text() if own is None else own).splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds not in ("", "memory"):
            continue
        names = ("memory.max", "memory.current", "inactive_file")
        top = cgroups
        if kinds:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = cgroups / "memory"
        # In a container its own group is the top one, whatever the path says.
        for group in (top / path.lstrip("/"), top):
            with contextlib.suppress(OSError, ValueError):
                limit = int((group / names[0]).read_text())
                if 0 < limit < machine_bytes:
                    used = int((group / names[1]).read_text()) - _cached(group, names[2])
                    return max(0, used), limit
    return None


def _cached(group: Path, name: str) -> int:
    """Return the bytes of files that the system would give back; they count as used in the group."""
    for line in (group / "memory.stat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
