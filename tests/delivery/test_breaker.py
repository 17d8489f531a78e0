"""The breaker says when a destination that is down is tried again."""

from __future__ import annotations

import threading
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from eventlog.delivery.breaker import FIRST_WAIT_S, LONGEST_WAIT_S, Breaker, breaker_of


def test_breaker_lets_everybody_pass_while_the_destination_works() -> None:
    """Nobody waits for what is not broken."""
    breaker = Breaker()

    assert [breaker.ask(0.0) for _ in range(5)] == [0.0] * 5


def test_breaker_doubles_the_waits_up_to_a_limit() -> None:
    """Each failed probe doubles the wait; it never exceeds a minute."""
    breaker, now, waits = Breaker(jitter=lambda: 1.0), 0.0, []
    for _ in range(12):
        breaker.failed(now, "down")
        waits.append(breaker.ask(now))
        now += waits[-1]
        assert breaker.ask(now) == 0

    assert waits[0] == FIRST_WAIT_S
    assert all(after == min(2 * before, LONGEST_WAIT_S) for before, after in pairwise(waits))


@given(jitters=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_breaker_waits_stay_within_bounds(jitters: list[float]) -> None:
    """Whatever chance says: 0 to a minute."""
    chances = iter(jitters)
    breaker, now = Breaker(jitter=lambda: next(chances)), 0.0
    for _ in jitters:
        breaker.failed(now, "down")
        wait = breaker.ask(now)

        assert 0 <= wait <= LONGEST_WAIT_S
        now += wait
        breaker.ask(now)


def test_breaker_waits_as_long_as_it_was_told() -> None:
    """Retry-After counts, and a later failure without one does not shorten it."""
    breaker = Breaker(jitter=lambda: 0.5)
    breaker.failed(0.0, "busy", 100.0)
    breaker.failed(1.0, "busy")

    assert breaker.ask(99.9) > 0
    assert breaker.ask(100.5) == 0


def test_breaker_lets_one_of_many_probe() -> None:
    """Of all threads one tries; when it has failed, one tries again later."""
    breaker = Breaker(jitter=lambda: 1.0)
    breaker.failed(0.0, "down")
    told: list[float] = []
    threads = [threading.Thread(target=lambda: told.append(breaker.ask(1.0))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told.count(0.0) == 1
    breaker.failed(1.0, "down")
    assert breaker.ask(1.9) > 0
    assert breaker.ask(2.0) == 0
    assert breaker.ask(2.0) > 0


def test_breaker_takes_one_outage_that_many_see_for_one_failure() -> None:
    """Eight that were under way fail at once: the next try is not a minute away."""
    breaker = Breaker(jitter=lambda: 1.0)
    for _ in range(8):
        breaker.failed(0.0, "down")

    assert breaker.ask(0.0) == FIRST_WAIT_S


def test_breaker_is_closed_by_a_success() -> None:
    """After a success everything begins anew, the waits too."""
    breaker = Breaker(jitter=lambda: 1.0)
    for now in (0.0, 1.0, 3.0):
        breaker.failed(now, "down")
        breaker.ask(now + 60)
    breaker.succeeded()

    assert breaker.ask(4.0) == 0
    assert breaker.down_since is None
    breaker.failed(5.0, "down again")
    assert breaker.ask(5.0) == FIRST_WAIT_S
    assert breaker.down_since == 5.0


def test_breaker_whose_prober_gave_up_lets_another_probe() -> None:
    """Somebody who stopped without knowing anything does not block the others for ever."""
    breaker = Breaker(jitter=lambda: 0.0)
    breaker.failed(0.0, "down")
    assert breaker.ask(1.0) == 0
    assert breaker.ask(1.0) > 0

    breaker.given_up()

    assert breaker.ask(1.0) == 0


def test_breaker_is_one_for_each_destination() -> None:
    """All runs of a process share it."""
    assert breaker_of("a", "x") is breaker_of("a", "x")
    assert breaker_of("a", "x") is not breaker_of("a", "y")
