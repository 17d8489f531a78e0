"""A benchmark from a file: rows with a question and an answer, and a measure by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from eventlog.evaluation.benchmark import BaseBenchmark, Item, Prompt, Score, first_of
from eventlog.evaluation.benchmark_registry import BadBenchmarkOptionError
from eventlog.evaluation.benchmarks.choice import MultipleChoice
from eventlog.evaluation.benchmarks.gsm8k import GSM8K
from eventlog.evaluation.benchmarks.squad import SQuAD
from eventlog.evaluation.data import DataBenchmark

METRICS: Mapping[str, type[BaseBenchmark]] = {
    "choice": MultipleChoice,
    "exact_match": SQuAD,
    "f1": SQuAD,
    "number": GSM8K,
}
"""What each metric's answers are read and scored like."""


class FileBenchmark(DataBenchmark):
    """Questions of a file of the user, called after the file.

    Args:
        data: a JSONL, JSON, CSV or Parquet file. Rows have ``question`` (or ``prompt``, ``input``) and
            ``answer`` (or ``target``, ``answers``); with ``choice`` also ``choices``.
        metric: ``exact_match``, ``f1``, ``choice`` or ``number``.
        question, answer: the names of these fields if they are others.
        name: instead of the file's.
        seed: order of the items; None leaves them as they lie.
    """

    def __init__(
        self,
        data: str | Path,
        *,
        metric: str = "exact_match",
        question: str | None = None,
        answer: str | None = None,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(name or Path(data).stem or str(data), data=data, hub=False, seed=seed)
        if metric not in METRICS:
            raise BadBenchmarkOptionError(self.name, f"metric is {metric!r}, not one of {', '.join(METRICS)}")
        self.metric, self._question, self._answer = metric, question, answer
        self._scorer = METRICS[metric]() if metric == "choice" else METRICS[metric](hub=False)  # type: ignore[call-arg]
        self._scorer.name = self.name

    def prompt(self, item: Item) -> Prompt:
        """Return the question as it stands; with ``choice`` the options too."""
        row = self._row(item)
        return self._scorer.prompt(row) if self.metric == "choice" else super().prompt(row)

    def target(self, item: Item) -> object:
        """Return the right answer, or answers, as the metric wants it.

        Raises:
            BadItemError: the item has none.
        """
        return self._scorer.target(self._row(item))

    def extract_answer(self, text: str) -> object:
        """Return the answer in *text*, as the metric reads it."""
        return self._scorer.extract_answer(text)

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether *predicted* is right."""
        return self._scorer.check_answer(predicted, gold)

    def score(self, item: Item, output: str) -> Score:
        """Return what the metric gives: ``correct``, and ``exact_match`` and ``f1`` for texts."""
        return self._scorer.score(self._row(item), output)

    def aggregate(self, scores: Sequence[Score]) -> dict[str, float]:
        """Return the results of many samples, called as the metric's own benchmark calls them."""
        return self._scorer.aggregate(scores)

    def _row(self, item: Item) -> Item:
        """Return *item* with the fields under the names that the scorer knows."""
        row = dict(item)
        if self._question is not None:
            row["question"] = first_of(item, (self._question,), self.name)
        if self._answer is not None:
            for other in ("answers", "answer", "target"):
                row.pop(other, None)
            row["answer"] = first_of(item, (self._answer,), self.name)
        return row
