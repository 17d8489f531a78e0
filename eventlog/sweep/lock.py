"""One sweep of a name at a time on a machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
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
def only_one(project: Path, name: str) -> Iterator[None]:
    """Keep other processes of this machine from running the sweep while the block runs.

    Raises:
        SweepIsRunningError: another one does.
    """
    if sys.platform == "win32":
        yield  # no locks of this kind there
        return
    import fcntl

    directory = project / ".evlog"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"sweep-{name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise SweepIsRunningError(name, file.read().strip() or "?") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
