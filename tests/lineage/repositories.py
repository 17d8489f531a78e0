"""Repositories with a training script, and runs of it, for the tests of `evlog reproduce`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from eventlog.events import Context, Event, Metrics, RunEnded, RunStarted
from tests.logs import LogMaker, put

SCRIPT = """
import random, sys, time
from eventlog import create_tracker

random.seed(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
tracker = create_tracker("local", project="demo")
with tracker.start_run("job"):
    tracker.log_params({"seed": 3})
    for step in range(5):
        tracker.log_metrics({"train_loss": random.random(), "step_time": time.time()}, step)
    tracker.log_metrics({"nan": float("nan")}, 0)
    tracker.log_summary({"val_f1_macro": random.random(), "note": str(time.time())})
"""

CAPTURING = {"EVLOG_LINEAGE": "1"}
"""Repetitions need not find out where they come from, which takes as long as all the rest of them."""


def git(repo: Path, *words: str) -> str:
    """Run git without the settings of whoever runs the tests."""
    settings = ("-c", "user.name=ada", "-c", "user.email=ada@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *settings, *words], cwd=repo, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Repo:
    """A repository with `SCRIPT` as ``train.py``, and the runs of that script."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        git(path, "init", "--quiet", "--initial-branch", "main")
        self.write(".gitignore", "experiments/\ndata/\n")
        self.write("train.py", SCRIPT)
        self.commit()

    @property
    def root(self) -> Path:
        """Return the root of all runs."""
        return self.path / "experiments"

    def write(self, name: str, text: str) -> None:
        """Write a file of the repository."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))

    def commit(self) -> str:
        """Commit everything; return the commit."""
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--message", "a state")
        return git(self.path, "rev-parse", "HEAD")

    def python(self, *words: str, code: int = 0) -> None:
        """Run a script as a user does, with its lineage."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.path,
            env=os.environ | CAPTURING,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr

    def run(self, run_id: str) -> Path:
        """Return the directory of a run."""
        return self.root / "demo" / run_id

    @property
    def worktrees(self) -> int:
        """Return how many worktrees git knows."""
        return len(git(self.path, "worktree", "list").splitlines())


def log_by_hand(root: Path, **contexts: Mapping[str, object]) -> Path:
    """Write the log of a finished run as older versions and other machines do; return its directory."""
    events: list[Event] = [RunStarted(name="job")]
    events += [Context(kind=kind, data=dict(data)) for kind, data in contexts.items()]
    events += [Metrics(step=0, data={"val_loss": 0.5}), RunEnded(status="finished")]
    run = root / "demo" / "job"
    put(run, 1, b"".join(LogMaker().segment(events, reason="closed")))
    return run


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Return a repository that is the working directory; what `Repo.python` runs captures its lineage."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    made = Repo(tmp_path / "repo")
    monkeypatch.chdir(made.path)
    return made
