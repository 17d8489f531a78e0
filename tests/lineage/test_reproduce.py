"""`evlog reproduce`: a real repository, real commands, the code changed afterwards."""

from __future__ import annotations

import json
import sys

import pytest

from eventlog.replay import view
from tests.cli.conftest import Evlog, clean_environment, evlog, real_evlog
from tests.lineage.repositories import CAPTURING, SCRIPT, Repo, git, repo

__all__ = ["clean_environment", "evlog", "repo"]  # fixtures


def test_a_run_is_repeated_with_the_code_that_it_had(
    evlog: Evlog, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work tree has moved on; the repetition has the commit, says identical, and can be repeated too."""
    monkeypatch.setenv("EVLOG_LINEAGE", "1")
    repo.python("train.py")
    repo.write("train.py", "raise SystemExit('broken')")
    repo.commit()

    done = evlog("reproduce", "job", "--execute")

    assert done.code == 0, done.err
    assert "identical (7 values of 3 results)" in done.out
    assert "not compared: step_time" in done.out
    new = view(repo.run("job-repro-1"))
    assert new.tags == {"reproduces": "demo/job", "reproduction": "identical"}
    assert new.notes == ["reproduces demo/job: identical (7 values of 3 results)"]
    assert new.status == "finished"
    assert new.context["git"]["commit"] == view(repo.run("job")).context["git"]["commit"]
    assert repo.worktrees == 1


def test_a_command_of_evlog_run_is_repeated_with_its_arguments(evlog: Evlog, repo: Repo) -> None:
    """The words of the command are what is run, its changes that were not committed among its code."""
    repo.write("train.py", SCRIPT.replace('random.random(), "step', 'random.random() + 1, "step'))
    done = real_evlog(
        "run", "--name", "job", "--project", "demo", "--", sys.executable, "train.py", "7", env=CAPTURING
    )
    assert done.code == 0, done.err
    git(repo.path, "checkout", "--quiet", ".")

    done = evlog("reproduce", "job", "--execute", "--json")

    assert done.code == 0, done.err
    verdict = json.loads(done.out)
    assert (verdict["outcome"], verdict["repetition"]) == ("identical", "demo/job-repro-1")
    assert view(repo.run("job-repro-1")).metrics["train_loss"].min > 1


def test_noise_is_different_and_where(evlog: Evlog, repo: Repo) -> None:
    """The first step that differs is named with both values, and the exit code is 1."""
    noisy = SCRIPT.replace(
        "for step in range(5):", "for step in range(5):\n        step == 2 and random.seed()"
    )
    repo.write("train.py", noisy)
    repo.commit()
    repo.python("train.py")

    done = evlog("reproduce", "job", "--execute")

    assert done.code == 1
    assert "different: train_loss at step 2: 0." in done.out
    assert view(repo.run("job-repro-1")).tags["reproduction"] == "different"


def test_small_differences_are_equal_within_tolerances(evlog: Evlog, repo: Repo) -> None:
    """What differs by less than is allowed is said with the tolerances; only what is asked for counts."""
    repo.write(
        "train.py", SCRIPT.replace('random.random(), "step', '1 + time.time_ns() % 1e9 * 1e-15, "step')
    )
    repo.commit()
    repo.python("train.py")

    done = evlog("reproduce", "job", "--execute", "--rtol", "0.001", "--atol", "0", "--metric", "train_*")

    assert "equal within rel=0.001/abs=0 (5 values of 1 results" in done.out
    assert done.code == 0


def test_code_in_development_mode_comes_from_the_worktree(
    evlog: Evlog, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is imported from the old place by PYTHONPATH is imported from the new one."""
    repo.write("src/mine.py", "VALUE = 1.0\n")
    repo.write(
        "train.py",
        """
        import mine
        from eventlog import create_tracker

        tracker = create_tracker("local", project="demo")
        with tracker.start_run("job"):
            tracker.log_metrics({"val_loss": mine.VALUE}, 0)
        """,
    )
    repo.commit()
    monkeypatch.setenv("PYTHONPATH", str(repo.path / "src"))
    repo.python("train.py")
    repo.write("src/mine.py", "VALUE = 2.0\n")

    done = evlog("reproduce", "job", "--execute")

    assert "identical" in done.out, done.out + done.err
