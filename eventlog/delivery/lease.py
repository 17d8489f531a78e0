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
from eventlog.storage.files import make_directories, read_file
from eventlog.storage.layout import list_names
from eventlog.storage.processes import Process
from eventlog.storage.system import SYSTEM, System, write_all

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

    def __init__(self, path: Path, holder: Holder, system: System = SYSTEM) -> None:
        self.path, self.holder = path, holder
        self._system, self._pid = system, os.getpid()
        self._checked_at = _awake_s()

    @property
    def _is_ours(self) -> bool:
        return self._pid == os.getpid()

    def check(self) -> None:
        """Make sure that nobody has taken over while this process slept.

        Raises:
            LeaseLostError: somebody has.
        """
        number = _number(self.path.name)
        for _ in range(PATIENCE):
            if not self._is_ours or _read(self.path, self._system) != self.holder:
                break
            if not any(n > number for n, _ in _leases(_stem(self.path), self._system)):
                self._checked_at = _awake_s()
                return
            # Somebody takes over, or has looked too early and is about to step back.
            self._system.sleep(0.005)
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
                self._system.touch(self.path)

    def release(self) -> None:
        """Give it back; doing so twice is no error."""
        if self._is_ours:
            _give_back(self)

    def remove(self) -> bool:
        """Remove the file, unless it is somebody else's by now; return whether that could be done."""
        try:
            if msgspec.json.decode(read_file(self.path, self._system), type=Holder) == self.holder:
                self._system.unlink(self.path)
        except (FileNotFoundError, msgspec.MsgspecError):
            pass
        except OSError:
            return False
        return True


def _awake_s() -> float:
    """Return seconds of a clock that goes on while the machine is suspended, where there is one."""
    if sys.platform != "linux":
        return time.monotonic()
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def acquire(stem: Path, system: System = SYSTEM) -> Lease:
    """Return the lease of *stem*, a path without the ending.

    Raises:
        LeaseHeldError: somebody else has it.
        OSError: no file can be made there.
    """
    _give_back_left(stem)
    for _ in range(TRIES - 1):
        with contextlib.suppress(_MetAnotherError):
            return _acquire(stem, system)
        # Both have stepped back. Not the same wait for both, or they meet again.
        system.sleep(0.001 + 0.019 * chance())
    return _acquire(stem, system)


class _MetAnotherError(LeaseHeldError):
    """Somebody else tried at the same moment, and nobody has it now."""


def _acquire(stem: Path, system: System) -> Lease:
    dead = _dead_or_raise(stem, system)
    path = stem.with_name(f"{stem.name}.lock.{max((one.number for one in dead), default=0) + 1}")
    lease = Lease(path, _this_holder(system), system)
    # Before its file is there: one of this process that nobody keeps alive is dead.
    _keep_alive(lease)
    try:
        _create(path, lease.holder, system)
        # Somebody may have begun at another number between our look and our file, or at the number of one
        # that we saw dead: then neither is sure, and this one steps back.
        leases = (path_of for _, path_of in _leases(stem, system) if path_of != path)
        others = [path_of for path_of in leases if _look(path_of, system) not in dead]
        if others or _read(path, system) != lease.holder:
            met = others[0] if others else path
            raise _MetAnotherError(met, _describe(_read(met, system)))
        _remove(dead, system)
    except BaseException:
        lease.release()
        raise
    return lease


def _this_holder(system: System) -> Holder:
    host, pid, started = system.this_process()
    ticks, _, machine = started.partition("@")
    return Holder(host=host, machine=machine, pid=pid, pid_started=ticks, nonce=os.urandom(6).hex())


def _create(path: Path, holder: Holder, system: System) -> None:
    try:
        make_directories(path.parent, system)
        _write_new(path, msgspec.json.encode(holder), system)
    except OSError as error:
        # Not there: the new holder has tidied up before it was linked.
        if isinstance(error, (FileExistsError, FileNotFoundError)) and _is_directory(path.parent, system):
            raise _MetAnotherError(path, _describe(_read(path, system))) from None
        raise DurabilityError(
            path.parent,
            f"what was delivered is kept there, and nothing can be written ({error.strerror or error}). Get "
            "the right to write to the run's directory, or deliver a copy of it",
        ) from error


def _is_directory(path: Path, system: System) -> bool:
    with contextlib.suppress(OSError):
        system.list_directory(path)
        return True
    return False


def _write_new(path: Path, data: bytes, system: System) -> None:
    """Make *path* appear with all of *data*: one that is empty would keep everybody away for a minute."""
    young = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        _write_exclusively(young, data, system)
        try:
            system.link(young, path)
        except FileExistsError:
            # A network file system may have done it and lost the answer.
            if read_file(path, system) != data:
                raise
        except FileNotFoundError:
            raise
        except OSError:
            _write_exclusively(path, data, system)  # it knows no links
    finally:
        # One that cannot be removed hurts nobody: it goes when the next holder tidies up.
        with contextlib.suppress(OSError):
            system.unlink(young)


def _write_exclusively(path: Path, data: bytes, system: System) -> None:
    fd = system.create(path)
    try:
        write_all(system, fd, data)
    except BaseException:
        system.unlink(path)
        raise
    finally:
        system.close(fd)


def _remove(dead: Sequence[_Found], system: System) -> None:
    for one in dead:
        # Those of somebody else stay if they have to: they are dead, and their numbers are lower.
        with contextlib.suppress(OSError):
            if _look(one.path, system) == one:
                system.unlink(one.path)


def holder_of(stem: Path, system: System = SYSTEM) -> str | None:
    """Return who holds the lease of *stem*, in words, or None."""
    for _, path in reversed(_leases(stem, system)):
        found = _look(path, system)
        if found is not None and not _is_dead(found, system):
            return _describe(found.holder)
    return None


def _dead_or_raise(stem: Path, system: System) -> list[_Found]:
    dead = []
    for _, path in _leases(stem, system):
        found = _look(path, system)
        if found is None:
            continue  # given back at this moment
        if not _is_dead(found, system):
            is_still_there = _look(path, system) == found
            raise (LeaseHeldError if is_still_there else _MetAnotherError)(path, _describe(found.holder))
        dead.append(found)
    return dead


def _look(path: Path, system: System) -> _Found | None:
    try:
        return _Found(_number(path.name), path, system.stat(path).inode, _read(path, system))
    except FileNotFoundError:
        return None


def _leases(stem: Path, system: System) -> list[tuple[int, Path]]:
    prefix = f"{stem.name}.lock."
    names = [name for name in list_names(stem.parent, system) if name.startswith(prefix)]
    return sorted((_number(name), stem.parent / name) for name in names if name[len(prefix) :].isdigit())


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])


def _stem(path: Path) -> Path:
    return path.with_name(path.name.rpartition(".lock.")[0])


def _read(path: Path, system: System) -> Holder | None:
    try:
        return msgspec.json.decode(read_file(path, system), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None  # being made at this moment, or given back


def _is_dead(found: _Found, system: System) -> bool:
    one = found.holder
    if one is not None:
        process = Process(one.host, one.pid, f"{one.pid_started}@{one.machine}")
        if process == system.this_process():
            with _beating_lock:
                return all(lease.holder != one for lease in _held)
        running = system.is_running(process)
        if running is not None:
            return not running
    return _silence_s(found.path, system) > STALE_S


def _silence_s(path: Path, system: System) -> float:
    """Return for how long *path* was not touched, by the clock of its file system; 0 if it is gone."""
    probe = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        system.close(system.create(probe))
        now_s = system.stat(probe).modified_s
        system.unlink(probe)
    except OSError:
        now_s = system.now_ns() / 1e9  # somebody else's run: nothing can be made there, only a look is wanted
    try:
        return now_s - system.stat(path).modified_s
    except FileNotFoundError:
        return 0.0


def _describe(holder: Holder | None) -> str:
    return f"process {holder.pid} on {holder.host}" if holder else "another process"


# --- the beat: one thread for all leases of the process ----------------------------------------------

_held: weakref.WeakSet[Lease] = weakref.WeakSet()
_left: set[Lease] = set()  # of those: given back, and their files could not be removed
_going: set[Lease] = set()  # of those: a thread removes their files now
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
    """Show for all leases of this process that their holder lives; remove what is left of others."""
    with _beating_lock:
        leases = [lease for lease in _held if lease not in _left]
    for lease in leases:
        lease.beat()
    _give_back_left()


def _give_back_left(stem: Path | None = None) -> None:
    with _beating_lock:
        left = [lease for lease in _left if stem in (None, _stem(lease.path))]
    for lease in left:
        _give_back(lease)


def _give_back(lease: Lease) -> None:
    """Remove the file of *lease*. It is held until the file is gone, and one thread does it.

    Else another thread takes it for dead, removes the file itself and gives back its own lease; a third one
    makes a file of the same name; and that is the one that we would remove.
    """
    with _beating_lock:
        if lease not in _held or lease in _going:
            return
        _going.add(lease)
    is_left = False
    try:
        is_left = not lease.remove()
    finally:
        with _beating_lock:
            _going.discard(lease)
            _left.discard(lease)
            (_left.add if is_left else _held.discard)(lease)


def _begin_anew_in_child() -> None:
    """Forget what the parent holds, and a lock that another thread of it may have had."""
    global _held, _left, _going, _beating, _beating_lock
    _held, _left, _going, _beating, _beating_lock = weakref.WeakSet(), set(), set(), None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
