"""Answers that were given once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from eventlog.errors import forget_reports
from eventlog.evaluation.cache import AnswerCache, cache_path, key_of
from eventlog.evaluation.engine import evaluate
from eventlog.evaluation.engine_errors import BadEvaluationError
from eventlog.evaluation.model import Answer, CallableModel, Prompt
from tests.evaluation.engine_support import Sums, solve, solver, tracker_in
from tests.tracker.support import run_job


def counting(asked: list[Prompt], name: str = "m", **parameters: object) -> CallableModel:
    """Return a model that writes down what it is asked."""

    def model(prompts: Sequence[Prompt]) -> list[Answer]:
        asked.extend(prompts)
        return [Answer(text=solve(p), prompt_tokens=10, completion_tokens=1) for p in prompts]

    return CallableModel(model, name, parameters=parameters)


def test_a_prompt_is_asked_once_by_all_evaluations(tmp_path: Path) -> None:
    """The second run finds every answer, costs nothing, and says the same."""
    asked: list[Prompt] = []
    with tracker_in(tmp_path) as tracker:
        first = evaluate(Sums(10), counting(asked), tracker=tracker, cache=True)
        second = evaluate(Sums(20), counting(asked), tracker=tracker, cache=True)

    assert len(asked) == 20
    assert first.scores == {"accuracy": 0.9, "format_accuracy": 1.0}
    assert [sample.is_cached for sample in second.samples] == [True] * 10 + [False] * 10
    assert (first.usage.prompt_tokens, second.usage.prompt_tokens) == (100, 100)
    assert cache_path(tmp_path).is_file()


def test_nothing_is_cached_unless_asked_for(tmp_path: Path) -> None:
    """A model at a temperature above 0 answers anew each time."""
    asked: list[Prompt] = []
    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(3), counting(asked), tracker=tracker)
        evaluate(Sums(3), counting(asked), tracker=tracker)

    assert len(asked) == 6
    assert not cache_path(tmp_path).exists()


def test_another_model_or_parameter_or_prompt_has_another_key() -> None:
    """A text and a message with that text are two prompts."""
    models = [counting([], "a"), counting([], "b"), counting([], "a", t=0), counting([], "a", t=0.5)]
    prompts: list[Prompt] = ["x", "y", [{"role": "user", "content": "x"}]]

    assert len({key_of(model, prompt) for model in models for prompt in prompts}) == 12


def test_failures_are_not_cached(tmp_path: Path) -> None:
    """The next evaluation asks again."""
    with tracker_in(tmp_path) as tracker:
        failing = CallableModel(lambda prompts: [None for _ in prompts], "m")
        failed = evaluate(Sums(3), failing, tracker=tracker, cache=True)
        mended = evaluate(Sums(3), CallableModel(solver, "m"), tracker=tracker, cache=True)

    assert (failed.errors, mended.errors) == (3, 0)


def test_a_model_without_a_name_cannot_be_cached(tmp_path: Path) -> None:
    """Two lambdas would share their answers."""
    with tracker_in(tmp_path) as tracker, pytest.raises(BadEvaluationError, match="name"):
        evaluate(Sums(3), lambda prompts: ["1" for _ in prompts], tracker=tracker, cache=True)


def test_a_cache_that_is_damaged_costs_a_warning(tmp_path: Path) -> None:
    """The evaluation goes on without it."""
    forget_reports()
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"no database" * 1000)

    with tracker_in(tmp_path) as tracker, pytest.warns(UserWarning, match="cannot be used"):
        result = evaluate(Sums(10), CallableModel(solver, "m"), tracker=tracker, cache=path)

    assert result.metrics["accuracy"] == 0.9


def test_a_rubbish_answer_is_no_answer(tmp_path: Path) -> None:
    """What somebody else wrote into the file is not given to a benchmark."""
    forget_reports()
    path = tmp_path / "answers.sqlite"
    AnswerCache(path).close()
    model = CallableModel(solver, "m")
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO answers VALUES (?, ?)", (key_of(model, "0+1="), b'{"text": 5}'))
    file.close()

    with tracker_in(tmp_path) as tracker, pytest.warns(UserWarning, match="cannot be used"):
        result = evaluate(Sums(10), model, tracker=tracker, cache=path)

    assert result.metrics["accuracy"] == 0.9


def test_several_processes_share_a_cache(tmp_path: Path) -> None:
    """Two of them write at once; each finds what it wrote, and what the other did."""
    code = """
        import sys
        from pathlib import Path
        from eventlog.evaluation.cache import AnswerCache
        from eventlog.evaluation.model import Answer
        cache, name = AnswerCache(Path("a.sqlite")), sys.stdin.readline().strip()
        for i in range(200):
            key = f"{name}{i}".encode()
            cache.put({key: Answer(text=name), b"both": Answer(text="x")})
            assert cache.get([key, b"both"])[key].text == name
    """
    from concurrent.futures import ThreadPoolExecutor

    def job(name: str) -> tuple[int, str, str]:
        return run_job(code.replace("sys.stdin.readline().strip()", repr(name)), tmp_path)

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(job, "ab"))

    assert [(code, err) for code, _, err in ends] == [(0, "")] * 2
    cache = AnswerCache(tmp_path / "a.sqlite")
    assert len(cache.get([f"{name}{i}".encode() for name in "ab" for i in range(200)])) == 400
    cache.close()
