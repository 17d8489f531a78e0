"""Permutation tests and bootstrap intervals. Same values and seed, same answer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from eventlog.analysis.statistics.outcomes import Alternative, Interval, Outcome
from eventlog.analysis.statistics.vectors import (
    StatisticsError,
    check_alternative,
    check_level,
    is_flat,
    pairs,
    vector,
)

if TYPE_CHECKING:
    from eventlog.analysis.statistics.vectors import Vector

Bootstrap = Literal["bca", "percentile"]

EXACT_UP_TO = 20_000
"""Arrangements that are all counted rather than drawn."""

_GRID = 1e9 / math.pi
"""Points in one spread of the values; irrational, so that no fraction lies halfway between two points."""

_CELLS_AT_ONCE = 2_000_000
"""Numbers that are held in memory at once; larger work is done in parts."""


def arrangements(n_a: int, n_b: int, *, paired: bool) -> int:
    """Return in how many ways the values can be dealt out anew: signs of pairs, or members of groups."""
    return 2**n_a if paired else math.comb(n_a + n_b, n_a)


def smallest_p(n_a: int, n_b: int, *, paired: bool, alternative: Alternative = "two-sided") -> float:
    """Return the smallest p that an exact permutation test can reach with so many values.

    Four pairs can never be below 0.125 (two-sided), however large their differences are.
    """
    return min(1.0, (2 if alternative == "two-sided" else 1) / arrangements(n_a, n_b, paired=paired))


def permutation_test(
    a: Sequence[float],
    b: Sequence[float],
    *,
    paired: bool = False,
    alternative: Alternative = "two-sided",
    resamples: int = 9999,
    seed: int = 0,
    exact_up_to: int = EXACT_UP_TO,
) -> Outcome:
    """Test whether who is called *a* and who *b* matters for the difference of means.

    Args:
        a: shape (n,), n >= 1, any unit.
        b: shape (m,), m >= 1, the same unit; with *paired*, m = n and ``b[i]`` belongs to ``a[i]``.
        paired: exchange within pairs only; pairs without a gap do not count as arrangements.
        resamples: arrangements drawn if there are more than *exact_up_to*.
        seed: of the drawing.

    Returns:
        Two-sided p is twice the smaller one-sided p, at most 1. With all arrangements counted it is exact;
        with *m* drawn, of which *b* are as extreme, a one-sided p is (b + 1) / (m + 1), never 0.

    Raises:
        TooFewValuesError: a group is empty.
        StatisticsError: *paired*, and the lengths differ.

    Source: Fisher (1935), "The Design of Experiments", section 21; Phipson and Smyth (2010), "Permutation
        P-values Should Never Be Zero", Statistical Applications in Genetics and Molecular Biology 9(1).
    """
    check_alternative(alternative)
    _check_resamples(resamples)
    if paired:
        first, second = pairs(a, b, "permutation_test", least=1)
    else:
        first, second = vector(a, "permutation_test", least=1), vector(b, "permutation_test", least=1)
    # In units of the spread, so that arrangements which tie are equal after rounding.
    data = _scaled(first, second)
    if paired:
        # Pairs without a gap are the same either way round: less work, and the same p.
        gaps = data[0] - data[1]
        data = (gaps[_on_grid(gaps) != 0],)
    total = arrangements(len(data[0]), len(data[-1]), paired=paired)
    is_alone = not paired and min(map(len, data)) == 1
    is_exact = total <= exact_up_to or is_alone
    p_value = 1.0
    if is_alone:
        p_value = _dealt_alone(data, alternative)
    elif any(part.any() for part in data):
        p_value = _permuted(data, paired, alternative, total if is_exact else resamples, seed)
    return Outcome(
        test="permutation",
        statistic=float(first.mean() - second.mean()),
        p_value=p_value,
        alternative=alternative,
        is_exact=is_exact,
        counted=total if is_exact else resamples,
        seed=None if is_exact else seed,
    )


def _dealt_alone(data: tuple[Vector, ...], alternative: str) -> float:
    """Return p where one group is a single value (scipy refuses it): each value in turn is that one."""
    import numpy

    both = numpy.concatenate(data)
    alone, sign = (data[0], 1) if len(data[0]) == 1 else (data[1], -1)
    # The difference of means grows with the single value alone, for the sum of all stays.
    gaps, observed = _on_grid(sign * both), _on_grid(sign * alone)
    less, greater = float((gaps <= observed).mean()), float((gaps >= observed).mean())
    return {"less": less, "greater": greater, "two-sided": min(1.0, 2 * min(less, greater))}[alternative]


def _permuted(data: tuple[Vector, ...], paired: bool, alternative: str, count: int, seed: int) -> float:
    import numpy
    from scipy import stats

    if paired and len(data[0]) == 1:
        # scipy wants two; a gap of zero changes no p.
        data, count = (numpy.append(data[0], 0.0),), 2 * count
    found = stats.permutation_test(
        data,
        _paired_statistic if paired else _statistic,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=count,
        batch=_batch(sum(map(len, data))),
        alternative=alternative,
        axis=-1,
        **_random(stats.permutation_test, seed),
    )
    return float(found.pvalue)


def _scaled(first: Vector, second: Vector) -> tuple[Vector, ...]:
    import numpy

    both = numpy.concatenate([first, second])
    middle, spread = float(both.mean()), float(numpy.ptp(both))
    if is_flat(both):
        return numpy.zeros_like(first), numpy.zeros_like(second)
    return (first - middle) / spread, (second - middle) / spread


def _statistic(a: Any, b: Any, axis: int = -1) -> Any:
    return _on_grid(a.mean(axis=axis) - b.mean(axis=axis))


def _paired_statistic(gaps: Any, axis: int = -1) -> Any:
    return _on_grid(gaps.mean(axis=axis))


def _on_grid(values: Any) -> Any:
    """Return the nearest points of a fine grid, so that what differs by rounding alone is equal."""
    return (values * _GRID).round()


def bootstrap_interval(
    a: Sequence[float],
    b: Sequence[float] | None = None,
    *,
    paired: bool = False,
    method: Bootstrap = "bca",
    level: float = 0.95,
    alternative: Alternative = "two-sided",
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Return a bootstrap interval for ``mean(a)``, or for ``mean(a) - mean(b)``.

    Args:
        a: shape (n,), n >= 2, any unit.
        b: shape (m,), m >= 2, the same unit; with *paired*, m = n.
        method: ``bca`` corrects bias and skew, ``percentile`` takes quantiles as they are.
        alternative: ``greater`` leaves the upper bound open (infinity), ``less`` the lower one.
        resamples: drawn with replacement.

    Returns:
        A point, with a note, if nothing spreads. BCa falls back to percentiles, with a note, where its
        correction is undefined. With fewer than about 20 values both are too narrow; take
        `difference_interval`.

    Raises:
        TooFewValuesError: fewer than two values in a group.

    Source: Efron (1987), "Better Bootstrap Confidence Intervals", JASA 82(397); Efron and Tibshirani (1993),
        "An Introduction to the Bootstrap", chapters 13 and 14.
    """
    check_alternative(alternative)
    check_level(level)
    _check_resamples(resamples)
    if method not in {"bca", "percentile"}:
        raise StatisticsError(f"There is no bootstrap method {method!r}. Take bca or percentile.")
    if b is None:
        data: tuple[Vector, ...] = (vector(a, "bootstrap_interval", least=2),)
    elif paired:
        first, second = pairs(a, b, "bootstrap_interval", least=2)
        data = (first - second,)
    else:
        data = (vector(a, "bootstrap_interval", least=2), vector(b, "bootstrap_interval", least=2))
    if all(map(is_flat, data)):
        return _point(data, level, method, alternative)
    low, high = _booted(data, method, level, alternative, resamples, seed)
    note = None
    if math.isnan(low) or math.isnan(high):
        note = "the correction of BCa is undefined here: percentiles instead"
        low, high = _booted(data, "percentile", level, alternative, resamples, seed)
    return Interval(low=low, high=high, level=level, method="percentile" if note else method, note=note)


def _booted(
    data: tuple[Vector, ...], method: str, level: float, alternative: str, resamples: int, seed: int
) -> tuple[float, float]:
    from scipy import stats

    statistic: Callable[..., Any] = _mean if len(data) == 1 else _difference
    with warnings.catch_warnings():
        # Degenerate resamples; the caller looks at the bounds.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.bootstrap(
            data,
            statistic,
            method="BCa" if method == "bca" else "percentile",
            vectorized=True,
            n_resamples=resamples,
            batch=_batch(max(map(len, data))),
            confidence_level=level,
            alternative=alternative,
            axis=-1,
            **_random(stats.bootstrap, seed),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _mean(a: Any, axis: int = -1) -> Any:
    return a.mean(axis=axis)


def _difference(a: Any, b: Any, axis: int = -1) -> Any:
    return a.mean(axis=axis) - b.mean(axis=axis)


def _point(data: tuple[Vector, ...], level: float, method: str, alternative: Alternative) -> Interval:
    middle = float(data[0].mean()) - (float(data[1].mean()) if len(data) > 1 else 0.0)
    return Interval(
        low=-math.inf if alternative == "less" else middle,
        high=math.inf if alternative == "greater" else middle,
        level=level,
        method=method,
        note="nothing spreads: the interval is a point",
    )


def _check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise StatisticsError(f"{resamples} resamples are none. Take 9999, say.")


def _batch(width: int) -> int:
    return max(1, _CELLS_AT_ONCE // max(1, width))


def _random(function: Callable[..., object], seed: int) -> dict[str, object]:
    """Return the generator under the name that this scipy gives it."""
    import inspect

    import numpy

    name = "rng" if "rng" in inspect.signature(function).parameters else "random_state"
    return {name: numpy.random.default_rng(seed)}
