"""Old shapes of events, brought up to date in small steps.

A step takes a line's fields as format *n* wrote them and returns them as format *n + 1* would have.
Every log of a released format stays readable for ever: a step is never removed, and each has a golden
log in ``tests/golden/``. Format 1 is the first, so there is no step yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eventlog.events import FORMAT

Fields = dict[str, object]
Step = Callable[[Fields], Fields]

STEPS: Mapping[int, Step] = {}


def upcast(
    fields: Fields, from_format: int, *, to_format: int = FORMAT, steps: Mapping[int, Step] = STEPS
) -> Fields:
    """Return *fields* in the shape of *to_format*, applying one step for each format in between."""
    for version in range(from_format, to_format):
        fields = steps[version](fields)
    return fields
