"""Row 6: processes, threads, signals and exits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec

from tests.torture.process_jobs import JOBS, SHARES, why_not
from tests.torture.process_notes import Notes
from tests.torture.process_rounds import MEMORY, PAIRS, Totals, compare
from tests.torture.rows import Form, Result

TITLE = "processes, threads, signals and exits"
PROMISE = (
    "every returned call is there once, the run says how it ended, nothing hangs, nothing is left behind"
)
LIVES: dict[Form, int] = {"short": len(PAIRS), "long": 80_000}
"""How many are forked from the campaign: with the children that they fork themselves 100,000 and more."""
SHORT_JOBS = ["forkserver", "subinterpreters"]
LIMIT_S: dict[Form, float] = {"short": 300.0, "long": 7200.0}
_ROOT = Path(__file__).parents[2]
_ROUNDS_COMMAND = [sys.executable, "-m", "tests.torture.process_rounds"]


def play(form: Form, seed: int) -> Result:
    """Let processes end in every way while they do everything, and read what they logged."""
    workers = 1 if form == "short" else os.cpu_count() or 1
    totals = _play_rounds(LIVES[form], seed, workers, LIMIT_S[form])
    skipped = [f"no free-threaded build: this is {sys.implementation.cache_tag}"]
    jobs = SHORT_JOBS if form == "short" else list(JOBS)
    for job in jobs:
        reason = why_not(job)
        if reason is not None:
            skipped.append(reason)
            continue
        for number in range(1 if form == "short" else SHARES[job]):
            totals = totals.merged(_play_job(job, f"{seed}:{number}"))
    kinds = Counter[str]()
    for kind, count in totals.kinds.items():
        kinds[kind.rpartition(", ")[2]] += count
    return Result(
        cases=totals.rounds,
        counts={
            "calls that had returned": totals.calls,
            "events read": totals.events,
            "children of a fork": totals.rounds - kinds.total(),
            **kinds,
        },
        lost=totals.lost,
        invented=totals.invented,
        problems=totals.problems,
        skipped="; ".join(skipped),
    )


def _play_rounds(rounds: int, seed: int, workers: int, limit_s: float) -> Totals:
    totals = Totals()
    parts = [
        subprocess.Popen(
            [*_ROUNDS_COMMAND, "--seed", str(seed), "--numbers", f"{worker}:{rounds}:{workers}"],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
        )
        for worker in range(workers)
    ]
    for part in parts:
        try:
            out, _ = part.communicate(timeout=limit_s)
            totals = totals.merged(msgspec.json.decode(out, type=Totals))
        except (subprocess.TimeoutExpired, msgspec.DecodeError) as error:
            totals.problems.append(f"seed {seed}: the rounds did not come to their end: {error!r}")
        finally:
            part.kill()
            part.wait()
    return totals


def _play_job(job: str, seed: str) -> Totals:
    """Do one job in a process of its own, and compare what is read with what it noted."""
    root = Path(tempfile.mkdtemp(prefix="evlog-job-", dir=MEMORY if MEMORY.is_dir() else None))
    notes, problems, count = Notes(root / "notes"), list[str](), 0
    notes.expect(0, "finished", "killed", "crashed", "failed")
    command = [sys.executable, "-m", "tests.torture.process_jobs", job, str(root), seed]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode or "Fatal" in done.stderr:
            problems.append(f"{job}: exit code {done.returncode}, {done.stderr.strip()[-600:]}")
        count = int(done.stdout or 0)
    except subprocess.TimeoutExpired:
        problems.append(f"{job}: it hangs")
    found = compare(root, notes, one_end=False)
    problems += found.problems
    if problems:
        problems.append(f"again: {' '.join(command)}")
    else:
        shutil.rmtree(root)
    return Totals(
        count, notes.calls(), found.events, found.lost, found.invented, 0.0, {f"jobs, {job}": count}, problems
    )
