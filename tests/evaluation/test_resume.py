"""Evaluations that stopped go on: nothing is asked twice, and the result is the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from eventlog import Tracker
from eventlog import events as ev
from eventlog.errors import TrackerStateError
from eventlog.evaluation.benchmark import Item, Score
from eventlog.evaluation.engine import evaluate
from eventlog.evaluation.engine_errors import BadEvaluationError, DataChangedError
from eventlog.evaluation.engine_log import read_kept
from eventlog.evaluation.engine_options import Progress
from eventlog.evaluation.model import Prompt
from eventlog.evaluation.results import EvaluationResult, SampleResult, from_event, to_event
from tests.evaluation.engine_support import Sums, solve, solver, tracker_in
from tests.tracker.support import logged, run_job

JOB = """
    import asyncio, os, signal
    from pathlib import Path
    from eventlog import Tracker, TrackingConfig
    from eventlog.evaluation.engine import evaluate
    from tests.evaluation.engine_support import solve
    from tests.evaluation.test_resume import Graded

    asked, last = os.open("asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT), int(os.environ["KILL_AT"])
    calls = 0

    def note(prompts):
        global calls
        for prompt in prompts:
            os.write(asked, prompt.encode() + b"\\n")
        calls += len(prompts)
        if calls >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    def model(prompts):
        note(prompts)
        return [solve(prompt) for prompt in prompts]

    async def async_model(prompts):
        await asyncio.sleep(0.001 * (calls % 3))
        note(prompts)
        await asyncio.sleep(0.001 * (calls % 2))
        return [solve(prompt) for prompt in prompts]

    if __name__ == "__main__":
        tracker = Tracker((), TrackingConfig(project="demo"), output_dir=".")
        is_there = Path("demo/killed/log").is_dir()
        with tracker, tracker.start_run(run_id="killed", resume=is_there):
            how = {"batch_size": 3} if os.environ["KIND"] == "sync" else {"concurrency": 4}
            chosen = model if os.environ["KIND"] == "sync" else async_model
            evaluate(Graded(40), chosen, tracker=tracker, resume=is_there, **how)
"""


class Graded(Sums):
    """Scores whose sum depends on the order of the samples, and predictions that JSON changes."""

    def score(self, item: Item, output: str) -> Score:
        number = int(output)
        return Score(
            prediction=(number, {"of": number}), metrics={"correct": 1 / (number + 1), "x": 0.1}, detail="d"
        )

    def aggregate(self, scores: Sequence[Score]) -> dict[str, float]:
        total = 0.0
        for score in scores:
            assert isinstance(score.prediction, list)
            total = total * 0.9 + score.metrics["correct"] + score.prediction[0] / 7
        return {"grade": total}


def same(sample: SampleResult) -> SampleResult:
    """Return what does not depend on the time."""
    return msgspec.structs.replace(sample, latency_ms=None)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_killed_evaluation_goes_on_and_asks_nothing_twice(tmp_path: Path, kind: str) -> None:
    """However often it is killed: what has a sample in the log is not asked again."""
    chance, kills = random.Random(kind), 0
    (tmp_path / "asked").touch()
    seen = 0
    while True:
        before = read_kept(tmp_path / "demo" / "killed", "sums", None).samples if kills else {}
        kill_at = str(chance.randrange(3, 14))
        code, _, err = run_job(
            JOB, tmp_path, KILL_AT=kill_at, KIND=kind, PYTHONPATH=str(Path(__file__).parents[2])
        )
        assert code in (0, -9), err
        asked = (tmp_path / "asked").read_text().split()
        again = {f"{index}+1=" for index in before} & set(asked[seen:])
        assert again == set()
        seen = len(asked)
        if code == 0:
            break
        kills += 1

    with tracker_in(tmp_path) as tracker:
        with tracker.start_run(run_id="killed", resume=True):
            resumed = evaluate(Graded(40), _nobody, tracker=tracker, resume=True)
        with tracker.start_run("whole"):
            whole = evaluate(Graded(40), solver, tracker=tracker)
    assert kills >= 3
    assert seen - 40 <= kills * 4  # those in flight at each kill, at most
    assert resumed.scores == whole.scores
    assert list(map(same, resumed.samples)) == list(map(same, whole.samples))


def _nobody(prompts: Sequence[Prompt]) -> list[str]:
    raise AssertionError(f"asked for {prompts}")


def twice(
    root: Path,
    first: Callable[[Tracker], EvaluationResult],
    second: Callable[[Tracker], EvaluationResult],
) -> tuple[EvaluationResult | None, EvaluationResult]:
    """Evaluate in a run, and go on with it later."""
    with tracker_in(root) as tracker, tracker.start_run(run_id="r"):
        one = first(tracker)
    with tracker_in(root) as tracker, tracker.start_run(run_id="r", resume=True):
        return one, second(tracker)


def test_a_complete_evaluation_is_not_asked_again(tmp_path: Path) -> None:
    """The result is computed from the log alone."""
    one, two = twice(
        tmp_path,
        lambda t: evaluate(Graded(10), solver, tracker=t),
        lambda t: evaluate(Graded(10), _nobody, tracker=t, resume=True),
    )

    assert one is not None
    assert two.scores == one.scores
    assert two.resumed == 10


def test_progress_goes_on_where_it_was(tmp_path: Path) -> None:
    """A bar counts what is in the log."""
    told: list[Progress] = []
    twice(
        tmp_path,
        lambda t: evaluate(Sums(10), solver, tracker=t, num_samples=6),
        lambda t: evaluate(Sums(10), solver, tracker=t, resume=True, on_progress=told.append),
    )

    assert [(p.done, p.total) for p in told] == [(6, 10), (10, 10)]


def test_failed_samples_are_asked_again(tmp_path: Path) -> None:
    """And only those."""
    asked: list[Prompt] = []

    def failing(prompts: Sequence[Prompt]) -> list[object]:
        return [None if p in ("2+1=", "4+1=") else solve(p) for p in prompts]

    def mended(prompts: Sequence[Prompt]) -> list[str]:
        asked.extend(prompts)
        return solver(prompts)

    one, two = twice(
        tmp_path,
        lambda t: evaluate(Sums(10), failing, tracker=t),
        lambda t: evaluate(Sums(10), mended, tracker=t, resume=True),
    )

    assert one is not None
    assert (one.errors, two.errors, two.metrics["accuracy"]) == (2, 0, 0.9)
    assert asked == ["2+1=", "4+1="]


def test_an_output_that_could_not_be_scored_is_scored_again(tmp_path: Path) -> None:
    """It was paid for: the model is not asked."""

    class Broken(Sums):
        def score(self, item: Item, output: str) -> Score:
            raise ZeroDivisionError

    one, two = twice(
        tmp_path,
        lambda t: evaluate(Broken(10), solver, tracker=t),
        lambda t: evaluate(Sums(10), _nobody, tracker=t, resume=True),
    )

    assert one is not None
    assert (one.errors, two.errors, two.metrics["accuracy"]) == (10, 0, 0.9)


def test_more_samples_can_follow(tmp_path: Path) -> None:
    """The first ones are not asked again; fewer than before are a part of them."""
    _, more = twice(
        tmp_path,
        lambda t: evaluate(Sums(10), solver, tracker=t, num_samples=5),
        lambda t: evaluate(Sums(10), solver, tracker=t, num_samples=8, resume=True),
    )
    with tracker_in(tmp_path) as tracker, tracker.start_run(run_id="r", resume=True):
        fewer = evaluate(Sums(10), _nobody, tracker=tracker, num_samples=2, resume=True)

    assert (more.num_samples, more.resumed) == (8, 5)
    assert (fewer.num_samples, fewer.resumed) == (2, 2)


@pytest.mark.parametrize("change", ["question", "answer", "id", "new"])
def test_data_that_changed_are_noticed(tmp_path: Path, change: str) -> None:
    """Whatever field of an item has changed; nothing is asked then."""
    other = Sums(10)
    other.items[3][change] = "8+1="

    with pytest.raises(DataChangedError, match="item 3") as caught:
        twice(
            tmp_path,
            lambda t: evaluate(Sums(10), solver, tracker=t),
            lambda t: evaluate(other, _nobody, tracker=t, resume=True),
        )

    assert caught.value.index == 3


def test_items_that_are_gone_are_noticed(tmp_path: Path) -> None:
    """A smaller data set is another one."""
    with pytest.raises(DataChangedError, match="item 9"):
        twice(
            tmp_path,
            lambda t: evaluate(Sums(10), solver, tracker=t),
            lambda t: evaluate(Sums(9), _nobody, tracker=t, resume=True),
        )


def test_steps_are_evaluations_of_their_own(tmp_path: Path) -> None:
    """What was sampled at step 100 is no answer of the model at step 200."""
    asked: list[Prompt] = []

    def model(prompts: Sequence[Prompt]) -> list[str]:
        asked.extend(prompts)
        return solver(prompts)

    _, second = twice(
        tmp_path,
        lambda t: evaluate(Sums(5), solver, tracker=t, step=100),
        lambda t: evaluate(Sums(5), model, tracker=t, step=200, resume=True),
    )

    assert (len(asked), second.resumed) == (5, 0)


def test_a_huge_sample_is_read_back(tmp_path: Path) -> None:
    """What is too large for a line lies in a file, and is not asked again."""
    output = "x" * 2_000_000
    _, two = twice(
        tmp_path,
        lambda t: evaluate(Sums(2), lambda prompts: [output for _ in prompts], tracker=t),
        lambda t: evaluate(Sums(2), _nobody, tracker=t, resume=True),
    )

    assert two.samples[1].output == output


def test_an_evaluation_that_raised_goes_on_in_the_same_process(tmp_path: Path) -> None:
    """In a notebook: what is still in memory of the log counts too."""

    def model(prompts: Sequence[Prompt]) -> list[str]:
        if "5+1=" in prompts:
            raise KeyboardInterrupt
        return solver(prompts)

    with tracker_in(tmp_path) as tracker:
        with pytest.raises(KeyboardInterrupt):
            evaluate(Sums(10), model, tracker=tracker, batch_size=1)
        result = evaluate(Sums(10), solver, tracker=tracker, resume=True)
        run = tracker.run_dir

    assert (result.resumed, result.metrics["accuracy"]) == (5, 0.9)
    assert len(logged(run, ev.Sample)) == 10


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    """It needs a run."""
    with pytest.raises(BadEvaluationError, match="tracker"):
        evaluate(Sums(3), solver, resume=True)


def test_resuming_when_logging_is_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no log to go on with."""
    monkeypatch.setenv("EVLOG_DISABLED", "1")

    with tracker_in(tmp_path) as tracker, pytest.raises(TrackerStateError):
        evaluate(Sums(3), solver, tracker=tracker, resume=True)


def test_samples_of_others_are_left_alone(tmp_path: Path) -> None:
    """Events of this benchmark that another program wrote are no samples of this evaluation."""
    rubbish: list[object] = [None, "4", {"answer": 1}, {"item": 5}, {"item": "x", "tokens": "many"}]

    def log(tracker: Tracker) -> EvaluationResult:
        for index, prediction in enumerate(rubbish):
            tracker.log_event(ev.Sample(benchmark="sums", index=index, prediction=prediction))
        return evaluate(Sums(1, "other"), solver, tracker=tracker)

    _, two = twice(tmp_path, log, lambda t: evaluate(Sums(10), solver, tracker=t, resume=True))

    assert (two.resumed, two.metrics["accuracy"]) == (0, 0.9)


def test_a_sample_survives_its_event() -> None:
    """What is logged is read back, non-finite numbers and all."""
    sample = SampleResult(
        index=3,
        item="0123",
        id="q",
        input=[{"role": "user", "content": "x"}],
        target=[1, None],
        prediction={"a": [1.5]},
        output="é",
        metrics={"correct": float("inf"), "f1": 1 / 3},
        detail="d",
        latency_ms=1.25,
        tokens=(5, 7),
        finish="length",
        is_cached=True,
    )

    line = msgspec.json.encode(to_event("b", sample, 7))

    assert from_event(msgspec.json.decode(line, type=ev.Sample)) == (sample, 7)
