"""Runs tests over one mutant after the other, in the copy of the tree that is its working directory.

Reads jobs from standard input and answers on standard output, a line of JSON each. What takes long to
import and never changes is imported once; each mutant then gets a forked child of its own.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Literal

import hypothesis
import msgspec
import orjson as orjson
import pytest

Outcome = Literal["killed", "survived", "timed out", "no tests"]
_OUTCOMES: dict[int, Outcome] = {0: "survived", 5: "no tests", -signal.SIGALRM: "timed out"}
_START_S = 30.0
"""More than pytest needs to begin; test files may run what they test when they are imported."""
_MOST_BYTES = 8 << 30
"""Of memory: a mutant may multiply where it should divide."""


class Job(msgspec.Struct, frozen=True):
    """A module with a content, and the tests that judge it, each with its limit in seconds."""

    module: str
    source: str
    tests: list[str]
    limits_s: list[float]


def outcome_of(job: Job) -> Outcome:
    """Put the mutant in the place of the module, run the tests, and put the original back."""
    path = Path(job.module)
    original = path.read_bytes()
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()  # it may be as old and as long as the mutant
    path.write_text(job.source)
    try:
        return _run(job)
    finally:
        path.write_bytes(original)


def _run(job: Job) -> Outcome:
    child = os.fork()
    if not child:
        _judge(job)
    watch = os.pidfd_open(child)
    try:
        # For what a test's own limit cannot end, as it blocks the signal.
        is_over = bool(select.select([watch], [], [], _START_S + sum(job.limits_s))[0])
    finally:
        os.close(watch)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # the child itself if it hangs, and what its tests have left
    _, status = os.waitpid(child, 0)
    if not is_over:
        return "timed out"
    return _OUTCOMES.get(os.waitstatus_to_exitcode(status), "killed")


class _Limits:
    """A plugin that ends the process when a test takes too long."""

    def __init__(self, job: Job) -> None:
        self._limits = dict(zip(job.tests, job.limits_s, strict=True))

    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Give the next test its time."""
        signal.setitimer(signal.ITIMER_REAL, self._limits.get(item.nodeid, _START_S))


def _judge(job: Job) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.setitimer(signal.ITIMER_REAL, _START_S)
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        hypothesis.settings.register_profile(
            "mutation",
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),  # they look at the time that a test takes
        )
        hypothesis.settings.load_profile("mutation")
        quietly = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
        place = Path(os.environ["TMPDIR"]) / "pytest"  # emptied by the next one
        code = int(pytest.main([*quietly, "--basetemp", str(place), *job.tests], plugins=[_Limits(job)]))
    finally:
        os._exit(code)


def main() -> None:
    """Answer jobs until there are no more."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for line in sys.stdin.buffer:
        outcome = outcome_of(msgspec.json.decode(line, type=Job))
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
