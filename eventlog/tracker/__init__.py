"""The tracker: what a training job calls.

`config` holds the settings that all backends share, `naming` decides where a run lies, `recording` turns
calls into events of one run, `runs` starts, nests and ends them, `lifecycle` ends them when the process
does, `live` keeps the process beside a run that delivers it. `core` is the `Tracker`; `media`, `sounds`,
`models` and `watching` are its calls for pictures, sounds, models and torch hooks. `results` knows
experiment results, `auto` is the decorator, `backends` has the names people know.
"""

from eventlog.tracker.auto import auto_track
from eventlog.tracker.backends import (
    LocalFileTracker,
    MLflowTracker,
    MultiTracker,
    TensorBoardTracker,
    WandBTracker,
    create_tracker,
)
from eventlog.tracker.config import TrackingConfig
from eventlog.tracker.core import Tracker
from eventlog.tracker.runs import RunHandle

__all__ = [
    "LocalFileTracker",
    "MLflowTracker",
    "MultiTracker",
    "RunHandle",
    "TensorBoardTracker",
    "Tracker",
    "TrackingConfig",
    "WandBTracker",
    "auto_track",
    "create_tracker",
]
