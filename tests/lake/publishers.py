"""Publishers in processes of their own, several at once, some of which are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from eventlog.lake.delta import Table
from eventlog.lake.place import Place

# A server that has everything imported forks a publisher in milliseconds; nothing in it has threads yet.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.lake.publishers", "deltalake", "eventlog.lake.publish", "pyarrow.parquet"]
)

STEPS = {
    "keep": (Place, "keep"),
    "write": (Place, "write"),
    "commit": (Table, "_try"),
    "delete": (Place, "delete"),
}
"""Where a publisher changes what others see."""


def start(
    root: Path,
    url: str,
    options: Mapping[str, str] | None = None,
    *,
    times: int = 1,
    kill_at: tuple[str, int, bool] | None = None,
) -> BaseProcess:
    """Start a publisher.

    Args:
        times: how often it publishes.
        kill_at: a step of `STEPS`, which one of them, and whether it is killed after it or before.
    """
    # The server that forks has the environment that it was started with.
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    arguments = (root, url, dict(options or {}), environment, times, kill_at)
    process = _CONTEXT.Process(target=_publish, args=arguments)
    process.start()
    return process


def publish_at_once(
    roots: Sequence[Path], url: str, options: Mapping[str, str] | None = None, *, times: int = 1
) -> list[int | None]:
    """Publish each of *roots* at the same time; return the exit codes."""
    publishers = [start(root, url, options, times=times) for root in roots]
    for process in publishers:
        process.join(120)
        process.kill()
    return [process.exitcode for process in publishers]


def _publish(
    root: Path,
    url: str,
    options: dict[str, str],
    environment: dict[str, str],
    times: int,
    kill_at: tuple[str, int, bool] | None,
) -> None:
    from eventlog.lake.publish import publish

    os.environ.update(environment)
    if kill_at is not None:
        _kill_at(*kill_at)
    for _ in range(times):
        publish(root, url, options=options, keep=timedelta(0))


def _kill_at(step: str, number: int, is_after: bool) -> None:
    owner, name = STEPS[step]
    original = getattr(owner, name)
    count = 0

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal count
        count += 1
        if count == number and not is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)
