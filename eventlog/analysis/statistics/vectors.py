"""Checks what goes into statistics, once, at the edge."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eventlog.analysis.statistics.outcomes import ALTERNATIVES
from eventlog.errors import EvlogError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Vector = NDArray[numpy.float64]

_FLAT = 1e-12
_LARGEST = 1e150
"""The squares of larger numbers are none."""


class StatisticsError(EvlogError, ValueError):
    """Values with which a statistic cannot be computed, or an option that it does not have."""


class TooFewValuesError(StatisticsError):
    """There are fewer values than a statistic needs."""

    def __init__(self, what: str, count: int, least: int) -> None:
        super().__init__(what, count, least)
        self.what, self.count, self.least = what, count, least

    def __str__(self) -> str:
        return f"{self.what} needs {self.least} values or more, there are {self.count}. Run more seeds."


def need_scipy() -> None:
    """Raise `MissingExtraError` if scipy is not installed."""
    need("statistics", "scipy", "stats")


def need(what: str, module: str, extra: str) -> None:
    """Raise `MissingExtraError` if *module* of the extra *extra* is not installed."""
    if importlib.util.find_spec(module) is None:
        from eventlog.query.answer import MissingExtraError

        raise MissingExtraError(what, f"'evlog[{extra}]'")


def vector(values: Sequence[float], what: str, *, least: int) -> Vector:
    """Return *values* as an array of doubles, shape (n,).

    Raises:
        TooFewValuesError: fewer than *least*.
        StatisticsError: NaN, an infinity or a number above 1e150 is among them.
    """
    need_scipy()
    import numpy

    found = numpy.asarray(values, dtype=numpy.float64)
    if found.ndim != 1:
        raise StatisticsError(f"{what} needs a flat list of numbers, not one of shape {found.shape}.")
    if not numpy.isfinite(found).all():
        raise StatisticsError(f"{what} cannot count with NaN or infinities. Leave them out first.")
    if (numpy.abs(found) > _LARGEST).any():
        raise StatisticsError(
            f"{what} has values beyond {_LARGEST:g}, too large to square. Has a run diverged?"
        )
    if len(found) < least:
        raise TooFewValuesError(what, len(found), least)
    return found


def pairs(a: Sequence[float], b: Sequence[float], what: str, *, least: int) -> tuple[Vector, Vector]:
    """Return two arrays of one length.

    Raises:
        StatisticsError: as `vector`, or their lengths differ.
    """
    first, second = vector(a, what, least=least), vector(b, what, least=least)
    if len(first) != len(second):
        raise StatisticsError(f"{what} needs pairs, there are {len(first)} and {len(second)} values.")
    return first, second


def is_flat(values: Vector) -> bool:
    """Tell whether *values* do not spread, but for rounding."""
    import numpy

    return bool(numpy.ptp(values) <= _FLAT * numpy.max(numpy.abs(values)))


def check_alternative(alternative: str) -> None:
    """Raise `StatisticsError` for an alternative that nobody knows."""
    if alternative not in ALTERNATIVES:
        raise StatisticsError(
            f"There is no alternative {alternative!r}. Take one of {', '.join(ALTERNATIVES)}."
        )


def check_level(level: float) -> None:
    """Raise `StatisticsError` for a level that is no probability."""
    if not 0 < level < 1:
        raise StatisticsError(f"The level {level} is not between 0 and 1. Take 0.95, say.")
