"""The examples of the two documents, but for the import lines and what they leave open."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.errors import EvlogWarning
from eventlog.replay import view
from eventlog.storage.layout import iter_runs

QUICK_START = """
from eventlog.compat.experiment_tracker import ExperimentTracker, ExperimentConfig

# Configure experiment
config = ExperimentConfig(
    learning_rate=5e-5,
    lora_rank=8,
    num_steps=500
)

# Start tracking
tracker = ExperimentTracker(backends=BACKENDS)
exp_id = tracker.start_experiment(config, notes="Baseline run")

# Log metrics during training
for step in range(num_steps):
    tracker.log_metrics({"loss": loss, "reward": reward}, step)

# Log evaluation
result = evaluate_model(model)
tracker.log_evaluation("gsm8k", result.to_dict())

# Finish
tracker.finish_experiment(status="completed")
"""

INTEGRATION = """
# 1. Add at the top
from eventlog.compat.experiment_tracker import ExperimentTracker, ExperimentConfig
from eventlog.evaluation.benchmark_registry import BenchmarkRegistry

# 2. Create config from args
config = ExperimentConfig(
    learning_rate=args.learning_rate,
    # ... map all hyperparameters
)

# 3. Initialize tracker
tracker = ExperimentTracker(backends=BACKENDS)
exp_id = tracker.start_experiment(config)

# 4. Log metrics in training loop
tracker.log_metrics({"train/loss": loss}, step=step)

# 5. Evaluate and log results
result = BenchmarkRegistry.evaluate(model, "gsm8k")
tracker.log_evaluation("gsm8k", result.to_dict())

# 6. Finish
tracker.finish_experiment(status="completed")
"""

GETTERS = """
from eventlog.compat.experiment_tracker import LocalBackend

backend = LocalBackend("experiments.db")

# Get all experiments
experiments = backend.get_all_experiments()

# Get experiment details
exp = backend.get_experiment("exp_20250123_143022_a1b2c3")

# Get metrics
metrics = backend.get_metrics("exp_20250123_143022_a1b2c3")

# Get evaluation results
results = backend.get_evaluation_results("exp_20250123_143022_a1b2c3", "gsm8k")
"""


class EvaluatedModel:
    def to_dict(self) -> dict[str, Any]:
        return {"metrics": {"accuracy": 0.731, "partial_accuracy": 0.809}, "num_samples": 100}


def run(code: str, backends: list[str]) -> dict[str, Any]:
    """Run an example with what it leaves open."""
    names: dict[str, Any] = {
        "BACKENDS": backends,
        "num_steps": 500,
        "loss": 0.5,
        "reward": 1.0,
        "step": 3,
        "model": lambda prompts: ["The answer is\n#### 18"] * len(prompts),
        "args": SimpleNamespace(learning_rate=5e-5),
        "evaluate_model": lambda *_: EvaluatedModel(),
    }
    exec(code, names)
    return names


def read(exp_id: str) -> dict[str, Any]:
    """Run the example of the getters for an experiment that is there."""
    names: dict[str, Any] = {}
    exec(GETTERS.replace("exp_20250123_143022_a1b2c3", exp_id), names)
    return names


def test_example_of_the_tracker_runs() -> None:
    """The experiment is in the log, in JSON files, and in the database."""
    exp_id = run(QUICK_START, ["local"])["exp_id"]
    found = read(exp_id)
    (path,) = iter_runs(Path("experiments"))
    seen = view(path.path)

    assert re.fullmatch(r"exp_\d{8}_\d{6}_[0-9a-f]{6}", exp_id)
    assert (seen.run_id, seen.status, seen.params["learning_rate"]) == (exp_id, "finished", 5e-5)
    assert (path.path / "metrics.json").exists()
    assert [row["experiment_id"] for row in found["experiments"]] == [exp_id]
    assert (found["exp"]["status"], found["exp"]["config"]["learning_rate"]) == ("completed", 5e-5)
    assert len(found["metrics"]) == sum(stats.count for stats in seen.metrics.values()) == 1000
    assert found["results"][0]["metrics"] == {"accuracy": 0.731, "partial_accuracy": 0.809}


def test_example_of_the_integration_evaluates_with_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `BenchmarkRegistry.evaluate` returns goes into the experiment as it is."""
    data = Path("benchmarks/gsm8k")
    data.mkdir(parents=True)
    (data / "test.jsonl").write_text(
        '{"question": "3 times 6?", "answer": "#### 18"}\n{"question": "1 plus 1?", "answer": "#### 2"}\n'
    )
    monkeypatch.setenv("EVLOG_BENCHMARKS", "benchmarks")

    exp_id = run(INTEGRATION, ["local"])["exp_id"]
    (result,) = read(exp_id)["results"]

    assert result["benchmark"] == "gsm8k"
    assert (result["metrics"]["accuracy"], result["metrics"]["format_accuracy"]) == (0.5, 1.0)
    assert len(result["result"]["samples"]) == 2


def test_example_with_wandb_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where W&B cannot be reached the experiment is complete here, and a warning tells the rest."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    code = QUICK_START.replace("backends=BACKENDS", "backends=BACKENDS, sync_timeout_s=3")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        exp_id = run(code, ["local", "wandb"])["exp_id"]
    found = read(exp_id)

    assert any(issubclass(one.category, EvlogWarning) and "wandb" in str(one.message) for one in told)
    assert found["exp"]["status"] == "completed"
    assert len(found["metrics"]) == 1000


def test_example_of_the_evaluation_tracker_runs() -> None:
    """The class of the other document, called as its table of parameters says."""
    from eventlog.compat.simple_tracker import SimpleExperimentTracker

    tracker = SimpleExperimentTracker(
        project_name="my_project", output_dir="./gllm_evals/experiments", score_key=["generation", "score"]
    )
    tracker.log(
        evaluation_result={"generation": {"score": 0.9}},
        dataset_name="simple_qa",
        data={"query": "What?", "expected_response": "That."},
        run_id=None,
        metadata={"model": "m"},
    )
    (history,) = tracker.get_experiment_history()
    (result,) = tracker.get_run_results(run_id=history["run_id"])

    assert tracker.leaderboard_file == Path("gllm_evals/experiments/leaderboard.csv")
    assert (history["score"], result["score"], result["metadata"]) == (0.9, 0.9, {"model": "m"})
