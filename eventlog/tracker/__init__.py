"""The tracker: what a training job calls.

`config` holds the settings that all backends share, `naming` decides where a run lies, `recording` turns
calls into events of one run, `lifecycle` ends runs when the process does, `core` is the `Tracker`,
`results` knows experiment results, `auto` the decorator, `backends` the names people know.
"""

from eventlog.tracker.auto import auto_track
from eventlog.tracker.backends import LocalFileTracker, MultiTracker, create_tracker
from eventlog.tracker.config import TrackingConfig
from eventlog.tracker.core import RunHandle, Tracker

__all__ = [
    "LocalFileTracker",
    "MultiTracker",
    "RunHandle",
    "Tracker",
    "TrackingConfig",
    "auto_track",
    "create_tracker",
]
