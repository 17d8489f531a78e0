"""The `local` sink materializes a run the same way every time."""

from __future__ import annotations

import json
import math
from pathlib import Path

from eventlog import Tracker, TrackingConfig
from eventlog.delivery.pump import deliver_run
from eventlog.plugins import load_sink

FILES = ("metadata.json", "metrics.json", "params.json", "artifacts.json", "final_state.json")


def make_run(root: Path) -> Path:
    with Tracker((), TrackingConfig(project="p", tags=["t"], notes="why"), output_dir=root) as tracker:
        tracker.start_run("a")
        tracker.log_params({"lr": 0.1, "odd": math.inf})
        for step in range(100):
            tracker.log_metrics({"loss": 1 / (step + 1), "bad": math.nan}, step)
        tracker.log_summary({"best": 0.01})
    return root / "p" / "a"


def contents(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


def test_the_files_hold_what_was_logged(tmp_path: Path) -> None:
    """Each file has its part of the run."""
    run = make_run(tmp_path)
    deliver_run(run, load_sink("local"), "local")

    read = {name: json.loads(data) for name, data in contents(run).items()}
    assert read["params.json"] == {"lr": 0.1, "odd": "Infinity"}
    assert len(read["metrics.json"]) == 100
    assert read["metrics.json"][3] == {
        **read["metrics.json"][3],
        "step": 3,
        "metrics": {"loss": 0.25, "bad": "NaN"},
    }
    assert read["metadata.json"]["tags"] == {"t": None}
    assert read["metadata.json"]["notes"] == "why"
    state = read["final_state.json"]
    assert (state["status"], state["last_step"], state["metrics_count"]) == ("finished", 99, 100)
    assert state["metrics"]["bad"]["last"] == "NaN"
    assert state["summary"] == {"best": 0.01}


def test_repeating_changes_nothing(tmp_path: Path) -> None:
    """The same log gives the same bytes, also after the files were deleted."""
    run = make_run(tmp_path)
    deliver_run(run, load_sink("local"), "local")
    first = contents(run)
    for name in FILES:
        (run / name).unlink()
    deliver_run(run, load_sink("local"), "local")

    assert contents(run) == first
    assert not list(run.glob(".*.tmp"))
