"""Scripts that training jobs and others could be, played in a process that is steered into full disks.

``python -m tests.torture.scripted`` reads cases from its standard input and plays each in a fork of itself,
which leaves by the interpreter's own end. With the library of `preload` it makes chosen operations fail.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from eventlog import create_tracker
from eventlog.delivery.pump import deliver_run
from eventlog.errors import EvlogError
from eventlog.plugins import load_sink
from eventlog.storage.options import WriterOptions

POINTS = 120
LIMIT_S = 60.0
_STATE = struct.Struct("6q1024s")
OPTIONS = WriterOptions(
    ring_bytes=1 << 14,
    segment_bytes=1 << 12,
    reserve_bytes=1 << 12,
    write_interval_s=0.002,
    sync_interval_s=0.01,
    max_block_s=0.02,
    sync_timeout_s=0.1,
    close_timeout_s=1.0,
)
"""Small and fast: each operation comes often, and what is bounded by a time does not take long."""


class Case(msgspec.Struct, kw_only=True):
    """What is played, and what fails meanwhile.

    Attributes:
        script: ``train``, ``deliver <sink>`` or ``query``.
        root: of the runs.
        source: a file to log, which lies elsewhere.
        at: the operation that fails, from 1; 0 for none.
        times: how many fail from there.
        code: errno of the failure.
        is_short: half of a write succeeds before.
        limit_bytes: no file may become longer (RLIMIT_FSIZE).
    """

    script: str
    root: str
    source: str = ""
    at: int = 0
    times: int = 1
    code: int = 0
    is_short: bool = False
    limit_bytes: int | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """How a case ended.

    Attributes:
        exit_code: of the process; negative for a signal.
        seconds: that it took.
        operations: that were counted.
        fired: how many of them were made to fail.
        said: what was written to the standard streams.
    """

    exit_code: int
    seconds: float
    operations: int = 0
    fired: int = 0
    said: str = ""


# --- the scripts ----------------------------------------------------------------------------------


def train(root: Path, source: Path) -> None:
    """Log a run with a bit of everything."""
    tracker = create_tracker(
        "local", output_dir=root, project="p", writer=OPTIONS, lineage=False, system=False, log_code=False
    )
    with tracker.start_run("r"):
        tracker.log_params({"lr": 0.1, "model": {"layers": 3}})
        for step in range(POINTS):
            tracker.log_metrics({"loss": step + 0.5}, step=step)
            if step % 40 == 39:
                tracker.flush()
        tracker.log_artifact(source)
        tracker.log_summary({"best": 0.5})
        tracker.log_text("page", "word " * 4000, step=1)
        tracker.log_checkpoint(source, step=3)
        tracker.set_tags({"stage": "test"})
        tracker.add_note("a note")
        for step in range(POINTS, 2 * POINTS):
            tracker.log_metrics({"loss": step + 0.5}, step=step)


def deliver(root: Path, name: str) -> None:
    """Deliver the run; what cannot be done is one of our errors, or the system's own."""
    option = {"sqlite": "path", "tensorboard": "log_dir", "local": ""}.get(name, "to")
    try:
        deliver_run(root / "p" / "r", load_sink(name, **sink_options(root, option)), name, timeout_s=0.0)
    except (EvlogError, OSError) as error:
        sys.stderr.write(f"not delivered: {error}\n")


def sink_options(root: Path, option: str) -> Mapping[str, object]:
    """Return the options of a sink whose files lie below *root*."""
    target = root / ("to.db" if option == "path" else "to")
    return {option: str(target)} if option else {}


def query(root: Path) -> None:
    """Ask how many points there are; what cannot be done is an error of DuckDB or of the system."""
    import duckdb

    from tests.query.histories import ask

    try:
        rows = ask(root, ["metrics"], wants_all=True)["metrics"]
    except (OSError, duckdb.Error) as error:
        sys.stderr.write(f"not answered: {error}\n")
    else:
        sys.stderr.write(f"answered: {len(rows)}\n")


def play(case: Case) -> None:
    """Play the script of *case*."""
    name, _, argument = case.script.partition(" ")
    if name == "train":
        train(Path(case.root), Path(case.source))
    elif name == "deliver":
        deliver(Path(case.root), argument)
    else:
        query(Path(case.root))


# --- the process that plays them ------------------------------------------------------------------


class _Steering:
    """The memory that the preloaded library looks at; without one nothing fails."""

    def __init__(self, path: str | None) -> None:
        self._memory: mmap.mmap | None = None
        if path:
            with Path(path).open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), _STATE.size)

    def arm(self, case: Case) -> None:
        if self._memory is not None:
            order = (0, case.at, case.times, case.code, int(case.is_short), 0, case.root.encode())
            self._memory[:] = _STATE.pack(*order)

    def disarm(self) -> tuple[int, int]:
        """Let nothing fail any more; return how many operations there were, and how many failed."""
        if self._memory is None:
            return 0, 0
        count, _, _, _, _, fired, _ = _STATE.unpack(self._memory[:])
        self._memory[:] = bytes(_STATE.size)
        return count, fired


class _Ear:
    """Hears what a child says: through a pipe, since a file would be under the limit to files, too."""

    SIZE_BYTES = 1 << 20
    """A child that says more stands still, and takes too long."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, self.SIZE_BYTES)
        os.set_blocking(self._reading, False)

    def take_over(self) -> None:
        """Let this process, the child, speak here."""
        for fd in (1, 2):
            os.dup2(self._writing, fd)
        os.close(self._reading)
        os.close(self._writing)

    def said(self) -> str:
        """Return what the child has said, which is over, and hear nothing more."""
        os.close(self._writing)
        try:
            data = os.read(self._reading, self.SIZE_BYTES)
        except BlockingIOError:
            data = b""  # nothing, and somebody that it has left behind could still speak
        finally:
            os.close(self._reading)
        return data.decode(errors="replace")


def _begin(case: Case, steering: _Steering, ear: _Ear) -> None:
    ear.take_over()
    if case.limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (case.limit_bytes, resource.RLIM_INFINITY))
    steering.arm(case)


def _wait(pid: int) -> tuple[int, float]:
    began, pause = time.monotonic(), threading.Event()
    while time.monotonic() < began + LIMIT_S:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - began
        pause.wait(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL, time.monotonic() - began


def main() -> int:
    """Play the cases that come; in a fork, return when its case is played."""
    steering = _Steering(os.environ.get("EVLOG_FAULTS"))
    for line in sys.stdin.buffer:
        case, ear = msgspec.json.decode(line, type=Case), _Ear()
        pid = os.fork()
        if pid == 0:
            _begin(case, steering, ear)
            play(case)
            return 0
        exit_code, seconds = _wait(pid)
        operations, fired = steering.disarm()
        outcome = Outcome(
            exit_code=exit_code, seconds=seconds, operations=operations, fired=fired, said=ear.said()
        )
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()
    return 0


class Player:
    """A process that plays cases.

    Args:
        environment: put over this process's own, see `preload.environment`.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.scripted"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {}), "EVLOG_DISABLED": ""},
            cwd=Path.cwd(),
        )

    def play(self, case: Case) -> Outcome:
        """Play *case* and return how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(case) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    sys.exit(main())
