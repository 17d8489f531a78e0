"""evlog: an experiment tracker whose log is the truth.

    from eventlog import create_tracker

    with create_tracker("local") as tracker:
        tracker.log_params({"lr": 1e-3})
        tracker.log_metrics({"loss": 0.5}, step=1)

Importing this package loads orjson and msgspec and nothing else from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import os
    from datetime import datetime

    from eventlog.query.connect import Connection

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
    "connect",
    "create_tracker",
    "seed_everything",
]


def seed_everything(seed: int, *, deterministic: bool = False, torch: bool | None = None) -> int:
    """Seed Python, NumPy and torch with *seed*, and log it in the run that is active or starts next.

    Args:
        seed: from 0 to 2**32 - 1.
        deterministic: have torch use deterministic algorithms only, which are slower, and raise where there
            is none.
        torch: None seeds torch if the program has imported it, True imports it, False leaves it alone.

    Returns:
        *seed*.

    Raises:
        BadValueError: *seed* is no whole number from 0 to 2**32 - 1.
        ImportError: *torch*, and there is none.
    """
    from eventlog.lineage import seeds  # who seeds has random numbers; who only logs need not load them

    return seeds.seed_everything(seed, deterministic=deterministic, torch=torch)


def connect(
    root: str | os.PathLike[str] | None = None,
    *,
    as_of: str | datetime | None = None,
    sandbox: bool = False,
    memory: str | int | None = None,
    timeout_s: float = 30.0,
) -> Connection:
    """Return a connection to the runs below *root*, to ask SQL and to read metrics as arrays.

    Args:
        root: directory of all projects; default EVLOG_DIR, or ./experiments.
        as_of: a time, or RUN:SEQ: every table is as it was then.
        sandbox: run SQL in a child process that can read the cache and nothing else.
        memory: what a question may take, as "2GB"; default a quarter of the machine's, in a sandbox 1 GiB.
        timeout_s: a question in a sandbox is stopped after so long.

    Raises:
        QueryError: *as_of* is no moment, or *memory* no amount.
        OSError: no room for the cache.
    """
    from eventlog.query.connect import Connection  # DuckDB is not for jobs that only log

    return Connection(root, as_of=as_of, sandbox=sandbox, memory=memory, timeout_s=timeout_s)
