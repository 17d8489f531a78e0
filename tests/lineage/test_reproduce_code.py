"""`evlog reproduce`: where the code comes from, when it is not simply there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.events import Dataset
from eventlog.lineage.reproduce.code import CodePlan, check_out, remove_worktree, why_no_commit
from eventlog.lineage.reproduce.data import plan_data
from tests.cli.conftest import Evlog, clean_environment, evlog
from tests.lineage.repositories import CAPTURING, SCRIPT, Repo, git, repo

__all__ = ["clean_environment", "evlog", "repo"]  # fixtures


def plan_of(repo: Repo, **more: object) -> CodePlan:
    """Return a plan that takes the commit of now from *repo*."""
    commit = git(repo.path, "rev-parse", "HEAD")
    place = str(repo.path)
    given = {"commit": commit, "root": place, "repository": place, **more}
    return CodePlan(**given)  # type: ignore[arg-type]


def test_a_diff_that_was_changed_is_not_applied(evlog: Evlog, repo: Repo) -> None:
    """Its hash is in the log."""
    repo.write("train.py", SCRIPT + "\n# a change\n")
    repo.python("train.py")
    diff = repo.run("job") / "artifacts" / "code" / "uncommitted.diff"
    diff.chmod(0o644)
    diff.write_text(diff.read_text().replace("a change", "b change"))

    done = evlog("reproduce", "job", "--execute")

    assert done.code == 1
    assert "SHA-256" in done.err
    assert "Traceback" not in done.err


def test_the_repository_may_have_moved(evlog: Evlog, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is named; a clone of the remote is the last resort."""
    repo.python("train.py")
    moved = repo.path.with_name("moved")
    repo.path.rename(moved)
    monkeypatch.chdir(moved)

    nowhere = evlog("reproduce", "job", "--execute")
    named = evlog("reproduce", "job", "--execute", "--repo", str(moved))

    assert (nowhere.code, named.code) == (1, 0), named.err
    assert "--repo" in nowhere.err
    assert "identical" in named.out


def test_a_repository_is_cloned_from_its_remote(
    evlog: Evlog, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing of it is left on this machine but the log."""
    git(tmp_path, "clone", "--quiet", "--bare", str(repo.path), "origin.git")
    git(tmp_path, "clone", "--quiet", str(tmp_path / "origin.git"), "mine")
    words = [sys.executable, "train.py"]
    subprocess.run(words, cwd=tmp_path / "mine", check=True, capture_output=True, env=os.environ | CAPTURING)
    (tmp_path / "mine" / "experiments").rename(tmp_path / "experiments")
    (tmp_path / "mine").rename(tmp_path / "gone")
    monkeypatch.chdir(tmp_path)

    done = evlog("reproduce", "job", "--execute")

    assert done.code == 0, done.err
    assert "identical" in done.out


def test_data_of_a_repository_that_has_moved_are_found_there(repo: Repo) -> None:
    """They lay among the code, and may lie there still."""
    repo.write("data/x.csv", "1")
    sha256 = hashlib.sha256(b"1").hexdigest()
    plan = plan_of(repo, root="/where/it/was")
    dataset = Dataset(name="x", path="/where/it/was/data/x.csv", sha256=sha256)

    (same,) = plan_data([dataset], plan, None)
    repo.write("data/x.csv", "2")
    (other,) = plan_data([dataset], plan, None)

    assert (same.state, same.path) == ("same", str(repo.path / "data" / "x.csv"))
    assert (other.state, other.path) == ("gone", "/where/it/was/data/x.csv")


def test_a_commit_of_no_branch_is_fetched(repo: Repo, tmp_path: Path) -> None:
    """A branch may be gone from the remote, and its commits are still there."""
    repo.write("train.py", "gone = 1")
    commit = repo.commit()
    git(repo.path, "reset", "--quiet", "--hard", "HEAD~1")
    git(repo.path, "config", "uploadpack.allowAnySHA1InWant", "true")
    plan = plan_of(repo, commit=commit, repository=f"file://{repo.path}", is_clone=True)

    check_out(plan, tmp_path / "code", clone_to=tmp_path / "clone")

    assert (tmp_path / "code" / "train.py").read_text() == "gone = 1"


def test_why_a_repository_is_of_no_use_is_said_in_the_words_of_git(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there, none, one of somebody else, and one without the commit."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    missing = why_no_commit(tmp_path / "nothing", "0" * 40)
    none = why_no_commit(tmp_path / "empty", "0" * 40)
    without = why_no_commit(repo.path, "0" * 40)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    foreign = why_no_commit(repo.path, "0" * 40)

    assert missing.endswith("nothing is not there")
    assert none.startswith("not a git repository")
    assert without == f"{repo.path} does not have {'0' * 40}"
    assert "dubious ownership" in foreign


def test_a_repository_that_cannot_be_written_into_is_borrowed_from(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may belong to somebody else: then a clone takes the place of a worktree of it."""
    (repo.path / ".git" / "worktrees").write_text("no directory can be made here, whoever asks")
    plan = plan_of(repo)

    check_out(plan, tmp_path / "code", clone_to=tmp_path / "clone")
    remove_worktree(plan, tmp_path / "code")

    assert (tmp_path / "code" / "train.py").read_text() == SCRIPT


def test_submodules_come_from_those_of_the_work_tree(repo: Repo, tmp_path: Path) -> None:
    """Also with a commit that was never pushed, which only the uncommitted changes name."""
    library = Repo(tmp_path / "library")
    git(
        repo.path,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "--quiet",
        str(library.path),
        "a b/lib",
    )
    repo.commit()
    git(repo.path / "a b" / "lib", "commit", "--quiet", "--allow-empty", "--message", "mine alone")
    commit = git(repo.path / "a b" / "lib", "rev-parse", "HEAD")
    diff = tmp_path / "code.diff"
    diff.write_text(git(repo.path, "diff", "--submodule=short", "HEAD") + "\n")

    check_out(plan_of(repo, diff=str(diff)), tmp_path / "code", clone_to=tmp_path / "clone")

    assert git(tmp_path / "code" / "a b" / "lib", "rev-parse", "HEAD") == commit
    assert (tmp_path / "code" / "a b" / "lib" / "train.py").is_file()


def test_binary_changes_and_strange_names_are_applied(repo: Repo, tmp_path: Path) -> None:
    """What git can say in a diff is there again, with its line ends."""
    repo.write(".gitattributes", "*.txt text eol=crlf\n")
    for name in ("w ü.bin", "old.bin", "line.txt"):
        repo.write(name, "one\n")
    repo.commit()
    (repo.path / "w ü.bin").write_bytes(b"\x00\xff\r\n")
    (repo.path / "old.bin").unlink()
    (repo.path / "line.txt").write_bytes(b"one\r\ntwo\r\n")
    diff = tmp_path / "code.diff"
    words = ["git", "diff", "--binary", "HEAD"]
    diff.write_bytes(subprocess.run(words, cwd=repo.path, check=True, capture_output=True).stdout)

    check_out(plan_of(repo, diff=str(diff)), tmp_path / "cö de", clone_to=tmp_path / "clone")

    assert (tmp_path / "cö de" / "w ü.bin").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "cö de" / "line.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert not (tmp_path / "cö de" / "old.bin").exists()
