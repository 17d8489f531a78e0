"""Runs and groups of runs compared: what is paired with what, and what is said."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from eventlog.analysis.chance.answer import Significance, significance
from eventlog.analysis.facts import load
from eventlog.analysis.selection import grouped, is_value, matching
from eventlog.analysis.statistics.contrast import Options, contrast
from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.errors import EvlogError
from tests.analysis.support_statistics import log_run, log_seeds, samples

QUICK = Options(resamples=499)
LOW, HIGH = [0.70, 0.72, 0.71, 0.69, 0.73], [0.80, 0.81, 0.83, 0.79, 0.82]


def compare(root: Path, **values: list[float]) -> Significance:
    """Compare groups of seeds that have these values."""
    return significance({name: log_seeds(root, name, group) for name, group in values.items()}, options=QUICK)


# --- samples ---------------------------------------------------------------------------------------


def test_two_runs_are_compared_sample_by_sample(tmp_path: Path) -> None:
    """One run on each side: pairs by index, McNemar decides, a sentence tells it in points."""
    a = log_run(tmp_path, "a", events=samples([1] * 30 + [0] * 10))
    b = log_run(tmp_path, "b", events=samples([1] * 18 + [0] * 22))

    found = significance({"a": [a], "b": [b]}, benchmark="gsm8k", options=QUICK)

    (one,) = found.comparisons
    assert (found.metric, found.unit, one.found.is_paired) == ("correct", "samples", True)
    assert one.found.test is not None
    assert one.found.test.test == "mcnemar"
    assert one.p_corrected == pytest.approx(2 / 2**12)
    assert one.sentence.startswith("a is better than b by 30.0 points, p=0.00049 (McNemar, exact), 95% CI [")
    assert one.warnings == []


def test_samples_of_one_run_only_are_left_out_and_counted(tmp_path: Path) -> None:
    """Pairs are made of what both have; the rest is told."""
    a = log_run(tmp_path, "a", events=samples([1, 0, 1, 1, 0, 1, 1]))
    b = log_run(tmp_path, "b", events=samples([0, 1, 1, 0, 0, 1], start=2))

    (one,) = significance({"a": [a], "b": [b]}, options=QUICK).comparisons

    assert one.found.a.n == 5
    assert (one.left_out.only_in_a, one.left_out.only_in_b) == (2, 1)
    assert any("2 samples that only A has, 1 that only B has" in warning for warning in one.warnings)


def test_samples_with_other_inputs_are_no_pairs(tmp_path: Path) -> None:
    """A few are left out; where most differ, the runs were not asked the same."""
    a = log_run(tmp_path, "a", events=samples([1, 0, 1, 1, 0, 1]))
    few = log_run(tmp_path, "few", events=samples([1, 0, 1, 1, 0]) + samples([1], start=5, ask="else {}"))
    most = log_run(tmp_path, "most", events=samples([1, 0]) + samples([1, 1, 0, 1], start=2, ask="else {}"))

    (one,) = significance({"a": [a], "few": [few]}, options=QUICK).comparisons

    assert (one.found.a.n, one.left_out.other_input) == (5, 1)
    with pytest.raises(StatisticsError, match="4 have another input"):
        significance({"a": [a], "most": [most]})


def test_samples_without_a_number_are_left_out_in_pairs(tmp_path: Path) -> None:
    """NaN on either side takes the pair out."""
    a = log_run(tmp_path, "a", events=samples([0.5, "NaN", 0.7, 0.9, 0.1, 0.3], metric="score"))
    b = log_run(tmp_path, "b", events=samples([0.4, 0.2, "Infinity", 0.7, 0.1, 0.2], metric="score"))

    (one,) = significance({"a": [a], "b": [b]}, options=QUICK).comparisons

    assert (one.found.a.n, one.left_out.not_finite) == (4, 2)
    assert any("1 of 4 pairs are ties" in warning for warning in one.warnings)


def test_identical_samples_do_not_differ(tmp_path: Path) -> None:
    """A model beside itself: p = 1, and nothing is better."""
    a, b = (log_run(tmp_path, name, events=samples([1, 0, 1] * 10)) for name in "ab")

    (one,) = significance({"a": [a], "b": [b]}, options=QUICK).comparisons

    assert one.p_corrected == 1
    assert one.is_significant is False
    assert one.sentence.startswith("a and b do not differ")


def test_metric_of_samples_is_named_where_several_would_do(tmp_path: Path) -> None:
    """Without a usual name of correctness the message lists the metrics; latency is one on demand."""
    events = [
        *(sample for sample in samples([0.1, 0.2, 0.4, 0.3], metric="bleu")),
        *(sample for sample in samples([0.5] * 4, metric="rouge", benchmark="other")),
    ]
    a, b = (log_run(tmp_path, name, events=events) for name in "ab")

    with pytest.raises(StatisticsError, match="--benchmark: gsm8k, other"):
        significance({"a": [a], "b": [b]})
    assert significance({"a": [a], "b": [b]}, metric="other/rouge", options=QUICK).metric == "rouge"
    assert (
        significance({"a": [a], "b": [b]}, benchmark="gsm8k", metric="latency_ms", options=QUICK).metric
        == "latency_ms"
    )
    with pytest.raises(EvlogError, match="bleu"):
        significance({"a": [a], "b": [b]}, benchmark="gsm8k", metric="blue")


def test_single_values_are_not_compared(tmp_path: Path) -> None:
    """One run each and no samples: the message says what would help."""
    a, b = log_seeds(tmp_path, "x", [0.1, 0.2])

    with pytest.raises(StatisticsError, match="several seeds"):
        significance({"a": [a], "b": [b]}, metric="val_f1")


# --- seeds -----------------------------------------------------------------------------------------


def test_groups_of_the_same_seeds_are_paired(tmp_path: Path) -> None:
    """Whatever their order: seed 0 with seed 0."""
    low = log_seeds(tmp_path, "low", LOW)
    high = log_seeds(tmp_path, "high", list(reversed(HIGH)), seeds=[4, 3, 2, 1, 0])

    (one,) = significance({"low": low, "high": high}, options=QUICK).comparisons

    assert one.found.is_paired
    assert one.found == contrast(LOW, HIGH, paired=True, options=QUICK)


@pytest.mark.parametrize("seeds", [[1, 2, 3, 4, 5], [0, 0, 1, 2, 3]])
def test_groups_of_other_seeds_are_not_paired(tmp_path: Path, seeds: list[int]) -> None:
    """Seeds that differ, or one that is there twice: unpaired, and that is said."""
    groups = {"low": log_seeds(tmp_path, "low", LOW), "high": log_seeds(tmp_path, "high", HIGH, seeds=seeds)}

    (one,) = significance(groups, options=QUICK).comparisons

    assert one.found == contrast(LOW, HIGH, options=QUICK)
    assert one.found.test is not None
    assert one.p_corrected == pytest.approx(2 / 252)
    assert any("unpaired" in warning for warning in one.warnings)
    assert (
        "low is worse than high by 0.1, p=0.0079 (permutation, exact, all 252 arrangements)" in one.sentence
    )
    with pytest.raises(StatisticsError, match="same seeds"):
        significance(groups, paired=True)


def test_few_seeds_are_too_few_to_tell(tmp_path: Path) -> None:
    """Three pairs can never be below 0.25, and that is said, whatever they hold."""
    (one,) = compare(tmp_path, low=LOW[:3], high=HIGH[:3]).comparisons

    assert one.is_significant is False
    assert one.sentence.startswith("No difference between low and high can be told: -0.1")
    assert any("too few to tell: 3 seeds" in warning and "p=0.25" in warning for warning in one.warnings)


def test_five_pairs_are_too_few_for_the_permutation_test_too(tmp_path: Path) -> None:
    """The smallest p of five pairs is above 0.05; another test may be asked for."""
    groups = {"low": log_seeds(tmp_path, "low", LOW), "high": log_seeds(tmp_path, "high", HIGH)}

    (auto,) = significance(groups, options=QUICK).comparisons
    (t,) = significance(groups, options=Options(resamples=499, test="t")).comparisons

    assert auto.p_corrected == pytest.approx(0.0625)
    assert auto.is_significant is False
    assert any("p=0.0625" in warning for warning in auto.warnings)
    assert t.is_significant


def test_one_seed_beside_many_has_a_permutation_test_only(tmp_path: Path) -> None:
    """t-tests and intervals need two values; nothing fails."""
    (one,) = compare(tmp_path, low=LOW[:1], high=HIGH[:4]).comparisons

    assert [test.test for test in one.found.tests] == ["permutation"]
    assert one.found.interval is None
    assert one.p_corrected == pytest.approx(0.4)


def test_results_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    """A diverged seed takes its pair along."""
    (one,) = compare(tmp_path, low=[*LOW[:4], math.nan], high=HIGH).comparisons

    assert (one.found.a.n, one.found.b.n, one.left_out.not_finite) == (4, 4, 1)
    with pytest.raises(StatisticsError, match="no finite value"):
        compare(tmp_path / "other", low=[math.nan] * 3, high=HIGH)


def test_seeds_without_spread_make_a_warning(tmp_path: Path) -> None:
    """Equal values within groups: the seed was probably not used."""
    (one,) = compare(tmp_path, low=[0.5] * 6, high=[0.6] * 6).comparisons

    assert any("seeds really different" in warning for warning in one.warnings)


def test_less_is_better_for_a_loss(tmp_path: Path) -> None:
    """The name of the metric tells, unless mode does; without either it is higher or lower."""
    groups = {
        name: log_seeds(tmp_path, name, values * 2, key="val/loss", seeds=list(range(10)))
        for name, values in (("low", LOW), ("high", HIGH))
    }

    assert significance(groups, options=QUICK).comparisons[0].sentence.startswith("low is better than high")
    assert "worse" in significance(groups, options=QUICK, mode="max").comparisons[0].sentence


# --- several ---------------------------------------------------------------------------------------


def test_three_groups_are_compared_each_with_each(tmp_path: Path) -> None:
    """Three comparisons, with p corrected after Holm."""
    found = compare(tmp_path, low=LOW, high=HIGH, other=[value - 0.01 for value in HIGH])

    assert [(one.a, one.b) for one in found.comparisons] == [
        ("low", "high"),
        ("low", "other"),
        ("high", "other"),
    ]
    assert [one.p_corrected for one in found.comparisons] == pytest.approx([0.1875, 0.1875, 0.1875])
    assert all("Holm-corrected" in one.sentence for one in found.comparisons)


def test_groups_are_compared_with_the_first_alone(tmp_path: Path) -> None:
    """The others minus the first; Benjamini-Hochberg on demand."""
    groups = {name: log_seeds(tmp_path, name, LOW) for name in ("base", "x", "y")}

    found = significance(groups, against_first=True, correction="bh", options=QUICK)

    assert [(one.a, one.b) for one in found.comparisons] == [("x", "base"), ("y", "base")]
    assert "Benjamini-Hochberg" in found.comparisons[0].sentence


def test_significance_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    """One group, an empty one, and options that do not exist."""
    runs = log_seeds(tmp_path, "a", LOW)

    for groups, options in (
        ({"a": runs}, {}),
        ({"a": runs, "b": []}, {}),
        ({"a": runs, "b": runs}, {"correction": "x"}),
        ({"a": runs, "b": runs}, {"mode": "up"}),
        ({"a": runs, "b": runs}, {"options": Options(test="z")}),  # type: ignore[arg-type]
        ({"a": runs, "b": runs}, {"options": Options(test="mcnemar")}),
        ({"a": runs, "b": runs}, {"options": Options(level=95)}),
    ):
        with pytest.raises(StatisticsError):
            significance(groups, **options)


def test_significance_is_the_same_twice(tmp_path: Path) -> None:
    """Facts that are loaded already give the same answer as directories, down to the last digit."""
    a = log_run(tmp_path, "a", events=samples([1, 0] * 30))
    b = log_run(tmp_path, "b", events=samples([1, 1, 0] * 20))

    found = significance({"a": [a], "b": [b]}, options=QUICK)

    loaded = {"a": [load(a, with_samples=True)], "b": [load(b, with_samples=True)]}
    assert significance(loaded, options=QUICK).to_dict() == found.to_dict()


def test_notebooks_show_it_without_running_what_is_in_names(tmp_path: Path) -> None:
    """Names are text, not HTML."""
    runs = [log_seeds(tmp_path, name, LOW) for name in "ab"]

    shown = significance({"<b>x": runs[0], "y": runs[1]}, options=QUICK)._repr_html_()

    assert "&lt;b&gt;x" in shown
    assert "<b>x" not in shown
    assert "do not differ" in shown


def test_huge_groups_are_left_to_t(tmp_path: Path) -> None:
    """Where resampling would take minutes, t decides and is told."""
    a, b = [float(i % 7) for i in range(30_000)], [float(i % 5) for i in range(30_000)]

    found = contrast(a, b)

    assert [test.test for test in found.tests] == ["welch_t"]
    assert found.interval is not None
    assert found.interval.method == "t"


# --- selections --------------------------------------------------------------------------------------


def test_runs_are_selected_by_what_they_have_in_common(tmp_path: Path) -> None:
    """Params as numbers or text, tags, experiment; all conditions must hold."""
    flips = log_seeds(tmp_path, "flip", LOW[:2])
    log_seeds(tmp_path, "cut", LOW[:2])
    odd = log_run(tmp_path, "odd", params={"experiment": "e", "on": True}, tags={"team": "x", "gpu": None})

    assert matching(tmp_path, ["aug=flip", "lr=1e-3"]) == flips
    assert matching(tmp_path, ["experiment=aug", "param:aug=flip"]) == flips
    assert matching(tmp_path, ["param:experiment=e"]) == [odd]
    assert matching(tmp_path, ["tag:team=x", "tag:gpu", "on=true"]) == [odd]
    for nothing in (["aug=none"], ["aug=flip", "tag:gpu"], ["tag:gpu=x"]):
        with pytest.raises(StatisticsError, match="No run"):
            matching(tmp_path, nothing)
    for rubbish in ("=x", "tag:", "param:x"):
        with pytest.raises(StatisticsError, match="no condition"):
            matching(tmp_path, [rubbish])


def test_values_are_compared_as_what_they_are() -> None:
    """1 is 1.0 and not true; text is text."""
    assert is_value(1, "1.0")
    assert is_value([1, 2], "[1, 2]")
    assert is_value("1", "1")
    assert is_value(None, "null")
    assert is_value(True, "true")
    assert is_value(True, "True")
    assert not is_value(True, "1")
    assert not is_value("1", "1.0")
    assert not is_value(0.1, "x")


def test_runs_are_grouped_by_params(tmp_path: Path) -> None:
    """A label for each value, in the order of the runs."""
    flips, cuts = log_seeds(tmp_path, "flip", LOW[:2]), log_seeds(tmp_path, "cut", LOW[:2])

    assert grouped([*flips, *cuts], ["aug"]) == {"aug=flip": flips, "aug=cut": cuts}
