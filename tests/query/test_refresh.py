"""What a question sees of runs that go on, end, or die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import duckdb

from eventlog import TrackingConfig
from eventlog.events import Metrics
from eventlog.query import refresh as refresh_module
from eventlog.query.catalog import cache_directory, load_manifest
from eventlog.query.refresh import refresh
from eventlog.tracker import Tracker
from tests.logs import START_TS, put
from tests.query.histories import HistoryMaker, ask, fold

DYING = """
import os, sys
from pathlib import Path
from eventlog import TrackingConfig
from eventlog.tracker import Tracker
tracker = Tracker((), TrackingConfig(project="p"), output_dir=Path(sys.argv[1]))
tracker.start_run("dying")
tracker.log_metrics({"loss": 0.5}, 1)
tracker.flush()
print("ready", flush=True)
sys.stdin.read()
"""


def status(root: Path) -> list[str]:
    return [row[4] for row in ask(root, ["runs"])["runs"]]


def test_a_run_whose_process_died_is_crashed_at_the_next_question(tmp_path: Path) -> None:
    """Death is noticed although no byte has changed, and what was in the ring is there."""
    dying = subprocess.Popen(
        [sys.executable, "-c", DYING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert dying.stdout is not None
    dying.stdout.readline()
    before = [status(tmp_path), status(tmp_path)]

    dying.send_signal(signal.SIGKILL)
    dying.communicate()

    assert before == [["running"], ["running"]]
    assert status(tmp_path) == ["crashed"]
    assert ask(tmp_path) == fold(tmp_path)


def test_a_running_run_with_nothing_new_is_not_read_again(tmp_path: Path) -> None:
    """What the cache holds of a run that goes on is not opened until it grows."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
        tracker.start_run("live")
        tracker.log_metrics({"loss": 0.5}, 1)
        tracker.flush()
        with patch.object(refresh_module, "COMMIT_BYTES", 1):
            ask(tmp_path)
            with duckdb.connect() as connection:
                idle = refresh(tmp_path, connection).overlay.tables
            tracker.log_metrics({"loss": 0.25}, 2)
            tracker.flush()
            found = ask(tmp_path)

    assert idle == []
    assert [row[5] for row in found["metrics"]] == [0.5, 0.25]


def test_much_in_little_pieces_is_committed(tmp_path: Path) -> None:
    """Many runs that each have little new are committed together when it sums up."""
    first = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path)
    second = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path)
    with first, second, patch.object(refresh_module, "ALL_BYTES", 1000):
        for tracker in (first, second):
            tracker.start_run(f"run-{tracker is first}")
            for step in range(10):
                tracker.log_metrics({"loss": 0.5}, step)
            tracker.flush()
        ask(tmp_path)

        entries = load_manifest(cache_directory(tmp_path)).runs

    assert [entry.is_alive for entry in entries] == [True, True]


def test_a_run_settles_without_being_read_again(tmp_path: Path) -> None:
    """The first look after its end says that nothing has come; from then on nobody looks closer."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
        tracker.start_run("done")
        tracker.log_metrics({"loss": 0.5}, 1)
    ask(tmp_path)
    log = tmp_path / "p" / "done" / "log"
    before = load_manifest(cache_directory(tmp_path))
    with patch("eventlog.query.scan.RACY_NS", 0):
        ask(tmp_path)

    after = load_manifest(cache_directory(tmp_path))
    assert not before.runs[0].is_settled
    assert after.runs[0].is_settled
    assert after.files == before.files
    assert after.runs[0].mtime_ns == os.stat(log).st_mtime_ns  # noqa: PTH116


def test_events_are_ordered_as_replay_orders_them(tmp_path: Path) -> None:
    """A clock that was set back does not change which value of a metric is the last one."""
    maker = HistoryMaker("r0-01KAHCZG0000000000000000A0")
    early, late = START_TS, START_TS + 1000
    events = [Metrics(ts=ts, step=step, data={"loss": step}) for step, ts in enumerate((late, early, early))]
    put(tmp_path / "p" / "run", 1, b"".join(maker.lines(events[:2], is_sealed=True)), writer=maker.writer)
    first = ask(tmp_path, wants_all=True)["summaries"]
    put(tmp_path / "p" / "run", 2, b"".join(maker.lines(events[2:], is_sealed=True)), writer=maker.writer)

    second = ask(tmp_path, wants_all=True)["summaries"]

    assert [row[3] for row in first + second] == [1.0, 2.0]
