"""`evlog reproduce`: environments are rebuilt from what was recorded, without network."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from eventlog.lineage.reproduce import read_recorded
from eventlog.lineage.reproduce.environment import (
    EnvironmentPlan,
    find_uv,
    plan_environment,
    probe,
    requirements,
    variables_for,
)
from tests.cli.conftest import Evlog, clean_environment, evlog
from tests.lineage.repositories import Repo, git, log_by_hand, repo

__all__ = ["clean_environment", "evlog", "repo"]  # fixtures

PYTHON = ".".join(map(str, sys.version_info[:3]))
LOGS = """
import subprocess
import {module}

command = ["{python}", "-m", "eventlog", "log", f"val_loss={{{module}.VALUE}}", "--step", "0"]
subprocess.run(command, check=True)
"""
"""A script that needs nothing of evlog in its own environment."""

NEEDS_UV = pytest.mark.skipif(find_uv() is None, reason="uv is not installed")


def make_wheel(directory: Path, name: str, version: str, code: str) -> None:
    """Make a wheel of one module."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.mark.parametrize("kind", [pytest.param("uv", marks=NEEDS_UV), "venv"])
def test_the_environment_is_rebuilt_from_the_recorded_packages(
    evlog: Evlog, repo: Repo, tmp_path: Path, kind: str
) -> None:
    """What the command imports has the version that was recorded, wherever it comes from."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        make_wheel(wheels, "toydep", version, f"VALUE = {version}\n")
    repo.write("train.py", LOGS.format(module="toydep", python=sys.executable))
    commit = repo.commit()
    log_by_hand(
        repo.path / "experiments",
        command={"argv": ["python", "train.py"], "cwd": str(repo.path)},
        git={"commit": commit, "root": str(repo.path), "is_dirty": False},
        environment={"python": PYTHON, "packages": {"ToyDep": "1.0"}},
    )
    options = ("--environment", kind, "--no-index", "--find-links", str(wheels))

    done = evlog("reproduce", "job", "--execute", *options, "--rtol", "2")

    assert f"building the environment with {kind}" in done.err
    assert (
        "equal within rel=2/abs=1e-12 (1 values of 1 results; farthest: val_loss at step 0: 0.5 was, 1.0 is)"
        in (done.out)
    ), done.err


@NEEDS_UV
def test_a_package_of_the_repository_comes_from_the_worktree(evlog: Evlog, repo: Repo) -> None:
    """Also where it cannot be built because there is no network: then its directory is on the path."""
    repo.write("lib/src/mine.py", "VALUE = 0.5\n")
    repo.write(
        "lib/pyproject.toml", "[build-system]\nrequires = ['no-such-thing-x']\n[project]\nname = 'mine'\n"
    )
    repo.write("train.py", LOGS.format(module="mine", python=sys.executable))
    commit = repo.commit()
    repo.write("lib/src/mine.py", "VALUE = 99\n")
    log_by_hand(
        repo.root,
        command={"argv": ["python", "train.py"], "cwd": str(repo.path)},
        git={"commit": commit, "root": str(repo.path)},
        environment={
            "python": PYTHON,
            "packages": {"mine": "0.1"},
            "sources": {"mine": f"file://{repo.path}/lib"},
        },
    )

    done = evlog("reproduce", "job", "--execute", "--environment", "uv", "--no-index")

    assert "mine could not be built" in done.err
    assert "identical (1 values of 1 results)" in done.out


@NEEDS_UV
def test_a_package_that_is_not_to_be_had_is_named(evlog: Evlog, repo: Repo) -> None:
    """One line from the installer, and nothing was run."""
    log_by_hand(
        repo.path / "experiments",
        command={"argv": ["python", "train.py"], "cwd": str(repo.path)},
        git={"commit": git(repo.path, "rev-parse", "HEAD"), "root": str(repo.path)},
        environment={
            "python": PYTHON,
            "packages": {"no-such-thing-x": "1.0"},
        },
    )

    done = evlog("reproduce", "job", "--execute", "--environment", "uv", "--no-index")

    assert done.code == 1
    assert "no-such-thing-x" in done.err
    assert "Traceback" not in done.err
    assert not repo.run("job-repro-1").exists()
    assert repo.worktrees == 1


def test_what_is_edited_where_it_was_is_imported_from_the_worktree(tmp_path: Path) -> None:
    """Packages in development mode, by a path or by a hook, come from the new place of the code."""
    for name in ("lib/src", "app", "tools"):
        (tmp_path / "new" / name).mkdir(parents=True)
    plan = EnvironmentPlan(
        kind="current",
        interpreter=sys.executable,
        python=None,
        local={"lib": "/old/lib", "other": "/elsewhere/other"},
        path=["/usr/lib/python", "/old/app", "/old/gone", "/older"],
    )

    found = variables_for(plan, sys.executable, {"/old": str(tmp_path / "new")})

    assert found["PYTHONPATH"].split(":") == [
        str(tmp_path / "new" / name) for name in ("app", "lib/src", "lib")
    ]


@pytest.mark.parametrize(
    ("packages", "sources", "expected"),
    [
        ({"A.b_c": "1.0", "pip": "24"}, {}, ["a-b-c==1.0"]),
        ({"x": "1"}, {"X": "git+https://host/x@abc"}, ["x @ git+https://host/x@abc"]),
        ({"x": "1"}, {"x": "file:///nowhere/x-1-py3-none-any.whl"}, ["x==1"]),
        ({"x": "1"}, {"x": "file:///somewhere/x"}, []),
        ({"x": ""}, {}, []),
    ],
)
def test_packages_are_pinned_to_what_they_were(
    tmp_path: Path, packages: dict[str, str], sources: dict[str, str], expected: list[str]
) -> None:
    """Exact versions, addresses where they came from one; directories are not among them."""
    environment = {"python": PYTHON, "packages": packages, "sources": sources}
    recorded = read_recorded(log_by_hand(tmp_path, environment=environment))

    assert requirements(plan_environment(recorded, "venv")) == expected


def test_an_interpreter_with_exactly_what_was_recorded_is_used(tmp_path: Path) -> None:
    """One more package, or another version, and it is not."""
    here = probe(sys.executable)
    exact = {"python": here.python, "packages": here.packages}
    other = {"python": here.python, "packages": {**here.packages, "evlog": "0.0.1"}}

    same = plan_environment(read_recorded(log_by_hand(tmp_path / "a", environment=exact)), "auto")
    rebuilt = plan_environment(read_recorded(log_by_hand(tmp_path / "b", environment=other)), "auto")

    assert (same.kind, same.interpreter, same.differences) == ("current", sys.executable, [])
    assert rebuilt.kind in ("uv", "venv")
