"""Which code a run ran."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import replay
from eventlog.events import Artifact
from eventlog.lineage.capture.child import Order, Teller
from eventlog.lineage.capture.probes import git as probe_git
from eventlog.projections import RunView
from tests.lineage.support import captured, git, notes, repository
from tests.tracker.support import logged, only_run, run_job

DIFF = "code/uncommitted.diff"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository, which is the working directory."""
    directory = repository(tmp_path / "code", train="print(1)\n")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return directory


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


def test_no_repository_costs_a_note(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the lineage is there."""
    monkeypatch.chdir(tmp_path)

    view = captured(runs)

    assert "git" not in view.context
    assert "git: not a git repository" in notes(view)
    assert "packages" in view.context["environment"]


def test_a_missing_git_costs_a_note(code: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a slim container."""
    monkeypatch.setenv("PATH", str(code))

    view = captured(runs)

    assert "git: git is not installed" in notes(view)
    assert "packages" in view.context["environment"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to somebody else")
def test_a_repository_of_somebody_else_costs_a_note(code: Path, runs: Path) -> None:
    """Git refuses it, and says so."""
    for path in [code, *code.rglob("*")]:
        os.chown(path, 12345, 12345)

    view = captured(runs)

    assert "dubious ownership" in notes(view)
    assert "git" not in view.context


def test_the_repository_is_that_of_the_script(tmp_path: Path, code: Path) -> None:
    """A script that is run from elsewhere lies in its own repository, not in the working directory's."""
    other = repository(tmp_path / "other", train="")
    (other / "train.py").write_text(
        "from eventlog import create_tracker\nwith create_tracker('local') as t: t.log_metrics({'a': 1})\n"
    )

    done = subprocess.run(
        [sys.executable, str(other / "train.py")],
        env={**os.environ, "EVLOG_LINEAGE": "1"},
        cwd=code,
        check=True,
    )

    view = replay.view(only_run(code / "experiments"))
    assert done.returncode == 0
    assert view.context["git"]["root"] == str(other)
    assert view.context["command"]["script"] == str(other / "train.py")
    assert view.context["command"]["cwd"] == str(code)
    assert view.context["git"]["diff"] == DIFF


@pytest.mark.parametrize(
    ("script", "is_code"),
    [
        ("/usr/src/app/train.py", True),
        ("/home/ada/train.py", True),
        ("/usr/local/bin/pytest", False),
        ("/usr/bin/torchrun", False),
        ("/code/.venv/lib/python3.11/site-packages/job/__main__.py", False),
        ("/code/.venv/train.py", True),
    ],
)
def test_an_entry_point_that_was_installed_is_not_the_code(script: str, is_code: bool) -> None:
    """`pytest` in a virtual environment inside of a repository says nothing; `/usr` may hold both."""
    order = Order(script, "/", None, "", ["/code/.venv", "/usr"], [], "", True, True)

    assert order.code_directory() == (str(Path(script).parent) if is_code else None)


def test_of_a_work_tree_that_takes_too_long_the_commit_is_known(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is changed is then unknown, and not said to be nothing."""
    commit, real = git(code, "rev-parse", "HEAD"), shutil.which("git")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *porcelain*) exec sleep 1000;; esac\nexec {real} "$@"\n'
    )
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(probe_git, "TIMEOUT_S", 0.5)
    said: list[bytes] = []
    order = Order(None, str(code), None, sys.executable, [], [], str(tmp_path), True, True)

    probe_git.probe(order, Teller("git", said.append))

    found = [json.loads(line) for line in said]
    assert "changes are not known: git gave no answer within 0.5 s" in found[0]["data"]["text"]
    assert found[-1]["data"]["commit"] == commit
    assert (found[-1]["data"]["branch"], found[-1]["data"]["is_dirty"]) == ("main", None)
    assert "untracked" not in found[-1]["data"]


def test_a_directory_whose_name_is_no_text_is_no_hindrance(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux allows any bytes in a path."""
    odd = repository(tmp_path / os.fsdecode(b"caf\xe9"))
    monkeypatch.chdir(odd)

    view = captured(runs)

    assert view.context["git"]["root"] == f"{tmp_path}/caf\\udce9"
    assert view.context["command"]["cwd"] == f"{tmp_path}/caf\\udce9"


def test_log_code_stores_the_diff_without_lineage_and_with_it_once(code: Path, tmp_path: Path) -> None:
    """The option means what it always meant."""
    (code / "train.py").write_text("print(2)\n")
    job = """
    from eventlog import create_tracker
    open("evlog.toml", "w").write("[lineage]\\nenabled = false\\n")
    for lineage in (False, True, None):
        with create_tracker("local", output_dir=f"../{lineage}", log_code=True, lineage=lineage) as tracker:
            tracker.log_metrics({"a": 1})
    """

    code_, _, err = run_job(job, code)

    assert (code_, err) == (0, "")
    for lineage in ("False", "True", "None"):
        names = [artifact.name for artifact in logged(only_run(tmp_path / lineage), Artifact)]
        assert names == [DIFF]
        context = replay.view(only_run(tmp_path / lineage)).context
        assert ("environment" in context) == (lineage == "True")
