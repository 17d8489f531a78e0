"""Two groups of numbers beside each other: every test, interval and effect size that fits them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from eventlog.analysis.statistics.effects import cohens_d, hedges_g, paired_d_z
from eventlog.analysis.statistics.outcomes import Alternative, Effect, Interval, Outcome, builtins_of
from eventlog.analysis.statistics.proportions import mcnemar
from eventlog.analysis.statistics.resampling import (
    EXACT_UP_TO,
    Bootstrap,
    arrangements,
    bootstrap_interval,
    permutation_test,
)
from eventlog.analysis.statistics.ttests import difference_interval, paired_t, welch_t
from eventlog.analysis.statistics.vectors import StatisticsError, check_alternative, check_level, vector

WhichTest = Literal["auto", "permutation", "t", "mcnemar"]
WhichInterval = Literal["auto", "t", "percentile", "bca"]

ENOUGH_FOR_BOOTSTRAP = 20
"""Values in each group from which BCa is taken unasked: with fewer, bootstrap intervals are too narrow."""

_MOST_CELLS = 100_000_000
"""Numbers drawn for one resampling; larger groups are left to t, which by then says the same."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How two groups are compared.

    Attributes:
        test: whose p decides; ``auto`` is McNemar for pairs of right and wrong, else the permutation test.
        interval: which one is told; ``auto`` is BCa from 20 values in each group on, else t.
    """

    level: float = 0.95
    alternative: Alternative = "two-sided"
    resamples: int = 9999
    seed: int = 0
    test: WhichTest = "auto"
    interval: WhichInterval = "auto"


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One group in numbers.

    Attributes:
        std: with n - 1; None for one value.
    """

    n: int
    mean: float
    std: float | None


class CorrectPairs(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of right and wrong, counted."""

    both: int
    only_a: int
    only_b: int
    neither: int


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """All that is said of two groups of numbers; differences are the first minus the second.

    Attributes:
        test: the one whose p decides.
        interval: the one that is told; None for fewer than two values.
        table: for pairs of right and wrong.
    """

    a: Side
    b: Side
    is_paired: bool
    difference: float
    interval: Interval | None
    test: Outcome | None
    tests: list[Outcome]
    intervals: list[Interval]
    effects: list[Effect]
    table: CorrectPairs | None = None

    @property
    def p_value(self) -> float | None:
        """Return the p that decides."""
        return None if self.test is None else self.test.p_value

    def to_dict(self) -> dict[str, object]:
        """Return it as builtins."""
        return builtins_of(self)


def contrast(
    a: Sequence[float], b: Sequence[float], *, paired: bool = False, options: Options | None = None
) -> Contrast:
    """Compare two groups of finite numbers.

    Args:
        a: shape (n,), n >= 1, any unit.
        b: shape (m,), m >= 1, the same unit; with *paired*, m = n and ``b[i]`` belongs to ``a[i]``.

    Raises:
        TooFewValuesError: a group is empty.
        StatisticsError: a value is not finite, pairs do not match, or a test was asked for that does not fit.
    """
    options = options or Options()
    _check(options)
    first, second = vector(a, "A", least=1).tolist(), vector(b, "B", least=1).tolist()
    is_binary = paired and set(first) | set(second) <= {0.0, 1.0}
    tests = _tests(first, second, paired, is_binary, options)
    intervals = _intervals(first, second, paired, options)
    return Contrast(
        a=side(first),
        b=side(second),
        is_paired=paired,
        difference=_mean(first) - _mean(second),
        interval=_chosen_interval(intervals, min(len(first), len(second)), options.interval),
        test=_chosen_test(tests, options.test, is_binary=is_binary),
        tests=tests,
        intervals=intervals,
        effects=_effects(first, second, paired),
        table=_table(first, second) if is_binary else None,
    )


def side(values: Sequence[float]) -> Side:
    """Return a group of at least one number, in few numbers."""
    mean, count = _mean(values), len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Side(n=count, mean=mean, std=math.sqrt(squares / (count - 1)) if count > 1 else None)


def _check(options: Options) -> None:
    check_level(options.level)
    check_alternative(options.alternative)
    for what, value, known in (
        ("test", options.test, get_args(WhichTest)),
        ("interval", options.interval, get_args(WhichInterval)),
    ):
        if value not in known:
            raise StatisticsError(f"There is no {what} {value!r}. Take one of {', '.join(known)}.")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _tests(a: list[float], b: list[float], paired: bool, is_binary: bool, options: Options) -> list[Outcome]:
    found: list[Outcome] = []
    n_a, n_b = len(a), len(b)
    if paired:
        n_a = n_b = sum(x != y for x, y in zip(a, b, strict=True))
    is_exact = n_a < 64 and arrangements(n_a, n_b, paired=paired) <= EXACT_UP_TO
    if is_exact or (n_a + n_b) * options.resamples <= _MOST_CELLS:
        found.append(
            permutation_test(
                a,
                b,
                paired=paired,
                alternative=options.alternative,
                resamples=options.resamples,
                seed=options.seed,
            )
        )
    if is_binary:
        found.append(mcnemar(a, b, alternative=options.alternative))
    if len(a) > 1 and len(b) > 1:
        if paired:
            found.append(paired_t(a, b, alternative=options.alternative))
        found.append(welch_t(a, b, alternative=options.alternative))
    return found


def _intervals(a: list[float], b: list[float], paired: bool, options: Options) -> list[Interval]:
    if min(len(a), len(b)) < 2:
        return []
    level, alternative = options.level, options.alternative
    found = [difference_interval(a, b, paired=paired, level=level, alternative=alternative)]
    if max(len(a), len(b)) * options.resamples > _MOST_CELLS:
        return found
    methods: tuple[Bootstrap, ...] = ("percentile", "bca")
    return found + [
        bootstrap_interval(
            a,
            b,
            paired=paired,
            method=method,
            level=level,
            alternative=alternative,
            resamples=options.resamples,
            seed=options.seed,
        )
        for method in methods
    ]


def _effects(a: list[float], b: list[float], paired: bool) -> list[Effect]:
    if min(len(a), len(b)) < 2:
        return []
    return [*([paired_d_z(a, b)] if paired else []), cohens_d(a, b), hedges_g(a, b)]


def _chosen_interval(intervals: list[Interval], n: int, wanted: WhichInterval) -> Interval | None:
    if wanted == "auto":
        wanted = "bca" if n >= ENOUGH_FOR_BOOTSTRAP else "t"
    # BCa may have fallen back, and huge groups have no bootstrap: then the last one is the best there is.
    return next((one for one in intervals if one.method == wanted), intervals[-1] if intervals else None)


def _chosen_test(tests: list[Outcome], wanted: WhichTest, *, is_binary: bool) -> Outcome | None:
    if wanted == "mcnemar" and not is_binary:
        raise StatisticsError("mcnemar needs pairs of right (1) and wrong (0). Take --test permutation.")
    order = {
        "auto": ["mcnemar", "permutation", "paired_t", "welch_t"],
        "permutation": ["permutation", "paired_t", "welch_t"],
        "t": ["paired_t", "welch_t"],
        "mcnemar": ["mcnemar"],
    }[wanted]
    by_name = {one.test: one for one in tests}
    return next((by_name[name] for name in order if name in by_name), None)


def _table(a: list[float], b: list[float]) -> CorrectPairs:
    pairs = list(zip(a, b, strict=True))
    return CorrectPairs(
        both=pairs.count((1.0, 1.0)),
        only_a=pairs.count((1.0, 0.0)),
        only_b=pairs.count((0.0, 1.0)),
        neither=pairs.count((0.0, 0.0)),
    )
