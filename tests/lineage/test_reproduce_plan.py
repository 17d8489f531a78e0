"""`evlog reproduce`: what is not known is said, and nothing is run on a guess."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from eventlog.events import Context, Event, Metrics, Note, RunResumed, Tags
from eventlog.lineage.reproduce import Recorded, make_plan, read_recorded
from eventlog.lineage.reproduce.command import argv_for, plan_command, variables_of
from tests.cli.conftest import Evlog, clean_environment, evlog
from tests.lineage.repositories import Repo, git, log_by_hand, repo
from tests.logs import START_TS, LogMaker, put

__all__ = ["clean_environment", "evlog", "repo"]  # fixtures


Reason = Literal["resumed", "joined"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


@pytest.mark.parametrize(
    ("contexts", "said"),
    [
        ({"command": {"argv": ["-c"], "python": "3.11.1"}}, "not what it ran"),
        ({"command": {"argv": [""], "orig_argv": ["python"], "cwd": "/x"}}, "interactive session"),
        ({"command": {"orig_argv": ["python", "-"], "cwd": "/x"}}, "standard input"),
        ({"command": {"orig_argv": ["python", "-m", "ipykernel_launcher", "-f", "x"]}}, "notebook"),
        ({"git": {"commit": "0" * 40, "root": "/nowhere"}}, "/nowhere is not there"),
        ({"git": {"commit": "0" * 40}}, "--repo PATH names one that has 000000000000"),
        ({"git": {"commit": None}}, "in no repository"),
        ({"git": {"commit": "0" * 40, "is_dirty": True}}, "uncommitted changes that are not kept"),
        ({"git": {"commit": "0" * 40, "diff_is_complete": False}}, "too large: cut"),
        ({"git": {"commit": "0" * 40, "untracked": ["a\x1b"], "untracked_count": 7}}, "did not know 7 files"),
        ({"git": {"commit": "0" * 40, "untracked": ["a.py"]}}, "a.py; code among them is missing"),
        (
            {
                "git": {"commit": "0" * 40, "root": "/x", "untracked": ["a.py"]},
                "command": {"orig_argv": ["python", "a.py"], "script": "/x/a.py", "cwd": "/x"},
            },
            "stops, unless --force: untracked: git did not know /x/a.py, which is what was run",
        ),
        (
            {
                "git": {"commit": "0" * 40},
                "lineage": {"notes": ["submodule 'a' has changes of its own, which the diff does not hold"]},
            },
            "stops, unless --force: lineage: submodule 'a'",
        ),
        ({"environment": {"python": "2.7.1", "packages": {"nothing": "1"}}}, "python 2.7.1 was"),
        ({}, "the packages are not recorded"),
    ],
)
def test_what_is_not_known_is_said(
    evlog: Evlog, root: Path, contexts: dict[str, dict[str, object]], said: str
) -> None:
    """A plan is made of any run, and names what would have to be guessed."""
    log_by_hand(root, **contexts)

    plan = evlog("reproduce", "job", "--environment", "current")

    assert plan.code == 0
    assert said in plan.out
    assert "\x1b" not in plan.out


def test_nothing_is_run_on_a_guess(evlog: Evlog, root: Path) -> None:
    """Without command and commit --execute refuses, also under --force, and leaves nothing behind."""
    log_by_hand(root)

    refused = evlog("reproduce", "job", "--execute", "--force", "--environment", "current")

    assert refused.code == 1
    assert "no command is recorded" in refused.err
    assert "in no repository" in refused.err
    assert [path.name for path in (root / "demo").iterdir()] == ["job"]


def test_uncommitted_changes_that_are_not_kept_need_force(evlog: Evlog, repo: Repo) -> None:
    """What stops a repetition can be overruled where it only makes the result doubtful."""
    git_context = {"commit": git(repo.path, "rev-parse", "HEAD"), "root": str(repo.path), "is_dirty": True}
    command = {"orig_argv": ["python", "train.py"], "cwd": str(repo.path), "python": "3.11.9"}
    log_by_hand(repo.root, git=git_context, command=command)

    plan = make_plan(read_recorded(repo.run("job")), repo.root, environment="current")
    refused = evlog("reproduce", "job", "--execute", "--environment", "current")

    assert not plan.is_ready
    assert [problem.about for problem in plan.problems if problem.blocks] == ["diff"]
    assert not any(problem.is_final for problem in plan.problems)
    assert "--force" in refused.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({"orig_argv": ["/v/bin/python", "-m", "x"], "argv": ["/r/x.py"], "cwd": "/r"}, ["PY", "-m", "x"]),
        ({"argv": ["python3.11", "/r/train.py"], "cwd": "/r"}, ["PY", "/new/train.py"]),
        ({"argv": ["bash", "go.sh", "--out=/r/out"], "cwd": "/r"}, ["bash", "go.sh", "--out=/new/out"]),
        ({"argv": ["train.py", "--lr", "1"], "python": "3.11.9"}, ["PY", "train.py", "--lr", "1"]),
        ({"argv": ["/rest/tool", "/r"], "cwd": "/r"}, ["/rest/tool", "/new"]),
        ({"argv": ["python", "x.py", "--name", "ipython"], "cwd": "/r"}, ["PY", "x.py", "--name", "ipython"]),
    ],
)
def test_command_is_given_again_in_its_new_place(
    root: Path, command: dict[str, object], words: list[str]
) -> None:
    """Each way in which a command was ever recorded is understood; paths of the old code become new ones."""
    recorded = read_recorded(log_by_hand(root, command=command))

    plan, _ = plan_command(recorded)

    assert plan is not None
    assert argv_for(plan, "PY", {"/r": "/new"}) == words


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (["/r/.venv/bin/python", "/r/.venv/bin/tool", "/r/x.py"], ["PY", "NOW/tool", "/new/x.py"]),
        (["/r/.venv/bin/tool", "--to=/r/.venv/x"], ["NOW/tool", "--to=/new/.venv/x"]),
        (["/r/.venv/bin/gone"], ["/r/.venv/bin/gone"]),
    ],
)
def test_programs_come_from_the_environment_of_now(
    root: Path, tmp_path: Path, plan: list[str], words: list[str]
) -> None:
    """An environment that lay among the code is not in the worktree; what it is now has the same programs."""
    now = tmp_path / "bin"
    now.mkdir()
    (now / "tool").touch()
    run = log_by_hand(root, command={"argv": plan, "cwd": "/r"}, environment={"prefix": "/r/.venv"})

    found, _ = plan_command(read_recorded(run))

    assert found is not None
    python = str(now / "python")
    expected = [word.replace("PY", python).replace("NOW", str(now)) for word in words]
    assert argv_for(found, python, {"/r": "/new"}) == expected


# --- who goes on with a run ------------------------------------------------------------------------

FIRST = ["python", "/bin/evlog", "eval", "x.jsonl"]
RESUME = ["python", "/bin/evlog", "eval", "--resume", "job"]


def go_on(root: Path, words: list[str], events: Sequence[Event], reason: Reason = "resumed") -> Recorded:
    """Return a run that another process took part in later, with another commit."""
    command = {"argv": FIRST, "orig_argv": FIRST, "cwd": "/r"}
    run = log_by_hand(root, command=command, git={"commit": "0" * 40})
    later = [
        RunResumed(reason=reason),
        Context(kind="command", data={"argv": words, "orig_argv": words, "cwd": "/other"}),
        Context(kind="git", data={"commit": "1" * 40}),
        Context(kind="hardware", data={"cpu": "a fast one"}),
        *events,
    ]
    writer = "r0-01KAHCZG000000000000000B00"
    put(run, 1, b"".join(LogMaker(writer, start_ts=START_TS + 60_000_000).segment(later)), writer=writer)
    return read_recorded(run)


def test_what_began_a_run_counts(root: Path) -> None:
    """Who goes on with it tells its own command and commit later; what nobody said before is taken."""
    recorded = go_on(root, RESUME, [Metrics(step=1, data={"val_loss": 0.5})])

    assert (recorded.command["argv"], recorded.cwd) == (FIRST, "/r")
    assert recorded.context("git") == {"commit": "0" * 40}
    assert recorded.context("hardware") == {"cpu": "a fast one"}


@pytest.mark.parametrize(
    ("words", "events", "blocking"),
    [
        (RESUME, [Metrics(step=1, data={"val_loss": 0.5})], ["code"]),
        (FIRST, [Metrics(step=1, data={"val_loss": 0.5})], ["code"]),
        (["python", "more.py"], [Metrics(step=1, data={"val_loss": 0.5})], ["run", "code"]),
        (["python", "more.py"], [Note(text="nice"), Tags(data={"a": "b"})], []),
    ],
)
def test_whether_one_command_makes_all_of_a_run(
    root: Path, words: list[str], events: list[Event], blocking: list[str]
) -> None:
    """The rest of an evaluation and the same command again do; notes are no work; other code is another."""
    recorded = go_on(root, words, events)

    plan = make_plan(recorded, root, environment="current")

    assert [one.about for one in plan.problems if one.blocks and one.about != "diff"] == blocking


@pytest.mark.parametrize(("words", "blocks"), [({"orig_argv": ["python", "x.py"]}, True), ({}, False)])
def test_the_command_of_one_rank_is_not_that_of_all(
    root: Path, words: dict[str, list[str]], blocks: bool
) -> None:
    """What `evlog run` was told starts all ranks; what one of them knows starts itself."""
    run = log_by_hand(root, command={"argv": ["torchrun", "x.py"], "cwd": "/r", **words})
    writer = "r3-01KAHCZG000000000000000B00"
    put(run, 1, b"".join(LogMaker(writer).segment([Metrics(step=0, data={"val_loss": 1.0})])), writer=writer)

    plan = make_plan(read_recorded(run), root, environment="current")

    (problem,) = [problem for problem in plan.problems if "ranks" in problem.reason]
    assert (problem.blocks, problem.reason[:7]) == (blocks, "4 ranks")


def test_variables_of_one_start_are_not_given_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks, jobs and search paths of then would mislead the command of now."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    variables = {
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": "/r/src:/other",
        "RANK": "3",
        "LOCAL_RANK": "3",
        "SLURM_JOB_ID": "7",
        "EVLOG_DIR": "/x",
        "VIRTUAL_ENV": "/v",
        "CUDA_VISIBLE_DEVICES": "0",
        "TORCH_LOGS": "x" * 10 + "…",
    }
    run = log_by_hand(root, command={"argv": ["x", "y"]}, environment={"variables": variables})

    plan, _ = plan_command(read_recorded(run))

    assert plan is not None
    assert variables_of(plan, {"/r": "/new"}) == {"PYTHONHASHSEED": "0", "PYTHONPATH": "/new/src:/other"}


def test_what_is_missing_lists_holes_and_nothing_else(evlog: Evlog, repo: Repo) -> None:
    """Of a run whose lineage was captured little is missing."""
    repo.python("train.py")

    done = evlog("reproduce", "job", "--what-is-missing", "--json")

    assert {gap["field"] for gap in json.loads(done.out)["gaps"]} <= {"data.name", "env.cuda"}
    assert done.code == 1


def test_a_plan_changes_nothing(evlog: Evlog, repo: Repo) -> None:
    """Without --execute there is a plan for people, and as JSON for programs."""
    commit = git(repo.path, "rev-parse", "HEAD")
    repo.python("train.py")

    done = evlog("reproduce", "job", "--output", "plan.json")

    plan = json.loads((repo.path / "plan.json").read_text())
    assert done.code == 0
    assert done.out.startswith(
        "demo/job can be repeated: add --execute\n  code         commit " + commit[:12]
    )
    assert f"job-repro-1/code {commit}" in plan["steps"][0]
    assert (plan["code"]["commit"], plan["new_run_id"], plan["is_ready"]) == (commit, "job-repro-1", True)
    assert sorted(os.listdir(repo.root / "demo")) == ["job"]  # noqa: PTH208 - names, not paths
