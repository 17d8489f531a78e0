"""Many processes log, refresh and ask at once; some of them are killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from eventlog import TrackingConfig
from eventlog.query import refresh as refresh_module
from eventlog.query.catalog import cache_directory, commit, load_manifest
from eventlog.tracker import Tracker
from tests.query.histories import Tables, ask, fold
from tests.waiting import wait_until

PROCESSES = int(os.environ.get("EVLOG_TEST_PROCESSES", "16"))

WORKER = """
import sys
from pathlib import Path
from unittest.mock import patch
from eventlog import TrackingConfig
from eventlog.query import refresh
from eventlog.tracker import Tracker
from tests.query.histories import ask
root, number = Path(sys.argv[1]), int(sys.argv[2])
refresh.COMMIT_BYTES = 2000
if number % 4 == 3:
    patch.object(refresh, "lock_file", side_effect=OSError("no locks here")).start()
with Tracker((), TrackingConfig(project=f"p{number % 3}"), output_dir=root) as tracker:
    tracker.start_run(f"run-{number}")
    for step in range(60):
        tracker.log_metrics({"loss": 1 / (step + 1), "n": number}, step)
        if step % 30 == number % 30:
            tracker.flush()
            own = [row for row in ask(root, ["metrics"])["metrics"] if row[1] == f"run-{number}"]
            assert len(own) == 2 * (step + 1), (len(own), step)
"""

REFRESHER = """
import sys
from pathlib import Path
from eventlog.query import refresh
from tests.query.histories import ask
refresh.CHUNK_LINES = 50
while True:
    ask(Path(sys.argv[1]), ["runs"], wants_all=True)
    print("once", flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


def make_run(root: Path, name: str, *, steps: int = 20) -> Path:
    with Tracker((), TrackingConfig(project="p"), output_dir=root) as tracker:
        tracker.start_run(name)
        for step in range(steps):
            tracker.log_metrics({"loss": 1 / (step + 1)}, step)
    return root / "p" / name


@pytest.fixture
def many_commits() -> Iterator[None]:
    with patch.object(refresh_module, "COMMIT_BYTES", 500):
        yield


def test_processes_that_log_and_ask_at_once_end_as_one_after_the_other(tmp_path: Path) -> None:
    """Each sees its own events at once, and in the end all tables are what a fold says."""
    workers = [start(WORKER, tmp_path, number) for number in range(PROCESSES)]

    codes = [worker.wait(timeout=600) for worker in workers]

    assert codes == [0] * PROCESSES
    assert ask(tmp_path) == fold(tmp_path)
    shutil.rmtree(tmp_path / ".evlog")
    assert ask(tmp_path) == fold(tmp_path)


def test_a_refresh_that_is_killed_at_random_leaves_a_right_cache(tmp_path: Path) -> None:
    """After SIGKILL at any moment the next question is answered right, and what was left goes."""
    dice = random.Random(1)
    for number in range(6):
        make_run(tmp_path, f"run-{number}", steps=200)
        refresher = start(REFRESHER, tmp_path)
        cache = cache_directory(tmp_path)
        steps = [
            lambda: any(name.startswith(".scratch") for name in os.listdir(cache)),  # noqa: B023, PTH208
            lambda: any(name.endswith(".parquet") for name in os.listdir(cache)),  # noqa: B023, PTH208
            lambda: load_manifest(cache).number > 0,  # noqa: B023
        ]
        wait_until(dice.choice(steps), "the refresh has come so far", timeout_s=60)
        refresher.send_signal(signal.SIGKILL)
        refresher.wait()
        assert refresher.stdout is not None
        refresher.stdout.close()

        assert ask(tmp_path) == fold(tmp_path)

    with patch("eventlog.query.catalog.KEPT_S", -1.0):
        make_run(tmp_path, "last")
        ask(tmp_path, wants_all=True)
    manifest = load_manifest(cache)
    left = {path.name for path in cache.iterdir() if not path.name.startswith("manifest-")}
    assert left <= manifest.names() | {"refresh.lock"}


def test_without_locks_one_of_two_commits_wins(tmp_path: Path, many_commits: None) -> None:
    """Two that commit the same state at once leave one of them, and both answer right."""
    make_run(tmp_path, "first")
    real: Callable[..., bool] = commit
    answers: list[Tables | None] = []

    def race(*arguments: object) -> bool:
        if not answers:
            answers.append(None)
            answers.append(ask(tmp_path))  # somebody else, at the worst moment
        return real(*arguments)

    with (
        patch.object(refresh_module, "lock_file", side_effect=OSError("no locks here")),
        patch.object(refresh_module, "commit", race),
    ):
        mine = ask(tmp_path)

    assert mine == answers[1] == fold(tmp_path)
    assert ask(tmp_path) == fold(tmp_path)


def test_whoever_does_not_hold_the_lock_reads_beside(tmp_path: Path) -> None:
    """While somebody else commits, the answer is right and nothing is written."""
    make_run(tmp_path, "first")
    with refresh_module.refresh_lock(cache_directory(tmp_path)) as is_mine:
        assert is_mine

        assert ask(tmp_path) == fold(tmp_path)

    assert load_manifest(cache_directory(tmp_path)).number == 0
