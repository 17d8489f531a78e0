"""What tests, intervals and effect sizes say: plain frozen structs."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Alternative = Literal["two-sided", "greater", "less"]
"""What is tested: that the first differs from the second, is greater, or is less."""

ALTERNATIVES: tuple[str, ...] = get_args(Alternative)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one test says.

    Attributes:
        test: ``welch_t``, ``paired_t``, ``permutation`` or ``mcnemar``.
        statistic: t, a difference of means, or for McNemar the pairs that only the first has right (exact) or
            chi-squared.
        p_value: in [0, 1]; None if the test says nothing about such values, and then *note* says why.
        df: degrees of freedom, of t-tests.
        is_exact: nothing was approximated: all arrangements were counted, or a binomial was summed.
        counted: arrangements that a permutation test looked at.
        seed: of the random arrangements, if not all were looked at.
    """

    test: str
    statistic: float | None
    p_value: float | None
    alternative: Alternative
    df: float | None = None
    is_exact: bool = False
    counted: int | None = None
    seed: int | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return it as builtins."""
        return builtins_of(self)


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A confidence interval for a mean or a difference of means, in the unit of the values.

    Attributes:
        method: ``t``, ``percentile`` or ``bca``.
        level: coverage that is aimed at, in (0, 1).
    """

    low: float
    high: float
    level: float
    method: str
    note: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return it as builtins."""
        return builtins_of(self)


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """How large a difference is, in standard deviations: of each group (d, g) or of the differences (d_z).

    Attributes:
        value: None where nothing spreads.
    """

    name: str
    value: float | None

    @property
    def size(self) -> str:
        """Return negligible (< 0.2), small (< 0.5), medium (< 0.8) or large; unknown without a value.

        Source: Cohen (1988), "Statistical Power Analysis for the Behavioral Sciences", 2nd ed., section 2.2.
        """
        if self.value is None:
            return "unknown"
        size = abs(self.value)
        return "negligible" if size < 0.2 else "small" if size < 0.5 else "medium" if size < 0.8 else "large"

    def to_dict(self) -> dict[str, object]:
        """Return it as builtins, with its size in words."""
        return builtins_of(self) | {"size": self.size}


def builtins_of(value: msgspec.Struct) -> dict[str, object]:
    """Return a struct as dicts, lists, texts and numbers."""
    built: dict[str, object] = msgspec.to_builtins(value)
    return built
