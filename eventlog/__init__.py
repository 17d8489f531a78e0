"""evlog: an experiment tracker whose log is the truth.

    from eventlog import create_tracker

    with create_tracker("local") as tracker:
        tracker.log_params({"lr": 1e-3})
        tracker.log_metrics({"loss": 0.5}, step=1)

Importing this package loads orjson and msgspec and nothing else from outside.
"""

from eventlog.errors import EvlogError, EvlogWarning
from eventlog.tracker import (
    LocalFileTracker,
    MLflowTracker,
    MultiTracker,
    RunHandle,
    TensorBoardTracker,
    Tracker,
    TrackingConfig,
    WandBTracker,
    auto_track,
    create_tracker,
)

__version__ = "0.1.0"

__all__ = [
    "EvlogError",
    "EvlogWarning",
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
