"""Rates and retries, without waiting."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.evaluation.engine import evaluate
from eventlog.evaluation.engine_errors import ModelCallError
from eventlog.evaluation.limits import Pace, RateLimit, Retry, kind_of
from tests.evaluation.engine_support import HeldTiming, Sums, solver, tracker_in


@given(
    per_minute=st.integers(min_value=1, max_value=10_000),
    gaps=st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=50),
)
def test_no_minute_holds_more_calls_than_allowed(per_minute: int, gaps: list[float]) -> None:
    """However the calls come, any 60 seconds from a call on hold at most the limit."""
    pace, now, starts = Pace(RateLimit(requests_per_minute=per_minute)), 0.0, []
    for gap in gaps:
        now += gap
        starts.append(now + pace.reserve(now)[0])

    for i, start in enumerate(starts):
        assert sum(start <= other < start + 59.999 for other in starts[i:]) <= per_minute


def test_tokens_are_paced_by_what_calls_really_took() -> None:
    """Six hundred tokens a minute are ten a second: a call of 50 tokens makes the next wait five seconds."""
    pace = Pace(RateLimit(tokens_per_minute=600))

    wait, reserved = pace.reserve(0.0, 10)
    pace.settle(reserved, 50)

    assert wait == 0.0
    assert pace.reserve(0.0)[0] == pytest.approx(5.0)


def test_tokens_are_paced_for_models_that_do_not_count_them(tmp_path: Path) -> None:
    """A guess by the length of the prompts has to do; without one the limit would be none."""
    timing = HeldTiming()
    limit = RateLimit(tokens_per_minute=60)

    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(4), solver, tracker=tracker, batch_size=1, rate_limit=limit, timing=timing)

    assert timing.waits == pytest.approx([2.0] * 3)


def test_without_limits_nobody_waits() -> None:
    """A thousand calls begin at once."""
    pace = Pace(RateLimit())

    assert {pace.reserve(5.0, 1000)[0] for _ in range(1000)} == {0.0}


def test_a_pause_holds_for_all_calls() -> None:
    """What a server asks of one call is asked of all."""
    pace = Pace(RateLimit())

    pace.hold(12.0)

    assert pace.reserve(10.0)[0] == 2.0
    assert pace.reserve(13.0)[0] == 0.0


@given(attempt=st.integers(min_value=0, max_value=10_000), seed=st.integers())
def test_backoff_doubles_up_to_its_limit(attempt: int, seed: int) -> None:
    """Between half of the longest wait and all of it."""
    retry = Retry(first_s=0.5, max_s=30.0)
    longest = min(30.0, 0.5 * 2 ** min(attempt, 100))

    assert longest / 2 <= retry.wait_s(attempt, random.Random(seed)) <= longest


class _HttpError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__()
        self.status_code = status_code


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "transient"),
        (ConnectionResetError(), "transient"),
        (OSError("network is down"), "transient"),
        (FileNotFoundError(), "final"),
        (ValueError(), "final"),
        (MemoryError(), "final"),
        (_HttpError(429), "transient"),
        (_HttpError(503), "transient"),
        (_HttpError(400), "final"),
        (_HttpError(401), "fatal"),
        (ModelCallError("", "fatal"), "fatal"),
    ],
)
def test_errors_are_told_apart(error: Exception, kind: str) -> None:
    """Connections, times and statuses of any client's exceptions say whether another try may help."""
    assert kind_of(error) == kind
