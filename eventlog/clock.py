"""Time as a parameter, so that no test has to wait for it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Where storage and tracker take the time from."""

    def now_us(self) -> int:
        """Return microseconds since the Unix epoch, UTC."""

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Return microseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()


SYSTEM_CLOCK = SystemClock()


def chance() -> float:
    """Return a random number in [0, 1), for waits that must differ between processes.

    `random` takes milliseconds to import, in jobs that never wait.
    """
    return int.from_bytes(os.urandom(4), "little") / 2**32


def iso_utc(t_us: int) -> str:
    """Return *t_us* (microseconds since the epoch) as ISO 8601 with microseconds and ``+00:00``.

    A time that no calendar holds is given as its number, because a log may hold anything.
    """
    seconds, rest_us = divmod(t_us, 1_000_000)
    text = _second(seconds)
    return f"{text}.{rest_us:06d}+00:00" if text else str(t_us)


@lru_cache(maxsize=64)  # neighbouring events share their second, and formatting it is what costs
def _second(seconds: int) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return None
