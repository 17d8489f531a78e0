"""`evlog sync` as a process: stopped, stopped at once, followed, and gone on with."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import Tracker, TrackingConfig
from tests.cli.conftest import log_run, real_evlog, start
from tests.sync.destinations import Delivered, install, tell
from tests.waiting import wait_until


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the sink `files` for the processes."""
    monkeypatch.setenv("PYTHONPATH", str(install(tmp_path / "site")))


def words(to: Path, *more: str) -> list[str]:
    return ["sync", "--to", "files", "-o", f"to={to}", *more]


def follow(to: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start to follow; return when it does."""
    process = start(*words(to, "--follow", *more))
    assert process.stderr is not None
    assert b"Ctrl-C ends it" in process.stderr.readline()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_signal_stops_at_a_checkpoint_and_the_same_command_goes_on(
    root: Path, to: Path, number: signal.Signals, jobs: str
) -> None:
    """Nothing is lost and nothing comes twice."""
    tell(to, "slow")
    run = log_run(root, "one", steps=2000)
    log_run(root, "two")
    command = words(to, "-o", "batch=10", "--jobs", jobs)
    process = start(*command)
    wait_until(lambda: len(Delivered(to, "one").events) >= 30, "a beginning", timeout_s=30.0)

    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    (to / "slow").unlink()
    count = len(Delivered(to, "one").events)
    again = real_evlog(*words(to, "--json"))

    assert process.returncode == 130
    assert b"stopping after the batch" in err
    assert b"the same command goes on from here" in err
    assert b"stopped" in out
    assert 30 <= count < 2000
    assert again.code == 0
    assert json.loads(again.out)[0]["events"] == len(Delivered(to, "one").events) - count
    assert Delivered(to, "one").is_all_of(run)


@pytest.mark.parametrize("more", [["--jobs", "1"], ["--jobs", "4"], ["--follow"]])
def test_a_second_ctrl_c_ends_at_once_even_if_a_sink_hangs(root: Path, to: Path, more: list[str]) -> None:
    """The first one waits for the batch that is under way, which never ends."""
    fault = tell(to, "hang-write")
    run = log_run(root, "one")
    process = start(*words(to, *more))
    wait_until(lambda: ("write", process.pid) in Delivered(to, "one").calls, "a write", timeout_s=30.0)
    assert process.stderr is not None

    process.send_signal(signal.SIGINT)
    while b"stopping" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.wait(30)
    fault.unlink()

    assert process.returncode == 130
    assert real_evlog(*words(to)).code == 0
    assert Delivered(to, "one").is_all_of(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_ends_well_with_a_signal(root: Path, to: Path, number: signal.Signals) -> None:
    """With what was delivered on its output, and 0: that is how following ends."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=root)
    tracker.start_run(run_id="live")
    process = follow(to)
    tracker.log_metrics({"loss": 1.0}, 0)
    wait_until(lambda: Delivered(to, "live").steps == [0], "the first step", timeout_s=30.0)

    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    tracker.end_run()
    after = real_evlog(*words(to))

    assert (process.returncode, out) == (0, b"")
    assert after.code == 0
    assert Delivered(to, "live").is_all_of(root / "demo" / "live")


def test_following_writes_each_end_as_a_line_of_json(root: Path, to: Path) -> None:
    """Into a pipe too it comes at once."""
    process = start(*words(to, "--follow", "--json"), env={"PYTHONUNBUFFERED": ""})
    assert process.stdout is not None
    out = process.stdout
    log_run(root, "one")

    wait_until(lambda: select.select([out], [], [], 0)[0] != [], "a line", timeout_s=30.0)
    line = json.loads(out.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert (line["run_id"], line["sink"], line["result"], line["status"]) == (
        "one", "files", "delivered", "finished",
    )  # fmt: skip


def test_following_ends_when_nobody_reads_it_any_more(root: Path, to: Path) -> None:
    """As every program before a closed pipe."""
    process = start(*words(to, "--follow", "--json"))
    assert process.stdout is not None
    process.stdout.close()
    log_run(root, "one")

    assert process.wait(30) == 141
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("place", ["experiments", "experiments/demo", "experiments/demo/one", "demo/one"])
def test_a_place_can_be_followed(root: Path, to: Path, place: str) -> None:
    """All projects, one project, or one run, by path or by name."""
    log_run(root, "one")
    log_run(root, "elsewhere", project="other")
    process = follow(to, place)

    wait_until(lambda: Delivered(to, "one").status == "finished", "the run", timeout_s=30.0)
    if place == "experiments":
        wait_until(lambda: Delivered(to, "elsewhere").status == "finished", "the other", timeout_s=30.0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert bool(Delivered(to, "elsewhere").calls) is (place == "experiments")


def test_an_empty_project_is_followed_as_a_project(root: Path, to: Path) -> None:
    """Its first run is found, and other projects are not."""
    (root / "demo").mkdir(parents=True)
    process = follow(to, str(root / "demo"))
    log_run(root, "elsewhere", project="other")
    log_run(root, "one")

    wait_until(lambda: Delivered(to, "one").status == "finished", "the run", timeout_s=30.0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert not Delivered(to, "elsewhere").calls


def test_a_root_that_is_not_there_yet_can_be_followed(root: Path, to: Path) -> None:
    """It says so, in case the name is wrong."""
    process = start(*words(to, "--follow"))
    assert process.stderr is not None
    said = process.stderr.readline()
    log_run(root, "one")

    wait_until(lambda: Delivered(to, "one").status == "finished", "the run", timeout_s=30.0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert b"experiments, which is not there yet," in said


def test_a_run_that_is_killed_while_it_is_delivered_is_delivered_by_the_next(root: Path, to: Path) -> None:
    """A delivery that was killed keeps nobody away."""
    tell(to, "slow")
    run = log_run(root, "one", steps=500)
    process = start(*words(to, "-o", "batch=5"))
    wait_until(lambda: len(Delivered(to, "one").events) >= 30, "a beginning", timeout_s=30.0)

    process.kill()
    process.wait()
    (to / "slow").unlink()
    done = real_evlog(*words(to))

    assert done.code == 0
    assert Delivered(to, "one").is_all_of(run)


def test_two_at_a_time_share_the_work(root: Path, to: Path) -> None:
    """Who comes second says that the run is being delivered, which is no failure."""
    fault = tell(to, "hang-write")
    log_run(root, "one")
    first = start(*words(to))
    wait_until(lambda: ("write", first.pid) in Delivered(to, "one").calls, "a write", timeout_s=30.0)

    second = real_evlog(*words(to))
    fault.unlink()
    first.communicate(timeout=30)

    assert (first.returncode, second.code) == (0, 0)
    assert "busy" in second.out
    assert f"process {first.pid}" in second.out


def test_a_terminal_shows_a_bar_while_it_is_delivered(root: Path, to: Path) -> None:
    """With the events that are there and that wait; a stop leaves the terminal usable."""
    tell(to, "slow")
    log_run(root, "one", steps=400)
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", *words(to, "-o", "batch=10")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=side,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"}, start_new_session=True,
    )  # fmt: skip
    os.close(side)
    seen = b""
    while b"/404" not in seen:
        seen += os.read(main, 4096)

    process.send_signal(signal.SIGINT)
    while b"goes on from here" not in seen:
        seen += os.read(main, 4096)
    process.communicate(timeout=30)
    os.close(main)

    assert b"events/s" in seen
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")
