from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eventlog.cli.app import app
from eventlog.lake.published import lake_of
from tests.lake.support import RunMaker, make_runs, steps


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with two runs."""
    make_runs(tmp_path / "root", 2)
    return tmp_path / "root"


def evlog(*arguments: object) -> Result:
    """Run one command."""
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_publish_says_what_it_did(root: Path, tmp_path: Path) -> None:
    """One line for people, JSON for programs."""
    first = evlog("publish", tmp_path / "lake", "--dir", root)
    second = evlog("publish", tmp_path / "lake", "--dir", root, "--json")

    assert (first.exit_code, first.stdout) == (
        0,
        "published: 80 points and 6 other rows, 2 runs renewed\n",
    )
    assert json.loads(second.stdout)["runs"] == 0


def test_verify_ends_with_one_where_something_differs(root: Path, tmp_path: Path) -> None:
    """The exit code says whether the lake holds what the logs hold; a table says what does not fit."""
    evlog("publish", tmp_path / "lake", "--dir", root)
    good = evlog("publish", tmp_path / "lake", "--dir", root, "--verify")
    RunMaker(root, "new").put(steps(3))

    bad = evlog("publish", tmp_path / "lake", "--dir", root, "--verify")

    assert good.exit_code == 0
    assert good.stdout.startswith("verified: ")
    assert bad.exit_code == 1
    assert "demo/new" in bad.stdout
    assert "not published" in bad.stdout


def test_verify_of_nothing_says_to_publish_first(root: Path, tmp_path: Path) -> None:
    """A lake that is not there is an error in one line."""
    result = evlog("publish", tmp_path / "none", "--dir", root, "--verify")

    assert result.exit_code == 1
    assert "Publish first" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--keep", "soon"], "10m"),
        (["--option", "novalue"], "KEY=VALUE"),
        (["--option", "a=b"], "takes no options"),
        (["--remove", "norun"], "PROJECT/RUN_ID"),
        (["--verify", "--prune"], "--verify"),
    ],
)
def test_wrong_options_are_told(root: Path, tmp_path: Path, arguments: list[str], told: str) -> None:
    """Each names what it wants."""
    result = evlog("publish", tmp_path / "lake", "--dir", root, *arguments)

    assert result.exit_code in {1, 2}
    assert told in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("package", ["deltalake", "pyarrow"])
def test_a_missing_package_is_told_with_the_command(
    root: Path, tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who installed only evlog reads what to install."""
    monkeypatch.setitem(sys.modules, package, None)

    result = evlog("publish", tmp_path / "lake", "--dir", root)

    assert result.exit_code == 1
    assert "pip install 'evlog[lake]'" in result.stderr


def test_the_lake_of_a_root_is_remembered(root: Path, tmp_path: Path) -> None:
    """Who published to one lake need not name it again."""
    evlog("publish", tmp_path / "lake", "--dir", root)

    assert lake_of(root) == str(tmp_path / "lake")
