"""Right or wrong, in pairs: McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eventlog.analysis.statistics.outcomes import Alternative, Outcome
from eventlog.analysis.statistics.vectors import StatisticsError, check_alternative, need_scipy, pairs

EXACT_BELOW = 25
"""Discordant pairs below which the binomial is summed instead of approximated."""


def mcnemar(a: Sequence[float], b: Sequence[float], *, alternative: Alternative = "two-sided") -> Outcome:
    """Test whether *a* is right as often as *b* on the same items.

    Args:
        a: 0 or 1 (or booleans), shape (n,), n >= 1.
        b: the same shape; ``b[i]`` is about the item of ``a[i]``.

    Raises:
        StatisticsError: the lengths differ, or a value is neither 0 nor 1.

    Source: as `mcnemar_counts`.
    """
    first, second = pairs(a, b, "mcnemar", least=1)
    if not all(((group == 0) | (group == 1)).all() for group in (first, second)):
        raise StatisticsError("mcnemar needs right (1) or wrong (0) for each item.")
    return mcnemar_counts(int((first > second).sum()), int((first < second).sum()), alternative=alternative)


def mcnemar_counts(only_a: int, only_b: int, *, alternative: Alternative = "two-sided") -> Outcome:
    """Test whether one is right alone more often than the other.

    Args:
        only_a: items that only the first has right.
        only_b: items that only the second has right.

    Returns:
        Below 25 such items: the exact binomial, its statistic *only_a*. Else chi-squared with one degree of
        freedom, with continuity correction (one-sided: its signed root against the normal).

    Source: McNemar (1947), "Note on the Sampling Error of the Difference between Correlated Proportions or
        Percentages", Psychometrika 12(2); Edwards (1948), Psychometrika 13(3), for the correction.
    """
    check_alternative(alternative)
    need_scipy()
    total = only_a + only_b
    if total < EXACT_BELOW:
        return Outcome(
            test="mcnemar",
            statistic=float(only_a),
            p_value=_binomial(only_a, total, alternative),
            alternative=alternative,
            is_exact=True,
        )
    from scipy import stats

    gap = only_a - only_b
    chi2 = max(abs(gap) - 1, 0) ** 2 / total
    if alternative == "two-sided":
        p_value = float(stats.chi2.sf(chi2, 1))
    else:
        wanted = gap if alternative == "greater" else -gap
        p_value = float(stats.norm.sf((wanted - 1) / math.sqrt(total)))
    return Outcome(test="mcnemar", statistic=chi2, p_value=p_value, df=1.0, alternative=alternative)


def _binomial(hits: int, total: int, alternative: Alternative) -> float:
    if total == 0:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(hits, total, 0.5, alternative=alternative).pvalue)
