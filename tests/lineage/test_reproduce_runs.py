"""`evlog reproduce`: data, scripts with several runs, runs that did not end well."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.replay import view
from tests.cli.conftest import Evlog, clean_environment, evlog
from tests.lineage.repositories import SCRIPT, Repo, git, repo

__all__ = ["clean_environment", "evlog", "repo"]  # fixtures


# --- data ------------------------------------------------------------------------------------------

READS = """
    import hashlib, pathlib
    from eventlog import create_tracker
    from eventlog.events import Dataset

    data = pathlib.Path("data/train.csv")
    tracker = create_tracker("local", project="demo")
    with tracker.start_run("job"):
        sha256 = hashlib.sha256(data.read_bytes()).hexdigest()
        tracker.log_event(Dataset(name="toy", split="train", path=str(data.absolute()), sha256=sha256))
        tracker.log_metrics({"val_loss": float(data.read_text())}, 0)
"""


@pytest.fixture
def reader(repo: Repo) -> Repo:
    repo.write("train.py", READS)
    repo.commit()
    repo.write("data/train.csv", "0.25")
    repo.python("train.py")
    return repo


def test_data_that_git_does_not_know_are_brought_along(evlog: Evlog, reader: Repo) -> None:
    """They lie in an ignored directory of the repository, which the worktree does not have."""
    done = evlog("reproduce", "job", "--execute")

    assert done.code == 0, done.err
    assert "identical" in done.out


def test_changed_or_missing_data_stop_a_repetition(evlog: Evlog, reader: Repo) -> None:
    """Their hashes are checked before anything runs; --force goes on, and the verdict says it."""
    reader.write("data/train.csv", "0.5")

    changed = evlog("reproduce", "job", "--execute")
    forced = evlog("reproduce", "job", "--execute", "--force")
    (reader.path / "data" / "train.csv").unlink()
    gone = evlog("reproduce", "job", "--execute")

    assert (changed.code, forced.code, gone.code) == (1, 1, 1)
    assert "has changed" in changed.err
    assert "is not there" in gone.err
    assert "different: val_loss at step 0: 0.25 was, 0.5 is" in forced.out
    assert "the data toy (train) had another content" in forced.out
    assert not reader.run("job-repro-2").exists()


# --- which run ---------------------------------------------------------------------------------------

SEVERAL = """
    import random
    from eventlog import create_tracker

    tracker = create_tracker("local", project="demo")
    for seed in (1, 2):
        random.seed(seed)
        with tracker.start_run(f"seed={seed}"):
            tracker.log_metrics({"val_loss": random.random()}, 0)
            with tracker.start_run(f"fold-{seed}", nested=True):
                tracker.log_metrics({"val_loss": random.random()}, 0)
"""


def test_one_of_several_runs_of_a_script_is_found_again(evlog: Evlog, repo: Repo) -> None:
    """A sweep in one process makes all its runs anew; the one that is meant is compared."""
    repo.write("train.py", SEVERAL)
    repo.commit()
    repo.python("train.py")

    done = evlog("reproduce", "seed=2", "--execute")

    assert "identical (1 values of 1 results)" in done.out, done.out + done.err
    assert "of the 4 runs that its process made" in done.err


def test_a_run_that_its_code_names_by_id_is_found(evlog: Evlog, repo: Repo) -> None:
    """Such a run does not join the one that was begun for it."""
    repo.write("train.py", SCRIPT.replace('start_run("job")', 'start_run(run_id="job")'))
    repo.commit()
    repo.python("train.py")

    done = evlog("reproduce", "job", "--execute")

    assert done.code == 0, done.err
    assert "demo/job -> demo/job-1\nidentical" in done.out
    assert [view(repo.run(name)).tags["reproduction"] for name in ("job-1", "job-repro-1")] == [
        "identical"
    ] * 2


def test_a_run_that_is_logged_into_the_worktree_is_compared(evlog: Evlog, repo: Repo, tmp_path: Path) -> None:
    """Its verdict is kept with the run of the command, and itself where somebody wants to keep it."""
    repo.write(
        "train.py",
        SCRIPT.replace('"demo")', '"demo", output_dir="experiments")').replace('"job"', 'run_id="job"'),
    )
    repo.commit()
    repo.python("train.py")

    lost = evlog("reproduce", "job", "--execute")
    kept = evlog("reproduce", "job", "--execute", "--into", str(tmp_path / "kept"))

    assert (lost.code, kept.code) == (0, 0), lost.err + kept.err
    assert "--into DIR keeps it" in lost.out
    assert view(repo.run("job-repro-1")).tags["reproduction"] == "identical"
    assert (
        view(tmp_path / "kept" / "code" / "experiments" / "demo" / "job").tags["reproduction"] == "identical"
    )
    assert sorted(path.name for path in (repo.root / "demo").iterdir()) == [
        "job",
        "job-repro-1",
        "job-repro-2",
    ]


def test_a_command_that_writes_into_the_old_run_is_found_out(evlog: Evlog, repo: Repo) -> None:
    """Code that names directory and run, and goes on with it, cannot be kept from it; it is no repetition."""
    repo.write(
        "train.py",
        f"""
        from eventlog import create_tracker

        tracker = create_tracker("local", project="demo", output_dir={str(repo.path)!r} + "/experiments")
        with tracker.start_run(run_id="job", resume=tracker.root.joinpath("demo/job").exists()):
            tracker.log_metrics({{"val_loss": 0.5}}, 0)
        """,
    )
    repo.commit()
    repo.python("train.py")

    done = evlog("reproduce", "job", "--execute")

    assert done.code == 1
    assert "wrote into demo/job itself" in done.err
    assert repo.worktrees == 1


def test_a_killed_run_is_compared_as_far_as_it_came(evlog: Evlog, repo: Repo) -> None:
    """The points that both have count, and the verdict says so."""
    killed = SCRIPT.replace(
        'tracker.log_metrics({"nan"', "__import__('os')._exit(9)\n    tracker.log_metrics({\"nan\""
    )
    repo.write("train.py", killed)
    repo.python("train.py", code=9)
    git(repo.path, "checkout", "--quiet", ".")
    repo.run("job").joinpath("artifacts/code/uncommitted.diff").unlink(missing_ok=True)

    done = evlog("reproduce", "job", "--execute", "--in-place")

    assert done.code == 0, done.err
    assert "it crashed; only what it came to is compared" in done.err
    assert "identical (5 values of 1 results, as far as both came)" in done.out


def test_a_repetition_that_fails_says_why(evlog: Evlog, repo: Repo) -> None:
    """The run is kept with its error, and is no success."""
    repo.write("fails.py", SCRIPT + "\n    assert not __import__('os').path.exists('../broken')\n")
    repo.commit()
    repo.python("fails.py")
    repo.write("../broken", "")

    done = evlog("reproduce", "job", "--execute", "--in-place")

    assert done.code == 1
    assert "failed: the new run failed" in done.out
    new = view(repo.run("job-repro-1"))
    assert (new.status, new.tags["reproduction"]) == ("failed", "failed")


def test_a_resumed_evaluation_is_repeated_by_its_first_command(evlog: Evlog, repo: Repo) -> None:
    """Whoever went on with it only asked what was missing; the program comes from the environment of now."""
    repo.write(
        "model.py",
        """
        import os

        def answer(prompts):
            if "2" in prompts[0] and os.path.exists("../broken"):
                os._exit(9)
            return ["3" for _ in prompts]
        """,
    )
    items = ("1+1?", "1+2?", "1+3?")
    lines = [f'{{"question": "{item}", "answer": "3"}}\n' for item in items]
    repo.write("q.jsonl", "".join(lines))
    repo.commit()
    repo.write("../broken", "")
    words = ("eval", "q.jsonl", "--model", "model:answer", "--name", "job", "--project", "demo")
    repo.python("-m", "eventlog", *words, "--batch-size", "1", "--concurrency", "1", code=9)
    (repo.path.parent / "broken").unlink()
    repo.python("-m", "eventlog", "eval", "--resume", "job")

    done = evlog("reproduce", "job", "--execute")

    assert "finished what it began" in done.err
    assert "identical (3 values of 3 results)" in done.out, done.out + done.err
