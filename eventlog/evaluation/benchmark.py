"""What a benchmark is: items, a prompt for each, and a rule that says how good an answer is.

A benchmark knows no model and writes no log; `eventlog.evaluation.engine` drives it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from eventlog.errors import EvlogError

Item = Mapping[str, object]
"""One row of a data set."""
Prompt = str | list[dict[str, str]]
"""A text, or messages as ``{"role": …, "content": …}``."""

_QUESTIONS = ("question", "prompt", "input")
_ANSWERS = ("answer", "target")
_IDS = ("id", "item_id", "qid", "unique_id")
RENAMED = {"correct": "accuracy", "format": "format_accuracy", "partial": "partial_accuracy"}
"""A result's name where it is not that of the sample's metric."""


class BadItemError(EvlogError, ValueError):
    """An item of a benchmark lacks what the benchmark needs."""

    def __init__(self, benchmark: str, reason: str) -> None:
        super().__init__(benchmark, reason)
        self.benchmark, self.reason = benchmark, reason

    def __str__(self) -> str:
        return f"{self.benchmark}: {self.reason}."


class Score(msgspec.Struct, frozen=True):
    """How good one answer is.

    Attributes:
        prediction: what was understood of the model's text; None if nothing was.
        metrics: numbers of this sample; ``correct`` is 0 or 1 in every benchmark that has right and wrong.
        detail: how it was judged, in a few words.
    """

    prediction: object
    metrics: dict[str, float]
    detail: str | None = None


class DataSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the items of a benchmark come from, for the log.

    Attributes:
        path: the file that they were read from.
        version: where they come from elsewhere.
    """

    name: str
    path: str | None = None
    version: str | None = None


@runtime_checkable
class Benchmark(Protocol):
    """What anything must offer to be evaluated; `BaseBenchmark` adds the rest."""

    name: str

    def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
        """Return the items of *split*, in an order that is the same at every call; at most *num_samples*."""

    def extract_answer(self, text: str) -> object:
        """Return the answer in the generated *text*, or None if there is none."""

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether *predicted* is right."""


class BaseBenchmark(ABC):
    """A benchmark with sensible ways for everything but its three abstract methods.

    Its methods are called from several threads at once.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
        """Return the items of *split*, in an order that is the same at every call; at most *num_samples*."""

    @abstractmethod
    def extract_answer(self, text: str) -> object:
        """Return the answer in the generated *text*, or None if there is none."""

    @abstractmethod
    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether *predicted*, which is not None, is right."""

    def data_source(self, split: str) -> DataSource:  # noqa: ARG002 - for benchmarks that count
        """Return where the items of *split* come from."""
        return DataSource(name=self.name)

    def prompt(self, item: Item) -> Prompt:
        """Return what the model is asked: the item's ``question``, ``prompt`` or ``input``.

        Raises:
            BadItemError: the item has none of them.
        """
        found = first_of(item, _QUESTIONS, self.name)
        return found if isinstance(found, list) else str(found)

    def target(self, item: Item) -> object:
        """Return the right answer, from the item's ``answer`` or ``target``.

        Raises:
            BadItemError: the item has neither.
        """
        return self.extract_gold(first_of(item, _ANSWERS, self.name))

    def extract_gold(self, answer: object) -> object:
        """Return the right answer as `check_answer` wants it; here what stands in the data set."""
        return answer

    def item_id(self, item: Item, index: int) -> str | None:  # noqa: ARG002 - for benchmarks that count
        """Return a name of the item that does not change when the data set grows, if it has one."""
        for key in _IDS:
            if item.get(key) is not None:
                return str(item[key])
        return None

    def score(self, item: Item, output: str) -> Score:
        """Return how good the model's *output* is: ``correct``, and ``format`` if an answer was found.

        Raises:
            BadItemError: the item has no right answer.
        """
        gold = self.target(item)
        predicted = self.extract_answer(output)
        is_correct = predicted is not None and bool(self.check_answer(predicted, gold))
        metrics = {"correct": float(is_correct), "format": float(predicted is not None)}
        return Score(prediction=predicted, metrics=metrics)

    def aggregate(self, scores: Sequence[Score]) -> dict[str, float]:
        """Return the results of many samples: see `means`."""
        return means(scores)


class _Completed(BaseBenchmark):
    """A benchmark that offers the protocol only, with our ways for the rest."""

    def __init__(self, benchmark: Benchmark) -> None:
        super().__init__(benchmark.name)
        self._benchmark = benchmark

    def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
        return self._benchmark.load_dataset(split, num_samples)

    def extract_answer(self, text: str) -> object:
        return self._benchmark.extract_answer(text)

    def check_answer(self, predicted: object, gold: object) -> bool:
        return self._benchmark.check_answer(predicted, gold)


def complete(benchmark: Benchmark) -> BaseBenchmark:
    """Return *benchmark* itself if it can do all that is asked of one, else a benchmark that asks it."""
    return benchmark if isinstance(benchmark, BaseBenchmark) else _Completed(benchmark)


def means(scores: Sequence[Score]) -> dict[str, float]:
    """Return the mean of each metric over the samples that have it.

    ``correct`` gives ``accuracy``, ``format`` gives ``format_accuracy``, ``partial`` gives
    ``partial_accuracy``, and ``correct/level_3``, which only some samples have, gives ``accuracy/level_3``.
    """
    values: dict[str, list[float]] = {}
    for score in scores:
        for key, value in score.metrics.items():
            values.setdefault(key, []).append(value)
    return {_result_name(key): sum(each) / len(each) for key, each in values.items()}


def _result_name(key: str) -> str:
    name, slash, part = key.partition("/")
    return RENAMED.get(name, name) + slash + part


def first_of(item: Item, keys: Sequence[str], benchmark: str) -> object:
    """Return the first of *keys* that the item has.

    Raises:
        BadItemError: it has none.
    """
    for key in keys:
        if item.get(key) is not None:
            return item[key]
    has = ", ".join(map(str, item)) or "nothing"
    raise BadItemError(benchmark, f"an item has none of {', '.join(keys)}; it has {has}")
