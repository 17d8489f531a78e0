"""Several comparisons at once: p-values that stay honest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eventlog.analysis.statistics.vectors import StatisticsError

CORRECTIONS = ("holm", "bh", "none")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that keep the chance of even one false finding below the level.

    Args:
        p_values: shape (m,), each in [0, 1], in any order.

    Returns:
        As many, in the same order, at most 1.

    Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
        Statistics 6(2).
    """
    order = _ascending(p_values)
    found, largest = [0.0] * len(order), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, (len(order) - rank) * p_values[place])
        found[place] = min(1.0, largest)
    return found


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values that keep the expected share of false ones among the findings below the level.

    Args:
        p_values: shape (m,), each in [0, 1], in any order, of independent (or positively dependent) tests.

    Returns:
        As many, in the same order, at most 1.

    Source: Benjamini and Hochberg (1995), "Controlling the False Discovery Rate", Journal of the Royal
        Statistical Society B 57(1).
    """
    order = _ascending(p_values)
    found, smallest = [0.0] * len(order), 1.0
    for rank in range(len(order) - 1, -1, -1):
        smallest = min(smallest, len(order) / (rank + 1) * p_values[order[rank]])
        found[order[rank]] = smallest
    return found


def corrected(p_values: Sequence[float | None], method: str) -> list[float | None]:
    """Return p-values corrected by *method* (``holm``, ``bh``, ``none``); those that are None stay so.

    A comparison without a p is no test and does not count.
    """
    if method not in CORRECTIONS:
        raise StatisticsError(f"There is no correction {method!r}. Take one of {', '.join(CORRECTIONS)}.")
    known = [p for p in p_values if p is not None]
    done = iter(holm(known) if method == "holm" else benjamini_hochberg(known) if method == "bh" else known)
    return [None if p is None else next(done) for p in p_values]


def _ascending(p_values: Sequence[float]) -> list[int]:
    if any(math.isnan(p) or not 0 <= p <= 1 for p in p_values):
        raise StatisticsError("A p-value lies between 0 and 1. Leave out tests that have none.")
    return sorted(range(len(p_values)), key=p_values.__getitem__)
