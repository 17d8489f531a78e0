"""How hard a model may be asked: rates, and when to ask again.

Nothing here waits: it says how many seconds to wait, so that tests need not.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

import msgspec

from eventlog.evaluation.engine_errors import BadEvaluationError, Kind, ModelCallError

MAX_RETRY_AFTER_S = 600.0
"""A server that asks for a longer pause ends the evaluation, which can go on later."""

_NOT_TRANSIENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})


class Timing(Protocol):
    """Time as a parameter."""

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""

    def wait(self, seconds: float) -> None:
        """Block this thread."""

    async def sleep(self, seconds: float) -> None:
        """Let others run meanwhile."""


class SystemTiming:
    """The machine's clock."""

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.perf_counter()

    def wait(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)

    async def sleep(self, seconds: float) -> None:
        """Let others run meanwhile."""
        await asyncio.sleep(seconds)


SYSTEM_TIMING = SystemTiming()


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked in a minute; None for no limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        for value in (self.requests_per_minute, self.tokens_per_minute):
            if value is not None and not value > 0:
                raise BadEvaluationError(f"a rate limit is a number above 0, not {value!r}")


class Pace:
    """Spaces calls evenly, so that no minute holds more than its limit. Not thread-safe.

    Tokens are known only afterwards: a call reserves the mean of those before it, and the difference moves
    the next call.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._request_s = 60 / limit.requests_per_minute if limit.requests_per_minute else 0.0
        self._token_s = 60 / limit.tokens_per_minute if limit.tokens_per_minute else 0.0
        self._next_request = self._next_token = self._held_until = 0.0
        self._calls, self._tokens = 0, 0.0

    def reserve(self, now: float, guess: float = 0.0) -> tuple[float, float]:
        """Return seconds to wait before a call that may be made next, and the tokens reserved for it.

        Args:
            guess: tokens of the call, used until there is a mean.
        """
        start = max(now, self._next_request, self._next_token, self._held_until)
        self._next_request = start + self._request_s
        tokens = self._tokens / self._calls if self._calls else guess
        self._next_token = max(start, self._next_token) + tokens * self._token_s
        return start - now, tokens

    def settle(self, reserved: float, used: float) -> None:
        """Take note of the tokens that a call really took."""
        self._calls += 1
        self._tokens += used
        self._next_token += (used - reserved) * self._token_s

    def hold(self, until: float) -> None:
        """Let no call begin before *until*."""
        self._held_until = max(self._held_until, until)


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask again.

    Attributes:
        retries: calls after the first one.
        first_s: longest wait before the first of them; it doubles each time.
        max_s: longest wait.
    """

    retries: int = 5
    first_s: float = 0.5
    max_s: float = 30.0

    def wait_s(self, attempt: int, chance: random.Random) -> float:
        """Return the seconds to wait after failed call number *attempt*, counted from 0.

        Half of it is random, so that calls that failed together do not come back together.
        """
        longest = min(self.max_s, self.first_s * 2.0 ** min(attempt, 30))
        return longest * chance.uniform(0.5, 1.0)


def kind_of(error: Exception) -> Kind:
    """Return what *error* means for another try.

    Besides our own errors it knows those of connections and time, and exceptions with a ``status_code``, as
    the clients of most model providers raise them.
    """
    if isinstance(error, ModelCallError):
        return error.kind
    status = getattr(error, "status_code", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    if isinstance(status, int):
        return kind_of_status(status)
    is_transient = isinstance(error, OSError) and not isinstance(error, _NOT_TRANSIENT)
    return "transient" if is_transient else "final"


def kind_of_status(status: int) -> Kind:
    """Return what an HTTP status means for another try."""
    if status in _TRANSIENT_STATUS or status >= 500:
        return "transient"
    return "fatal" if status in (401, 404) else "final"


def retry_after_of(error: Exception) -> float | None:
    """Return how long *error* asks to wait, in seconds."""
    return error.retry_after_s if isinstance(error, ModelCallError) else None
