"""How far two raters agree, beyond what chance would give: a judge and people, or one judge twice.

Source: Cohen (1960), "A Coefficient of Agreement for Nominal Scales"; Cohen (1968), "Weighted kappa".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import msgspec

from eventlog.errors import EvlogError

Weights = Literal["linear", "quadratic"]
_DISTANCES: dict[str | None, Callable[[int, int], float]] = {
    None: lambda one, other: float(one != other),
    "linear": lambda one, other: float(abs(one - other)),
    "quadratic": lambda one, other: float((one - other) ** 2),
}


class BadRatingsError(EvlogError, ValueError):
    """Two lists of ratings cannot be compared."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How far two raters agree.

    Attributes:
        count: items that both rated.
        observed: share of items with the same rating.
        kappa: 1 is full agreement, 0 what chance gives; NaN if both always give one and the same rating.
        linear_kappa, quadratic_kappa: the same with a near miss counting less; NaN if ratings have no order.
    """

    count: int
    observed: float
    kappa: float
    linear_kappa: float
    quadratic_kappa: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return msgspec.structs.asdict(self)


def cohen_kappa(
    one: Sequence[Hashable],
    other: Sequence[Hashable],
    *,
    weights: Weights | None = None,
    labels: Sequence[Hashable] | None = None,
) -> float:
    """Return Cohen's kappa of two raters.

    Args:
        one, other: a rating for each item, in the same order, shape (n,), n >= 1.
        weights: what a disagreement counts by the distance of the two labels' places; None: all the same.
        labels: all ratings in their order; default: those that occur, sorted.

    Returns:
        At most 1. NaN if chance alone gives full agreement: both always gave the same one rating.

    Raises:
        BadRatingsError: different lengths, no items, a rating outside *labels*, or no order for *weights*.
    """
    order = _order(one, other, labels, needs_order=weights is not None)
    if weights not in _DISTANCES:
        raise BadRatingsError(f"weights is {weights!r}; give linear, quadratic or None")
    distance = _DISTANCES[weights]
    rows, columns, count = Counter(one), Counter(other), len(one)
    seen = sum(
        distance(order[a], order[b]) * n for (a, b), n in Counter(zip(one, other, strict=True)).items()
    )
    by_chance = (
        sum(distance(order[a], order[b]) * rows[a] * columns[b] for a in rows for b in columns) / count
    )
    return 1 - seen / by_chance if by_chance else math.nan


def agreement(one: Sequence[Hashable], other: Sequence[Hashable]) -> Agreement:
    """Return the measures of agreement of two raters.

    Raises:
        BadRatingsError: different lengths, or no items.
    """
    kappa = cohen_kappa(one, other)
    try:
        linear, quadratic = (cohen_kappa(one, other, weights=each) for each in ("linear", "quadratic"))
    except BadRatingsError:  # names have no order: the fields say so
        linear = quadratic = math.nan
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
    return Agreement(
        count=len(one), observed=observed, kappa=kappa, linear_kappa=linear, quadratic_kappa=quadratic
    )


def _order(
    one: Sequence[Hashable],
    other: Sequence[Hashable],
    labels: Sequence[Hashable] | None,
    *,
    needs_order: bool,
) -> dict[Hashable, int]:
    """Return the place of each label."""
    if len(one) != len(other) or not one:
        raise BadRatingsError(
            f"{len(one)} ratings against {len(other)}; give one by each rater for every item"
        )
    seen: set[Any] = {*one, *other}
    if labels is not None:
        missing = seen - set(labels)
        if missing:
            raise BadRatingsError(f"the rating {next(iter(missing))!r} is not among the labels")
        return {label: place for place, label in enumerate(labels)}
    try:
        return {label: place for place, label in enumerate(sorted(seen))}
    except TypeError as error:
        if needs_order:
            raise BadRatingsError(
                f"the ratings have no order ({error}); give labels in their order"
            ) from error
        return {label: place for place, label in enumerate(seen)}
