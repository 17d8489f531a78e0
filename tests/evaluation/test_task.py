"""What is known of the items before they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.evaluation.benchmark import DataSource, Item
from eventlog.evaluation.benchmark_registry import BenchmarkRegistry
from eventlog.evaluation.engine import evaluate
from eventlog.evaluation.engine_errors import BadEvaluationError, DataChangedError
from eventlog.evaluation.engine_options import Options
from eventlog.evaluation.engine_task import GIVE_UP_AFTER, load_task
from tests.evaluation.engine_support import Sums, solver, tracker_in
from tests.tracker.support import logged, only_run


class Picture:
    """Something without a text of its own, as an image has none."""


class Pictures(Sums):
    """Items that hold an object, another one at each call."""

    def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
        return [{**item, "image": Picture()} for item in self.items[:num_samples]]


def test_items_are_the_same_wherever_their_objects_lie_in_memory(tmp_path: Path) -> None:
    """A later process reads the same pictures to other addresses."""
    tracker = tracker_in(tmp_path)
    with tracker, tracker.start_run(run_id="r"):
        evaluate(Pictures(4), solver, tracker=tracker, num_samples=2)
        result = evaluate(Pictures(4), solver, tracker=tracker, resume=True)

    assert (result.num_samples, result.resumed) == (4, 2)


def test_items_without_a_file_are_known_by_their_content(tmp_path: Path) -> None:
    """The hash says whether two runs were asked the same."""
    hashes = []
    for name, size in (("a", 3), ("b", 3), ("c", 4)):
        tracker = tracker_in(tmp_path / name)
        with tracker:
            evaluate(Sums(size), solver, tracker=tracker, split="val")
        (data,) = logged(only_run(tmp_path / name), ev.Dataset)
        assert (data.name, data.split, data.rows, data.data["hash"]) == ("sums", "val", size, "items")
        hashes.append(data.sha256)

    assert hashes[0] == hashes[1] != hashes[2]


def test_data_that_are_evaluated_at_each_step_are_logged_once_a_run(tmp_path: Path) -> None:
    """They do not change with the model."""
    tracker = tracker_in(tmp_path)
    for run in ("r", "s"):
        with tracker.start_run(run_id=run):
            for step in range(3):
                evaluate(Sums(2), solver, tracker=tracker, step=step)

    assert [len(logged(tmp_path / "demo" / run, ev.Dataset)) for run in ("r", "s")] == [1, 1]


def test_data_of_the_hub_are_called_as_there(tmp_path: Path) -> None:
    """Name and configuration; a file wins over the hub."""
    (tmp_path / "test.jsonl").write_text('{"question": "1+1=", "answer": "2"}\n')

    hub = BenchmarkRegistry.get("gsm8k").data_source("test")  # type: ignore[attr-defined]
    file = BenchmarkRegistry.get("gsm8k", data=tmp_path).data_source("test")  # type: ignore[attr-defined]

    assert (hub.name, hub.version, hub.path) == ("openai/gsm8k", "main", None)
    assert (file.name, file.path) == ("gsm8k", str(tmp_path / "test.jsonl"))


def test_items_that_cannot_be_asked_are_refused_before_the_run(tmp_path: Path) -> None:
    """All of the first ones have to be of another kind; a single bad one costs a sample."""
    bad: list[Item] = [{"text": "1+1="}] * GIVE_UP_AFTER
    good: Item = {"question": "1+1=", "answer": "2"}

    with pytest.raises(BadEvaluationError, match="none of question, prompt, input; it has text"):
        load_task(Sums(items=[*bad, good]), Options())

    task = load_task(Sums(items=[*bad[1:], good]), Options())
    assert (task.sample(0).error is None, task.sample(GIVE_UP_AFTER - 1).error is None) == (False, True)


def test_task_knows_a_run_of_other_items(tmp_path: Path) -> None:
    """Fewer items are other items, unless so many were wanted."""
    whole = load_task(Sums(4), Options())
    kept = {index: whole.sample(index) for index in range(4)}

    assert load_task(Sums(4), Options(num_samples=2)).checked(kept, "r").keys() == {0, 1}
    with pytest.raises(DataChangedError):
        load_task(Sums(2), Options()).checked(kept, "r")


def test_data_that_cannot_be_read_any_more_have_no_hash(tmp_path: Path) -> None:
    """The evaluation goes on with what was read."""
    file = tmp_path / "sums.jsonl"
    file.write_text('{"question": "1+1=", "answer": "2"}\n')
    task = load_task(BenchmarkRegistry.get(str(file)), Options())
    file.unlink()

    assert task.sha256 is None


def test_broken_source_of_a_benchmark_is_named() -> None:
    """Whoever wrote it sees which method failed."""

    class Broken(Sums):
        def data_source(self, split: str) -> DataSource:
            raise KeyError(split)

    task = load_task(Broken(1, "broken"), Options())

    with pytest.raises(BadEvaluationError, match="broken: data_source failed with KeyError"):
        _ = task.source
