"""The pump is killed with SIGKILL while it delivers; whatever moment that is, the file ends the same."""

from __future__ import annotations

import random
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.events import Event, Metrics, Params, RunStarted
from sinks.tensorboard import HPARAMS_FILE, TensorBoardSink
from tests.sinks.tb_support import kept, make_run, messages, scalars
from tests.tracker.support import start_job
from tests.waiting import wait_until

STEPS = [*range(1500), *range(1200, 3000)]
JOB = """
    import sys
    from pathlib import Path
    from eventlog.delivery.pump import deliver_run
    from eventlog.sink import Traits
    from sinks.tensorboard import TensorBoardSink

    TensorBoardSink.traits = Traits(fixed_batches=True, batch_events=25)
    deliver_run(Path("logs/p/a"), TensorBoardSink(log_dir="board"), "tensorboard")
"""


def total_size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*tfevents*"))


def has_grown_or_ended(board: Path, wanted: int, job: subprocess.Popen[str]) -> bool:
    return total_size(board) >= wanted or job.poll() is not None


def test_killed_deliveries_end_with_one_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After kills at any size of the file, each point is there once, and both files are whole."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    events: list[Event] = [RunStarted(name="run"), Params(data={"lr": 0.1})]
    events += [Metrics(step=s, data={"a": i, f"b{i % 3}": i / 7}) for i, s in enumerate(STEPS)]
    run = make_run(tmp_path / "logs", events)
    board, fresh = tmp_path / "board", random.Random(0)
    for _ in range(5):
        wanted = total_size(board) + fresh.randrange(1, 60_000)
        job = start_job(JOB, tmp_path)
        wait_until(partial(has_grown_or_ended, board, wanted, job), "the file grows")
        job.send_signal(signal.SIGKILL)
        job.communicate()
        if job.returncode != -signal.SIGKILL:
            break

    deliver_run(run, TensorBoardSink(log_dir=board), "tensorboard")

    proof = prove(run, TensorBoardSink(log_dir=board), "tensorboard")
    assert (proof.result, proof.differences) == ("proven", [])
    assert scalars(board / "p/a", "a") == kept(zip(STEPS, range(len(STEPS)), strict=True))
    assert len(messages(board / "p/a" / HPARAMS_FILE)) == 3
    assert min(path.name for path in (board / "p/a").iterdir()) == HPARAMS_FILE
