"""Runs to look at, and two ways to give commands: in this process, and as a user does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import pytest
from typer.testing import CliRunner

from eventlog.cli.app import app
from eventlog.tracker import Tracker, TrackingConfig


class Output(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


Evlog = Callable[..., Output]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("EVLOG_") or name in {
            "RANK",
            "SLURM_PROCID",
            "OMPI_COMM_WORLD_RANK",
            "FORCE_COLOR",
        }:
            monkeypatch.delenv(name)
    monkeypatch.setenv("EVLOG_LINEAGE", "0")  # as for all tests, see `tests.conftest`
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


@pytest.fixture
def evlog(monkeypatch: pytest.MonkeyPatch) -> Evlog:
    """Return a function that runs a command in this process."""

    def run(*args: str, stdin: str | bytes | None = None) -> Output:
        result = CliRunner().invoke(app, args, input=stdin, prog_name="evlog")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Output(result.exit_code, result.stdout, result.stderr)

    return run


_started: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Kill what a failed test has left, with all that it started."""
    yield
    while _started:
        process = _started.pop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start(
    *args: str,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start a command as a user would, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", *args],
        env=os.environ | dict(env or {}),
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _started.append(process)
    return process


def real_evlog(*args: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Output:
    """Run a command in a process of its own."""
    process = start(*args, env=env, stdin=subprocess.PIPE)
    out, err = process.communicate(stdin, timeout=60)
    return Output(process.returncode, out.decode(), err.decode())


def log_run(
    root: Path,
    run_id: str,
    *,
    project: str = "demo",
    tags: Mapping[str, object] | None = None,
    status: str = "finished",
    steps: int = 3,
) -> Path:
    """Log a small run and return its directory."""
    tracker = Tracker((), TrackingConfig(project=project, tags=tags), output_dir=root)
    tracker.start_run(run_id=run_id)
    tracker.log_params({"lr": 0.1, "opt": {"name": "adam"}})
    for step in range(steps):
        tracker.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
    path = tracker.run_dir
    assert path is not None
    tracker.end_run(status)
    return path
