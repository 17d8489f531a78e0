"""The right to deliver, on a simulated machine: one process has it, whatever happens at any call."""

from __future__ import annotations

import errno
from weakref import WeakSet

import pytest

from eventlog.delivery import lease as leases
from eventlog.delivery.lease import STALE_S, Lease, acquire, beat_once, holder_of
from eventlog.errors import EvlogError, LeaseHeldError, LeaseLostError
from tests.simos.disk import Disk
from tests.simos.faults import Fault, Injector
from tests.simos.system import Killed, SimSystem
from tests.simos.test_exhaustive import ERRORS
from tests.simos.world import LEDGER

STEM = LEDGER.with_suffix("")
PAST = ["nobody", "dead", "silent"]
"""Who had the lease before: nobody, a process that was killed, one on another machine that is silent."""


@pytest.fixture(autouse=True)
def no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread touch simulated files: the beat comes when a test says so."""
    monkeypatch.setattr(leases, "_held", WeakSet())
    monkeypatch.setattr(leases, "_left", set())
    monkeypatch.setattr(leases, "_going", set())
    monkeypatch.setattr(leases, "_keep_alive", leases._held.add)


def begin(past: str) -> Disk:
    """Return a disk with the past of a lease."""
    disk = Disk()
    if past != "nobody":
        system = SimSystem(disk, host="here" if past == "dead" else "there")
        acquire(STEM, system)
        system.die()
        disk.advance(STALE_S + 1 if past == "silent" else 1.0)
    return disk


def calls_of_acquire(past: str) -> range:
    """Return the numbers of all calls of taking the lease."""
    system = SimSystem(begin(past))
    acquire(STEM, system)
    return range(1, len(system.calls) + 1)


def attempt(system: SimSystem) -> Lease | None:
    """Try to take the lease; None if that failed or the process was killed."""
    try:
        return acquire(STEM, system)
    except (EvlogError, OSError, Killed):
        return None


def meet(first: SimSystem, other: SimSystem, at: int) -> list[Lease | None]:
    """Let *other* try from beginning to end while *first* is at call *at* of its own try."""
    found = []

    def come(_: object) -> None:
        if len(first.calls) == at:
            first.at_call = None
            found.append(attempt(other))

    first.at_call = come
    return [attempt(first), *found]


def is_held(lease: Lease | None) -> bool:
    """Tell whether *lease* is held; a holder looks before each save."""
    try:
        if lease is not None:
            lease.check()
    except (LeaseLostError, Killed):
        return False
    return lease is not None


@pytest.mark.parametrize("past", PAST)
@pytest.mark.parametrize("host", ["here", "there"])
def test_lease_has_one_holder_whoever_comes_at_any_call(past: str, host: str) -> None:
    """While one process is at any call, another one tries from beginning to end."""
    for at in calls_of_acquire(past):
        disk = begin(past)
        found = meet(SimSystem(disk), SimSystem(disk, host=host), at)

        assert sum(map(is_held, found)) == 1, f"at call {at}"


@pytest.mark.parametrize("past", PAST)
def test_lease_of_a_process_killed_at_any_call_blocks_nobody(past: str) -> None:
    """The next one on its machine has it at once, on another machine after a minute."""
    for at in calls_of_acquire(past):
        for host in ("here", "there"):
            disk = begin(past)
            dying = SimSystem(disk)
            Injector(dying, Fault("kill", at))
            attempt(dying)
            dying.die()
            disk.advance(STALE_S + 1 if host == "there" else 0.0)

            assert is_held(attempt(SimSystem(disk, host=host))), f"killed at {at}, then from {host}"


@pytest.mark.parametrize("past", PAST)
@pytest.mark.parametrize("kind", ERRORS)
def test_lease_that_a_failing_call_has_cost_is_free(past: str, kind: str) -> None:
    """Who did not get it does not have it: the same process gets it as soon as the disk works again."""
    for at in calls_of_acquire(past):
        disk = begin(past)
        system = SimSystem(disk)
        Injector(system, Fault(kind, at))
        lease = attempt(system)
        system.at_call = None

        if lease is None:
            lease = attempt(system)
        assert is_held(lease), f"{kind} at {at}"
        with pytest.raises(LeaseHeldError):
            acquire(STEM, SimSystem(disk))


def test_lease_that_cannot_be_given_back_is_free() -> None:
    """Its own process has it at once, another one as soon as the disk works again: its holder lives on."""
    for at in range(1, 10):
        for is_own in (True, False):
            disk = begin("nobody")
            system = SimSystem(disk)
            lease = acquire(STEM, system)
            with pytest.raises(LeaseHeldError):
                acquire(STEM, system)
            fail_at(system, len(system.calls) + at)
            lease.release()
            system.at_call = None

            if not is_own:
                beat_once()

            heir = attempt(system if is_own else SimSystem(disk))
            assert is_held(heir), f"at {at}"


@pytest.mark.parametrize("who", ["thread", "process", "host"])
def test_lease_that_goes_takes_no_other_with_it(who: str) -> None:
    """While it is given back, at any call, others take the lease, give it back and take it again."""
    disk = begin("nobody")
    for at in range(1, 10):
        system = SimSystem(disk)
        other = system if who == "thread" else SimSystem(disk, host="there" if who == "host" else "here")
        lease = acquire(STEM, system)
        heirs = come_and_go(system, other, len(system.calls) + at)
        lease.release()

        assert all(map(is_held, heirs)), f"at {at}"
        for heir in heirs:
            heir.release()
        assert holder_of(STEM, SimSystem(disk)) is None


def come_and_go(system: SimSystem, other: SimSystem, at: int) -> list[Lease]:
    """Let *other* take the lease, go and take it again while *system* is at call *at*; return what it has."""
    heirs: list[Lease] = []

    def come(_: object) -> None:
        if len(system.calls) != at:
            return
        system.at_call = None
        first = attempt(other)
        if first is not None:
            first.release()
        heirs.extend(lease for lease in [attempt(other)] if lease is not None)

    system.at_call = come
    return heirs


def fail_at(system: SimSystem, at: int) -> None:
    """Let call *at* fail, also if it changes nothing: a network file system fails at any."""

    def fail(_: object) -> None:
        if len(system.calls) == at:
            raise OSError(errno.ESTALE, "stale")

    system.at_call = fail


def test_lease_is_lost_to_the_one_who_came_while_its_holder_slept() -> None:
    """A machine that was suspended for longer than a minute finds out before its next save."""
    disk = begin("nobody")
    sleeper = acquire(STEM, SimSystem(disk))
    disk.advance(STALE_S + 1)
    heir = acquire(STEM, SimSystem(disk, host="there"))

    assert [is_held(sleeper), is_held(heir)] == [False, True]
    sleeper.release()
    assert is_held(heir)
