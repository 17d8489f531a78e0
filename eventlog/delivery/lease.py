"""The right to deliver one run to one destination, which one process has at a time, on all hosts.

A lease is a file ``<name>.lock.<n>``, made by a link, which also network file systems keep atomic. Its
holder touches it every ten seconds. Whoever finds one whose holder is dead makes number n + 1: of several who
try, one succeeds. A holder that was only asleep finds the higher number before its next save, and stops.

A holder on this machine is dead if its process is gone (a reused pid is noticed by its start). One on another
machine is dead if its file was not touched for a minute by the file server's clock: both times come from
there, so the clocks of the machines need not agree.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.clock import chance
from eventlog.errors import DurabilityError, LeaseHeldError, LeaseLostError
from eventlog.storage.layout import list_names
from eventlog.storage.system import host_name
from eventlog.storage.writer import process_start

BEAT_S = 10.0
STALE_S = 60.0
TRIES = 5
PATIENCE = 40


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease. *machine* tells boots and containers apart, *nonce* two leases of one process."""

    host: str
    machine: str
    pid: int
    pid_started: str
    nonce: str


class _Found(NamedTuple):
    """A lease's file as it was seen; another file of the same name is another lease."""

    number: int
    path: Path
    inode: int
    holder: Holder | None


class Lease:
    """A lease that is held until `release`; a process that dies gives it back too.

    A forked child has no part in it.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path, self.holder = path, holder
        self._checked_at = _awake_s()

    @property
    def _is_ours(self) -> bool:
        return self.holder.pid == os.getpid()

    def check(self) -> None:
        """Make sure that nobody has taken over while this process slept.

        Raises:
            LeaseLostError: somebody has.
        """
        number = _number(self.path.name)
        for _ in range(PATIENCE):
            if not self._is_ours or _read(self.path) != self.holder:
                break
            if not any(n > number for n, _ in _leases(_stem(self.path))):
                self._checked_at = _awake_s()
                return
            # Somebody takes over, or has looked too early and is about to step back.
            time.sleep(0.005)
        raise LeaseLostError(self.path)

    def check_if_slept(self) -> None:
        """Do as `check` does, unless that was so shortly ago that nobody can have taken over since.

        Raises:
            LeaseLostError: somebody has.
        """
        if not self._is_ours or _awake_s() - self._checked_at > STALE_S / 3:
            self.check()

    def beat(self) -> None:
        """Show that the holder lives."""
        # The file server's clock, not ours. A file that is gone is noticed by `check`.
        with contextlib.suppress(OSError):
            if self._is_ours:
                os.utime(self.path)

    def release(self) -> None:
        """Give it back; doing so twice is no error."""
        with _beating_lock:
            _held.discard(self)
        if self._is_ours and _read(self.path) == self.holder:
            with contextlib.suppress(OSError):
                self.path.unlink()


def _awake_s() -> float:
    """Return seconds of a clock that goes on while the machine is suspended, where there is one."""
    if sys.platform != "linux":
        return time.monotonic()
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def acquire(stem: Path) -> Lease:
    """Return the lease of *stem*, a path without the ending.

    Raises:
        LeaseHeldError: somebody else has it.
        OSError: no file can be made there.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(_MetAnotherError):
            return _acquire(stem)
        # Both have stepped back. Not the same wait for both, or they meet again.
        time.sleep(0.001 + 0.019 * chance())
    return _acquire(stem)


class _MetAnotherError(LeaseHeldError):
    """Somebody else tried at the same moment, and nobody has it now."""


def _acquire(stem: Path) -> Lease:
    dead = _dead_or_raise(stem)
    path = stem.with_name(f"{stem.name}.lock.{max((one.number for one in dead), default=0) + 1}")
    holder = Holder(
        host=host_name(),
        machine=_machine(),
        pid=os.getpid(),
        pid_started=process_start(os.getpid()) or "",
        nonce=os.urandom(6).hex(),
    )
    _create(path, holder)
    # Somebody may have begun at another number between our look and our file, or at the number of one that
    # we saw dead: then neither is sure, and this one steps back.
    others = [path_of for _, path_of in _leases(stem) if path_of != path and _look(path_of) not in dead]
    if others or _read(path) != holder:
        if _read(path) == holder:
            path.unlink(missing_ok=True)
        met = others[0] if others else path
        raise _MetAnotherError(met, _describe(_read(met)))
    _remove(dead)
    lease = Lease(path, holder)
    _keep_alive(lease)
    return lease


def _create(path: Path, holder: Holder) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, msgspec.json.encode(holder))
    except OSError as error:
        # Not there: the new holder has tidied up before it was linked.
        if isinstance(error, (FileExistsError, FileNotFoundError)) and path.parent.is_dir():
            raise _MetAnotherError(path, _describe(_read(path))) from None
        raise DurabilityError(
            path.parent,
            f"what was delivered is kept there, and nothing can be written ({error.strerror or error}). Get "
            "the right to write to the run's directory, or deliver a copy of it",
        ) from error


def _write_new(path: Path, data: bytes) -> None:
    """Make *path* appear with all of *data*: one that is empty would keep everybody away for a minute."""
    young = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        _write_exclusively(young, data)
        try:
            os.link(young, path)
        except FileExistsError:
            # A network file system may have done it and lost the answer.
            if young.stat().st_nlink != 2:
                raise
        except FileNotFoundError:
            raise
        except OSError:
            _write_exclusively(path, data)  # it knows no links
    finally:
        young.unlink(missing_ok=True)


def _write_exclusively(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        os.write(fd, data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def _remove(dead: Sequence[_Found]) -> None:
    for one in dead:
        # Those of somebody else stay if they have to: they are dead, and their numbers are lower.
        with contextlib.suppress(OSError):
            if _look(one.path) == one:
                one.path.unlink(missing_ok=True)


def holder_of(stem: Path) -> str | None:
    """Return who holds the lease of *stem*, in words, or None."""
    for _, path in reversed(_leases(stem)):
        found = _look(path)
        if found is not None and not _is_dead(found):
            return _describe(found.holder)
    return None


def _dead_or_raise(stem: Path) -> list[_Found]:
    dead = []
    for _, path in _leases(stem):
        found = _look(path)
        if found is None:
            continue  # given back at this moment
        if not _is_dead(found):
            is_still_there = _look(path) == found
            raise (LeaseHeldError if is_still_there else _MetAnotherError)(path, _describe(found.holder))
        dead.append(found)
    return dead


def _look(path: Path) -> _Found | None:
    try:
        return _Found(_number(path.name), path, path.stat().st_ino, _read(path))
    except FileNotFoundError:
        return None


def _leases(stem: Path) -> list[tuple[int, Path]]:
    prefix = f"{stem.name}.lock."
    names = [name for name in list_names(stem.parent) if name.startswith(prefix)]
    return sorted((_number(name), stem.parent / name) for name in names if name[len(prefix) :].isdigit())


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])


def _stem(path: Path) -> Path:
    return path.with_name(path.name.rpartition(".lock.")[0])


def _read(path: Path) -> Holder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None  # being made at this moment, or given back


def _is_dead(found: _Found) -> bool:
    holder = found.holder
    if holder is not None and (holder.host, holder.machine) == (host_name(), _machine()):
        started = process_start(holder.pid)
        if started is not None or not _may_be_hidden(holder.pid):
            return started != holder.pid_started
    return _silence_s(found.path) > STALE_S


def _may_be_hidden(pid: int) -> bool:
    """Tell whether a process is there of which the system shows nothing: of another user, with hidepid."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False  # ours to see: then it is a zombie


def _silence_s(path: Path) -> float:
    """Return for how long *path* was not touched, by the clock of its file system; 0 if it is gone."""
    probe = path.with_name(f".{path.name}.{os.urandom(4).hex()}.now")
    try:
        probe.write_bytes(b"")
        now = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
    except OSError:
        now = time.time()  # somebody else's run: nothing can be made there, and only a look is wanted
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _describe(holder: Holder | None) -> str:
    return f"process {holder.pid} on {holder.host}" if holder else "another process"


def _machine() -> str:
    """Return what tells this boot and this space of process ids from all others."""
    boot = pids = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        pids = str(Path("/proc/self/ns/pid").readlink())
    return f"{boot} {pids}".strip()


# --- the beat: one thread for all leases of the process ----------------------------------------------

_held: weakref.WeakSet[Lease] = weakref.WeakSet()
_beating: threading.Thread | None = None
_beating_lock = threading.Lock()


def _keep_alive(lease: Lease) -> None:
    global _beating
    with _beating_lock:
        _held.add(lease)
        if _beating is None or not _beating.is_alive():
            _beating = threading.Thread(target=_beat_all, name="evlog-lease", daemon=True)
            _beating.start()


def _beat_all() -> None:
    pause = threading.Event()
    while not pause.wait(BEAT_S):
        beat_once()


def beat_once() -> None:
    """Show for all leases of this process that their holder lives."""
    with _beating_lock:
        leases = list(_held)
    for lease in leases:
        lease.beat()


def _begin_anew_in_child() -> None:
    """Forget what the parent holds, and a lock that another thread of it may have had."""
    global _held, _beating, _beating_lock
    _held, _beating, _beating_lock = weakref.WeakSet(), None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
