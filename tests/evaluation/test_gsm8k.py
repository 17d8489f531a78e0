"""GSM8K: what counts as the answer, and what is right."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.evaluation.benchmark import BadItemError, Score
from eventlog.evaluation.benchmark_registry import BadBenchmarkOptionError
from eventlog.evaluation.benchmarks.gsm8k import GSM8K, flexible_answer, same_number, strict_answer
from eventlog.evaluation.text import number_text, plain

DATA = Path(__file__).parent / "data" / "gsm8k.jsonl"

# Output, the strict reading, the flexible reading.
OUTPUTS = [
    ("#### 18", "18", "18"),
    ("####42", "42", "42"),
    ("so 5+3=8.\n#### 8 apples", "8", "8"),
    ("#### $1,000.0", "1000", "1000"),
    ("#### $-5", "-5", "-5"),
    ("#### -$5", "-5", "-5"),
    ("#### **42**", "42", "42"),
    ("#### 42%", "42", "42"),
    ("#### 18.", "18", "18"),
    ("#### .5", "0.5", "0.5"),
    ("#### 1/3", "1/3", "1/3"),
    ("#### 2/4", "0.5", "0.5"),
    ("#### 1 1/2", "1.5", "1.5"),
    ("#### 1e3", "1000", "1000"),
    ("#### 2 million", "2000000", "2000000"),
    ("#### 1,00,000", "100000", "100000"),
    ("#### 1 000", "1000", "1000"),
    ("#### 1\u00a0000", "1000", "1000"),
    ("#### 1\u202f000\u202f000", "1000000", "1000000"),
    ("#### 1'000", "1000", "1000"),
    ("#### \u22125", "-5", "-5"),
    ("#### \uff11\uff12", "12", "12"),
    ("\uff03\uff03\uff03\uff03 12", None, "12"),
    ("#### \u0663", "3", "3"),
    ("#### 1\u00bd", "1.5", "1.5"),
    ("#### \u200b7", "7", "7"),
    ("#### about 18", None, "18"),
    ("#### N/A", None, None),
    ("####", None, None),
    ("#### 5\n\nQuestion: And now?\n#### 9", "5", "5"),
    ("The answer is 5.\nQuestion: And now? #### 9", None, "5"),
    ("The answer is 18.", None, "18"),
    ("The answer is $18.50 per day.", None, "18.5"),
    ("The answer is 18 dollars, for 7 days.", None, "18"),
    ("The answer is: 3.0", None, "3"),
    ("**Answer:** 42", None, "42"),
    ("Answer: 3 + 4 = 7", None, "7"),
    ("The answer is not 5. It is 6", None, "6"),
    ("The final answer is $\\$12$", None, "12"),
    ("Answer: $x = -3$", None, "-3"),
    ("I get \\boxed{1,234} in 3 steps", None, "1234"),
    ("\\boxed{\\frac{3}{4}}", None, "0.75"),
    ("$\\boxed{42\\%}$", None, "42"),
    ("That makes 1{,}234", None, "1234"),
    ("**18**", None, "18"),
    ("We went from 5-7", None, "7"),
    ("- 5 apples\n- 6 pears", None, "6"),
    ("x = - 5", None, "-5"),
    ("<think>It may be 12</think>The answer is 7", None, "7"),
    ("<think>It may be 12", None, None),
    ("1/0", None, None),
    ("no number", None, None),
    ("", None, None),
]


@pytest.mark.parametrize(("output", "strict", "flexible"), OUTPUTS, ids=[one[0][:40] for one in OUTPUTS])
def test_answer_is_read_from(output: str, strict: str | None, flexible: str | None) -> None:
    """The two readings of what models write."""
    assert strict_answer(output) == strict
    assert flexible_answer(output) == flexible


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000.0", 1000),
        ("$5", "5.00"),
        ("50%", 50),
        ("0.5", "1/2"),
        (0.1, "0.1"),
        ("-3", "\u22123"),
        ("007", 7),
    ],
)
def test_check_answer_compares_numbers_however_written(one: object, other: object) -> None:
    """Signs, separators and zeros do not matter, in neither direction."""
    benchmark = GSM8K()

    assert benchmark.check_answer(one, other)
    assert benchmark.check_answer(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [("5", "-5"), ("1/3", "0.33"), (None, 0), (True, 1), ("x", "x"), ("5 6", 5)]
)
def test_check_answer_refuses_other_numbers_and_no_numbers(one: object, other: object) -> None:
    """Near is not equal, and what is no number is never right."""
    assert not GSM8K().check_answer(one, other)


@given(value=st.fractions(max_denominator=10**6), other=st.fractions(max_denominator=100))
def test_number_text_is_one_text_for_each_number(value: Fraction, other: Fraction) -> None:
    """What is written is read as the same number, and only as that."""
    text = number_text(value)

    assert same_number(text, value)
    assert same_number(text, other) == same_number(other, text) == (value == other)
    assert strict_answer(f"#### {text}") == text


@given(text=st.text())
def test_plain_changes_nothing_the_second_time(text: str) -> None:
    """One form of each sign is one form."""
    assert plain(plain(text)) == plain(text)


def test_tolerance_lets_rounded_numbers_pass() -> None:
    """A tolerance is a share of the larger number."""
    assert same_number("0.333", "1/3", tolerance=0.01)
    assert not same_number("0.3", "1/3", tolerance=0.01)


def score(output: str, place: int = 0, **options: str) -> Score:
    """Return the score of *output* as answer to a question of the sample file."""
    benchmark = GSM8K(data=DATA, **options)  # type: ignore[arg-type]
    return benchmark.score(benchmark.load_dataset()[place], output)


def test_score_of_a_right_answer_in_the_wrong_form() -> None:
    """Flexible reading finds it, strict does not, and the form counts for itself."""
    found = score("6 times 8 is 48, so the answer is 43")

    assert found.prediction == "43"
    assert found.metrics == {"correct": 1, "strict_correct": 0, "format": 0, "partial": 1}


def test_score_with_strict_extraction_wants_the_form() -> None:
    """With extraction=strict an answer without the mark is none."""
    assert score("The answer is 43", extraction="strict").metrics["correct"] == 0


def test_partial_credit_is_the_share_of_intermediate_results() -> None:
    """One of two results of the solution occurs: half; numbers of the question prove nothing."""
    assert score("6*8 = 48, minus 5 is 44\n#### 44").metrics["partial"] == 0.5
    assert score("6 8 5\n#### 44").metrics["partial"] == 0


def test_partial_credit_is_not_given_for_numbers_of_the_question() -> None:
    """A result that stands in the question could be copied from there, so it is left out."""
    item = {
        "question": "What is 1 and 1, and that and 9, if 2 is even?",
        "answer": "<<1+1=2>><<2+9=11>>#### 11",
    }

    assert GSM8K().score(item, "2, so #### 12").metrics["partial"] == 0


def test_aggregate_names_the_results() -> None:
    """The results have the names that the benchmark promises."""
    benchmark = GSM8K(data=DATA)

    found = benchmark.aggregate([score("#### 43"), score("48, no: 40")])

    assert found == {
        "accuracy": 0.5,
        "strict_accuracy": 0.5,
        "format_accuracy": 0.5,
        "partial_accuracy": 0.75,
    }


def test_solutions_of_the_sample_are_right() -> None:
    """The data set's own solutions get full marks."""
    benchmark = GSM8K(data=DATA)

    scores = [benchmark.score(item, str(item["answer"])) for item in benchmark.load_dataset()]

    assert len(scores) == 4
    assert set(benchmark.aggregate(scores).values()) == {1.0}


def test_gold_without_a_number_is_an_error() -> None:
    """An item whose answer holds no number says so."""
    with pytest.raises(BadItemError, match="'none' holds no number"):
        GSM8K().target({"question": "?", "answer": "none"})


@pytest.mark.parametrize(
    "options", [{"extraction": "loose"}, {"tolerance": -1.0}, {"tolerance": float("nan")}]
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    """A value that cannot be used is named."""
    with pytest.raises(BadBenchmarkOptionError, match=next(iter(options))):
        GSM8K(**options)  # type: ignore[arg-type]
