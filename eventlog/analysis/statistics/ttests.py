"""Student's t: tests of two means, and the intervals that belong to them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from eventlog.analysis.statistics.outcomes import Alternative, Interval, Outcome
from eventlog.analysis.statistics.vectors import check_alternative, check_level, is_flat, pairs, vector

NO_SPREAD = "the values do not spread, so that t is undefined"


def welch_t(a: Sequence[float], b: Sequence[float], *, alternative: Alternative = "two-sided") -> Outcome:
    """Test whether the means of two independent groups differ; their variances need not be equal.

    Args:
        a: shape (n,), n >= 2, any unit.
        b: shape (m,), m >= 2, the same unit.
        alternative: ``greater`` tests whether the mean of *a* is greater.

    Returns:
        p is 1 if nothing spreads and the means are equal, None if nothing spreads and they are not.

    Raises:
        TooFewValuesError: fewer than two values in a group.

    Source: Welch (1947), "The Generalization of 'Student's' Problem when Several Different Population
        Variances are Involved", Biometrika 34(1/2).
    """
    check_alternative(alternative)
    first, second = vector(a, "welch_t", least=2), vector(b, "welch_t", least=2)
    if is_flat(first) and is_flat(second):
        return _undefined("welch_t", float(first.mean() - second.mean()), alternative)
    from scipy import stats

    with warnings.catch_warnings():
        # One group without spread is no loss of precision; both are dealt with above.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.ttest_ind(first, second, equal_var=False, alternative=alternative)
    return Outcome(
        test="welch_t",
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        df=float(found.df),
        alternative=alternative,
    )


def paired_t(a: Sequence[float], b: Sequence[float], *, alternative: Alternative = "two-sided") -> Outcome:
    """Test whether the mean of the differences ``a[i] - b[i]`` is not zero.

    Args:
        a: shape (n,), n >= 2, any unit.
        b: the same shape and unit; ``b[i]`` belongs to ``a[i]`` (same seed, same sample).

    Returns:
        As `welch_t` where the differences do not spread.

    Raises:
        TooFewValuesError: fewer than two pairs.
        StatisticsError: the lengths differ.

    Source: Student (1908), "The Probable Error of a Mean", Biometrika 6(1).
    """
    check_alternative(alternative)
    first, second = pairs(a, b, "paired_t", least=2)
    gaps = first - second
    if _is_flat_beside(gaps.tolist(), first.tolist(), second.tolist()):
        return _undefined("paired_t", float(gaps.mean()), alternative)
    from scipy import stats

    found = stats.ttest_1samp(gaps, 0.0, alternative=alternative)
    return Outcome(
        test="paired_t",
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        df=float(found.df),
        alternative=alternative,
    )


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return a confidence interval for the mean over seeds.

    Args:
        values: one value per seed, shape (n,), n >= 2, any unit.
        level: two-sided coverage, in (0, 1).

    Returns:
        Bounds in the unit of *values*.

    Raises:
        TooFewValuesError: fewer than two values.

    Source: Student (1908), "The Probable Error of a Mean", Biometrika 6(1).
    """
    check_level(level)
    found = vector(values, "mean_interval", least=2)
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    return _t_interval(float(found.mean()), error, len(found) - 1, level, "two-sided")


def difference_interval(
    a: Sequence[float],
    b: Sequence[float],
    *,
    paired: bool = False,
    level: float = 0.95,
    alternative: Alternative = "two-sided",
) -> Interval:
    """Return the interval for ``mean(a) - mean(b)`` that agrees with `paired_t` or `welch_t`.

    Args:
        alternative: ``greater`` leaves the upper bound open (infinity), ``less`` the lower one.

    Raises:
        TooFewValuesError: fewer than two values in a group.

    Source: as `paired_t`, `welch_t`.
    """
    check_alternative(alternative)
    check_level(level)
    if paired:
        first, second = pairs(a, b, "difference_interval", least=2)
        gaps = first - second
        error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
        return _t_interval(float(gaps.mean()), error, len(gaps) - 1, level, alternative)
    first, second = vector(a, "difference_interval", least=2), vector(b, "difference_interval", least=2)
    parts = [float(group.var(ddof=1)) / len(group) for group in (first, second)]
    total = sum(parts)
    weights = parts[0] ** 2 / (len(first) - 1) + parts[1] ** 2 / (len(second) - 1)
    df = total**2 / weights if weights else math.inf
    return _t_interval(float(first.mean() - second.mean()), math.sqrt(total), df, level, alternative)


def _t_interval(middle: float, error: float, df: float, level: float, alternative: Alternative) -> Interval:
    from scipy import stats

    tail = (1 - level) / 2 if alternative == "two-sided" else 1 - level
    reach = float(stats.t.isf(tail, df)) * error if error else 0.0
    return Interval(
        low=-math.inf if alternative == "less" else middle - reach,
        high=math.inf if alternative == "greater" else middle + reach,
        level=level,
        method="t",
        note=None if error else "nothing spreads: the interval is a point",
    )


def _is_flat_beside(gaps: list[float], *groups: list[float]) -> bool:
    """Tell whether *gaps* spread no more than the rounding of the values that they come from."""
    scale = max(abs(value) for group in groups for value in group)
    return max(gaps) - min(gaps) <= 1e-12 * scale


def _undefined(test: str, difference: float, alternative: Alternative) -> Outcome:
    """Return what a t-test says where nothing spreads."""
    if difference == 0:
        return Outcome(test=test, statistic=0.0, p_value=1.0, alternative=alternative, note=NO_SPREAD)
    return Outcome(test=test, statistic=None, p_value=None, alternative=alternative, note=NO_SPREAD)
