"""Answers that a judge grades, for questions without one right answer.

Results: ``score`` (on the judge's scale) and ``share`` (0 … 1), means over what could be graded;
``judge_failures``, the share of samples that could not. If items have a person's ``human`` score:
``human``, ``agreement`` (share of equal scores), ``kappa``, ``linear_kappa`` and ``quadratic_kappa``
between judge and people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from eventlog.evaluation.agreement import agreement
from eventlog.evaluation.benchmark import BadItemError, Item, Score, means
from eventlog.evaluation.data import DataBenchmark
from eventlog.evaluation.judge import RUBRIC, Judge
from eventlog.evaluation.text import after_thinking


class JudgedBenchmark(DataBenchmark):
    """Questions of a file, whose answers a judge grades.

    Args:
        judge: the judging model, a callable or an endpoint, or a `Judge`, whose rubric and scale then count.
        data: a file with ``question`` and, if you like, ``reference`` (or ``answer``, ``target``) and
            ``human``.
        rubric: what a good answer is.
        scale: worst and best score.
        name: of the benchmark.
        seed: order of the items; None leaves them as they lie.
    """

    def __init__(
        self,
        judge: object,
        data: str | Path | None = None,
        *,
        rubric: str = RUBRIC,
        scale: tuple[float, float] = (1, 10),
        name: str = "judge",
        seed: int | None = None,
    ) -> None:
        super().__init__(name, data=data, hub=False, seed=seed)
        self.judge = judge if isinstance(judge, Judge) else Judge(judge, rubric, scale)

    def target(self, item: Item) -> str | None:
        """Return the item's right answer, if it has one, for the judge to compare with."""
        for key in ("reference", "answer", "target"):
            if item.get(key) is not None:
                return str(item[key])
        return None

    def extract_answer(self, text: str) -> str | None:
        """Return what the judge is shown: the text without the model's thinking."""
        return after_thinking(text).strip() or None

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether both are the same text: without a judge there is no other way."""
        return predicted == gold

    def score(self, item: Item, output: str) -> Score:
        """Return the judge's ``score`` and ``share``, or ``judge_failures`` 1."""
        answer = self.extract_answer(output)
        grade = self.judge.grade(_text(self.prompt(item)), answer or "(no answer)", self.target(item))
        if grade.score is None or grade.share is None:
            return Score(prediction=answer, metrics={"judge_failures": 1.0}, detail=grade.error)
        metrics = {"score": grade.score, "share": grade.share, "judge_failures": 0.0}
        if item.get("human") is not None:
            metrics["human"] = self._human(item["human"])
        return Score(prediction=answer, metrics=metrics, detail=grade.reason)

    def aggregate(self, scores: Sequence[Score]) -> dict[str, float]:
        """Return the means, and the agreement with people where they have scored too."""
        found = means(scores)
        both = [(one.metrics["score"], one.metrics["human"]) for one in scores if "human" in one.metrics]
        if not both:
            return found
        measured = agreement([judged for judged, _ in both], [human for _, human in both])
        kappas = {
            "kappa": measured.kappa,
            "linear_kappa": measured.linear_kappa,
            "quadratic_kappa": measured.quadratic_kappa,
        }
        return found | {"agreement": measured.observed} | kappas

    def _human(self, value: object) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not self.judge.low <= number <= self.judge.high:
            raise BadItemError(self.name, f"the human score {str(value)[:40]!r} is not on the judge's scale")
        return number


def _text(prompt: str | list[dict[str, str]]) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message.get('role', '')}: {message.get('content', '')}" for message in prompt)
