"""Agreement of raters, against another implementation and worked examples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from eventlog.evaluation.agreement import BadRatingsError, agreement, cohen_kappa

PAIRS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=40)


@given(pairs=PAIRS, weights=st.sampled_from([None, "linear", "quadratic"]))
def test_cohen_kappa_is_what_sklearn_says(
    pairs: list[tuple[int, int]], weights: Literal["linear", "quadratic"] | None
) -> None:
    """Any ratings give the coefficient of sklearn, with and without weights, or NaN where it is undefined."""
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = cohen_kappa_score(one, other, weights=weights)

    found = cohen_kappa(one, other, weights=weights)

    assert found == pytest.approx(wanted, nan_ok=True, abs=1e-12)


def test_cohen_kappa_of_a_worked_example() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.7 observed, 0.5 by chance, so 0.4."""
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15

    found = agreement(one, other)

    assert found.observed == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


def test_cohen_kappa_takes_labels_that_nobody_gave() -> None:
    """The distance of weights counts in the labels' order, also over labels that do not occur."""
    labels = ["bad", "poor", "fair", "good"]
    one, other = ["bad", "good", "bad"], ["good", "good", "bad"]

    found = cohen_kappa(one, other, weights="linear", labels=labels)

    assert found == pytest.approx(cohen_kappa_score(one, other, weights="linear", labels=labels))


def test_agreement_of_names_without_order_has_no_weighted_kappa() -> None:
    """Ratings of mixed kinds have a kappa, but no near misses."""
    found = agreement(["a", 1, "a"], ["a", 1, 1])

    assert found.kappa == pytest.approx(0.4)
    assert math.isnan(found.linear_kappa)
    assert math.isnan(found.to_dict()["quadratic_kappa"])


@pytest.mark.parametrize(("one", "other"), [([], []), ([1], [1, 2]), ([1, 2], [1])])
def test_cohen_kappa_wants_a_pair_for_each_item(one: Sequence[int], other: Sequence[int]) -> None:
    """Lists of different lengths, or empty ones, are an error that says how many there are."""
    with pytest.raises(BadRatingsError, match=f"{len(one)} ratings against {len(other)}"):
        cohen_kappa(one, other)


def test_cohen_kappa_refuses_a_rating_outside_the_labels() -> None:
    """A label that is not listed is named."""
    with pytest.raises(BadRatingsError, match="'x' is not among the labels"):
        cohen_kappa(["x"], ["y"], labels=["y"])
