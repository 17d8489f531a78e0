"""Exact match and F1, alone and in SQuAD."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.evaluation.benchmarks.squad import SQuAD, SQuADv2
from eventlog.evaluation.metrics import best_over, exact_match, normalized, token_f1

DATA = Path(__file__).parent / "data" / "squad_v2.jsonl"


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("a  cat", "Cat.", 1, 1),
        ("theatre", "atre", 0, 0),
        ("in 1702", "1702", 0, 2 / 3),
        ("Anna Maria Brandt", "Anna Brandt", 0, 0.8),
        ("cat cat", "cat", 0, 2 / 3),
        ("cat cat", "cat cat dog", 0, 0.8),
        ("", "", 1, 1),
        ("the", "", 1, 1),
        ("cat", "", 0, 0),
        ("", "cat", 0, 0),
        ("ÉCOLE", "école", 1, 1),
    ],
)
def test_measures_of_an_answer(prediction: str, gold: str, exact: float, f1: float) -> None:
    """Case, articles, punctuation and spaces do not count; words do, as often as they occur."""
    assert exact_match(prediction, gold) == exact
    assert token_f1(prediction, gold) == pytest.approx(f1)


@given(one=st.text(), other=st.text())
def test_measures_are_symmetric_and_full_for_the_same(one: str, other: str) -> None:
    """The order of two texts does not matter, a text fits itself, and F1 is at least exact match."""
    assert token_f1(one, other) == token_f1(other, one)
    assert exact_match(one, one) == token_f1(one, one) == 1
    assert exact_match(one, other) <= token_f1(one, other) <= 1


@given(text=st.text())
def test_normalized_twice_is_normalized_once(text: str) -> None:
    """A normalized text is left alone."""
    assert normalized(normalized(text)) == normalized(text)


def test_best_of_several_answers_counts() -> None:
    """Of several right answers the nearest counts; of none, to give none."""
    assert best_over(token_f1, "Brandt", ["Anna Brandt", "Brandt"]) == 1
    assert best_over(exact_match, "", []) == 1


def test_results_of_answerable_and_unanswerable_questions() -> None:
    """Version 2 wants "unanswerable" where there is no answer, and breaks the results down."""
    benchmark = SQuADv2(data=DATA)
    items = benchmark.load_dataset()

    scores = [
        benchmark.score(items[0], "Answer: Anna Maria Brandt\n"),
        benchmark.score(items[1], "Unanswerable."),
    ]

    found = benchmark.aggregate(scores)
    assert found["exact_match"] == found["accuracy"] == 0.5
    assert found["f1"] == pytest.approx(0.9)
    assert found["f1/has_answer"] == pytest.approx(0.8)
    assert found["exact_match/no_answer"] == 1


@pytest.mark.parametrize(
    ("output", "wanted"), [("", ""), ("N/A", ""), ("1702", "1702"), ("**The answer is** 1702", "1702")]
)
def test_version_2_understands_that_there_is_no_answer(output: str, wanted: str) -> None:
    """An empty output, or one that says so, is the answer that there is none."""
    assert SQuADv2().extract_answer(output) == wanted


def test_version_1_takes_an_empty_output_as_nothing_said() -> None:
    """Where every question has an answer, silence is never right."""
    benchmark = SQuAD()

    found = benchmark.score({"question": "?", "context": "", "answers": {"text": ["the"]}}, " \n")

    assert found.prediction is None
    assert found.metrics["exact_match"] == 0


def test_items_keep_their_ids() -> None:
    """The data set's ids name the samples."""
    benchmark = SQuADv2(data=DATA)

    assert [benchmark.item_id(item, 0) for item in benchmark.load_dataset()] == ["m1", "m2"]
