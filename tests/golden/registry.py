"""The golden cases by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Make = Callable[[Path], None]
"""Puts a log into a directory, which is the case's."""

CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    """Take a function as a case of its own name."""
    CASES[make.__name__.replace("_", "-")] = make
    return make
