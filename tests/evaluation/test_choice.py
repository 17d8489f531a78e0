"""Multiple choice: letters and texts that models give back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.evaluation.benchmark import BadItemError
from eventlog.evaluation.benchmarks.choice import LETTERS, MMLU, MultipleChoice, chosen_option, named_letter

DATA = Path(__file__).parent / "data" / "multiple_choice.jsonl"
CITIES = ["Paris", "New York", "New York City", "Rome"]

NAMED = [
    ("B", "B"),
    ("b", "B"),
    ("(B)", "B"),
    ("B.", "B"),
    ("B)", "B"),
    ("**B**", "B"),
    ('"C"', "C"),
    ("\uff22", "B"),
    ("\uff08\uff22\uff09", "B"),
    ("B\u200b", "B"),
    ("The answer is C.", "C"),
    ("The answer is (C).", "C"),
    ("the answer is (a)", "A"),
    ("Answer: D", "D"),
    ("Answer: **B**", "B"),
    ("ANSWER: C", "C"),
    ("The answer is:\n\n**(E)**", "E"),
    ("The correct option is B: Paris", "B"),
    ("The correct answer is option D", "D"),
    ("I would choose option C", "C"),
    ("Choice A", "A"),
    ("Option (b)", "B"),
    ("\\boxed{C}", "C"),
    ("So it is $\\boxed{\\text{(C)}}$", "C"),
    ("B) Paris, because", "B"),
    ("I think (D) is right", "D"),
    ("A) Rome\nB) Paris\nThe answer is B", "B"),
    ("The answer is A. No wait, the answer is B.", "B"),
    ("The answer is A and I am sure", "A"),
    ("The answer is A, B is wrong", "A"),
    ("<think>The answer is A</think>B", "B"),
    ("The answer is A or B.", None),
    ("The answer is A, B.", None),
    ("The answer is B/C", None),
    ("The answer is a good one", None),
    ("The answer is a.", None),
    ("The answer is Apple", None),
    ("The answer is A's", None),
    ("The answer is not B", None),
    ("A) Rome\nB) Paris", None),
    ("Either (A) or (B)", None),
    ("K", None),
    ("<think>The answer is A", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "wanted"), NAMED, ids=[one[0][:40] for one in NAMED])
def test_letter_is_read_from(text: str, wanted: str | None) -> None:
    """One letter is found in what models write; none if it names none, or several."""
    assert named_letter(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Paris", "A"),
        ("the capital is paris!", "A"),
        ("New York City", "C"),
        ("It is New York City.", "C"),
        ("It's New York", "B"),
        ("Paris or Rome", None),
        ("Berlin", None),
        ("The answer is F", None),
        ("The answer is D, as Paris is wrong", "D"),
    ],
)
def test_text_of_an_option_counts_as_its_letter(text: str, wanted: str | None) -> None:
    """An option's text names it, the longer where one holds another; two name none."""
    assert chosen_option(text, CITIES) == wanted


@given(
    place=st.integers(0, 9),
    form=st.sampled_from(["{}", "({})", "The answer is {}.", "Answer: **{}**", "\\boxed{{{}}}"]),
)
def test_every_letter_is_read_in_every_form(place: int, form: str) -> None:
    """Forms work for all ten letters."""
    assert named_letter(form.format(LETTERS[place])) == LETTERS[place]


def test_items_of_all_forms_have_their_letter() -> None:
    """Letters, labels and places counted from 0 name the right option."""
    benchmark = MultipleChoice(data=DATA)

    assert [benchmark.target(item) for item in benchmark.load_dataset()] == ["B", "A", "B"]


def test_prompt_lists_the_options() -> None:
    """The model sees the question and a line for each option."""
    benchmark = MultipleChoice(data=DATA, instruction="")

    prompt = benchmark.prompt(benchmark.load_dataset()[0])

    assert prompt == "Question: Which is a noble gas?\nA. Iron\nB. Neon\nC. Oxygen\nAnswer:"


def test_scores_are_broken_down_by_subject() -> None:
    """Results exist for each subject that items name."""
    benchmark = MultipleChoice(data=DATA)
    scores = [
        benchmark.score(*pair) for pair in zip(benchmark.load_dataset(), ["Neon", "B", "?"], strict=True)
    ]

    assert benchmark.aggregate(scores) == {
        "accuracy": pytest.approx(1 / 3),
        "format_accuracy": pytest.approx(2 / 3),
        "accuracy/chemistry": 1,
        "accuracy/world_geography": 0,
    }


def test_likelihoods_choose_an_option_with_and_without_its_length() -> None:
    """The likeliest option, and the likeliest per byte, may be different ones."""
    benchmark = MultipleChoice(data=DATA)
    item = {"question": "?", "choices": ["no", "a long answer"], "answer": "B"}

    found = benchmark.score_likelihoods(item, [-4.0, -6.0])

    assert found.prediction == "A"
    assert found.metrics == {"correct": 0, "correct_per_byte": 1}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"question": "?", "answer": "A"}, "none of choices, options"),
        ({"question": "?", "choices": [], "answer": "A"}, "not a list of 1 to 10"),
        ({"question": "?", "choices": ["x"] * 11, "answer": "A"}, "not a list of 1 to 10"),
        ({"question": "?", "choices": ["x", "y"], "answer": "C"}, "'C' is none of the 2 options"),
        ({"question": "?", "choices": ["x", "y"], "answer": 2}, "'2' is none of the 2 options"),
        ({"question": "?", "choices": ["x", "y"], "answer": -1}, "'-1' is none of the 2 options"),
    ],
)
def test_items_that_make_no_sense_are_errors(item: dict[str, object], reason: str) -> None:
    """An item without options, or whose answer is none of them, says so."""
    with pytest.raises(BadItemError, match=reason):
        MMLU().target(item)
