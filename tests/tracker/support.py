"""What the tests of the tracker share: reading a run back, and jobs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TypeVar

from eventlog import replay
from eventlog.events import Event
from eventlog.projections import RunView

E = TypeVar("E", bound=Event)


def logged(run: Path | None, kind: type[E]) -> list[E]:
    """Return the events of one kind that *run* holds."""
    assert run is not None
    return [event for event in replay.events(run) if isinstance(event, kind)]


def only_run(root: Path) -> Path:
    """Return the directory of the one run below *root*."""
    (run,) = (log.parent for log in root.glob("*/*/log"))
    return run


def view_of(root: Path) -> RunView:
    """Return the view of the one run below *root*."""
    return replay.view(only_run(root))


def start_job(code: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start Python code in *cwd*; its standard streams are pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_job(code: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """Run Python code to its end; return exit code and what it printed."""
    job = start_job(code, cwd, **environment)
    out, err = job.communicate(timeout=60)
    return job.returncode, out, err
