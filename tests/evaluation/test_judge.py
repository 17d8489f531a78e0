"""A model as judge: what it says, the swap, and agreement with people."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventlog.evaluation.benchmark import BadItemError
from eventlog.evaluation.benchmarks.judged import JudgedBenchmark
from eventlog.evaluation.judge import BadJudgeError, Comparison, Judge, report
from eventlog.evaluation.judge_reading import reason_in, score_in, winner_in
from eventlog.evaluation.model import CallableModel

DATA = Path(__file__).parent / "data" / "judged.jsonl"

SCORES = [
    ('{"score": 4}', 4),
    ('Well done. {"score": "7"} That is all.', 7),
    ('```json\n{"reason": "a {b}", "Rating": 6.5}\n```', 6.5),
    ('{"score": 7, "details": {"score": 3}}', 7),
    ('{"scores": {"a": 1}, "score": 7}', 7),
    ('{"score": 2} No: {"score": 3}', 3),
    ("[[5]]", 5),
    ("Rating: [[5]]", 5),
    ("Score: 4", 4),
    ("Score: 8.", 8),
    ("Score: 4.5.", 4.5),
    ("**Score:** 4/10", 4),
    ("score: 3 … Final score: 8", 8),
    ("4 out of 10", 4),
    ("8.", 8),
    ("\uff14", 4),
    ("<think>score: 2</think>score: 3", 3),
    ('{"score": true}', None),
    ('{"score": NaN}', None),
    ('{"score": 99}', None),
    ('{"score": "high"}', None),
    ("Score: 11", None),
    ("Score: -3", None),
    ("Score: 4/5", None),
    ("Score: 4-5", None),
    ("Score: N/A", None),
    ("I give it a 4", None),
    ("", None),
]
WINNERS = [
    ("[[A]]", "A"),
    ("[[C]]", "tie"),
    ('{"winner": "B"}', "B"),
    ('{"winner": "tie"}', "tie"),
    ('{"verdict": "Answer A"}', "A"),
    ("The winner is A", "A"),
    ("Winner: Assistant B", "B"),
    ("**B**", "B"),
    ("Tie.", "tie"),
    ("[[A]] or [[B]]", None),
    ('{"winner": "D"}', None),
    ("The verdict: a mess", None),
    ("A is shorter, and B is longer", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "wanted"), SCORES, ids=[one[0][:40] for one in SCORES])
def test_score_is_read_from(text: str, wanted: float | None) -> None:
    """A score in the scale 1 to 10 is found where it is clear, and never guessed."""
    assert score_in(text, 1, 10) == wanted


@pytest.mark.parametrize(("text", "wanted"), WINNERS, ids=[one[0][:40] for one in WINNERS])
def test_winner_is_read_from(text: str, wanted: str | None) -> None:
    """A winner is found where it is clear, and never guessed."""
    assert winner_in(text) == wanted


def test_reason_is_what_the_judge_says() -> None:
    """A reason in the JSON object, else the whole text."""
    assert reason_in('{"reason": "too long", "score": 2}') == "too long"
    assert reason_in(" Too long. Score: 2 ") == "Too long. Score: 2"


def saying(answer: Callable[[str], str]) -> Callable[[Sequence[str]], list[str]]:
    """Return a model that answers each prompt with what *answer* says to it."""
    return lambda prompts: [answer(prompt) for prompt in prompts]


def fair(prompt: str) -> str:
    """Prefer the answer with "good" in it, wherever it stands."""
    first, second = re.findall(r"<answer_[ab]>\n(.*?)\n</answer", prompt)
    return "tie" if ("good" in first) == ("good" in second) else "[[A]]" if "good" in first else "[[B]]"


def test_grade_is_on_the_scale_and_as_a_share() -> None:
    """The judge sees question, reference, answer and rubric; its score has a share of the scale."""
    seen: list[str] = []

    def model(prompts: Sequence[str]) -> list[str]:
        seen.extend(prompts)
        return ["Fine. Score: 4"] * len(prompts)

    grade = Judge(model, "Is it {short}?", (1, 5)).grade("Why?", "Because.", "No reason.")

    wanted = ("Why?", "Because.", "No reason.", "Is it {short}?", "from 1 (worst) to 5")
    assert (grade.score, grade.share, grade.error) == (4, 0.75, None)
    assert [part for part in wanted if part not in seen[0]] == []


def test_judge_is_named_as_models_are_on_the_command_line() -> None:
    """A text names the judging model."""
    assert Judge("constant:Score: 3").grade("?", "!").score == 3


def test_grade_by_an_async_model_that_fails_is_counted_not_guessed() -> None:
    """A judge that cannot be reached, or says nothing clear, gives no score but an error."""

    async def broken(prompts: Sequence[str]) -> list[str]:
        raise ValueError("no such model")

    unreached = Judge(CallableModel(broken)).grade("?", "!")
    unclear = Judge(saying(lambda _: "Nice!")).grade("?", "!")

    assert unreached.score is None
    assert "no such model" in str(unreached.error)
    assert unclear.score is None
    assert unclear.error == "no score from 1 to 10 in the judge's text"


def test_comparison_by_a_fair_judge_is_consistent() -> None:
    """The better answer wins in both places."""
    judge = Judge(saying(fair))

    found = judge.compare_many(
        [("?", "good", "bad", None), ("?", "bad", "good", None), ("?", "x", "y", None)]
    )

    assert [one.winner for one in found] == ["A", "B", "tie"]
    assert all(one.is_consistent for one in found)
    assert report(found).position_bias == 0


def test_comparison_by_a_judge_that_likes_the_first_is_a_tie() -> None:
    """A verdict that changes with the order is a tie, and shows as bias."""
    judge = Judge(saying(lambda _: '{"winner": "A"}'))

    found = judge.compare("?", "one", "other")

    assert (found.winner, found.is_consistent, found.forward, found.backward) == ("tie", False, "A", "B")
    assert report([found]).position_bias == 1
    assert report([found]).consistency == 0


def test_report_counts_failures_apart() -> None:
    """A comparison with one unreadable verdict is no tie."""
    judge = Judge(saying(lambda prompt: "[[A]]" if "<answer_a>\none" in prompt else "hm"))

    found = report(
        [judge.compare("?", "one", "other"), *[Judge(saying(fair)).compare("?", "good", "bad")] * 3]
    )

    assert (found.count, found.wins, found.losses, found.ties, found.failures) == (4, 3, 0, 0, 1)
    assert found.win_rate == found.consistency == 1


def test_report_of_nothing_is_not_a_number() -> None:
    """Without verdicts the rates are NaN."""
    assert math.isnan(report([]).to_dict()["win_rate"])
    assert report([Comparison(winner=None, is_consistent=None, forward=None, backward=None)]).failures == 1


@pytest.mark.parametrize(("rubric", "scale"), [("", (1, 10)), ("Good?", (5, 5)), ("Good?", (5, 1))])
def test_judge_without_rubric_or_scale_is_refused(rubric: str, scale: tuple[float, float]) -> None:
    """A judge needs both."""
    with pytest.raises(BadJudgeError):
        Judge(saying(fair), rubric, scale)


def test_judged_benchmark_gives_scores_failures_and_agreement() -> None:
    """Means over what could be graded, the share that could not, and kappa with people's scores."""
    said = {"sky": "Score: 9", "grass": "Score: 4", "snow": "no idea"}
    benchmark = JudgedBenchmark(
        saying(lambda prompt: next(text for word, text in said.items() if word in prompt)), DATA
    )

    scores = [benchmark.score(item, "<think>hm</think>Light.") for item in benchmark.load_dataset()]

    found = benchmark.aggregate(scores)
    assert [score.prediction for score in scores] == ["Light."] * 3
    assert found["score"] == 6.5
    assert found["judge_failures"] == pytest.approx(1 / 3)
    assert found["agreement"] == found["kappa"] == found["quadratic_kappa"] == 1


def test_judged_benchmark_refuses_a_human_score_off_the_scale() -> None:
    """A person's score that the judge could not give is a mistake in the data."""
    benchmark = JudgedBenchmark(saying(lambda _: "Score: 9"), DATA)

    with pytest.raises(BadItemError, match="'eleven'"):
        benchmark.score({"question": "?", "human": "eleven"}, "!")
