"""Which code a run ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventlog.projections import RunView
from tests.lineage.support import captured, code, git, notes, repository, runs

DIFF = "code/uncommitted.diff"


__all__ = ["code", "runs"]


def diff_of(view: RunView, runs: Path) -> bytes:
    (artifact,) = [one for one in view.artifacts if one.name == DIFF]
    return (runs / "p" / view.run_id / artifact.path).read_bytes()


def test_a_clean_repository_is_named_by_its_commit(code: Path, runs: Path) -> None:
    """Commit, branch and root are those of git; there is nothing else to keep."""
    view = captured(runs)

    found = view.context["git"]
    assert found["commit"] == git(code, "rev-parse", "HEAD")
    assert (found["branch"], found["root"], found["user"]) == ("main", str(code), "Ada")
    assert (found["is_dirty"], found["dirty"], found["untracked"]) == (False, False, [])
    assert "diff" not in found
    assert view.artifacts == []
    assert notes(view) == ""


def test_the_diff_applied_to_the_commit_gives_the_work_tree(code: Path, runs: Path, tmp_path: Path) -> None:
    """Changed, deleted, renamed, binary and executable files, and odd names: nothing tracked is lost."""
    (code / "gone.py").write_text("old\n")
    (code / "moved.py").write_text("a\nb\nc\n")
    (code / "image.bin").write_bytes(bytes(range(256)) * 20)
    (code / "run.sh").write_text("echo\n")
    git(code, "add", "-A")
    git(code, "commit", "-qm", "second")
    (code / "train.py").write_text("print(2)")
    (code / "gone.py").unlink()
    git(code, "mv", "moved.py", "ünï \n code.py")
    (code / "image.bin").write_bytes(bytes(range(255, -1, -1)) * 20)
    (code / "run.sh").chmod(0o755)
    (code / "staged.py").write_text("new\n")
    git(code, "add", "staged.py")

    view = captured(runs)

    git(tmp_path, "clone", "-q", str(code), "again")
    git(tmp_path / "again", "apply", "--index", "-", stdin=diff_of(view, runs))
    git(code, "add", "-u")
    assert git(tmp_path / "again", "write-tree") == git(code, "write-tree")
    assert view.context["git"]["is_dirty"] is True
    assert view.context["git"]["diff"] == DIFF
    assert view.context["git"]["diff_is_complete"] is True
    assert view.context["git"]["diff_sha256"] == view.artifacts[0].sha256


def test_settings_of_the_user_do_not_change_the_diff(
    code: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Colours, other prefixes, external programs and text conversions are of no account."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    trap.chmod(0o755)
    (code / ".gitattributes").write_text("*.py diff=odd\n")
    git(code, "add", "-A")
    git(code, "commit", "-qm", "second")
    for setting, value in {
        "color.ui": "always",
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.external": str(trap),
        "diff.odd.textconv": str(trap),
        "diff.odd.command": str(trap),
        "core.fsmonitor": str(trap),
        "core.pager": str(trap),
        "diff.relative": "true",
        "diff.context": "0",
    }.items():
        git(code, "config", setting, value)
    (code / "train.py").write_text("print(2)\n")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(trap))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))

    view = captured(runs)

    diff = diff_of(view, runs)
    assert diff.startswith(b"diff --git a/train.py b/train.py\n")
    assert b"-print(1)\n+print(2)\n" in diff
    assert not (tmp_path / "ran").exists()


def test_a_file_of_which_only_the_time_has_changed_is_no_change(code: Path, runs: Path) -> None:
    """What was touched but is the same makes nothing dirty, and the index is left as it is."""
    index = (code / ".git" / "index").read_bytes()
    os.utime(code / "train.py", (1, 1))

    view = captured(runs)

    assert view.context["git"]["is_dirty"] is False
    assert (code / ".git" / "index").read_bytes() == index


def test_touched_files_leave_no_trace_in_a_diff(code: Path, runs: Path, tmp_path: Path) -> None:
    """Beside a real change, a touched file has no section, so that the diff can be applied."""
    for name in ("a", "b", "c"):
        (code / f"{name}.py").write_text(name)
    git(code, "add", "-A")
    git(code, "commit", "-qm", "second")
    for name in ("a", "c", "train"):
        os.utime(code / f"{name}.py", (1, 1))
    (code / "b.py").write_text("changed")

    diff = diff_of(captured(runs), runs)

    assert diff.count(b"diff --git") == 1
    git(tmp_path, "clone", "-q", str(code), "again")
    git(tmp_path / "again", "apply", "-", stdin=diff)


def test_untracked_files_are_listed_and_make_nothing_dirty(code: Path, runs: Path) -> None:
    """Names with newlines and other alphabets, and bytes that are no text; not what git ignores."""
    (code / ".gitignore").write_text("*.log\n")
    git(code, "add", "-A")
    git(code, "commit", "-qm", "second")
    (code / "new").mkdir()
    for name in ("new/модель.py", "two\nlines", "x.log"):
        (code / name).write_text("")
    (code / os.fsdecode(b"caf\xe9")).write_text("")

    found = captured(runs).context["git"]

    assert found["untracked"] == ["caf\\udce9", "new/модель.py", "two\nlines"]
    assert found["untracked_count"] == 3
    assert found["is_dirty"] is False


def test_the_runs_themselves_are_not_untracked_files(code: Path) -> None:
    """A root of runs inside of the repository does not make each run list the others."""
    captured(code / "my [runs]", "a")

    assert captured(code / "my [runs]", "b").context["git"]["untracked"] == []


def test_many_untracked_files_are_counted(code: Path, runs: Path) -> None:
    """The list is bounded; the number is not."""
    (code / "data").mkdir()
    for number in range(1100):
        (code / "data" / str(number)).touch()

    found = captured(runs).context["git"]

    assert found["untracked_count"] == 1100
    assert len(found["untracked"]) == 1000  # type: ignore[arg-type]


def test_a_large_diff_is_cut_between_files(code: Path, runs: Path, tmp_path: Path) -> None:
    """At most 5 MiB are kept, and what is kept can be applied."""
    for name in ("a.txt", "b.txt", "c.txt"):
        (code / name).write_text("x\n")
    git(code, "add", "-A")
    git(code, "commit", "-qm", "second")
    for name in ("a.txt", "b.txt", "c.txt"):
        (code / name).write_text("line of a large file\n" * 120_000)

    view = captured(runs)

    diff = diff_of(view, runs)
    assert view.context["git"]["diff_is_complete"] is False
    assert 2 << 20 < len(diff) <= 5 << 20
    assert "larger than 5 MiB" in notes(view)
    git(tmp_path, "clone", "-q", str(code), "again")
    git(tmp_path / "again", "apply", "-", stdin=diff)


def test_a_detached_head_has_a_commit_and_no_branch(code: Path, runs: Path) -> None:
    """As a CI job checks it out."""
    git(code, "checkout", "-q", "--detach")

    found = captured(runs).context["git"]

    assert (found["branch"], found["commit"]) == (None, git(code, "rev-parse", "HEAD"))


def test_a_repository_without_commits_has_a_diff_against_nothing(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was staged before the first commit is kept too."""
    new = tmp_path / "new"
    new.mkdir()
    git(new, "init", "-q")
    (new / "first.py").write_text("print(1)\n")
    git(new, "add", "first.py")
    monkeypatch.chdir(new)

    view = captured(runs)

    assert (view.context["git"]["commit"], view.context["git"]["branch"]) == (None, "main")
    assert b"+print(1)" in diff_of(view, runs)


def test_a_worktree_is_a_repository_like_any_other(
    code: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root and branch are those of the worktree."""
    git(code, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    monkeypatch.chdir(tmp_path / "side")

    found = captured(runs).context["git"]

    assert (found["root"], found["branch"]) == (str(tmp_path / "side"), "side")


def test_changes_inside_of_a_submodule_are_noted(code: Path, runs: Path, tmp_path: Path) -> None:
    """The diff of the outer repository cannot hold them."""
    repository(tmp_path / "inner", part="1\n")
    git(code, "submodule", "add", "-q", str(tmp_path / "inner"), "lib")
    git(code, "commit", "-qm", "with a submodule")
    (code / "lib" / "part.py").write_text("2\n")

    view = captured(runs)

    assert "submodule 'lib' has changes" in notes(view)
    assert view.context["git"]["is_dirty"] is True
    assert "diff" not in view.context["git"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ada:s3cret@example.com/x/y.git", "https://example.com/x/y.git"),
        ("https://s3cret@example.com/x/y.git", "https://example.com/x/y.git"),
        ("https://ada:s3/cret@example.com:80/x.git", "https://example.com:80/x.git"),
        ("https://ada:s3?cret@example.com/x.git?a=1", "https://example.com/x.git?a=1"),
        ("https://example.com/x.git?private_token=s3cret", "https://example.com/x.git"),
        ("ssh://git:s3cret@example.com/x.git", "ssh://example.com/x.git"),
        ("ssh://git@example.com:22/x.git", "ssh://git@example.com:22/x.git"),
        ("git@example.com:x/y.git", "git@example.com:x/y.git"),
        ("/srv/git/x@y.git", "/srv/git/x@y.git"),
        ("https://example.com/@scope/x.git", "https://example.com/@scope/x.git"),
    ],
)
def test_credentials_in_a_remote_are_not_written_down(code: Path, runs: Path, url: str, shown: str) -> None:
    """What is kept says where the code comes from, and does not open the door."""
    git(code, "remote", "add", "origin", url)

    view = captured(runs)

    assert view.context["git"]["remote"] == shown
    assert b"s3cret" not in b"".join(path.read_bytes() for path in runs.rglob("*.jsonl"))


def test_the_remote_is_that_of_the_branch(code: Path, runs: Path) -> None:
    """With several remotes the one that the branch follows counts, then `origin`."""
    git(code, "remote", "add", "fork", "https://example.com/fork.git")
    git(code, "remote", "add", "origin", "https://example.com/origin.git")
    first = captured(runs, "a").context["git"]["remote"]
    git(code, "config", "branch.main.remote", "fork")

    assert (first, captured(runs, "b").context["git"]["remote"]) == (
        "https://example.com/origin.git",
        "https://example.com/fork.git",
    )
