"""The power goes while a sink is fed and while the query cache is brought up to date.

What says how far they came, the ledger and the manifest, must be the old one or the new one, and what comes
of going on from there must be right.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import struct
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.delivery.ledger import Ledger, ledger_path, load_ledger
from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.errors import CheckpointError
from eventlog.events import Event, Metrics, Params, RunEnded, RunStarted
from eventlog.plugins import load_sink
from eventlog.query.catalog import cache_directory, load_manifest
from eventlog.storage.system import RealSystem
from tests.crash.deliveries import Destination
from tests.logs import LogMaker, put
from tests.query.histories import ask, fold
from tests.torture.devices import ApartError, Disk, FileSystem, apart, disk, sync_all

SINKS = {"local": None, "mirror": "to", "tensorboard": "log_dir", "csv": "to", "sqlite": "path"}
"""Sinks that write files, and the option that says where."""
LONGEST_DELIVERY_S, LONGEST_REFRESH_S = 0.06, 0.3
RUNS = 6
CUTS_A_DISK = 200
TABLES = ["runs", "metrics", "params"]


class Told(NamedTuple):
    """What came of some cuts."""

    cuts: int
    problems: list[str]


class _Noted:
    """A number that a child process tells us, as it was before the power went."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def set(self, number: int) -> None:
        self._memory[:8] = struct.pack("q", number)

    def get(self) -> int:
        return int(struct.unpack("q", self._memory[:8])[0])


def feed_sinks(file_system: FileSystem, seeds: list[str]) -> Told:
    """Cut the power while sinks are fed, once for each of *seeds*."""
    return _cut(file_system, seeds, _cut_delivery)


def refresh_cache(file_system: FileSystem, seeds: list[str]) -> Told:
    """Cut the power while the query cache is brought up to date, once for each of *seeds*."""
    return _cut(file_system, seeds, _cut_refresh)


CONSUMERS: dict[str, Callable[[FileSystem, list[str]], Told]] = {
    "delivery": feed_sinks,
    "refresh of the query cache": refresh_cache,
}


def _cut(file_system: FileSystem, seeds: list[str], once: Callable[[Disk, str], list[str]]) -> Told:
    problems: list[str] = []
    for begin in range(0, len(seeds), CUTS_A_DISK):
        with disk(file_system) as mounted:
            for number, seed in enumerate(seeds[begin : begin + CUTS_A_DISK]):
                found = once(mounted, seed)
                if found:
                    problems += [f"seed {seed}: {what}" for what in [*found[:5], _keep(mounted)]]
                if len(problems) > 40:
                    return Told(begin + number + 1, problems)
                for old in mounted.path.iterdir():
                    if old.is_dir():
                        shutil.rmtree(old, ignore_errors=True)
                    else:
                        old.unlink()
    return Told(len(seeds), problems)


def _keep(mounted: Disk) -> str:
    kept = Path(tempfile.mkdtemp(prefix="evlog-cut-"))
    shutil.copytree(mounted.path, kept, dirs_exist_ok=True)
    return f"kept in {kept}"


def _cut_during(mounted: Disk, work: Callable[[], object], life_s: float, noted: _Noted) -> int:
    """Cut the power while *work* is done in a child; return what was noted before it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    threading.Event().wait(life_s)
    number = noted.get()
    mounted.cut_power()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    mounted.unmount()
    mounted.mount()
    return number


def _write_run(run: Path, number: int, events: int = 300) -> None:
    """Write a finished run, and wait until it is on the disk."""
    maker = LogMaker()
    what: list[Event] = [RunStarted(name=run.name), Params(data={"lr": 0.1, "n": number})]
    what += [Metrics(step=step, data={"loss": step + number / 8}) for step in range(events)]
    put(run, 1, b"".join(maker.segment(what[:150])))
    put(run, 2, b"".join(maker.segment([*what[150:], RunEnded(status="finished")], reason="ended")))
    sync_all(run)


# --- sinks --------------------------------------------------------------------------------------


class _LedgerSystem(RealSystem):
    """The real system, which notes how many events the ledger on the disk has."""

    def __init__(self, noted: _Noted) -> None:
        self._noted = noted
        self._target: Path | None = None

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._target = target

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        if self._target is not None and self._target.parent == path:
            ledger = msgspec.json.decode(self._target.read_bytes(), type=Ledger)
            self._noted.set(ledger.events)


def _cut_delivery(mounted: Disk, seed: str) -> list[str]:
    chance, noted = random.Random(seed), _Noted()
    sink = chance.choice(sorted(SINKS))
    run, target = mounted.path / "demo" / "fed", mounted.path / "destination"
    option = SINKS[sink]
    if sink == "sqlite":
        target /= "runs.db"
    to = Destination(sink, {option: str(target)} if option else {}, chance.choice([10, 40]))
    _write_run(run, 1)
    work = partial(_deliver, run, to, _LedgerSystem(noted))
    saved = _cut_during(mounted, work, chance.random() * LONGEST_DELIVERY_S, noted)
    path = ledger_path(run, sink, to.make().destination)
    try:
        ledger = load_ledger(path)
    except CheckpointError as error:
        return [f"{sink}: rubbish in the ledger: {error}"]
    have = ledger.events if ledger is not None else 0
    problems = [f"{sink}: the ledger had {saved} events on the disk, now {have}"] if have < saved else []
    # The lease may be without content, or of a machine that was started again: then it holds for a minute,
    # as one of any other machine does. That minute passes here.
    for lease in path.parent.glob("*.lock.*"):
        os.utime(lease, (0, 0))
    try:
        found = apart(partial(_finish, run, to))
    except (ApartError, OSError) as error:
        return [*problems, f"{sink}: cannot go on: {str(error).strip()[-600:]}"]
    return problems + [f"{sink}: {what}" for what in found]


def _deliver(run: Path, to: Destination, system: RealSystem) -> None:
    deliver_run(run, to.make(), to.sink, timeout_s=20.0, system=system)


def _finish(run: Path, to: Destination) -> list[str]:
    """Deliver the rest; return how the destination differs from the log."""
    deliver_run(run, to.make(), to.sink, timeout_s=20.0)
    proof = prove(run, load_sink(to.sink, **to.options), to.sink)
    return [] if proof.result == "proven" else [f"{proof.result}: {proof.differences[:2]}"]


# --- the query cache ----------------------------------------------------------------------------


def _cut_refresh(mounted: Disk, seed: str) -> list[str]:
    chance, noted = random.Random(seed), _Noted()
    root = mounted.path / "root"
    work = partial(_refresh, root, noted)
    committed = _cut_during(mounted, work, chance.random() * LONGEST_REFRESH_S, noted)
    if not root.is_dir():
        return []
    manifest = load_manifest(cache_directory(root))
    problems = []
    if len(manifest.runs) < committed:
        problems.append(f"the cache had {committed} runs on the disk, now {len(manifest.runs)}")
    try:
        return problems + apart(partial(_compare, root))
    except (ApartError, OSError) as error:
        return [*problems, f"cannot be asked: {str(error).strip()[-600:]}"]


def _refresh(root: Path, noted: _Noted) -> None:
    """Write one run after the other, and bring the cache up to date after each."""
    for number in range(RUNS):
        _write_run(root / "demo" / f"run{number}", number, events=40 + 400 * (number % 2))
        ask(root, ["runs"], wants_all=True)
        noted.set(number + 1)


def _compare(root: Path) -> list[str]:
    """Ask the cache, brought up to date, what the logs say too."""
    wanted, problems = fold(root), []
    for time in ("once", "twice"):
        answer = ask(root, TABLES)
        problems += [f"{table} differ, asked {time}" for table in TABLES if answer[table] != wanted[table]]
    return problems
