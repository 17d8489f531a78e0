"""Row 1: SIGKILL at random moments."""

from __future__ import annotations

import os

from tests.crash.campaign import play as play_kills
from tests.torture.rows import Form, Result

TITLE = "SIGKILL at random moments"
PROMISE = "every event whose call had returned is read back, none is invented, every tail is classified"
ROUNDS: dict[Form, int] = {"short": 60, "long": 100_000}


def play(form: Form, seed: int) -> Result:
    """Kill writers and count."""
    workers = (os.cpu_count() or 1) if form == "long" else 1
    totals = play_kills(ROUNDS[form], seed, workers=workers)
    problems = list(totals.problems)
    if not (totals.acknowledged and totals.recovered):
        problems.append("no call had returned, or nothing was in a ring: nothing was tried")
    return Result(
        cases=totals.rounds,
        counts={
            "calls that had returned": totals.acknowledged,
            "events from the ring": totals.recovered,
            **{f"tails {name}": count for name, count in sorted(totals.tails.items())},
        },
        lost=totals.lost,
        invented=totals.invented,
        problems=problems,
    )
