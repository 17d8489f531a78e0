"""One process at a time has a lease, whatever the others do."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.delivery import lease as leases
from eventlog.delivery.delivery import Delivery
from eventlog.delivery.lease import STALE_S, Holder, acquire, beat_once, holder_of
from eventlog.delivery.ledger import ledger_path
from eventlog.errors import DurabilityError, LeaseHeldError, LeaseLostError
from eventlog.sink import Batch, Traits
from eventlog.storage import processes
from eventlog.storage.system import SYSTEM, System
from tests.delivery.fakes import KeyedSink, Store, assert_delivered_once, deliver, finished, put_log
from tests.waiting import wait_until

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    """Return what a lease is for."""
    return tmp_path / "sinks" / "fake"


def put_lease(stem: Path, number: int = 1, *, age_s: float = 0.0, **fields: Any) -> Path:
    """Write a lease as another process would, touched *age_s* ago."""
    own = {"host": "elsewhere", "machine": "m", "pid": 1, "pid_started": "1", "nonce": "n"}
    path = stem.with_name(f"{stem.name}.lock.{number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(msgspec.convert(own | fields, Holder)))
    age(path, age_s)
    return path


def age(path: Path, age_s: float) -> None:
    """Make *path* as if nobody had touched it for so long."""
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))


def here(pid: int, started: str) -> dict[str, Any]:
    """Return the fields of a holder on this machine."""
    host, _, mine = processes.this_process()
    return {"host": host, "machine": mine.partition("@")[2], "pid": pid, "pid_started": started}


def locks(stem: Path) -> list[str]:
    """Return the files of leases."""
    return sorted(path.name for path in stem.parent.iterdir() if ".lock." in path.name)


def gone_pid() -> int:
    """Return the pid of a process that is dead."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_lease_is_held_until_it_is_given_back(stem: Path) -> None:
    """A second one is refused with the holder's name, also in the same process."""
    lease = acquire(stem)

    with pytest.raises(LeaseHeldError, match=f"process {os.getpid()} on {os.uname().nodename}"):
        acquire(stem)
    assert holder_of(stem) == f"process {os.getpid()} on {os.uname().nodename}"

    lease.release()
    assert holder_of(stem) is None
    acquire(stem).release()
    assert locks(stem) == []


def test_lease_may_be_given_back_twice(stem: Path) -> None:
    """The second time does nothing, also if somebody else has it by then."""
    first = acquire(stem)
    first.release()
    second = acquire(stem)

    first.release()

    second.check()
    second.release()


@pytest.mark.parametrize("started", ["1", ""])
def test_lease_of_a_dead_process_is_taken(stem: Path, started: str) -> None:
    """Its process is gone, or its pid belongs to another one now."""
    put_lease(stem, 3, **here(gone_pid() if started else os.getpid(), started))

    acquire(stem).check()

    assert locks(stem) == ["fake.lock.4"]


def test_lease_of_a_silent_host_is_taken(stem: Path) -> None:
    """What counts is the clock of the file system, not how long we looked."""
    put_lease(stem, age_s=STALE_S + 5)

    acquire(stem).check()


@pytest.mark.parametrize("age_s", [0.0, STALE_S - 5, -100.0])
def test_lease_of_another_host_is_respected(stem: Path, age_s: float) -> None:
    """While it is touched now and then; also if our clock is behind."""
    put_lease(stem, age_s=age_s)

    with pytest.raises(LeaseHeldError, match="process 1 on elsewhere"):
        acquire(stem)
    assert [path.name for path in stem.parent.iterdir()] == ["fake.lock.1"]


def test_lease_of_another_container_is_respected(stem: Path) -> None:
    """The same host and pid, but another space of pids: nobody can look there."""
    put_lease(stem, **here(gone_pid(), "1") | {"machine": "another boot"})

    with pytest.raises(LeaseHeldError):
        acquire(stem)


def test_lease_of_a_process_that_is_hidden_from_us_is_respected(
    stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a system shows other users' processes to nobody, theirs only count as dead when silent."""

    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    path = put_lease(stem, **here(gone_pid(), "1"))
    monkeypatch.setattr(os, "kill", forbidden)

    with pytest.raises(LeaseHeldError):
        acquire(stem)
    age(path, STALE_S + 5)
    acquire(stem).release()


@pytest.mark.parametrize("data", [b"", b"{", b"\0" * 100, b'{"host":1}'])
def test_lease_that_says_nothing_is_respected_until_it_is_old(stem: Path, data: bytes) -> None:
    """It may be being written; its writer may have died over it."""
    path = put_lease(stem)
    path.write_bytes(data)

    with pytest.raises(LeaseHeldError, match="another process"):
        acquire(stem)
    age(path, STALE_S + 5)
    acquire(stem).check()


def test_lease_that_was_taken_over_is_noticed(stem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that slept finds out, and its release leaves the new one alone."""
    sleeper = acquire(stem)
    age(sleeper.path, STALE_S + 5)
    monkeypatch.setattr(processes, "host_name", lambda: "another host")
    heir = acquire(stem)

    with pytest.raises(LeaseLostError):
        sleeper.check()
    sleeper.release()
    heir.check()
    heir.release()


def test_lease_is_not_lost_to_one_who_steps_back(stem: Path) -> None:
    """A higher number that is there for a moment belongs to somebody who looked too early."""
    lease = acquire(stem)
    other = put_lease(stem, 2)
    threading.Timer(0.02, other.unlink).start()

    lease.check()

    put_lease(stem, 2)
    with pytest.raises(LeaseLostError):
        lease.check()


def test_lease_is_kept_alive(stem: Path) -> None:
    """The beat touches it, and no other file that came in its place."""
    lease = acquire(stem)
    age(lease.path, STALE_S + 5)

    beat_once()

    assert leases._silence_s(lease.path, SYSTEM) < 5
    lease.release()
    beat_once()
    assert locks(stem) == []


def test_lease_whose_file_is_gone_is_lost(stem: Path) -> None:
    """Somebody removed it: others may be at it."""
    lease = acquire(stem)
    lease.path.unlink()

    with pytest.raises(LeaseLostError):
        lease.check()


def test_lease_is_not_taken_by_number(stem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 1 was dead when we looked and belongs to somebody living when we come: we step back."""
    put_lease(stem, **here(gone_pid(), "1"))
    others: list[leases.Lease] = []
    create = leases._create

    def create_late(path: Path, holder: Holder, system: System) -> None:
        if not others:
            monkeypatch.setattr(leases, "_create", create)
            acquire(stem).release()
            others.append(acquire(stem))
        create(path, holder, system)

    monkeypatch.setattr(leases, "_create", create_late)

    with pytest.raises(LeaseHeldError):
        acquire(stem)
    others[0].check()
    assert locks(stem) == [others[0].path.name] == ["fake.lock.1"]


def test_lease_where_nothing_can_be_written_says_what_to_do(stem: Path) -> None:
    """The directory is named."""
    stem.parent.parent.mkdir(exist_ok=True)
    stem.parent.write_bytes(b"")

    with pytest.raises(DurabilityError, match=r"sinks: .*deliver a copy"):
        acquire(stem)


def test_lease_that_cannot_be_written_leaves_nothing(stem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file would keep everybody away for a minute."""

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DurabilityError, match="No space"):
            acquire(stem)

    acquire(stem).release()


@pytest.mark.parametrize("name", ["open", "write", "link", "unlink"])
@pytest.mark.parametrize("at", [1, 2])
def test_lease_of_a_process_that_died_over_making_it_blocks_nobody(stem: Path, name: str, at: int) -> None:
    """Whatever it came to: the next one need not wait."""

    def child() -> None:
        real, calls = getattr(os, name), []

        def die(*args: object, **kwargs: object) -> object:
            calls.append(1)
            if len(calls) == at:
                os._exit(9)
            return real(*args, **kwargs)

        setattr(os, name, die)
        acquire(stem)
        os._exit(0)

    process = FORK.Process(target=child)
    process.start()
    process.join()

    acquire(stem).check()


def test_lease_is_made_where_there_are_no_links(stem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems know none."""

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)

    lease = acquire(stem)

    lease.check()
    with pytest.raises(LeaseHeldError):
        acquire(stem)
    lease.release()
    assert list(stem.parent.iterdir()) == []


def test_child_has_no_part_in_the_lease(stem: Path) -> None:
    """A fork neither holds it nor gives it back."""
    lease = acquire(stem)

    def child() -> None:
        with pytest.raises(LeaseLostError):
            lease.check()
        lease.release()
        assert not leases._held
        os._exit(7)

    process = FORK.Process(target=child)
    process.start()
    process.join()

    assert process.exitcode == 7
    lease.check()
    lease.release()


# --- many at once ---------------------------------------------------------------------------------------


def compete(stem: Path, witness: Path, seed: int, *, dies: bool) -> None:
    """Take the lease again and again; end with 3 if somebody else has it at the same time."""
    chance = random.Random(seed)
    for _ in range(400):
        try:
            lease = acquire(stem)
        except LeaseHeldError:
            continue
        try:
            os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            os._exit(3)
        lease.check()
        witness.unlink()
        if dies and chance.random() < 0.2:
            os._exit(9)
        lease.release()
    os._exit(0)


def test_lease_has_one_holder_among_many_processes(tmp_path: Path, stem: Path) -> None:
    """At any instant, although some die with it and others take it over: a file made with O_EXCL says so."""
    seeds = iter(range(10_000))

    def start(*, dies: bool) -> multiprocessing.process.BaseProcess:
        process = FORK.Process(
            target=compete, args=(stem, tmp_path / "witness", next(seeds)), kwargs={"dies": dies}
        )
        process.start()
        return process

    ends: list[int | None] = []
    running = [start(dies=True) for _ in range(4)]
    while running:
        process = running.pop(0)
        process.join()
        ends.append(process.exitcode)
        if len(ends) < 40:
            running.append(start(dies=True))

    assert 3 not in ends
    assert ends.count(9) > 10
    acquire(stem).release()


def test_lease_has_one_holder_among_many_threads(tmp_path: Path, stem: Path) -> None:
    """Threads of a process are as different as processes."""
    held, most, lock, taken = 0, 0, threading.Lock(), 0

    def work() -> None:
        nonlocal held, most, taken
        for _ in range(40):
            try:
                lease = acquire(stem)
            except LeaseHeldError:
                continue
            with lock:
                held += 1
                taken += 1
                most = max(most, held)
            lease.check()
            with lock:
                held -= 1
            lease.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1
    assert taken > 0


# --- the delivery that sleeps ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before_open", "before_write", "before_close"])
def test_delivery_that_slept_saves_nothing(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has delivered everything meanwhile; what it knows must not be undone."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    path = ledger_path(run, "fake", "d")
    sleeper = KeyedSink(store)
    after: list[bytes] = []

    def sleep(*_: object) -> None:
        if after:
            return
        (lock,) = path.parent.glob("*.lock.*")
        age(lock, STALE_S + 5)
        with monkeypatch.context() as patch:
            patch.setattr(processes, "host_name", lambda: "another host")
            deliver(run, KeyedSink(store))
        after.append(path.read_bytes())

    setattr(sleeper, where, sleep)

    with pytest.raises(LeaseLostError):
        deliver(run, sleeper)

    assert path.read_bytes() == after[0]
    assert_delivered_once(run, store)


def test_delivery_that_slept_sends_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sleep it looks before the next batch, for the other one may have cut the batches elsewhere."""
    run = tmp_path / "p" / "run"
    put_log(run, finished())
    sink = KeyedSink(Store(), traits=Traits(batch_events=5))

    def sleep(_: object) -> None:
        next(ledger_path(run, "fake", "d").parent.glob("*.lock.*")).unlink()
        later = leases._awake_s() + STALE_S
        monkeypatch.setattr(leases, "_awake_s", lambda: later)

    sink.before_write = sleep
    delivery = Delivery(run, sink, "fake", save_every_s=1e9)
    delivery.connect()

    with pytest.raises(LeaseLostError):
        delivery.pull()

    assert len(sink.batches) == 1
    delivery.release()


def test_delivery_by_two_threads_is_done_by_one(tmp_path: Path) -> None:
    """The other one is told that somebody is at it."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    sink, go, began, errors = KeyedSink(store), threading.Event(), threading.Event(), []

    def wait(_: Batch) -> None:
        began.set()
        go.wait(20)

    sink.before_write = wait
    thread = threading.Thread(target=lambda: deliver(run, sink))
    thread.start()
    wait_until(began.is_set, "the first has begun")
    try:
        deliver(run, KeyedSink(store))
    except LeaseHeldError as error:
        errors.append(str(error))
    go.set()
    thread.join()

    assert len(errors) == 1
    assert f"process {os.getpid()}" in errors[0]
    assert_delivered_once(run, store)
