"""SIGKILL at any moment: the short form of `tests.crash.campaign`."""

from __future__ import annotations

from tests.crash.campaign import play


def test_killed_writers_lose_no_call_that_returned() -> None:
    """Every acknowledged event is read back, none is invented, and no reader is ever confused."""
    totals = play(rounds=40, seed=1)

    assert totals.problems == ()
    assert (totals.lost, totals.invented) == (0, 0)
    assert totals.recovered > 0
