"""SQuAD: short answers to questions about a paragraph; version 2 has questions that cannot be answered.

Results: ``exact_match``, ``f1``, ``accuracy`` (that of exact match), all in 0 … 1; version 2 adds
``…/has_answer`` and ``…/no_answer``. Several right answers: the best counts. See
`eventlog.evaluation.metrics` for the measures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from eventlog.evaluation.benchmark import Item, Prompt, Score, first_of
from eventlog.evaluation.data import DataBenchmark, HubSource
from eventlog.evaluation.metrics import best_over, exact_match, normalized, token_f1
from eventlog.evaluation.text import after_thinking, own_turn

_LABEL = re.compile(
    r"^(?:(?:the |final |short )*answer(?: is)?\s*[:=]|(?:the )?answer is\b)\s*", re.IGNORECASE
)
_NONE = frozenset(
    normalized(text)
    for text in (
        "unanswerable", "no answer", "not answerable", "cannot be answered", "n/a", "none", "I don't know",
        "unknown",
        "not enough information", "no answer is possible", "question is unanswerable", "cannot be determined",
        "question cannot be answered", "it cannot be answered", "not given", "not stated",
    )
)  # fmt: skip


class SQuAD(DataBenchmark):
    """Questions about a paragraph, version 1.1: each has an answer.

    Args:
        data, hub, seed: see `DataBenchmark`.
    """

    has_unanswerable = False

    def __init__(self, *, data: str | Path | None = None, hub: bool = True, seed: int | None = None) -> None:
        name = "squad_v2" if self.has_unanswerable else "squad"
        # The test set is not published.
        source = HubSource(f"rajpurkar/{name}", splits={"test": "validation"})
        super().__init__(name, source, data=data, hub=hub, seed=seed)

    def prompt(self, item: Item) -> Prompt:
        """Return the paragraph, the question, and what form the answer must have."""
        question = super().prompt(item)
        if isinstance(question, list):
            return question
        rule = "Answer with a few words from the text."
        if self.has_unanswerable:
            rule += ' If the text does not answer the question, say "unanswerable".'
        return f"{rule}\n\nText: {item.get('context', '')}\n\nQuestion: {question}\nAnswer:"

    def target(self, item: Item) -> list[str]:
        """Return all right answers; none if the question has no answer.

        Raises:
            BadItemError: the item has no ``answers``, ``answer`` or ``target``.
        """
        return right_answers(first_of(item, ("answers", "answer", "target"), self.name))

    def extract_answer(self, text: str) -> str | None:
        """Return the first line that says something, without "Answer:"; "" for "there is no answer"."""
        answer = short_answer(text)
        if self.has_unanswerable and (answer is None or normalized(answer) in _NONE):
            return ""
        return answer

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether *predicted* is one of the right answers once both are normalized."""
        return predicted is not None and best_over(exact_match, str(predicted), right_answers(gold)) == 1.0

    def score(self, item: Item, output: str) -> Score:
        """Return ``exact_match``, ``f1`` and ``correct``."""
        golds, predicted = self.target(item), self.extract_answer(output)
        said = predicted or ""
        metrics = {"exact_match": 0.0, "f1": 0.0}
        if predicted is not None:
            metrics = {
                "exact_match": best_over(exact_match, said, golds),
                "f1": best_over(token_f1, said, golds),
            }
        if self.has_unanswerable:
            part = "has_answer" if golds else "no_answer"
            metrics |= {f"{key}/{part}": value for key, value in metrics.items()}
        return Score(prediction=predicted, metrics={**metrics, "correct": metrics["exact_match"]})


class SQuADv2(SQuAD):
    """Questions about a paragraph, version 2: some cannot be answered, and saying so is right.

    Args:
        data, hub, seed: see `DataBenchmark`.
    """

    has_unanswerable = True


def right_answers(gold: object) -> list[str]:
    """Return the texts in *gold*: a text, a list of texts, or the data set's ``{"text": […]}``."""
    if isinstance(gold, Mapping):
        gold = gold.get("text", [])
    if isinstance(gold, (list, tuple)):
        return [str(one.get("text", "") if isinstance(one, Mapping) else one) for one in gold]
    return [] if gold is None or gold == "" else [str(gold)]


def short_answer(text: str) -> str | None:
    """Return the first line of a model's text that says something, without a label such as "Answer:"."""
    for line in own_turn(after_thinking(text)).splitlines():
        answer = _LABEL.sub("", line.strip().strip("*").strip()).strip("* \t")
        if answer:
            return answer
    return None
