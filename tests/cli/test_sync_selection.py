"""Which runs `evlog sync` takes, and where to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventlog import Tracker, TrackingConfig
from tests.cli.conftest import Evlog, log_run
from tests.sync.destinations import Delivered, install, tell


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the sink `files`."""
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))


@pytest.fixture
def runs(root: Path) -> Path:
    """Log three runs in two projects, and one that goes on."""
    log_run(root, "a", tags={"model": "resnet", "keep": None})
    log_run(root, "b", tags={"model": "vit"}, status="failed")
    log_run(root, "c", project="other", tags={"keep": None})
    Tracker((), TrackingConfig(project="other"), output_dir=root).start_run(run_id="live")
    return root


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([], ["a", "b", "c", "live"]),
        (["--project", "demo"], ["a", "b"]),
        (["--project", "demo", "--project", "other"], ["a", "b", "c", "live"]),
        (["--project", "nobody"], []),
        (["--tag", "keep"], ["a", "c"]),
        (["--tag", "model=resnet"], ["a"]),
        (["--tag", "model=resnet", "--tag", "keep"], ["a"]),
        (["--tag", "model=nothing"], []),
        (["--only-finished"], ["a", "b", "c"]),
        (["--only-finished", "--project", "other"], ["c"]),
        (["--since", "1h"], ["a", "b", "c", "live"]),
        (["--since", "2099-01-01"], []),
        (["--since", "2001-01-01T08:00"], ["a", "b", "c", "live"]),
        (["a", "other/c"], ["a", "c"]),
        (["experiments"], ["a", "b", "c", "live"]),
        (["experiments/demo"], ["a", "b"]),
        (["experiments/demo", "a", "c"], ["a", "b", "c"]),
        (["experiments", "--project", "demo"], ["a", "b"]),
    ],
)
def test_filters_and_names_choose_the_runs(
    evlog: Evlog, to: Path, words: list[str], taken: list[str]
) -> None:
    """All filters have to fit; of several values of one, any."""
    done = evlog("sync", *words, "--to", "files", "-o", f"to={to}", "--json")

    assert done.code == 0
    assert [row["run_id"] for row in json.loads(done.out)] == taken


def test_since_compares_with_the_beginning_of_the_run(root: Path, evlog: Evlog, to: Path) -> None:
    """In local time if none is given."""
    run = log_run(root, "one")
    (started,) = (e for e in _events(run) if e["type"] == "run_started")
    seconds = started["ts"] // 1_000_000

    from datetime import datetime

    def taken(when: int) -> int:
        text = datetime.fromtimestamp(when).isoformat()
        return len(
            json.loads(evlog("sync", "--to", "files", "-o", f"to={to}", "--since", text, "--json").out)
        )

    assert [taken(seconds), taken(seconds + 1)] == [1, 0]


def _events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in (run / "log").glob("*.jsonl") for line in path.open()]


def test_each_sink_gets_its_own_options(root: Path, evlog: Evlog, tmp_path: Path) -> None:
    """And each run goes to each of them."""
    log_run(root, "one")
    words = [
        "--to",
        "files",
        "--to",
        "more",
        "-o",
        f"files.to={tmp_path}/x",
        "--option",
        f"more.to={tmp_path}/y",
    ]

    done = evlog("sync", *words, "--json")

    assert [(row["sink"], row["result"]) for row in json.loads(done.out)] == [
        ("files", "delivered"), ("more", "delivered"),
    ]  # fmt: skip
    assert all(Delivered(tmp_path / name, "one").status == "finished" for name in "xy")


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_one_bad_run_among_many_does_not_stop_the_others(
    root: Path, evlog: Evlog, to: Path, jobs: str
) -> None:
    """However many go at a time; the table has them in the order of their names."""
    tell(to, "fail-write-run3")
    for i in range(8):
        log_run(root, f"run{i}")

    done = evlog("sync", "--to", "files", "-o", f"to={to}", "--jobs", jobs, "--json")

    assert done.code == 1
    assert [(row["run_id"], row["result"]) for row in json.loads(done.out)] == [
        (f"run{i}", "failed" if i == 3 else "delivered") for i in range(8)
    ]


def test_a_destination_that_is_down_is_given_up_after_the_timeout(root: Path, evlog: Evlog, to: Path) -> None:
    """With what it said, and nothing is lost."""
    tell(to, "down")
    run = log_run(root, "one")

    down = evlog("sync", "--to", "files", "-o", f"to={to}", "--timeout", "0")
    (to / "down").unlink()
    up = evlog("sync", "--to", "files", "-o", f"to={to}")

    assert (down.code, up.code) == (1, 0)
    assert "the server is down (given up after 0 s)" in down.out
    assert Delivered(to, "one").is_all_of(run)


def test_delivering_again_sends_nothing(root: Path, evlog: Evlog, to: Path) -> None:
    """The table says so, and the sink is not even opened."""
    log_run(root, "one")
    evlog("sync", "--to", "files", "-o", f"to={to}")
    calls = Delivered(to, "one").calls

    (row,) = json.loads(evlog("sync", "--to", "files", "-o", f"to={to}", "--json").out)

    assert (row["result"], row["events"], row["status"]) == ("delivered", 0, "finished")
    assert Delivered(to, "one").calls == calls


def test_a_running_run_is_delivered_as_far_as_it_is(root: Path, evlog: Evlog, to: Path) -> None:
    """And the rest the next time."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=root)
    tracker.start_run(run_id="live")
    tracker.log_metrics({"loss": 1.0}, 0)
    tracker.flush()

    (first,) = json.loads(evlog("sync", "--to", "files", "-o", f"to={to}", "--json").out)
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.end_run()
    (second,) = json.loads(evlog("sync", "--to", "files", "-o", f"to={to}", "--json").out)

    assert (first["status"], second["status"]) == ("running", "finished")
    assert Delivered(to, "live").is_all_of(root / "demo" / "live")
