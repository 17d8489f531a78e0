"""One evaluation: what it asks, what it logs, and what goes wrong with models and data."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import connect
from eventlog import events as ev
from eventlog.analysis.facts import load, results
from eventlog.evaluation.benchmark import Score
from eventlog.evaluation.engine import evaluate
from eventlog.evaluation.engine_errors import BadEvaluationError, ModelCallError, TooManyErrorsError
from eventlog.evaluation.engine_options import Progress
from eventlog.evaluation.engine_task import GIVE_UP_AFTER
from eventlog.evaluation.model import Answer, CallableModel, Prompt, one_at_a_time
from eventlog.evaluation.results import Price
from tests.evaluation.engine_support import HeldTiming, Sums, solve, solver, tracker_in
from tests.tracker.support import logged


def test_evaluate_returns_the_benchmarks_metrics(tmp_path: Path) -> None:
    """Accuracy is that of the benchmark, and the time is beside it."""
    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(10), solver, tracker=tracker)

    assert result.metrics["accuracy"] == 0.9
    assert {"seconds", "seconds_per_sample", "latency_ms_p50", "latency_ms_p95"} <= result.metrics.keys()
    assert (result.benchmark, result.num_samples, result.errors, result.resumed) == ("sums", 10, 0, 0)


def test_every_sample_is_an_event_with_all_that_is_known(tmp_path: Path) -> None:
    """Input, target, answer, the model's own text, metrics and latency are in the log."""
    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(3), lambda prompts: [f" {solve(p)}\n" for p in prompts], tracker=tracker)
        run = tracker.run_dir

    samples = logged(run, ev.Sample)
    assert [(s.benchmark, s.index, s.input, s.target) for s in samples] == [
        ("sums", i, f"{i}+1=", str(i + 1)) for i in range(3)
    ]
    said = samples[0].prediction
    assert isinstance(said, dict)
    assert (said["answer"], said["output"], said["id"]) == ("1", " 1\n", "q0")
    assert samples[0].metrics == {"correct": 1.0, "format": 1.0}
    assert (samples[0].latency_ms or -1) >= 0


def test_results_are_an_evaluation_event_with_hierarchical_names(tmp_path: Path) -> None:
    """The run's results are called ``benchmark/metric``, in the facts and in SQL."""
    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(10), solver, tracker=tracker, split="dev")
        run = tracker.run_dir
    assert run is not None

    (evaluation,) = logged(run, ev.Evaluation)
    assert evaluation.data["split"] == "dev"
    assert results(load(run))["sums/accuracy"] == 0.9
    with connect(tmp_path) as db:
        accuracy = db.sql("SELECT metrics['accuracy'] FROM evaluations").fetchall()
        correct = db.sql("SELECT avg(metrics['correct']) FROM samples WHERE prediction->>'answer' <> ''")
        assert (accuracy, correct.fetchall()) == ([(0.9,)], [(0.9,)])


def test_complete_results_are_archived_as_json(tmp_path: Path) -> None:
    """The artifact ``results.json`` holds metrics and every sample."""
    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(4), solver, tracker=tracker)
        run = tracker.run_dir
    assert run is not None

    whole = json.loads((run / "artifacts" / "results.json").read_text())
    assert whole["results"]["sums"]["metrics"]["accuracy"] == 0.75
    assert [sample["output"] for sample in whole["results"]["sums"]["samples"]] == ["1", "2", "3", "5"]


def test_a_run_of_its_own_has_params_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tracker the evaluation makes a run that says what was evaluated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVLOG_DIR", raising=False)

    evaluate(Sums(3), CallableModel(solver, "solver", parameters={"temperature": 0.5}), num_samples=2)

    (log,) = tmp_path.glob("experiments/default/*/log")
    view = load(log.parent).view
    assert view.params == {
        "benchmark": "sums",
        "model": "solver",
        "split": "test",
        "num_samples": 2,
        "temperature": 0.5,
    }
    assert (view.status, view.name) == ("finished", "sums-solver")


def test_a_trackers_run_stays_open_and_keeps_its_params(tmp_path: Path) -> None:
    """An evaluation inside of training leaves the training's run as it was."""
    with tracker_in(tmp_path) as tracker:
        tracker.log_params({"model": "resnet"})
        evaluate(Sums(3), solver, tracker=tracker, step=100)
        evaluate(Sums(3), solver, tracker=tracker, step=200)
        tracker.log_metrics({"loss": 1.0}, step=201)
        run = tracker.run_dir

    assert run is not None
    assert load(run).view.params == {"model": "resnet"}
    assert [e.step for e in logged(run, ev.Evaluation)] == [100, 200]


# --- models -----------------------------------------------------------------------------------


def test_prompts_come_in_batches_of_the_wanted_size(tmp_path: Path) -> None:
    """The last batch may be smaller; the order is that of the data."""
    sizes = []

    def model(prompts: Sequence[Prompt]) -> list[str]:
        sizes.append(len(prompts))
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(10), model, tracker=tracker, batch_size=4)

    assert sizes == [4, 4, 2]


def test_a_sync_model_is_called_in_the_callers_thread(tmp_path: Path) -> None:
    """Without concurrency and time limit no thread stands between a debugger and the model."""
    threads = set()

    def model(prompts: Sequence[Prompt]) -> list[str]:
        threads.add(threading.current_thread())
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(40), model, tracker=tracker)

    assert threads == {threading.current_thread()}


def test_a_sync_model_runs_as_often_at_once_as_wanted(tmp_path: Path) -> None:
    """With concurrency 4, four calls meet at a barrier."""
    barrier = threading.Barrier(4, timeout=20)

    def model(prompts: Sequence[Prompt]) -> list[str]:
        barrier.wait()
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(8), model, tracker=tracker, batch_size=1, concurrency=4)

    assert (result.metrics["accuracy"], result.errors) == (0.875, 0)


def test_an_async_model_runs_as_often_at_once_as_wanted(tmp_path: Path) -> None:
    """With concurrency 4, four calls wait for one another."""
    together: list[asyncio.Future[None]] = []

    async def model(prompts: Sequence[Prompt]) -> list[str]:
        together.append(asyncio.get_running_loop().create_future())
        mine = together[-1]
        if len(together) == 4:
            for one in together:
                one.set_result(None)
            together.clear()
        await asyncio.wait_for(mine, 20)
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(8), model, tracker=tracker, concurrency=4)

    assert (result.metrics["accuracy"], result.errors) == (0.875, 0)


async def test_an_evaluation_runs_beside_an_event_loop(tmp_path: Path) -> None:
    """In a notebook a loop runs already; sync and async models work all the same."""

    async def model(prompts: Sequence[Prompt]) -> list[str]:
        await asyncio.sleep(0)
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        first = evaluate(Sums(10), model, tracker=tracker)
        second = evaluate(Sums(10), solver, tracker=tracker)

    assert first.scores == second.scores == {"accuracy": 0.9, "format_accuracy": 1.0}


def test_a_declared_function_gets_one_prompt_at_a_time(tmp_path: Path) -> None:
    """`one_at_a_time` wraps what takes a text and returns a text."""
    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(10), one_at_a_time(solve), tracker=tracker)

    assert result.metrics["accuracy"] == 0.9


def test_tokens_and_cost_come_from_the_answers(tmp_path: Path) -> None:
    """A callable that counts its tokens is paid for by the list, also by the one in ``evlog.toml``."""

    def model(prompts: Sequence[Prompt]) -> list[Answer]:
        return [Answer(text=solve(p), prompt_tokens=1000, completion_tokens=500) for p in prompts]

    (tmp_path / "evlog.toml").write_text('[models."m"]\ninput_per_million = 2\noutput_per_million = 4.0\n')
    with tracker_in(tmp_path) as tracker:
        given = evaluate(Sums(10), model, tracker=tracker, price=Price(input_per_million=1.0))
        listed = evaluate(Sums(10), CallableModel(model, "m"), tracker=tracker)

    assert (given.usage.prompt_tokens, given.usage.completion_tokens, given.usage.cost) == (
        10_000,
        5_000,
        0.01,
    )
    assert listed.metrics["cost"] == 0.04


# --- models that do not do what they should ------------------------------------------------------


def test_a_function_that_takes_one_prompt_is_recognised(tmp_path: Path) -> None:
    """One text for a list of prompts stops the evaluation with the way out; nothing is guessed."""
    with tracker_in(tmp_path) as tracker, pytest.raises(ModelCallError, match="one_at_a_time"):
        evaluate(Sums(10), lambda _: "4", tracker=tracker)


def test_a_wrong_number_of_outputs_costs_only_the_samples_that_cause_it(tmp_path: Path) -> None:
    """A batch that fails for good is asked again one by one."""

    def model(prompts: Sequence[Prompt]) -> list[str]:
        return [solve(p) for p in prompts if p != "2+1="]

    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(10), model, tracker=tracker, batch_size=5)

    assert [sample.index for sample in result.samples if sample.error] == [2]
    assert result.samples[2].error == "no answer: the model returned 0 outputs for 1 prompts"
    assert (result.errors, result.answered) == (1, 9)


def test_an_exception_costs_only_the_sample_that_causes_it(tmp_path: Path) -> None:
    """What fails is recorded with its reason, and the rest goes on."""

    def model(prompts: Sequence[Prompt]) -> list[str]:
        if "2+1=" in prompts:
            raise ValueError("I do not like this one")
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(20), model, tracker=tracker, batch_size=10)
        run = tracker.run_dir

    failed = [event for event in logged(run, ev.Sample) if event.metrics == {"error": 1}]
    assert [event.index for event in failed] == [2]
    assert "ValueError: I do not like this one" in str(failed[0].prediction)
    assert result.errors == 1


@pytest.mark.parametrize("output", [None, 3, b"4", {"text": "4"}, float("nan")])
def test_an_output_that_is_no_text_fails_its_sample(tmp_path: Path, output: object) -> None:
    """Nothing is turned into text by force."""
    with tracker_in(tmp_path) as tracker:
        result = evaluate(
            Sums(3), lambda prompts: [output, *solver(prompts[1:])], tracker=tracker, max_errors=1
        )

    assert [sample.error is None for sample in result.samples] == [False, True, True]
    assert f"a {type(output).__name__} instead of a text" in str(result.samples[0].error)


@pytest.mark.parametrize("output", ["", "\x00", "é中🦜", "a\ud800b", "x" * 3_000_000, "</script>\r\n"])
def test_any_text_is_kept(tmp_path: Path, output: str) -> None:
    """Empty, huge and odd outputs are in the log as they were, half surrogates written out."""
    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(1), lambda _: [output], tracker=tracker)
        run = tracker.run_dir

    assert run is not None
    said = load(run, with_samples=True).samples["sums"][0].prediction
    assert isinstance(said, dict)
    assert said["output"] == output.replace("\ud800", "\\ud800")


def test_an_interrupted_model_stops_the_evaluation(tmp_path: Path) -> None:
    """Ctrl-C is no failed sample."""

    def model(prompts: Sequence[Prompt]) -> list[str]:
        raise KeyboardInterrupt

    with tracker_in(tmp_path) as tracker, pytest.raises(KeyboardInterrupt):
        evaluate(Sums(3), model, tracker=tracker)


def test_a_call_that_hangs_is_given_up(tmp_path: Path) -> None:
    """A time limit holds for sync models too; the thread is left behind."""
    release = threading.Event()

    def model(prompts: Sequence[Prompt]) -> list[str]:
        if "1+1=" in prompts:
            release.wait(60)
        return solver(prompts)

    try:
        with tracker_in(tmp_path) as tracker:
            result = evaluate(Sums(3), model, tracker=tracker, batch_size=1, timeout_s=0.2, retries=0)
    finally:
        release.set()

    assert [sample.error for sample in result.samples] == [None, "no answer: no answer within 0.2 s", None]


def test_what_may_pass_is_tried_again_with_growing_waits(tmp_path: Path) -> None:
    """Lost connections are; the waits double, and nobody really waits here."""
    timing, calls = HeldTiming(), []

    def model(prompts: Sequence[Prompt]) -> list[str]:
        calls.append(prompts)
        if len(calls) < 5:
            raise ConnectionResetError("gone")
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(1), model, tracker=tracker, timing=timing)

    assert (len(calls), result.errors) == (5, 0)
    bounds = [(0.25, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]
    assert all(low <= wait <= high for wait, (low, high) in zip(timing.waits, bounds, strict=True))


def test_the_evaluation_stops_after_too_many_errors(tmp_path: Path) -> None:
    """The samples so far are kept, and the error says what the last one was."""

    def model(prompts: Sequence[Prompt]) -> list[str]:
        raise ValueError("no")

    with tracker_in(tmp_path) as tracker:
        with pytest.raises(TooManyErrorsError, match="ValueError: no") as caught:
            evaluate(Sums(10), model, tracker=tracker, batch_size=1, max_errors=2)
        run = tracker.run_dir

    assert caught.value.errors == 3
    assert len(logged(run, ev.Sample)) == 3


def test_a_model_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """Without any limit too, when the first samples all fail."""

    def model(prompts: Sequence[Prompt]) -> list[str]:
        raise ValueError("no")

    with tracker_in(tmp_path) as tracker, pytest.raises(TooManyErrorsError) as caught:
        evaluate(Sums(1000), model, tracker=tracker, batch_size=1)

    assert caught.value.errors == GIVE_UP_AFTER


@pytest.mark.parametrize("model", [None, "gpt", 3, Sums])
def test_what_is_no_model_is_refused(tmp_path: Path, model: object) -> None:
    """A model can be called."""
    with tracker_in(tmp_path) as tracker, pytest.raises(BadEvaluationError, match="a model is"):
        evaluate(Sums(3), model, tracker=tracker)


def test_an_undeclared_coroutine_is_refused(tmp_path: Path) -> None:
    """A lambda around an async function is told how to be one."""

    async def model(prompts: Sequence[Prompt]) -> list[str]:
        return solver(prompts)

    with tracker_in(tmp_path) as tracker, pytest.raises(ModelCallError, match="is_async=True"):
        evaluate(Sums(3), lambda prompts: model(prompts), tracker=tracker)


# --- data and benchmarks ----------------------------------------------------------------------------


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    """There is no accuracy of nothing."""
    with (
        tracker_in(tmp_path) as tracker,
        pytest.raises(BadEvaluationError, match="no items in the split 'test'"),
    ):
        evaluate(Sums(0), solver, tracker=tracker)


def test_more_samples_than_there_are_means_all(tmp_path: Path) -> None:
    """The result says how many there were."""
    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(3), solver, tracker=tracker, num_samples=1000)

    assert result.num_samples == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_samples", 0),
        ("num_samples", -1),
        ("batch_size", 0),
        ("concurrency", 0),
        ("timeout_s", 0.0),
        ("retries", -1),
        ("rate_limit", 0),
        ("rate_limit", math.nan),
        ("max_errors", -1),
    ],
)
def test_options_without_sense_are_refused(tmp_path: Path, name: str, value: Any) -> None:
    """The message names the option or what it is about."""
    with tracker_in(tmp_path) as tracker, pytest.raises(BadEvaluationError):
        evaluate(Sums(3), solver, tracker=tracker, **{name: value})


def test_items_of_the_same_id_are_two_items(tmp_path: Path) -> None:
    """What tells samples apart is their number."""
    items = [{"id": "same", "question": f"{i}+1=", "answer": str(i + 1)} for i in range(4)]
    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(items=items), solver, tracker=tracker)

    assert [sample.id for sample in result.samples] == ["same"] * 4
    assert result.metrics["accuracy"] == 0.75


def test_an_item_without_a_question_fails_alone(tmp_path: Path) -> None:
    """The model never hears of it."""
    asked: list[Prompt] = []

    def model(prompts: Sequence[Prompt]) -> list[str]:
        asked.extend(prompts)
        return solver(prompts)

    items = [{"question": "1+1=", "answer": "2"}, {"answer": "3"}, {"question": "2+1=", "answer": "3"}]
    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(items=items), model, tracker=tracker)

    assert asked == ["1+1=", "2+1="]
    assert [sample.index for sample in result.samples if sample.error] == [1]


def test_a_score_that_fails_keeps_the_output(tmp_path: Path) -> None:
    """What was paid for is in the log, though nothing could be made of it."""

    class Broken(Sums):
        def score(self, item: Any, output: str) -> Score:
            raise ZeroDivisionError("oops")

    with tracker_in(tmp_path) as tracker:
        result = evaluate(Broken(2), solver, tracker=tracker)

    assert [sample.output for sample in result.samples] == ["1", "2"]
    assert result.samples[0].error == "the output cannot be scored: ZeroDivisionError: oops"
    assert result.scores == {}


def test_objects_that_json_does_not_have_are_kept_as_what_they_resemble(tmp_path: Path) -> None:
    """An answer may be any object; a metric that is no number is named and left out."""

    class Odd(Sums):
        def score(self, item: Any, output: str) -> Score:
            return Score(prediction={1, 2}, metrics={"x": math.nan, "y": Decimal("0.1")}, detail="d")  # type: ignore[dict-item]

        def aggregate(self, scores: Sequence[Score]) -> dict[str, float]:
            found: dict[str, Any] = {"n": len(scores), "inf": math.inf, "grade": "B", "bad": object()}
            return found

    with tracker_in(tmp_path) as tracker:
        with pytest.warns(UserWarning, match="'bad' was not logged"):
            result = evaluate(Odd(2), solver, tracker=tracker)
        run = tracker.run_dir

    assert run is not None
    assert result.samples[0].prediction == [1, 2]
    assert repr(result.samples[0].metrics) == "{'x': nan, 'y': 0.1}"
    assert result.scores == {"n": 2.0, "inf": math.inf}
    assert load(run).view.summary == {"sums/grade": "B"}
    assert json.loads(json.dumps(result.to_dict()))["metrics"]["inf"] == "Infinity"


def test_progress_is_told_from_the_first_to_the_last_sample(tmp_path: Path) -> None:
    """A bar begins at nothing and ends full."""
    told: list[Progress] = []
    with tracker_in(tmp_path) as tracker:
        evaluate(Sums(10), solver, tracker=tracker, batch_size=4, on_progress=told.append)

    assert [(p.done, p.total) for p in told] == [(0, 10), (4, 10), (8, 10), (10, 10)]


def test_nothing_is_logged_when_logging_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With EVLOG_DISABLED the result is returned all the same."""
    monkeypatch.setenv("EVLOG_DISABLED", "1")

    with tracker_in(tmp_path) as tracker:
        result = evaluate(Sums(10), solver, tracker=tracker)

    assert result.metrics["accuracy"] == 0.9
    assert list(tmp_path.iterdir()) == []
