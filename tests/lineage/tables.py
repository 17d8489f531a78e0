"""A run that logs its data, and a table that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import Tracker
from eventlog.events import Dataset
from eventlog.lineage.data.frames import describe_frame


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    with Tracker((), output_dir=tmp_path / "runs", lineage=False, system=False) as tracker:
        tracker.start_run("r")
        yield tracker


def table() -> dict[str, list[Any]]:
    return {
        "id": [1, 2, 3],
        "score": [0.5, None, float("inf")],
        "text": ["a", None, "ü\n"],
        "good": [True, False, True],
    }


def sha_of(frame: object) -> str | None:
    return describe_frame(frame).sha256


def logged_as(tracker: Tracker, *args: Any, **options: Any) -> Dataset:
    event = tracker.log_dataset(*args, **options)
    assert event is not None
    return event
