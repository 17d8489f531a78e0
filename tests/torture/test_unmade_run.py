"""A run whose directory cannot be made: found by row 5, at the first four operations of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog import create_tracker
from eventlog.errors import EvlogWarning, forget_reports
from eventlog.storage.merge import RunReader
from eventlog.storage.options import WriterOptions

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

QUICK = WriterOptions(sync_timeout_s=0.05, close_timeout_s=0.2, write_interval_s=0.002)


def test_training_goes_on_where_no_directory_can_be_made(tmp_path: Path) -> None:
    """It costs warnings that name the directory; `start_run` raises nothing."""
    forget_reports()
    (tmp_path / "root").write_text("a file is where the runs should be")
    tracker = create_tracker("local", output_dir=tmp_path / "root", writer=QUICK, lineage=False)

    with pytest.warns(EvlogWarning, match="cannot be made"):
        run_id = tracker.start_run("lost")
    tracker.log_params({"lr": 0.1})
    tracker.log_metrics({"loss": 0.5}, step=1)
    tracker.end_run()

    assert run_id.startswith("lost-")


def test_run_whose_directory_can_be_made_later_is_kept(tmp_path: Path) -> None:
    """What waits in memory is written as soon as there is a place for it."""
    forget_reports()
    blocker = tmp_path / "root"
    blocker.write_text("a file is where the runs should be")
    tracker = create_tracker([], output_dir=tmp_path / "root", writer=QUICK, lineage=False)

    with pytest.warns(EvlogWarning, match="cannot be made"):
        tracker.start_run("late")
    run = tracker.run_dir
    tracker.log_metrics({"loss": 0.5}, step=1)
    blocker.unlink()
    tracker.log_metrics({"loss": 0.25}, step=2)
    tracker.end_run()

    assert run is not None
    events = [event for part in RunReader(run).slices() for event in part.events]
    assert [getattr(event, "step", None) for event in events if type(event).__name__ == "Metrics"] == [1, 2]


def test_strict_tracker_raises_where_no_directory_can_be_made(tmp_path: Path) -> None:
    """Whoever asks for errors gets them."""
    (tmp_path / "root").write_text("a file is where the runs should be")
    tracker = create_tracker("local", output_dir=tmp_path / "root", strict=True, lineage=False)

    with pytest.raises(OSError, match="root"):
        tracker.start_run("lost")
