"""Decides when a destination that cannot be reached is tried again.

One breaker stands before each destination, for all runs of the process: while it is open nobody tries, and
when its time has come one of them does, so that ten thousand runs probe a dead server once, not each.
It never waits itself: whoever asks is told how long.

Source of the waits (full jitter): Brooker (2015), "Exponential Backoff And Jitter", AWS Architecture Blog.

Safe for use by several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventlog.clock import chance

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
OTHERS_WAIT_S = 0.25


class Breaker:
    """The state of one destination.

    Attributes:
        down_since: monotonic seconds of the first failure since the last success, None while it works.
        last_error: what the last failure said.
    """

    def __init__(self, jitter: Callable[[], float] = chance) -> None:
        """Args: *jitter* returns numbers in [0, 1)."""
        self.down_since: float | None = None
        self.last_error = ""
        self._jitter = jitter
        self._failures = 0
        self._not_before = 0.0
        self._is_probing = False
        self._lock = threading.Lock()

    def ask(self, now: float) -> float:
        """Return 0 if the caller may try now, else after how many seconds to ask again.

        Who was told 0 has to call `succeeded`, `failed` or `given_up`.
        """
        with self._lock:
            if self.down_since is None:
                return 0.0
            if now < self._not_before:
                return self._not_before - now
            if self._is_probing:
                return OTHERS_WAIT_S
            self._is_probing = True
            return 0.0

    def succeeded(self) -> None:
        """Take note that the destination took something."""
        if self.down_since is None:
            return
        with self._lock:
            self.down_since, self._failures, self._is_probing = None, 0, False

    def given_up(self) -> None:
        """Take note that a try ended without telling anything of the destination."""
        with self._lock:
            self._is_probing = False

    def failed(self, now: float, error: str, retry_after_s: float | None = None) -> None:
        """Take note that the destination could not be reached; it may have said when to come again."""
        with self._lock:
            # Those that were under way when it went down say nothing new: eight of them are no reason to
            # wait a minute.
            is_news = self.down_since is None or self._is_probing
            self._is_probing = False
            self.last_error = error
            if self.down_since is None:
                self.down_since, self._failures, self._not_before = now, 0, 0.0
            wait = 0.0
            if is_news:
                wait = self._jitter() * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._failures, 30))
                self._failures += 1
            # A little later than was said, and not all at the same moment.
            asked = 0.0 if retry_after_s is None else retry_after_s + self._jitter()
            self._not_before = max(self._not_before, now + max(wait, asked))


_breakers: dict[str, Breaker] = {}
_breakers_lock = threading.Lock()


def breaker_of(sink_name: str, destination: str) -> Breaker:
    """Return the one breaker of a destination in this process."""
    with _breakers_lock:
        return _breakers.setdefault(f"{sink_name} {destination}", Breaker())
