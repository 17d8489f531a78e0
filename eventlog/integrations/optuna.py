"""A callback for Optuna: each trial of a study becomes a run.

    callback = OptunaCallback(metric_name="val_accuracy", output_dir="experiments")

    @callback.track_in_trial()
    def objective(trial):
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        callback.tracker.log_metrics({"loss": 0.5}, step=1)      # into the run of this trial
        return 0.93

    study.optimize(objective, n_trials=50, n_jobs=4, callbacks=[callback])

The run of a trial is called ``<study>-trial-<number>`` and belongs to the experiment of the study's name. It
has the trial's params, its values, the intermediate ones with their steps, user attributes, and its state as
a tag. Without the decorator the run is made when the trial is over. Safe with ``n_jobs``: each thread has a
tracker of its own.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from eventlog.errors import EvlogError
from eventlog.ids import safe_name
from eventlog.tracker import Tracker, create_tracker

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

P = ParamSpec("P")
R = TypeVar("R")

_STATUS = {"COMPLETE": "finished", "PRUNED": "finished", "FAIL": "failed"}


class NoTrialError(EvlogError, RuntimeError):
    """No trial runs in this thread."""

    def __str__(self) -> str:
        return "No trial runs here. Decorate the objective with @callback.track_in_trial()."


class OptunaCallback:
    """Logs the trials of a study; give it to ``study.optimize(callbacks=[…])``.

    Args:
        metric_name: of the value that the objective returns, or one for each of several; default ``value`` or
            ``value_0``, ``value_1``, ….
        backend: name or names of the sinks that get each run.
        tracker_options: of `create_tracker`: ``project=…``, ``output_dir=…``, ``tags=…``.
    """

    def __init__(
        self,
        metric_name: str | Sequence[str] | None = None,
        *,
        backend: str | Sequence[str] = "local",
        **tracker_options: object,
    ) -> None:
        self._names = [metric_name] if isinstance(metric_name, str) else list(metric_name or [])
        self._backend = backend
        self._options = tracker_options
        self._here = threading.local()
        self._tracked: set[tuple[str, int]] = set()

    @property
    def tracker(self) -> Tracker:
        """Return the tracker of the trial that runs in this thread.

        Raises:
            NoTrialError: none does.
        """
        tracker = getattr(self._here, "tracker", None)
        if not isinstance(tracker, Tracker):
            raise NoTrialError
        return tracker

    def track_in_trial(self) -> Callable[[Callable[[Trial], R]], Callable[[Trial], R]]:
        """Return a decorator for objectives that log while they run."""

        def decorate(objective: Callable[[Trial], R]) -> Callable[[Trial], R]:
            @functools.wraps(objective)
            def tracked(trial: Trial) -> R:
                tracker = self._here.tracker = self._start(trial.study, trial.number)
                self._tracked.add((trial.study.study_name, trial.number))
                try:
                    return objective(trial)
                except BaseException as error:
                    # Unless the study catches it there is no callback after this; a pruned trial has one.
                    if type(error).__name__ != "TrialPruned":
                        self._here.tracker = None
                        self._failed(tracker, trial, error)
                    raise

            return tracked

        return decorate

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Log what is known of a trial that is over, and end its run."""
        tracker, self._here.tracker = getattr(self._here, "tracker", None), None
        name = (study.study_name, trial.number)
        is_tracked = name in self._tracked
        self._tracked.discard(name)
        if is_tracked and tracker is None:
            return  # it raised, and is logged
        if tracker is None or not is_tracked:
            tracker = self._start(study, trial.number)
        try:
            self._log(tracker, study, trial, trial.state.name)
        finally:
            tracker.end_run(_STATUS.get(trial.state.name, "killed"))

    def _failed(self, tracker: Tracker, trial: Trial, error: BaseException) -> None:
        try:
            known = trial.study.get_trials(deepcopy=False)
            found = next((one for one in known if one.number == trial.number), None)
            if found is not None:
                self._log(tracker, trial.study, found, "FAIL")
        finally:
            tracker.end_with(error)

    def _start(self, study: Study, number: int) -> Tracker:
        options = {"experiment_name": study.study_name} | self._options
        tracker = create_tracker(self._backend, **options)
        tracker.start_run(f"{safe_name(study.study_name)}-trial-{number}")
        return tracker

    def _log(self, tracker: Tracker, study: Study, trial: FrozenTrial, state: str) -> None:
        tracker.log_params(dict(trial.params))
        for step, value in sorted(trial.intermediate_values.items()):
            tracker.log_metrics({f"{self._name(0, 1)}/intermediate": value}, step=step)
        values = trial.values or []
        tracker.log_metrics({self._name(i, len(values)): value for i, value in enumerate(values)})
        directions = [direction.name.lower() for direction in study.directions]
        tracker.set_tags(
            {"optuna_state": state.lower(), "optuna_study": study.study_name}
            | ({"optuna_direction": ",".join(directions)})
        )
        if trial.user_attrs:
            tracker.log_summary({f"optuna/{key}": _plain(value) for key, value in trial.user_attrs.items()})
        if trial.duration is not None:
            tracker.log_summary({"optuna/duration_s": trial.duration.total_seconds()})

    def _name(self, number: int, count: int) -> str:
        if number < len(self._names):
            return self._names[number]
        return "value" if count == 1 else f"value_{number}"


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else value
