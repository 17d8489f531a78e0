"""How large a difference is: standardised mean differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eventlog.analysis.statistics.outcomes import Effect
from eventlog.analysis.statistics.vectors import is_flat, pairs, vector


def cohens_d(a: Sequence[float], b: Sequence[float]) -> Effect:
    """Return the difference of means in pooled standard deviations (with n - 1).

    Args:
        a: shape (n,), n >= 2, any unit.
        b: shape (m,), m >= 2, the same unit.

    Returns:
        Positive if the mean of *a* is greater; without a value if nothing spreads.

    Raises:
        TooFewValuesError: fewer than two values in a group.

    Source: Cohen (1988), "Statistical Power Analysis for the Behavioral Sciences", 2nd ed., section 2.5.
    """
    first, second = vector(a, "cohens_d", least=2), vector(b, "cohens_d", least=2)
    if is_flat(first) and is_flat(second):
        return Effect(name="cohens_d", value=None)
    df = len(first) + len(second) - 2
    squares = (len(first) - 1) * float(first.var(ddof=1)) + (len(second) - 1) * float(second.var(ddof=1))
    return Effect(name="cohens_d", value=float(first.mean() - second.mean()) / math.sqrt(squares / df))


def hedges_g(a: Sequence[float], b: Sequence[float]) -> Effect:
    """Return Cohen's d without its bias in small groups.

    Source: Hedges (1981), "Distribution Theory for Glass's Estimator of Effect Size and Related Estimators",
        Journal of Educational Statistics 6(2): the exact factor, by gamma functions.
    """
    d = cohens_d(a, b).value
    df = len(a) + len(b) - 2
    factor = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 1.0
    return Effect(name="hedges_g", value=None if d is None else d * factor)


def paired_d_z(a: Sequence[float], b: Sequence[float]) -> Effect:
    """Return the mean of the differences in standard deviations of the differences.

    It is no Cohen's d: where pairs go together closely it is much larger than d of the same values.

    Args:
        a: shape (n,), n >= 2, any unit.
        b: the same shape and unit; ``b[i]`` belongs to ``a[i]``.

    Source: Lakens (2013), "Calculating and Reporting Effect Sizes to Facilitate Cumulative Science",
        Frontiers in Psychology 4:863, formula 6.
    """
    first, second = pairs(a, b, "paired_d_z", least=2)
    gaps = first - second
    scale = max(float(abs(first).max()), float(abs(second).max()))
    if float(gaps.max() - gaps.min()) <= 1e-12 * scale:
        return Effect(name="paired_d_z", value=None)
    return Effect(name="paired_d_z", value=float(gaps.mean()) / float(gaps.std(ddof=1)))
