r"""GSM8K: grade-school word problems whose answer is one number.

An answer counts by either of two readings:

- strict: the number after the first ``####``, the form of the data set's own solutions;
- flexible: that; else the last ``\boxed{…}``; else the number after the last "the answer is"; else the last
  number of all.

Results: ``accuracy`` (by the reading that was chosen, flexible unless told), ``strict_accuracy``,
``format_accuracy`` (a number follows ``####``), and ``partial_accuracy``: 1 for a right answer, else the
share of the solution's intermediate results that occur in the output. The intermediate results are what the
data set's calculator notes ``<<48/2=24>>`` give; those that stand in the question prove nothing and are
left out.

Source: Cobbe et al. (2021), "Training Verifiers to Solve Math Word Problems",
https://arxiv.org/abs/2110.14168 (data, ``####`` and the calculator notes). ``partial_accuracy`` is a
    definition of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from eventlog.evaluation.benchmark import BadItemError, Item, Prompt, Score
from eventlog.evaluation.benchmark_registry import BadBenchmarkOptionError
from eventlog.evaluation.benchmarks.latex import last_boxed
from eventlog.evaluation.data import DataBenchmark, HubSource
from eventlog.evaluation.text import (
    after_thinking,
    as_number,
    last_number,
    number_text,
    numbers,
    own_turn,
    plain,
)

INSTRUCTION = 'Solve the problem step by step. End with a line "#### " and the answer as one number.'
MAX_STEPS_READ = 100_000
MAX_STATEMENTS = 50
_MARK = "####"
_STEP = re.compile(r"<<[^<>=]{0,200}+=([^<>=]{1,60}+)>>")
_ANSWER = re.compile(
    r"answer(?:\s++is|\s++was|\s++would\s++be|\s*+[:=])(?!\s++not\b)\s*+:?+(?=(?P<rest>[^\n]{0,200}))",
    re.IGNORECASE,
)
_MARKS_WITHIN = re.compile(r"\*\*|__|`|\\[(),\[\]!;]|\\(?:text|mathrm|mbox)(?=\{)")
_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]{1,30}+)\}\{([0-9]{1,30}+)\}")
_READINGS = ("strict", "flexible")


class GSM8K(DataBenchmark):
    """Grade-school word problems; see the module for the readings and the results.

    Args:
        data, hub, seed: see `DataBenchmark`.
        extraction: ``flexible`` or ``strict``: which reading ``accuracy`` counts.
        tolerance: numbers whose relative difference is at most this are equal; 0 wants the same number.
        instruction: stands before each question; empty for none.
    """

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        hub: bool = True,
        seed: int | None = None,
        extraction: str = "flexible",
        tolerance: float = 0.0,
        instruction: str = INSTRUCTION,
    ) -> None:
        super().__init__("gsm8k", HubSource("openai/gsm8k", "main"), data=data, hub=hub, seed=seed)
        if extraction not in _READINGS:
            raise BadBenchmarkOptionError("gsm8k", f"extraction is {extraction!r}, not strict or flexible")
        if not 0 <= tolerance < 1:
            raise BadBenchmarkOptionError("gsm8k", f"tolerance is {tolerance}, not at least 0 and below 1")
        self.extraction, self.tolerance, self.instruction = extraction, tolerance, instruction

    def prompt(self, item: Item) -> Prompt:
        """Return the instruction and the question."""
        question = super().prompt(item)
        if isinstance(question, list) or not self.instruction:
            return question
        return f"{self.instruction}\n\nQuestion: {question}\nAnswer:"

    def extract_gold(self, answer: object) -> str:
        """Return the number after ``####`` of a solution, or the number that *answer* is.

        Raises:
            BadItemError: there is none.
        """
        found = strict_answer(answer) if isinstance(answer, str) else None
        found = found or _text_of(as_number(answer))
        if found is None:
            raise BadItemError(self.name, f"the answer {str(answer)[:60]!r} holds no number")
        return found

    def extract_answer(self, text: str) -> str | None:
        """Return the answer by the reading that was chosen, as `number_text` writes it."""
        return strict_answer(text) if self.extraction == "strict" else flexible_answer(text)

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether both are the same number, however they are written."""
        return same_number(predicted, gold, self.tolerance)

    def score(self, item: Item, output: str) -> Score:
        """Return ``correct``, ``strict_correct``, ``format`` and ``partial`` of one output."""
        gold = self.target(item)
        strict, predicted = strict_answer(output), self.extract_answer(output)
        is_correct = self.check_answer(predicted, gold)
        metrics = {
            "correct": float(is_correct),
            "strict_correct": float(self.check_answer(strict, gold)),
            "format": float(strict is not None),
            "partial": 1.0 if is_correct else share_of_steps(item, output),
        }
        return Score(prediction=predicted, metrics=metrics)

    def aggregate(self, scores: Sequence[Score]) -> dict[str, float]:
        """Return ``accuracy``, ``strict_accuracy``, ``format_accuracy`` and ``partial_accuracy``."""
        found = super().aggregate(scores)
        return {
            ("strict_accuracy" if key == "strict_correct" else key): value for key, value in found.items()
        }


def strict_answer(text: str) -> str | None:
    """Return the number right after the first ``####``, or None."""
    spoken = own_turn(after_thinking(text))
    _, mark, rest = spoken.partition(_MARK)
    if not mark:
        return None
    line = _unmarked(rest[:400]).lstrip(" \t:=*").partition("\n")[0]
    value = as_number(line) if line else None
    if value is None:
        found = numbers(line)
        # "#### 18 (9 eggs at $2)" begins with its answer; "#### about 18" is not the form.
        value = found[0] if found and re.match(r"[-+$€£¥.0-9(]", line) else None
    return _text_of(value)


def flexible_answer(text: str) -> str | None:
    """Return the number that *text* most likely gives as its answer, or None if it has no number."""
    strict = strict_answer(text)
    if strict is not None:
        return strict
    spoken = own_turn(after_thinking(text))
    boxed = last_boxed(spoken)
    if boxed is not None:
        found = numbers(_unmarked(boxed))
        if found:
            return _text_of(_whole_or_last(boxed, found))
    clean = _unmarked(spoken)
    for match in reversed(list(_ANSWER.finditer(clean))[-MAX_STATEMENTS:]):
        value = _stated(match["rest"])
        if value is not None:
            return _text_of(value)
    return _text_of(last_number(clean))


def same_number(predicted: object, gold: object, tolerance: float = 0.0) -> bool:
    """Tell whether both are numbers and equal, or their difference is at most *tolerance* of the larger."""
    one, other = as_number(predicted), as_number(gold)
    if one is None or other is None:
        return False
    return one == other or abs(one - other) <= Fraction(tolerance) * max(abs(one), abs(other))


def share_of_steps(item: Mapping[str, object], output: str) -> float:
    """Return the share of the solution's intermediate results that occur in *output*; 0 if it has none.

    Only the first `MAX_STEPS_READ` characters are read.
    """
    given = set(numbers(_unmarked(str(item.get("question", "")))))
    steps = {as_number(result) for result in _STEP.findall(str(item.get("answer", "")))} - given - {None}
    if not steps:
        return 0.0
    return len(steps & set(numbers(_unmarked(own_turn(output[:MAX_STEPS_READ]))))) / len(steps)


def _stated(rest: str) -> Fraction | None:
    """Return the number after the last "=" in what follows "the answer is", or the first number."""
    sentence = re.split(r"(?<![0-9])[.;](?:\s|$)|[.;](?=\s+[A-Z])", rest, maxsplit=1)[0]
    found = numbers(sentence.rpartition("=")[2]) or numbers(sentence)
    return found[0] if found else None


def _whole_or_last(boxed: str, found: list[Fraction]) -> Fraction:
    whole = as_number(_unmarked(boxed))
    return found[-1] if whole is None else whole


def _unmarked(text: str) -> str:
    r"""Return *text* in plain signs, without the marks of Markdown and LaTeX that stand within numbers."""
    text = _FRACTION.sub(r"\1/\2", text)
    return _MARKS_WITHIN.sub("", plain(text.replace("{,}", ",").replace("\\%", "%").replace("\\$", "$")))


def _text_of(value: Fraction | None) -> str | None:
    return None if value is None else number_text(value)
