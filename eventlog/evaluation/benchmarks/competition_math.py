r"""MATH: problems of mathematical competitions, whose answer is the last ``\boxed{…}`` of a solution.

An answer is right if it means the same as the solution's: see `math_answers.same_answer`. With sympy
(``pip install 'evlog[math]'``) answers are also compared as algebra. Whether they were stands in each
sample's detail and in the result ``algebra_used`` (the share of samples that are right by algebra alone),
since accuracies with and without it are not the same measure.

Results: ``accuracy``, ``format_accuracy`` (there is a boxed answer), and both for each level and subject:
``accuracy/level_1`` … ``accuracy/algebra`` ….

Source: Hendrycks et al. (2021), "Measuring Mathematical Problem Solving With the MATH Dataset",
https://arxiv.org/abs/2103.03874.
"""

from __future__ import annotations

import re
from pathlib import Path

from eventlog.evaluation.benchmark import BadItemError, Item, Prompt, Score, first_of
from eventlog.evaluation.benchmarks.algebra import NoAlgebraError, is_available, shared
from eventlog.evaluation.benchmarks.latex import last_boxed
from eventlog.evaluation.benchmarks.math_answers import Algebra, normal, same_answer
from eventlog.evaluation.data import DataBenchmark, HubSource
from eventlog.evaluation.text import after_thinking, own_turn

INSTRUCTION = r"Solve the problem step by step. Put the final answer into \boxed{}."
_STATED = re.compile(
    r"(?:final\s++answer(?:\s++is)?|answer\s++is|answer\s*+:)(?!\s++not\b)\s*+:?+\s*+(?=(?P<rest>[^\n]{1,300}))",
    re.IGNORECASE,
)
_AFTERWORD = re.compile(r"\.?\s*I hope (?:it|this) is correct.*$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?:\s|$)")
_DELIMITED = re.compile(r"^\s*+(?:\$\$?+([^$]{1,300}+)\$|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\])")


class CompetitionMath(DataBenchmark):
    """Problems of competitions; see the module for what counts and the results.

    Args:
        data, hub, seed: see `DataBenchmark`.
        algebra: compare as algebra too: True demands sympy, None takes it if it is there.
        instruction: stands before each problem; empty for none.
    """

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        hub: bool = True,
        seed: int | None = None,
        algebra: bool | None = None,
        instruction: str = INSTRUCTION,
    ) -> None:
        super().__init__("math", HubSource("HuggingFaceH4/MATH-500"), data=data, hub=hub, seed=seed)
        self.instruction = instruction
        if algebra is not False and is_available():
            self._algebra: Algebra | None = shared()
        elif algebra:
            raise NoAlgebraError
        else:
            self._algebra = None

    def prompt(self, item: Item) -> Prompt:
        """Return the instruction and the problem."""
        problem = first_of(item, ("problem", "question", "prompt", "input"), self.name)
        if isinstance(problem, list):
            return problem
        return f"{self.instruction}\n\n{problem}" if self.instruction else str(problem)

    def target(self, item: Item) -> str:
        """Return the item's ``answer``, or what is boxed in its ``solution``.

        Raises:
            BadItemError: there is neither.
        """
        return self.extract_gold(first_of(item, ("answer", "solution", "target"), self.name))

    def extract_gold(self, answer: object) -> str:
        """Return what is boxed in *answer*, or the whole of it.

        Raises:
            BadItemError: it is empty.
        """
        text = str(answer).strip()
        found = last_boxed(text) or text
        if not found:
            raise BadItemError(self.name, "an item's answer is empty")
        return found

    def extract_answer(self, text: str) -> str | None:
        """Return what is boxed last; else what follows the last "the answer is"; else None."""
        return boxed_answer(text) or stated_answer(text)

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether both mean the same."""
        return self._how_same(predicted, gold) is not None

    def score(self, item: Item, output: str) -> Score:
        """Return ``correct`` and ``format``, both also for the item's level and subject."""
        boxed = boxed_answer(output)
        predicted = boxed or stated_answer(output)
        how = self._how_same(predicted, self.target(item))
        metrics = {"correct": float(how is not None), "format": float(boxed is not None)}
        for part in _parts_of(item):
            metrics |= {f"correct/{part}": metrics["correct"], f"format/{part}": metrics["format"]}
        metrics["algebra_used"] = float(how == "algebra")
        return Score(prediction=predicted, metrics=metrics, detail=how and f"equal by {how}")

    def _how_same(self, predicted: object, gold: object) -> str | None:
        if predicted is None or not normal(str(predicted)):
            return None
        return same_answer(str(predicted), str(gold), self._algebra)


def boxed_answer(text: str) -> str | None:
    r"""Return what the model's last ``\boxed{…}`` holds."""
    return last_boxed(own_turn(after_thinking(text)))


def stated_answer(text: str) -> str | None:
    """Return what follows the last "the answer is", up to the end of the sentence."""
    stated = list(_STATED.finditer(own_turn(after_thinking(text))))
    if not stated:
        return None
    rest = _AFTERWORD.sub("", stated[-1]["rest"]).lstrip("*_ ")
    delimited = _DELIMITED.match(rest)
    if delimited:
        return next(group for group in delimited.groups() if group is not None).strip() or None
    return _SENTENCE_END.split(rest, maxsplit=1)[0].strip(" *_") or None


def _parts_of(item: Item) -> list[str]:
    level = re.search("[0-9]+", str(item.get("level", "")))
    subject = str(item.get("subject") or item.get("type") or "").strip().lower()
    parts = [f"level_{level[0]}"] if level else []
    if subject:
        parts.append(re.sub(r"[^a-z0-9]+", "_", subject).strip("_"))
    return [part for part in parts if part]
