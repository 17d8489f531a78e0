"""What is to be evaluated: the items of a benchmark, and what is known of each before it is asked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import orjson

from eventlog.errors import EvlogError
from eventlog.evaluation.benchmark import BaseBenchmark, Benchmark, DataSource, Item, complete
from eventlog.evaluation.engine_errors import BadEvaluationError, DataChangedError
from eventlog.evaluation.engine_options import Options
from eventlog.evaluation.results import SampleResult
from eventlog.values import text, to_json

GIVE_UP_AFTER = 20
"""If so many samples fail and none was ever answered, the data or the model are not what they should be."""

_ADDRESS = re.compile(rb" at 0x[0-9A-Fa-f]+")

T = TypeVar("T")


class Task:
    """A benchmark and the items of it that are evaluated."""

    def __init__(self, benchmark: BaseBenchmark, items: Sequence[Item], options: Options) -> None:
        self.benchmark, self.items = benchmark, items
        self.split, self.wanted = options.split, options.num_samples

    def sample(self, index: int) -> SampleResult:
        """Return the sample of an item that was not asked yet, with an error if there is no prompt."""
        item = self.items[index]
        try:
            prompt, target = to_json(self.benchmark.prompt(item)), to_json(self.benchmark.target(item))
            name = self.benchmark.item_id(item, index)
        except Exception as error:  # it costs this sample, and is told there
            return SampleResult(
                index=index, item=_hash(to_json(item)), error=reason("the item cannot be asked", error)
            )
        return SampleResult(
            index=index,
            item=_hash([to_json(item), prompt, target]),
            id=None if name is None else text(str(name)),
            input=prompt,
            target=target,
        )

    def checked(self, kept: Mapping[int, SampleResult], run_id: str) -> dict[int, SampleResult]:
        """Return the samples of a run that belong to these items.

        Raises:
            DataChangedError: one of them is of another item.
        """
        count = len(self.items)
        for index, sample in sorted(kept.items()):
            is_gone = index >= count and (self.wanted is None or index < self.wanted)
            if is_gone or (index < count and sample.item and sample.item != self.sample(index).item):
                raise DataChangedError(self.benchmark.name, index, run_id)
        return {index: sample for index, sample in kept.items() if index < count}

    @cached_property
    def source(self) -> DataSource:
        """Where the items come from."""
        return third_party(self.benchmark.name, "data_source", lambda: self.benchmark.data_source(self.split))

    @cached_property
    def sha256(self) -> str | None:
        """Hash of the file that the items come from, else of the items; None if it cannot be read."""
        if self.source.path is None:
            return hashlib.sha256(b"".join(_encoded(to_json(item)) for item in self.items)).hexdigest()
        try:
            with Path(self.source.path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None


def load_task(given: Benchmark, options: Options) -> Task:
    """Return a benchmark with its items.

    Raises:
        BadEvaluationError: there is none, they could not be loaded, or they are of another kind.
    """
    benchmark = complete(given)
    items = third_party(
        benchmark.name,
        "load_dataset",
        lambda: list(benchmark.load_dataset(split=options.split, num_samples=options.num_samples)),
    )
    if options.num_samples is not None:
        items = items[: options.num_samples]
    if not items:
        raise BadEvaluationError(f"{benchmark.name} has no items in the split {options.split!r}")
    task = Task(benchmark, items, options)
    first = [task.sample(index) for index in range(min(len(items), GIVE_UP_AFTER))]
    if all(sample.error is not None for sample in first):
        raise BadEvaluationError(str(first[0].error))
    return task


def third_party(benchmark: str, method: str, call: Callable[[], T]) -> T:
    """Return what a benchmark's method returns; what it raises becomes an error that names it."""
    try:
        return call()
    except (EvlogError, OSError):
        raise
    except Exception as error:
        raise BadEvaluationError(
            f"{benchmark}: {method} failed with {type(error).__name__}: {error}"
        ) from error


def reason(what: str, error: Exception) -> str:
    """Return why there is no score, for the log."""
    said = text(str(error)) if str(error) else "nothing more is known"
    kind = "" if isinstance(error, EvlogError) else f"{type(error).__name__}: "
    return f"{what}: {kind}{said}"[:2000]


def _hash(value: object) -> str:
    return hashlib.sha256(_encoded(value)).hexdigest()[:16]


def _encoded(value: object) -> bytes:
    # Images and the like say where in memory they are, which is elsewhere the next time.
    return _ADDRESS.sub(b"", orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
