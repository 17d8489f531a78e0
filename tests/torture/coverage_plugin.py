"""A plugin of pytest for row 10: notes under each line which tests reached it, and how long each took."""

from __future__ import annotations

import _thread
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from coverage import Coverage

DURATIONS = "EVLOG_TEST_DURATIONS"
"""The environment variable that names the file for the durations."""

_seconds: defaultdict[str, float] = defaultdict(float)
_start = _thread.start_new_thread


def _start_traced(
    function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> int:
    """Start a thread whose lines are seen; coverage does that for those of `threading` only."""

    def traced(*args: Any, **kwargs: Any) -> None:
        sys.settrace(threading.gettrace())
        function(*args, **kwargs)

    return _start(traced, args, kwargs or {})


def pytest_configure() -> None:
    """See the flusher, too."""
    _thread.start_new_thread = _start_traced


def name_of(node: str) -> str:
    """Return the name of a test without its parameters."""
    return node.partition("[")[0]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Give what runs now the name of the test."""
    if current := Coverage.current():
        current.switch_context(name_of(item.nodeid))
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up how long a test takes."""
    _seconds[name_of(report.nodeid)] += report.duration


def pytest_sessionfinish() -> None:
    """Keep what was added up."""
    if path := os.environ.get(DURATIONS):
        Path(path).write_bytes(msgspec.json.encode(_seconds))
