"""The examples that people know run unchanged but for the import line."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventlog import LocalFileTracker, MultiTracker, Tracker, TrackingConfig, auto_track, create_tracker
from eventlog.replay import view
from tests.tracker.support import only_run, view_of


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text("{}")


def test_minimal_python_api() -> None:
    """Params, metrics and an artifact, in three lines."""
    with create_tracker("local", output_dir="./experiments") as tracker:
        tracker.log_params({"model": "gpt-4"})
        tracker.log_metrics({"accuracy": 0.95})
        tracker.log_artifact("results.json")

    run = only_run(Path("experiments"))
    assert json.loads((run / "params.json").read_text()) == {"model": "gpt-4"}
    assert json.loads((run / "metrics.json").read_text())[0]["metrics"] == {"accuracy": 0.95}
    assert json.loads((run / "artifacts.json").read_text())[0]["name"] == "results.json"
    assert json.loads((run / "final_state.json").read_text())["status"] == "finished"
    assert json.loads((run / "metadata.json").read_text())["run_id"] == run.name
    assert (run / "artifacts" / "results.json").read_text() == "{}"
    assert Path("results.json").exists()


def test_auto_track_a_function() -> None:
    """The returned numbers are metrics, the arguments params."""

    @auto_track(LocalFileTracker(output_dir="./experiments"), experiment_name="baseline")
    def run_eval(threshold: float = 0.5) -> dict[str, object]:
        return {"accuracy": 0.93, "f1": 0.91, "verdict": "good"}

    assert run_eval()["accuracy"] == 0.93
    seen = view_of(Path("experiments"))
    assert seen.run_id == "baseline"
    assert {key: stats.last for key, stats in seen.metrics.items()} == {"accuracy": 0.93, "f1": 0.91}
    assert seen.params == {"threshold": 0.5}
    assert seen.summary == {"verdict": "good"}


async def test_auto_track_an_async_function() -> None:
    """A coroutine function is tracked until it is done; its failure is the run's."""

    @auto_track(LocalFileTracker(output_dir="./experiments"), experiment_name="later")
    async def evaluate(n: int) -> dict[str, float]:
        if n < 0:
            raise ValueError("negative")
        return {"n": float(n)}

    await evaluate(3)
    with pytest.raises(ValueError, match="negative"), pytest.warns(UserWarning, match="later-1"):
        await evaluate(-1)

    assert view(Path("experiments/default/later")).metrics["n"].last == 3
    assert view(Path("experiments/default/later-1")).status == "failed"


def test_auto_track_leaves_numbers_out_if_told() -> None:
    """auto_log_metrics=False keeps params and texts."""
    tracker = LocalFileTracker(output_dir="./experiments", config=TrackingConfig(auto_log_metrics=False))

    @auto_track(tracker)
    def evaluate() -> dict[str, float]:
        return {"accuracy": 1.0}

    evaluate()
    assert view_of(Path("experiments")).metrics == {}


class Category(enum.Enum):
    LOGIC = "logic"


RESULT = {
    "experiment_id": "e1",
    "model_name": "gpt-4",
    "model_provider": "openai",
    "probe_name": "logic",
    "probe_category": Category.LOGIC,
    "success_rate": 0.9,
    "total_count": 10,
    "success_count": 9,
    "error_count": 1,
    "score": {"accuracy": 0.9, "precision": None, "f1_score": 0.8, "mean_latency_ms": 12.5},
    "duration_seconds": 3.5,
    "secret": 1,
}


def result_as_object() -> object:
    flat = dict(RESULT, score=SimpleNamespace(**RESULT["score"]))  # type: ignore[arg-type]
    info = SimpleNamespace(name=flat.pop("model_name"), provider=flat.pop("model_provider"))
    return SimpleNamespace(**flat, model_info=info)


@pytest.mark.parametrize("result", [RESULT, result_as_object()], ids=["mapping", "object"])
def test_log_an_experiment_result(result: object) -> None:
    """Exactly the documented fields are taken, from an object or a mapping."""
    with LocalFileTracker(output_dir="./experiments") as tracker:
        tracker.log_experiment_result(result, prefix="eval_")

    seen = view_of(Path("experiments"))
    assert {key: stats.last for key, stats in seen.metrics.items()} == {
        "eval_success_rate": 0.9,
        "eval_total_count": 10,
        "eval_success_count": 9,
        "eval_error_count": 1,
        "eval_accuracy": 0.9,
        "eval_f1_score": 0.8,
        "eval_mean_latency_ms": 12.5,
        "eval_duration_seconds": 3.5,
    }
    assert seen.params == {
        "eval_experiment_id": "e1",
        "eval_model_name": "gpt-4",
        "eval_model_provider": "openai",
        "eval_probe_name": "logic",
        "eval_probe_category": "logic",
    }


def test_multi_tracker_is_one_log_with_all_sinks() -> None:
    """Several trackers become one run."""
    with MultiTracker([LocalFileTracker(output_dir="./experiments"), Tracker(("local",))]) as tracker:
        tracker.log_metrics({"a": 1})

    assert tracker.backends == ("local",)
    assert view_of(Path("experiments")).metrics["a"].last == 1


def test_create_tracker_takes_several_backends() -> None:
    """A list fans out; an unknown name is an error that lists the known ones."""
    from eventlog.errors import UnknownSinkError

    assert create_tracker(["local"]).backends == ("local",)
    with pytest.raises(UnknownSinkError, match="local"):
        create_tracker("nowhere")
