"""Statistics against scipy, statsmodels, brute force and published examples."""

from __future__ import annotations

import importlib.util
import itertools
import math
import statistics as stdlib
from collections.abc import Callable, Sequence

import numpy
import pytest
import scipy.stats
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as other_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from eventlog.analysis.statistics import (
    Alternative,
    Outcome,
    StatisticsError,
    TooFewValuesError,
    benjamini_hochberg,
    bootstrap_interval,
    cohens_d,
    corrected,
    difference_interval,
    hedges_g,
    holm,
    mcnemar,
    mcnemar_counts,
    mean_interval,
    paired_d_z,
    paired_t,
    permutation_test,
    smallest_p,
    welch_t,
)
from eventlog.query.answer import MissingExtraError

DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
"""Hours of sleep gained by ten patients: Cushny and Peebles (1905), as used by Student (1908)."""

BENJAMINI = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]
"""The fifteen p-values of Benjamini and Hochberg (1995), section 4."""

SIDES: tuple[Alternative, ...] = ("two-sided", "greater", "less")
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
whole = st.integers(-50, 50).map(float)
groups = st.lists(whole, min_size=2, max_size=6)
p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def approx(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def spread(mean: float, std: float, n: int) -> list[float]:
    """Return *n* values with exactly this mean and standard deviation (n - 1)."""
    raw = [float(i) for i in range(n)]
    centre, scale = stdlib.mean(raw), stdlib.stdev(raw)
    return [mean + std * (value - centre) / scale for value in raw]


# --- t -------------------------------------------------------------------------------------------


def test_paired_t_repeats_students_example() -> None:
    """Ten patients and two drugs: t = -4.06 with 9 degrees of freedom."""
    found = paired_t(DRUG_1, DRUG_2)

    assert found.statistic == pytest.approx(-4.0621, abs=1e-4)
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    assert found.df == 9


def test_welch_t_repeats_the_published_result_for_students_example() -> None:
    """As if unpaired: t = -1.86 with 17.8 degrees of freedom."""
    found = welch_t(DRUG_1, DRUG_2)

    assert found.statistic == pytest.approx(-1.8608, abs=1e-4)
    assert found.p_value == pytest.approx(0.07939, abs=1e-5)
    assert found.df == pytest.approx(17.776, abs=1e-3)


@pytest.mark.parametrize("alternative", SIDES)
@quick
@given(a=groups, b=groups)
def test_welch_t_agrees_with_statsmodels(alternative: Alternative, a: list[float], b: list[float]) -> None:
    """Statistic, p and degrees of freedom are those of another library."""
    assume(len(set(a)) > 1 or len(set(b)) > 1)
    names = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}

    found = welch_t(a, b, alternative=alternative)
    t, p, df = CompareMeans(DescrStatsW(a), DescrStatsW(b)).ttest_ind(
        alternative=names[alternative], usevar="unequal"
    )

    assert (found.statistic, found.p_value, found.df) == (approx(t), approx(p), approx(df))


@pytest.mark.parametrize("alternative", SIDES)
@quick
@given(pairs=st.lists(st.tuples(whole, whole), min_size=2, max_size=8))
def test_paired_t_agrees_with_scipy(alternative: Alternative, pairs: list[tuple[float, float]]) -> None:
    """It is scipy's test of related samples."""
    assume(len({x - y for x, y in pairs}) > 1)
    a, b = zip(*pairs, strict=True)

    found, other = (
        paired_t(a, b, alternative=alternative),
        scipy.stats.ttest_rel(a, b, alternative=alternative),
    )

    assert (found.statistic, found.p_value) == (approx(other.statistic), approx(other.pvalue))


@pytest.mark.parametrize("test", [welch_t, paired_t])
def test_t_of_values_without_spread_is_undefined(test: Callable[..., Outcome]) -> None:
    """Constant groups: p is 1 if they are the same, else there is no p and a note says why."""
    same, other = test([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]), test([0.3, 0.3, 0.3], [0.1, 0.1, 0.1])

    assert same.p_value == 1
    assert other.p_value is None
    assert other.note is not None


def test_paired_t_takes_rounding_for_no_spread() -> None:
    """Differences that are the same but for the last bit do not make p = 0."""
    a = [0.1 + 0.2, 0.7, 1.3]

    assert paired_t(a, [value - 0.1 for value in a]).p_value is None


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("alternative", SIDES)
def test_difference_interval_agrees_with_scipy(paired: bool, alternative: Alternative) -> None:
    """Its bounds are those that scipy gives for the same test."""
    if paired:
        other = scipy.stats.ttest_rel(DRUG_1, DRUG_2, alternative=alternative)
    else:
        other = scipy.stats.ttest_ind(DRUG_1, DRUG_2, equal_var=False, alternative=alternative)
    wanted = other.confidence_interval(0.9)

    found = difference_interval(DRUG_1, DRUG_2, paired=paired, level=0.9, alternative=alternative)

    assert (found.low, found.high) == (approx(wanted.low), approx(wanted.high))


def test_mean_interval_agrees_with_statsmodels() -> None:
    """It is the t interval of the mean."""
    found = mean_interval(DRUG_1, level=0.99)

    assert (found.low, found.high) == pytest.approx(DescrStatsW(DRUG_1).tconfint_mean(alpha=0.01))


def test_mean_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Of 2000 intervals for five normal values, 95% hold the mean, give or take chance."""
    random = numpy.random.default_rng(11)
    samples = random.normal(3.0, 2.0, (2000, 5))

    hits = sum(found.low <= 3 <= found.high for found in map(mean_interval, samples.tolist()))

    assert 1870 <= hits <= 1930  # 1900 ± 3 standard deviations of a binomial


# --- permutations --------------------------------------------------------------------------------


def brute_force(values: Sequence[float], chosen: Sequence[Sequence[float]], alternative: str) -> float:
    """Return p from all differences *chosen*, of which the first one was observed; integers, so exact."""
    observed, total = values[0], len(values)
    greater = sum(value >= observed for value in values) / total
    less = sum(value <= observed for value in values) / total
    return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]


@pytest.mark.parametrize("alternative", SIDES)
@quick
@given(a=st.lists(whole, min_size=1, max_size=4), b=st.lists(whole, min_size=1, max_size=4))
def test_permutation_test_counts_all_ways_to_deal_out_the_groups(
    alternative: Alternative, a: list[float], b: list[float]
) -> None:
    """The exact p of independent groups is that of an enumeration by hand."""
    both = a + b
    # Times n * m: whole numbers, which tie exactly.
    gaps = [
        sum(both[i] for i in members) * len(b)
        - sum(both[i] for i in range(len(both)) if i not in members) * len(a)
        for members in itertools.combinations(range(len(both)), len(a))
    ]

    found = permutation_test(a, b, alternative=alternative)

    assert found.is_exact
    assert found.counted == math.comb(len(both), len(a))
    assert found.p_value == approx(brute_force(gaps, [], alternative))


@pytest.mark.parametrize("alternative", SIDES)
@quick
@given(pairs=st.lists(st.tuples(whole, whole), min_size=1, max_size=6))
def test_permutation_test_counts_all_ways_to_swap_pairs(
    alternative: Alternative, pairs: list[tuple[float, float]]
) -> None:
    """The exact p of pairs is that of all signs, ties and all."""
    gaps = [x - y for x, y in pairs]
    sums = [
        sum(sign * gap for sign, gap in zip(signs, gaps, strict=True))
        for signs in itertools.product((1, -1), repeat=len(gaps))
    ]

    found = permutation_test(
        [x for x, _ in pairs], [y for _, y in pairs], paired=True, alternative=alternative
    )

    assert found.p_value == approx(brute_force(sums, [], alternative))


@quick
@given(
    a=groups,
    b=groups,
    shift=st.sampled_from([-7.3, 0.1, 1e6]),
    scale=st.sampled_from([1e-6, 0.1, 3.0, 1e9]),
    paired=st.booleans(),
)
def test_tests_do_not_depend_on_unit_or_origin(
    a: list[float], b: list[float], shift: float, scale: float, paired: bool
) -> None:
    """Values in another unit, or all higher by the same, have the same p."""
    if paired:
        a, b = a[: min(len(a), len(b))], b[: min(len(a), len(b))]
    moved_a, moved_b = ([shift * scale + scale * value for value in group] for group in (a, b))

    before = permutation_test(a, b, paired=paired)
    after = permutation_test(moved_a, moved_b, paired=paired)

    assert after.p_value == approx(before.p_value or 0)


@quick
@given(a=groups, b=groups)
def test_tests_are_symmetric(a: list[float], b: list[float]) -> None:
    """Who comes first changes signs, not p; and greater becomes less."""
    for test in (welch_t, permutation_test):
        there, back = test(a, b), test(b, a)
        assert there.p_value == (None if back.p_value is None else approx(back.p_value))
        assert test(a, b, alternative="greater").p_value == pytest.approx(
            test(b, a, alternative="less").p_value
        )
    assert (cohens_d(a, b).value or 0) == approx(-(cohens_d(b, a).value or 0))


def test_permutation_test_draws_at_random_where_there_are_too_many_ways() -> None:
    """Many values: p is (b + 1) / (m + 1) of m arrangements, the same for the same seed."""
    a, b = spread(0.0, 1.0, 30), spread(9.0, 1.0, 30)

    found = permutation_test(a, b, resamples=999, seed=3)

    assert not found.is_exact
    assert (found.counted, found.seed) == (999, 3)
    assert found.p_value == approx(2 / 1000)
    assert found == permutation_test(a, b, resamples=999, seed=3)


def test_drawn_permutations_come_near_to_all_of_them() -> None:
    """On Student's data the drawn p is that of the 1024 exact ones, within its own error."""
    exact = permutation_test(DRUG_1, DRUG_2, paired=True)
    drawn = permutation_test(DRUG_1, DRUG_2, paired=True, exact_up_to=1, resamples=20_000)

    assert exact.is_exact
    assert not drawn.is_exact
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.002)


def test_permutation_test_of_identical_values_says_one() -> None:
    """Nothing differs, so that no arrangement is less extreme."""
    assert permutation_test([0.1, 0.2, 0.4], [0.1, 0.2, 0.4], paired=True).p_value == 1
    assert permutation_test([0.1] * 40, [0.1] * 40).p_value == 1


@pytest.mark.parametrize(("n", "paired", "least"), [(3, True, 0.25), (5, True, 0.0625), (5, False, 2 / 252)])
def test_smallest_p_is_reached_by_groups_far_apart(n: int, paired: bool, least: float) -> None:
    """What is said to be the smallest p is the p of groups without overlap."""
    a, b = spread(100.0, 1.0, n), spread(0.0, 1.0, n)

    assert smallest_p(n, n, paired=paired) == approx(least)
    assert permutation_test(a, b, paired=paired).p_value == approx(least)


# --- McNemar ---------------------------------------------------------------------------------------


@quick
@given(only_a=st.integers(0, 60), only_b=st.integers(0, 60))
def test_mcnemar_agrees_with_statsmodels(only_a: int, only_b: int) -> None:
    """Exact below 25 discordant pairs, chi-squared with continuity from there on."""
    # A correction beyond zero is none: statsmodels squares it there.
    assume(only_a != only_b or only_a + only_b < 25)
    is_exact = only_a + only_b < 25

    found = mcnemar_counts(only_a, only_b)
    other = other_mcnemar([[10, only_a], [only_b, 10]], exact=is_exact, correction=True)

    assert found.is_exact == is_exact
    assert found.p_value == approx(other.pvalue)


def test_mcnemar_counts_who_is_right_alone() -> None:
    """Eight items that only the first has right, one that only the second has: 2 * (1 + 9) / 512."""
    a = [1] * 8 + [0] + [1] * 5 + [0] * 5
    b = [0] * 8 + [1] + [1] * 5 + [0] * 5

    assert mcnemar(a, b).p_value == approx(20 / 512)
    assert mcnemar(a, b, alternative="greater").p_value == approx(10 / 512)


@quick
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=14))
def test_exact_mcnemar_is_the_permutation_test_of_right_and_wrong(pairs: list[tuple[int, int]]) -> None:
    """Two ways to the same p."""
    a, b = zip(*pairs, strict=True)

    assert mcnemar(a, b).p_value == approx(permutation_test(a, b, paired=True).p_value or 0)


@pytest.mark.parametrize("one_sided", ["greater", "less"])
def test_one_sided_mcnemar_halves_the_two_sided_one(one_sided: Alternative) -> None:
    """Of many pairs, the side that the data are on has half of p."""
    counts = (60, 40) if one_sided == "greater" else (40, 60)

    assert mcnemar_counts(*counts, alternative=one_sided).p_value == approx(
        (mcnemar_counts(*counts).p_value or 0) / 2
    )


@pytest.mark.parametrize("test", [welch_t, permutation_test, cohens_d])
def test_values_too_large_to_square_are_refused(test: Callable[..., object]) -> None:
    """An error says it, instead of an infinity in the answer."""
    with pytest.raises(StatisticsError, match="too large"):
        test([1e308, 1e308, -1e308], [1.0, 2.0, 3.0])


def test_mcnemar_refuses_what_is_neither_right_nor_wrong() -> None:
    """A score is no correctness."""
    with pytest.raises(StatisticsError, match="right"):
        mcnemar([0.5, 1.0], [1.0, 1.0])


# --- bootstrap -------------------------------------------------------------------------------------


def efrons_bounds(values: Sequence[float], means: Sequence[float], level: float) -> tuple[float, float]:
    """Return the BCa bounds by Efron's formulas, from the means of the resamples."""
    normal = stdlib.NormalDist()
    middle, n = stdlib.fmean(values), len(values)
    # Half of the ties count, as in scipy.
    below = sum(mean < middle for mean in means) + sum(mean == middle for mean in means) / 2
    bias = normal.inv_cdf(below / len(means))
    without = [(middle * n - value) / (n - 1) for value in values]
    gaps = [stdlib.fmean(without) - one for one in without]
    skew = sum(gap**3 for gap in gaps) / (6 * sum(gap**2 for gap in gaps) ** 1.5)
    bounds = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(tail)
        bounds.append(float(numpy.quantile(means, normal.cdf(bias + z / (1 - skew * z)))))
    return bounds[0], bounds[1]


def test_bca_interval_follows_efrons_formulas() -> None:
    """On skewed values the bounds are those of the formulas, for the same resamples."""
    values = [math.exp(x) for x in spread(0.0, 1.2, 25)]
    drawn = scipy.stats.bootstrap(
        (numpy.asarray(values),), numpy.mean, n_resamples=2000, rng=numpy.random.default_rng(5)
    )

    found = bootstrap_interval(values, resamples=2000, seed=5, level=0.9)

    assert (found.low, found.high) == pytest.approx(
        efrons_bounds(values, drawn.bootstrap_distribution.tolist(), 0.9), rel=1e-6
    )


def test_bca_interval_corrects_for_skew() -> None:
    """Of values with a long tail upwards, it reaches higher than percentiles do."""
    values = [math.exp(x) for x in spread(0.0, 1.2, 25)]

    bca, percentile = bootstrap_interval(values), bootstrap_interval(values, method="percentile")

    assert bca.low > percentile.low
    assert bca.high > percentile.high


def test_percentile_interval_takes_quantiles_of_differences() -> None:
    """Independent groups: the quantiles of the differences of resampled means."""
    random = numpy.random.default_rng(1)
    gaps = [random.choice(DRUG_2, 10).mean() - random.choice(DRUG_1, 10).mean() for _ in range(20_000)]

    found = bootstrap_interval(DRUG_2, DRUG_1, method="percentile", resamples=20_000)

    assert (found.low, found.high) == pytest.approx(tuple(numpy.quantile(gaps, [0.025, 0.975])), abs=0.05)


def test_paired_bootstrap_is_that_of_the_differences() -> None:
    """Pairs are resampled together."""
    gaps = [x - y for x, y in zip(DRUG_1, DRUG_2, strict=True)]

    both, alone = bootstrap_interval(DRUG_1, DRUG_2, paired=True), bootstrap_interval(gaps)

    assert [both.low, both.high] == pytest.approx([alone.low, alone.high])


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_bootstrap_is_the_same_for_the_same_seed(method: str) -> None:
    """Nothing depends on when it runs."""
    found = [bootstrap_interval(DRUG_1, method=method, seed=seed) for seed in (4, 4, 5)]  # type: ignore[arg-type]

    assert found[0] == found[1] != found[2]


def test_bootstrap_of_values_without_spread_is_a_point() -> None:
    """There is nothing to resample, and no NaN comes out."""
    found = bootstrap_interval([0.1, 0.1, 0.1], [0.3, 0.3])

    assert [found.low, found.high] == pytest.approx([-0.2, -0.2])
    assert found.note is not None


def test_bootstrap_interval_leaves_one_side_open() -> None:
    """A one-sided question has a one-sided answer."""
    greater = bootstrap_interval(DRUG_2, DRUG_1, alternative="greater")
    less = bootstrap_interval(DRUG_2, DRUG_1, alternative="less")

    assert greater.high == math.inf
    assert less.low == -math.inf
    assert greater.low > bootstrap_interval(DRUG_2, DRUG_1).low


# --- effects ---------------------------------------------------------------------------------------


def test_cohens_d_and_hedges_g_repeat_a_published_example() -> None:
    """Borenstein et al. (2009), "Introduction to Meta-Analysis", chapter 4: d = 0.5970, g = 0.5924."""
    a, b = spread(103.0, 5.5, 50), spread(100.0, 4.5, 50)

    assert cohens_d(a, b).value == pytest.approx(0.5970, abs=5e-5)
    assert hedges_g(a, b).value == pytest.approx(0.5924, abs=5e-5)
    assert cohens_d(a, b).size == "medium"


def test_paired_d_z_is_t_over_the_root_of_n() -> None:
    """Of Student's example: 4.0621 / sqrt(10)."""
    assert paired_d_z(DRUG_2, DRUG_1).value == pytest.approx(4.0621 / math.sqrt(10), abs=1e-4)


def test_effects_of_values_without_spread_have_no_value() -> None:
    """Nothing can be told in standard deviations of zero."""
    assert cohens_d([1, 1], [2, 2]).value is None
    assert hedges_g([1, 1], [2, 2]).value is None
    assert paired_d_z([1, 2], [2, 3]).value is None
    assert cohens_d([1, 1], [2, 2]).size == "unknown"


# --- corrections -----------------------------------------------------------------------------------


@quick
@given(p_values=p_lists)
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    """Same p-values, in the same order."""
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


@quick
@given(p_values=p_lists)
def test_benjamini_hochberg_agrees_with_statsmodels(p_values: list[float]) -> None:
    """Same p-values, in the same order."""
    assert benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1].tolist())


def test_corrections_repeat_the_published_example() -> None:
    """Of the fifteen p-values, three are found with the strict correction and four with the other."""
    assert sum(p <= 0.05 for p in holm(BENJAMINI)) == 3
    assert sum(p <= 0.05 for p in benjamini_hochberg(BENJAMINI)) == 4


def test_corrections_pass_over_tests_without_p() -> None:
    """What was not tested does not count as a comparison."""
    assert corrected([0.01, None, 0.04], "holm") == [approx(0.02), None, approx(0.04)]
    assert corrected([0.01, None, 0.04], "none") == [0.01, None, 0.04]


def test_corrections_refuse_what_is_no_probability() -> None:
    """NaN would be sorted anywhere."""
    with pytest.raises(StatisticsError):
        holm([0.1, math.nan])
    with pytest.raises(StatisticsError):
        benjamini_hochberg([1.5])
    with pytest.raises(StatisticsError, match="holm"):
        corrected([0.1], "bonferroni")


# --- what goes in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [welch_t, paired_t, cohens_d, paired_d_z, difference_interval])
def test_statistics_refuse_single_values(function: Callable[..., object]) -> None:
    """One value has no spread; the message says how many are needed."""
    with pytest.raises(TooFewValuesError, match="2"):
        function([1.0], [2.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("function", [welch_t, paired_t, permutation_test, mcnemar, cohens_d])
def test_statistics_refuse_what_is_not_finite(function: Callable[..., object], bad: float) -> None:
    """NaN is not silently a result."""
    with pytest.raises(StatisticsError, match="NaN"):
        function([1.0, bad, 0.0], [1.0, 0.0, 1.0])


@pytest.mark.parametrize("function", [paired_t, paired_d_z, mcnemar])
def test_paired_statistics_refuse_other_lengths(function: Callable[..., object]) -> None:
    """Pairs need partners."""
    with pytest.raises(StatisticsError, match="pairs"):
        function([1.0, 0.0, 1.0], [1.0, 0.0])


def test_statistics_refuse_options_that_do_not_exist() -> None:
    """The message names those that do."""
    with pytest.raises(StatisticsError, match="two-sided"):
        welch_t([1, 2], [1, 2], alternative="bigger")  # type: ignore[arg-type]
    with pytest.raises(StatisticsError, match="level"):
        mean_interval([1, 2], level=95)
    with pytest.raises(StatisticsError, match="resamples"):
        permutation_test([1, 2], [1, 2], resamples=0)
    with pytest.raises(StatisticsError, match="percentile"):
        bootstrap_interval([1, 2], method="basic")  # type: ignore[arg-type]


def test_statistics_say_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra there is one clear message."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(MissingExtraError, match=r"pip install 'evlog\[stats\]'"):
        welch_t([1.0, 2.0], [1.0, 3.0])


def test_results_become_builtins() -> None:
    """What a program gets holds the numbers and the words."""
    assert welch_t(DRUG_1, DRUG_2).to_dict()["test"] == "welch_t"
    assert mean_interval(DRUG_1).to_dict()["method"] == "t"
    assert cohens_d(DRUG_2, DRUG_1).to_dict()["size"] == "large"
