"""One sweep of a name at a time on a machine, and none beside what an earlier one has left running."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from eventlog.errors import EvlogError


class SweepIsRunningError(EvlogError, RuntimeError):
    """Another process runs this sweep."""

    def __init__(self, name: str, pid: str) -> None:
        super().__init__(name, pid)
        self.name, self.pid = name, pid

    def __str__(self) -> str:
        return f"The sweep {self.name!r} is run by process {self.pid} already. Wait for it, or end it."


@contextlib.contextmanager
def only_one(project: Path, name: str, on_wait: Callable[[], None]) -> Iterator[int | None]:
    """Keep other processes of this machine from running the sweep while the block runs.

    Yields a descriptor to be inherited by the jobs. Those of a sweep that was killed go on, and hold a lock
    with it; so the next sweep waits for their end, and then knows what they achieved.

    Args:
        on_wait: called before waiting for jobs of an earlier sweep.

    Raises:
        SweepIsRunningError: another process runs the sweep.
    """
    if sys.platform == "win32":
        yield None  # no locks of this kind there
        return
    import fcntl

    directory = project / ".evlog"
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / f"sweep-{name}.lock").open("a+") as file,
        (directory / f"sweep-{name}.jobs.lock").open("a") as jobs,
    ):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SweepIsRunningError(name, file.read().strip() or "?") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            fcntl.flock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(jobs, fcntl.LOCK_EX)
        yield jobs.fileno()
