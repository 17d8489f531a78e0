"""Row 3: what was written cannot reach the disk, which the kernel tells only once.

A file system lies on a loop device whose backing file lies in a memory that is full. So writing into its
cache succeeds and bringing that to the device fails: a sync returns an error, and the next one returns
success although the pages are gone. Then there is room again, and the writers go on if they can. In the end
the file system is mounted anew and read: what counts is what the device holds.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.storage.layout import log_directory
from eventlog.storage.repair import recover_run
from tests.crash.campaign import look
from tests.crash.lives import CALLS, ON_DISK, Notes, Plan, plan, start
from tests.torture.devices import ORDERED, SMALL_XFS, Disk, FileSystem, apart, disk, small_tmpfs, why_not
from tests.torture.rows import Form, Result

TITLE = "writeback failure"
PROMISE = "on a disk that is full below its file system, nothing that was acknowledged as synced is lost"
ROUNDS: dict[Form, int] = {"short": 3, "long": 300}
MEMORY_BYTES = 48 << 20
LONGEST_LIFE_S = 0.25
PIECE = 4096


class Told(NamedTuple):
    """What came of one round."""

    counts: Counter[str]
    lost: int
    invented: int
    problems: list[str]


def play(form: Form, seed: int) -> Result:
    """Fill the memory below file systems in use, and count."""
    result, skipped = Result(), []
    counts: Counter[str] = Counter()
    for file_system in (ORDERED, SMALL_XFS):
        reason = why_not(file_system)
        if reason is not None:
            skipped.append(f"{file_system.name}: {reason}")
            continue
        for number in range(ROUNDS[form]):
            told = apart(partial(_round, file_system, f"{seed}:{file_system.name}:{number}"))
            counts.update(told.counts)
            counts[f"rounds on {file_system.name}"] += 1
            result.cases += 1
            result.lost, result.invented = (
                (result.lost or 0) + told.lost,
                (result.invented or 0) + told.invented,
            )
            result.problems += told.problems
    if result.cases and not counts["syncs that failed"]:
        result.problems.append("no sync failed: nothing was tried")
    result.counts, result.skipped = dict(counts), "; ".join(skipped) or None
    return result


def _round(file_system: FileSystem, seed: str) -> Told:
    chance = random.Random(seed)
    with small_tmpfs(MEMORY_BYTES) as memory, disk(file_system, memory) as mounted:
        mounted.take_pages_one_by_one()
        how = plan(chance, durability="synced")
        how = how._replace(
            calls=CALLS, closes=False, options=msgspec.structs.replace(how.options, sync_timeout_s=0.05)
        )
        run, notes = mounted.path / "p" / "r", Notes(how.threads)
        run.parent.mkdir()
        died_of = _suffer(memory, mounted, run, how, notes, chance)
        try:
            mounted.mount()
        except OSError:  # its own journal could not be written; then there is nothing to be read
            return Told(Counter({"file systems beyond repair": 1}), 0, 0, [])
        told = _examine(run, how, notes)
        if died_of == -signal.SIGBUS:
            # XFS stops when it cannot write its log, and the next store into the ring ends the process.
            told.counts["writers that SIGBUS ended"] += 1
        elif died_of != -signal.SIGKILL:
            told.problems.append(f"the writer did not live until it was killed: {died_of}")
        if told.problems or told.lost or told.invented:
            kept = Path(tempfile.mkdtemp(prefix="evlog-writeback-"))
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(run, kept / "r")
            problems = [f"seed {seed}: {what} (kept in {kept})" for what in told.problems[:5]]
            return told._replace(problems=problems)
        return told


def _suffer(memory: Path, mounted: Disk, run: Path, how: Plan, notes: Notes, chance: random.Random) -> int:
    """Let a writer live while the memory is full for a time, and unmount.

    Returns:
        The writer's exit code: it should be that of our own SIGKILL.
    """
    wait, pid = threading.Event(), start(run, how, notes)
    ballast = memory / "ballast"
    try:
        if chance.random() < 0.9:
            while not notes.has_begun:
                wait.wait(0.001)
        wait.wait(chance.random() * 0.02)
        _fill(ballast, chance.choice([0, 0, 1, 3, 10, 40]))
        wait.wait(chance.random() * LONGEST_LIFE_S)
        ballast.unlink()
        wait.wait(chance.random() * LONGEST_LIFE_S)
    finally:
        notes.freeze()
        os.kill(pid, signal.SIGKILL)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    mounted.unmount()
    return exit_code


def _fill(ballast: Path, pages_left: int) -> None:
    """Take all the room but some pages."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(PIECE)):
            pass
    size = ballast.stat().st_size // PIECE
    os.truncate(ballast, max(0, size - pages_left) * PIECE)


def _examine(run: Path, how: Plan, notes: Notes) -> Told:
    before = look(run, how, notes, "mounted again")
    recoveries = recover_run(run)
    after = look(run, how, notes, "recovered")
    lost = after.compared.missing(notes, ON_DISK)
    counts: Counter[str] = Counter()
    counts["calls that promised the disk"] = sum(
        len(notes.numbers(thread, ON_DISK)) for thread in range(how.threads)
    )
    counts["syncs that failed"] = notes.faults[0]
    counts["events from the ring"] = sum(recovery.events for recovery in recoveries)
    counts["segments begun anew"] = sum(
        b'"origin":"rewrite"' in path.read_bytes()[:1000] for path in log_directory(run).glob("*.jsonl")
    )
    problems = [f"lost, thread {thread} call {number}" for thread, number in lost]
    invented = before.compared.invented + after.compared.invented
    problems += [f"invented, {what}" for what in invented]
    if notes.faults[1]:
        problems.append(f"a file was used {notes.faults[1]} times after its sync had failed")
    return Told(counts, len(lost), len(invented), problems)
