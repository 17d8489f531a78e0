"""Row 1: SIGKILL at random moments."""

from __future__ import annotations

from tests.crash.campaign import play as play_kills
from tests.torture.rows import Form, Result

TITLE = "SIGKILL at random moments"
PROMISE = "every event whose call had returned is read back, none is invented, every tail is classified"
ROUNDS: dict[Form, int] = {"short": 40, "long": 100_000}


def play(form: Form, seed: int) -> Result:
    """Kill writers and count."""
    totals = play_kills(ROUNDS[form], seed)
    return Result(
        cases=totals.rounds,
        counts={"calls that had returned": totals.acknowledged, "events from the ring": totals.recovered},
        lost=totals.lost,
        invented=totals.invented,
        problems=list(totals.problems),
    )
