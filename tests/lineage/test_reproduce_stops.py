"""`evlog reproduce`: stopped in the middle, and two at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from eventlog.replay import view
from tests.cli.conftest import clean_environment, nothing_left_running, start
from tests.lineage.repositories import SCRIPT, Repo, repo
from tests.waiting import wait_until

__all__ = ["clean_environment", "nothing_left_running", "repo"]  # fixtures

WAITS = (
    SCRIPT
    + """
    open("../../ready" if "evlog-reproduce" in __file__ else "ready", "a").close()
    while __import__("os").path.exists("../../wait"):
        time.sleep(0.01)
"""
)
"""Begins as the other one; a repetition waits as long as somebody wants."""


@pytest.fixture
def waiting(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Return a repository with a run; its repetitions wait while ``temporary/wait`` is there."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    repo.write("train.py", WAITS)
    repo.commit()
    repo.python("train.py")
    (tmp_path / "temporary" / "wait").touch()
    return repo


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Return how a command ended."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_repetition_that_is_stopped_leaves_nothing_behind(
    waiting: Repo, tmp_path: Path, number: signal.Signals
) -> None:
    """The command gets the signal too, its run says so, and the worktree is gone."""
    process = start("reproduce", "job", "--execute")
    wait_until((tmp_path / "temporary" / "ready").exists, "the repetition has come so far")

    process.send_signal(number)
    code, out, _ = outcome(process)

    assert code == 128 + number
    assert "failed: the new run was killed" in out
    assert view(waiting.run("job-repro-1")).status == "killed"
    assert waiting.worktrees == 1
    assert sorted(path.name for path in (tmp_path / "temporary").iterdir()) == ["ready", "wait"]


def test_a_signal_before_the_command_runs_ends_it_at_once(
    waiting: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is being made ready then goes away."""
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    waits = f'case "$*" in *"worktree add"*) touch {tmp_path}/adding; exec sleep 60;; esac'
    slow.write_text(f'#!/bin/sh\n{waits}\nexec {shutil.which("git")} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    process = start("reproduce", "job", "--execute")
    wait_until((tmp_path / "adding").exists, "the repetition has come so far")

    process.terminate()
    code, _, err = outcome(process)

    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in err
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == ["wait"]
    assert not waiting.run("job-repro-1").exists()


def test_two_repetitions_at_once_compare_each_its_own_run(waiting: Repo, tmp_path: Path) -> None:
    """They plan the same name; the second one takes another, and knows it."""
    processes = [start("reproduce", "job", "--execute") for _ in range(2)]
    for name in ("job-repro-1", "job-repro-1-1"):
        wait_until((waiting.run(name) / "log").exists, "the repetition has come so far")
    (tmp_path / "temporary" / "wait").unlink()

    ended = [outcome(process) for process in processes]

    assert [code for code, _, _ in ended] == [0, 0], ended
    assert {out.splitlines()[0] for _, out, _ in ended} == {
        "demo/job -> demo/job-repro-1",
        "demo/job -> demo/job-repro-1-1",
    }
    tags = [view(waiting.run(name)).tags["reproduction"] for name in ("job-repro-1", "job-repro-1-1")]
    assert tags == ["identical", "identical"]
    assert waiting.worktrees == 1
