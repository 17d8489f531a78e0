"""Names a process so that it is not mistaken for another one, of this machine or of any other."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process as the header of a segment names it.

    Attributes:
        started: when it began, in the system's own unit, then ``@`` and what tells this boot and this space
            of process ids from all others. Logs of before have no ``@``.
    """

    host: str
    pid: int
    started: str


def host_name() -> str:
    """Return the name of this machine."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def this_process() -> Process:
    """Return the process that asks."""
    pid = os.getpid()
    return Process(host_name(), pid, f"{process_start(pid) or ''}@{_machine()}")


def is_running(process: Process) -> bool | None:
    """Tell whether *process* is there; None if that cannot be known from here.

    Two machines may have one name, and two containers one machine: who is asked has to share boot and
    process ids with whom it is asked about.
    """
    if process.host != host_name():
        return None
    ticks, _, machine = process.started.partition("@")
    if machine and machine != _machine():
        return None
    started = process_start(process.pid)
    return None if started is None and _may_be_hidden(process.pid) else started == ticks


def _may_be_hidden(pid: int) -> bool:
    """Tell whether a process is there of which the system shows nothing: of another user, with hidepid."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        pass
    return False  # or it is ours to see: then it is a zombie


def process_start(pid: int) -> str | None:
    """Return when process *pid* began, in the system's own unit, or None if there is no such process.

    With it a pid that was given to another process is noticed. Empty where the system does not tell.
    """
    if not sys.platform.startswith("linux"):
        return "" if pid == os.getpid() else _exists(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        fields = stat[stat.rindex(")") + 2 :].split()
        return None if fields[0] in {"Z", "X"} else fields[19]
    except (OSError, ValueError, IndexError):
        return None


def _exists(pid: int) -> str | None:
    if sys.platform == "win32":
        return ""  # os.kill would end it there; a lock on the ring tells more
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""


@lru_cache(maxsize=1)  # a process never changes its machine, and a fork stays on it
def _machine() -> str:
    """Return 8 digits that differ between boots and between spaces of process ids."""
    told = ""
    with contextlib.suppress(OSError):
        told += Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        told += str(Path("/proc/self/ns/pid").readlink())
    return sha256(told.encode()).hexdigest()[:8]
