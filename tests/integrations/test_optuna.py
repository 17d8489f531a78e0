"""The callback for Optuna, driven by real studies."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from eventlog.analysis.facts import load, results
from eventlog.integrations.optuna import NoTrialError, OptunaCallback
from tests.docs.test_pages import DOCS, python_blocks, run_example

optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial: optuna.trial.Trial) -> float:
    x = trial.suggest_float("x", -10, 10)
    if trial.number == 3:
        raise ValueError("out of luck")
    for step in range(3):
        trial.report(x * step, step)
        if trial.number == 2 and step == 1:
            raise optuna.TrialPruned
    trial.set_user_attr("depth", 3)
    return (x - 2) ** 2


def test_each_trial_becomes_a_run(tmp_path: Path) -> None:
    """Params, value, intermediate values and state are those of the trial."""
    study = optuna.create_study(study_name="search", sampler=optuna.samplers.RandomSampler(seed=0))
    callback = OptunaCallback("val_loss", output_dir=tmp_path, project="p")

    study.optimize(objective, n_trials=5, callbacks=[callback], catch=(ValueError,))

    runs = [load(tmp_path / "p" / f"search-trial-{n}") for n in range(5)]
    assert [run.view.status for run in runs] == ["finished", "finished", "finished", "failed", "finished"]
    assert [run.view.tags["optuna_state"] for run in runs] == [
        "complete",
        "complete",
        "pruned",
        "fail",
        "complete",
    ]
    assert results(runs[0])["val_loss"] == study.trials[0].value
    assert runs[0].view.params == study.trials[0].params
    assert runs[0].view.metrics["val_loss/intermediate"].count == 3
    assert runs[2].view.metrics["val_loss/intermediate"].count == 2
    assert runs[0].view.summary["optuna/depth"] == 3
    assert {run.view.experiment for run in runs} == {"search"}


def test_the_decorator_lets_an_objective_log_while_it_runs(tmp_path: Path) -> None:
    """With several jobs each trial logs into a run of its own."""
    callback = OptunaCallback(output_dir=tmp_path, project="p")

    @callback.track_in_trial()
    def tracked(trial: optuna.trial.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(5):
            callback.tracker.log_metrics({"number": trial.number, "x": x}, step=step)
        return x

    study = optuna.create_study(study_name="jobs")
    study.optimize(tracked, n_trials=12, n_jobs=4, callbacks=[callback])

    for trial in study.trials:
        view = load(tmp_path / "p" / f"jobs-trial-{trial.number}").view
        assert view.status == "finished"
        assert (view.metrics["number"].min, view.metrics["number"].max) == (trial.number, trial.number)
        assert view.metrics["x"].count == 5
        assert view.metrics["value"].last == trial.value
    assert len(list((tmp_path / "p").glob("jobs-trial-*"))) == 12


def test_a_trial_that_ends_the_study_is_logged(tmp_path: Path) -> None:
    """Optuna calls no callback for an error that it does not catch; the run has failed all the same."""
    study = optuna.create_study(study_name="search")
    callback = OptunaCallback("val_loss", output_dir=tmp_path, project="p")

    @callback.track_in_trial()
    def fails(trial: optuna.trial.Trial) -> float:
        callback.tracker.log_metrics({"loss": trial.suggest_float("x", 0, 1)}, step=1)
        raise ValueError("out of luck")

    with pytest.raises(ValueError, match="luck"):
        study.optimize(fails, n_trials=1, callbacks=[callback])
    study.optimize(fails, n_trials=1, callbacks=[callback], catch=(ValueError,))

    runs = [load(tmp_path / "p" / f"search-trial-{n}").view for n in range(2)]
    assert sorted(path.name for path in (tmp_path / "p").glob("search*")) == [
        "search-trial-0",
        "search-trial-1",
    ]
    for number, run in enumerate(runs):
        assert (run.status, run.tags["optuna_state"]) == ("failed", "fail")
        assert run.params == study.trials[number].params
        assert run.metrics["loss"].count == 1


def test_several_objectives_have_a_metric_each(tmp_path: Path) -> None:
    """Names are given in the order of the values."""
    study = optuna.create_study(study_name="two", directions=["minimize", "maximize"])
    callback = OptunaCallback(["loss", "accuracy"], output_dir=tmp_path, project="p")

    study.optimize(lambda trial: (trial.suggest_int("n", 1, 3), 0.5), n_trials=1, callbacks=[callback])

    run = load(tmp_path / "p" / "two-trial-0")
    assert results(run)["accuracy"] == 0.5
    assert run.view.tags["optuna_direction"] == "minimize,maximize"


def test_a_study_that_goes_on_adds_runs(tmp_path: Path) -> None:
    """Trials of a stored study keep their numbers over processes."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for _ in range(2):
        study = optuna.create_study(study_name="kept", storage=storage, load_if_exists=True)
        callback = OptunaCallback(output_dir=tmp_path / "runs", project="p")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2, callbacks=[callback])

    assert sorted(path.name for path in (tmp_path / "runs" / "p").glob("kept-*")) == [
        f"kept-trial-{n}" for n in range(4)
    ]


def test_the_tracker_outside_of_a_trial_is_an_error() -> None:
    """It says what is missing."""
    with pytest.raises(NoTrialError, match="track_in_trial"):
        _ = OptunaCallback().tracker


def test_the_example_of_the_page_makes_five_runs(tmp_path: Path) -> None:
    """What the how-to shows runs as it stands."""
    run_example(python_blocks(DOCS / "how-to" / "sweep.md")[0], tmp_path)

    runs = sorted((tmp_path / "experiments" / "search").glob("parabola-trial-*"))
    assert len(runs) == 5
    assert load(runs[0]).view.metrics["loss"].count == 3
