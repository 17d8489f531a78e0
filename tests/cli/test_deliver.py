from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.cli import deliver
from eventlog.delivery import pump
from tests.cli.conftest import Evlog, log_run

_MODULE = """
from eventlog.sink import Traits

class Picky:
    traits = Traits(is_projection=True)
    destination = ""
    def open(self, run):
        if run.run_id == "bad":
            raise RuntimeError("not this one")
    def write(self, batch): pass
    def close(self, status): pass

class Needy:
    def __init__(self):
        import no_such_package_anywhere
"""


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that offers sinks, as anybody's would."""
    site = tmp_path / "site"
    info = site / "other_sinks-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-sinks\nVersion: 1.2\n")
    points = (
        "[eventlog.sinks]\npicky = other_sinks:Picky\nneedy = other_sinks:Needy\nbroken = no_such_module:X\n"
    )
    (info / "entry_points.txt").write_text(points)
    (site / "other_sinks.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(site))


def test_sync_delivers_every_run(root: Path, evlog: Evlog) -> None:
    """Without a RUN all runs go, and the table says what happened."""
    runs = [log_run(root, "one"), log_run(root, "two", status="failed")]

    done = evlog("sync", "--to", "local", "--json")

    assert done.code == 0
    assert [(row["run_id"], row["result"], row["status"]) for row in json.loads(done.out)] == [
        ("one", "delivered", "finished"),
        ("two", "delivered", "failed"),
    ]
    assert all((run / "metrics.json").is_file() for run in runs)


def test_sync_of_one_run_leaves_the_others(root: Path, evlog: Evlog) -> None:
    """Named runs only, each once."""
    log_run(root, "one")
    other = log_run(root, "two")

    rows = json.loads(evlog("sync", "one", "demo/one", "--to", "local", "--json").out)

    assert [row["run_id"] for row in rows] == ["one"]
    assert not (other / "metrics.json").exists()


@pytest.mark.usefixtures("other_package")
def test_a_run_that_fails_does_not_stop_the_others(root: Path, evlog: Evlog) -> None:
    """Each run has a line in the table, and the exit code is 1."""
    for name in ("a", "bad", "z"):
        log_run(root, name)

    done = evlog("sync", "--to", "picky")

    assert done.code == 1
    assert [line.split()[2] for line in done.out.splitlines()[1:]] == ["delivered", "failed", "delivered"]
    assert "RuntimeError: not this one" in done.out


@pytest.mark.usefixtures("other_package")
def test_a_name_that_is_no_run_does_not_stop_the_others(root: Path, evlog: Evlog) -> None:
    """A typing error among many names costs that name only."""
    log_run(root, "one")

    done = evlog("sync", "typo", "one", "--to", "picky", "--json")

    assert done.code == 1
    assert [(row["run_id"], row["result"]) for row in json.loads(done.out)] == [
        ("typo", "failed"),
        ("one", "delivered"),
    ]


@pytest.mark.usefixtures("other_package")
def test_sync_to_a_sink_without_its_package_says_what_to_install(root: Path, evlog: Evlog) -> None:
    """The way out stands in the message."""
    log_run(root, "one")

    done = evlog("sync", "--to", "needy")

    assert done.code == 1
    assert "pip install" in done.out


@pytest.mark.usefixtures("other_package")
def test_sinks_are_listed_without_loading_them(evlog: Evlog) -> None:
    """Also a sink that cannot be imported is there, with where it comes from."""
    found = {sink["name"]: sink for sink in json.loads(evlog("sinks", "--json").out)}

    assert {"console", "local", "picky", "broken"} <= set(found)
    assert (found["broken"]["distribution"], found["broken"]["version"]) == ("other-sinks", "1.2")


def test_help_loads_nothing_that_delivers() -> None:
    """Each command pays for what it needs only."""
    heavy = ("rich", "duckdb", "watchfiles", "concurrent.futures", "eventlog.delivery", "eventlog.watch")
    code = (
        "import sys; from eventlog.cli.app import app; app(['--help'], standalone_mode=False);"
        f"print([m for m in {heavy} if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_the_timeout_is_that_of_the_delivery() -> None:
    """It stands twice, so that showing it imports nothing."""
    assert deliver.TIMEOUT_S == pump.TIMEOUT_S
