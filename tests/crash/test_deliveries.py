from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eventlog import create_tracker
from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.plugins import load_sink
from tests.crash.deliveries import Destination, deliver_and_die


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with a bit of everything that sinks treat in ways of their own."""
    root = tmp_path_factory.mktemp("root")
    tracker = create_tracker([], output_dir=root, project="demo")
    with tracker.start_run("kills"):
        run = tracker.run_dir
        assert run is not None
        tracker.log_params({"lr": 0.1, "model": {"layers": 3}})
        for step in range(60):
            tracker.log_metrics({"loss": 1.0 / (step + 1), "acc": step / 60}, step=step)
            if step % 20 == 0:
                tracker.log_histogram("weights", [float(i) for i in range(step + 2)], step=step)
                tracker.log_text("note", f"step {step}", step=step)
        (root / "file.txt").write_text("content")
        tracker.log_artifact(root / "file.txt")
        tracker.log_summary({"best": 0.9})
    return run


def kill_at_every_step(run: Path, tmp_path: Path, sink: str, option: str | None) -> int:
    """Kill deliveries of copies of *run* at one step after the other; return how many were killed."""
    killed = 0
    for step in range(1, 1000):
        copy = tmp_path / f"{step}" / "demo" / "kills"
        shutil.copytree(run, copy)
        options = {option: str(tmp_path / f"{step}" / "destination")} if option else {}
        to = Destination(sink, options)

        is_killed = deliver_and_die(copy, to, step)
        deliver_run(copy, to.make(), sink)

        proof = prove(copy, load_sink(sink, **options), sink)
        assert proof.result == "proven", (step, proof.differences)
        shutil.rmtree(tmp_path / f"{step}")
        if not is_killed:
            break
        killed += 1
    return killed


@pytest.mark.parametrize(
    ("sink", "option"), [("local", None), ("mirror", "to"), ("tensorboard", "log_dir")], ids=lambda x: str(x)
)
def test_delivery_killed_at_any_step_arrives_once(
    finished_run: Path, tmp_path: Path, sink: str, option: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between sending, saving, syncing and renaming: wherever it dies, the destination ends as the log is."""
    killed = kill_at_every_step(finished_run, tmp_path, sink, option)

    with capsys.disabled():
        print(f"\n{sink}: killed at each of {killed} steps, proven each time")  # noqa: T201
    assert killed > 10
