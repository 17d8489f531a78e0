"""A shared root with runs and projects of others that may not be read: everything else goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import Tracker

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
COMMANDS = ("list", "verify", "sync --status", "reproduce open", "query", "audit", "report", "stats")


def as_somebody(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as an ordinary user, since root may read everything."""
    is_root = os.geteuid() == 0
    return subprocess.run(
        [sys.executable, *words],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        user=NOBODY if is_root else None,
        group=NOBODY if is_root else None,
        extra_groups=[] if is_root else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def is_readable_to_somebody(home: Path) -> bool:
    """Tell whether an ordinary user can run this Python with this code."""
    try:
        return as_somebody("-c", "import eventlog.cli.app", home=home).returncode == 0
    except PermissionError:
        return False


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a directory with the readable run `open`, the closed run `closed` and a closed project."""
    with tempfile.TemporaryDirectory() as name:
        home, root = Path(name), Path(name) / "experiments"
        home.chmod(0o777)
        if not is_readable_to_somebody(home):
            pytest.skip("an ordinary user may not read the Python of this test")
        for run in ("open", "closed"):
            with Tracker((), output_dir=root, lineage=False).start_run(run):
                pass
        closed = [root / "default" / "closed", root / "secret"]
        closed[1].mkdir()
        for path in closed:
            path.chmod(0)
        yield home
        for path in closed:
            path.chmod(0o700)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_shows_what_it_may_read(command: str, home: Path) -> None:
    """What is private hides itself only; most commands name it, and those that need all of it fail."""
    words = ["query", "select name from runs"] if command == "query" else command.split()

    done = as_somebody("-m", "eventlog", *words, home=home)

    assert "Traceback" not in done.stdout + done.stderr
    assert "open" in done.stdout or "default" in done.stdout
    assert command == "reproduce open" or "default/closed" in done.stdout + done.stderr
    assert "secret: Permission denied" in done.stderr


def test_verify_does_not_call_it_damage(home: Path) -> None:
    """Nobody knows what is in a run that may not be read; that it is not known is no success."""
    done = as_somebody("-m", "eventlog", "verify", home=home)

    assert "2 runs: 1 good, 0 with damage, 1 that cannot be read" in done.stdout
    assert done.returncode == 1


def test_project_that_may_not_be_listed_is_left_out(home: Path) -> None:
    """With a warning, which a program sees that goes over all runs."""
    code = "import sys; from pathlib import Path; from eventlog.storage.layout import iter_runs; "
    code += "print([run.run_id for run in iter_runs(Path('experiments'))])"

    done = as_somebody("-c", code, home=home)

    assert done.stdout == "['closed', 'open']\n"
    assert "EvlogWarning: experiments/secret: Permission denied. Its runs are left out." in done.stderr


def test_root_that_may_not_be_listed_is_an_error(home: Path) -> None:
    """There is nothing to go on with."""
    (home / "experiments").chmod(0)

    done = as_somebody("-m", "eventlog", "list", home=home)

    (home / "experiments").chmod(0o755)
    assert done.returncode
    assert not done.stdout
    assert "experiments" in done.stderr
    assert "Traceback" not in done.stderr
