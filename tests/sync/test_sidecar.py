"""The sidecar as a process: its order, what it says, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import Tracker, TrackingConfig
from eventlog.sidecar import DELIVERED, HOPELESS, STOPPED, UNDELIVERED
from tests.sync.destinations import NAME, Delivered, tell
from tests.waiting import wait_until

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(root: Path, to: Path) -> Iterator[Start]:
    """Return a function that starts a sidecar for the run `a`; none is left behind."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*sinks: str, timeout_s: float = 30.0) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "eventlog.sidecar"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(process)
        targets = [{"sink": sink, "options": {"to": str(to)}} for sink in sinks or (NAME,)]
        order = {"run": str(root / "p" / "a"), "targets": targets, "timeout_s": timeout_s}
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()  # not closed: it does not wait for more
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def there(to: Path) -> Delivered:
    return Delivered(to, "a")


@pytest.fixture
def tracker(root: Path) -> Tracker:
    """Return one whose run goes on."""
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=root)
    tracker.start_run(run_id="a")
    return tracker


def said(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Wait for the end and return what was said."""
    process.wait(60)
    assert process.stdout is not None
    return [json.loads(line) for line in process.stdout.read().splitlines()]


def test_it_delivers_to_the_end_and_says_so(tracker: Tracker, there: Delivered, start: Start) -> None:
    """In lines of JSON, the last of which is its exit code: that one may get lost on its way."""
    process = start()
    tracker.log_metrics({"x": 1}, 1)
    wait_until(lambda: there.steps == [1], "the first step", timeout_s=30.0)
    tracker.end_run()

    delivered, last = said(process)

    assert process.returncode == DELIVERED
    assert (delivered["result"], delivered["status"]) == ("delivered", "finished")
    assert last == {"end": DELIVERED}


def test_sigterm_stops_it_at_a_checkpoint(tracker: Tracker, there: Delivered, start: Start) -> None:
    """And the next one goes on there."""
    process = start()
    tracker.log_metrics({"x": 1}, 1)
    wait_until(lambda: there.steps == [1], "the first step", timeout_s=30.0)

    process.send_signal(signal.SIGTERM)
    lines = said(process)
    second = start()
    tracker.end_run()

    assert (process.returncode, lines) == (STOPPED, [{"end": STOPPED}])
    assert said(second)[-1] == {"end": DELIVERED}
    assert there.steps == [1]


def test_ctrl_c_is_not_for_it(tracker: Tracker, there: Delivered, start: Start) -> None:
    """The job's end is what ends it."""
    process = start()
    wait_until(lambda: there.calls != [], "a beginning", timeout_s=30.0)

    process.send_signal(signal.SIGINT)
    tracker.log_metrics({"x": 1}, 1)
    tracker.end_run()

    assert said(process)[-1] == {"end": DELIVERED}


def test_it_ends_at_once_if_a_person_has_to_act(tracker: Tracker, start: Start) -> None:
    """A missing package does not come by waiting."""
    process = start("needy")

    failed, last = said(process)

    assert (failed["result"], last) == ("failed", {"end": HOPELESS})
    tracker.end_run()


def test_one_sink_that_is_hopeless_does_not_stop_the_other(
    tracker: Tracker, there: Delivered, start: Start
) -> None:
    """It has the run to the end."""
    process = start("needy", NAME)
    wait_until(lambda: there.calls != [], "a beginning", timeout_s=30.0)
    tracker.end_run()

    assert said(process)[-1] == {"end": HOPELESS}
    assert there.status == "finished"


def impatient(run: Path, to: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a sidecar to its end that goes on for a second after that of the run."""
    code = "import eventlog.sidecar as s; s.LINGER_S = s.GRACE_S = 1.0; raise SystemExit(s.main())"
    targets = [{"sink": NAME, "options": {"to": str(to)}}]
    order = json.dumps({"run": str(run), "targets": targets, "timeout_s": 1.0}).encode() + b"\n"
    return subprocess.run(
        [sys.executable, "-c", code], input=order, capture_output=True, timeout=60, check=False
    )


def test_it_gives_up_a_while_after_the_runs_end(tracker: Tracker, root: Path, to: Path) -> None:
    """A destination that stays away does not keep it for ever."""
    tell(to, "down")
    tracker.end_run()

    done = impatient(root / "p" / "a", to)

    assert done.returncode == UNDELIVERED
    assert b'"waiting"' in done.stdout


def test_it_ends_although_a_sink_hangs(tracker: Tracker, root: Path, to: Path) -> None:
    """What must never change: it does not outlive its run for long."""
    tell(to, "hang-write")
    tracker.end_run()

    assert impatient(root / "p" / "a", to).returncode == UNDELIVERED


def test_its_log_stays_small(tmp_path: Path) -> None:
    """A sink that prints without end fills no disk."""
    code = (
        "import os, sys, eventlog.sidecar as s; s.MAX_LOG_BYTES = 1000\n"
        "os.write(2, b'x' * 2000); s._bound_log(); os.write(2, b'end')"
    )
    with (tmp_path / "log").open("ab") as log:
        subprocess.run([sys.executable, "-c", code], stderr=log, timeout=60, check=True)

    assert (tmp_path / "log").read_bytes() == b"end"
