"""Judges mutants with the tests that reach them: as many at a time as there are processors."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import msgspec

from tests.torture.mutation import TREE, Mutant
from tests.torture.mutation_worker import Job, Outcome

# A disk would be waited for at each sync of each test.
_SHARED_MEMORY = Path("/dev/shm")
_PARTS = ("eventlog", "sinks", "tests", "docs/reference", "docs/explanation")
_LEAST_S = 10.0
_TIMES = 10
"""A test may take so many times as long as it does, and the least besides: others work here, too."""


class Judged(NamedTuple):
    """A mutant, and what its tests made of it."""

    mutant: Mutant
    outcome: Outcome


class Tests(NamedTuple):
    """Which tests judge a mutant, and how long each takes when nothing is wrong."""

    names: list[str]
    seconds: list[float]


@contextlib.contextmanager
def quick_directory() -> Iterator[Path]:
    """Make a directory that needs no disk where there is one."""
    where = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="evlog-mutants-", dir=where, ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextlib.contextmanager
def _worker(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a copy of the tree of its own."""
    skipped = shutil.ignore_patterns("*.ring*", "__pycache__")
    for part in _PARTS:
        shutil.copytree(TREE / part, home / "tree" / part, ignore=skipped)
    shutil.copy(TREE / "pyproject.toml", home / "tree")
    (home / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.torture.mutation_worker"],
        cwd=home / "tree",
        env=os.environ | {"PYTHONPATH": _path(home / "tree"), "TMPDIR": str(home / "tmp")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _path(tree: Path) -> str:
    """Return a module path on which the copy comes first, also for processes that tests start."""
    return os.pathsep.join([str(tree), *filter(None, [os.environ.get("PYTHONPATH")])])


def judge(
    mutants: Sequence[Mutant], tests_of: Callable[[Mutant], Tests], *, workers: int | None = None
) -> Iterator[Judged]:
    """Yield what the tests make of each mutant, in the order of *mutants*."""
    with quick_directory() as directory, contextlib.ExitStack() as stack:
        free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        count = workers or os.cpu_count() or 1
        for number in range(count):
            free.put(stack.enter_context(_worker(directory / str(number))))

        def outcome(mutant: Mutant) -> Judged:
            names, seconds = tests_of(mutant)
            if not names:
                return Judged(mutant, "no tests")
            process = free.get()
            try:
                limits = [_LEAST_S + _TIMES * one for one in seconds]
                return Judged(mutant, _ask(process, Job(mutant.key.module, mutant.source, names, limits)))
            finally:
                free.put(process)

        with ThreadPoolExecutor(count) as pool:
            yield from pool.map(outcome, mutants)


def _ask(process: subprocess.Popen[bytes], job: Job) -> Outcome:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    process.stdin.flush()
    outcome: Outcome = msgspec.json.decode(process.stdout.readline(), type=Outcome)
    return outcome
