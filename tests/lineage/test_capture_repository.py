"""Which repository the code of a run lies in, and what is known where git does not help."""

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
from tests.lineage.support import captured, code, git, notes, repository, runs
from tests.tracker.support import logged, only_run, run_job

DIFF = "code/uncommitted.diff"


__all__ = ["code", "runs"]


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


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ("yes garbage", "git: git does not say where the repository is"),
        ("echo 'ld.so: noise' >&2; echo 'fatal: no way' >&2; exit 128", "git: no way"),
        ("kill -9 $$", "git: git ended with code -9"),
    ],
)
def test_a_git_that_talks_nonsense_costs_a_note(
    code: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, note: str
) -> None:
    """Not a megabyte of it, and not what a loader says before git does."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    view = captured(runs)

    assert notes(view) == note
    assert "git" not in view.context


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
