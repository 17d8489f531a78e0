"""Experiments with a config, metrics, evaluations and checkpoints, over `eventlog.Tracker`.

from eventlog.compat.experiment_tracker import ExperimentTracker, ExperimentConfig, LocalBackend

tracker = ExperimentTracker(backends=["local", "wandb"])
exp_id = tracker.start_experiment(ExperimentConfig(learning_rate=5e-5), notes="Baseline run")
tracker.log_metrics({"loss": 0.5}, step=1)
tracker.finish_experiment(status="completed")
LocalBackend("experiments.db").get_experiment(exp_id)
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec

from eventlog.compat.benchmark_results import events_of
from eventlog.compat.evaluated import opened
from eventlog.compat.local_backend import DatabaseError, LocalBackend
from eventlog.errors import TrackerStateError, warn_once
from eventlog.tracker import create_tracker
from eventlog.values import to_json

__all__ = ["DatabaseError", "ExperimentBackend", "ExperimentConfig", "ExperimentTracker", "LocalBackend"]

_STATUS = {"completed": "finished", "success": "finished", "error": "failed", "interrupted": "killed"}


class ExperimentConfig(SimpleNamespace):
    """Hyper-parameters of any names, as attributes."""

    def to_dict(self) -> dict[str, Any]:
        """Return the hyper-parameters in terms of JSON."""
        converted = to_json(vars(self))
        return converted if isinstance(converted, dict) else {}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return a config with these values."""
        return cls(**values)


class ExperimentBackend(ABC):
    """Somewhere else that experiments go: inherit, implement, and give an object to `ExperimentTracker`.

    It is called in the process of the experiment, after each call is in the log. What it raises costs one
    warning; what it has missed then is in the log. For delivery that outlives the process write a sink.
    """

    @abstractmethod
    def start_experiment(self, exp_id: str, config: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Take a new experiment; *metadata* has ``name``, ``notes`` and ``tags``."""

    @abstractmethod
    def log_metrics(self, exp_id: str, metrics: dict[str, Any], step: int | None) -> None:
        """Take numbers."""

    @abstractmethod
    def finish_experiment(self, exp_id: str, status: str) -> None:
        """Take the end."""

    def log_evaluation(self, exp_id: str, benchmark: str, result: dict[str, Any]) -> None:  # noqa: B027
        """Take the result of a benchmark."""

    def log_checkpoint(  # noqa: B027 - not every backend has a place for it
        self, exp_id: str, path: str, step: int | None, metrics: dict[str, Any]
    ) -> None:
        """Take note of a checkpoint."""


class ExperimentTracker:
    """Tracks one experiment after the other; each is a run, with its lineage captured as that of any run.

    ``local`` gives each run its JSON files and writes it, while it goes on, into the database *db_path*; the
    other names are those of `eventlog.create_tracker`. A backend that cannot be reached costs a warning with
    the command that delivers later, and never the experiment.

    Args:
        backends: names of sinks, objects of `ExperimentBackend`, or a `LocalBackend` for its database.
        project: of the runs; default ``EVLOG_PROJECT`` or ``default``.
        output_dir: root of the runs; default ``EVLOG_DIR`` or ``./experiments``.
        db_path: the database of ``local``.
        options: those of `eventlog.create_tracker`.
    """

    def __init__(
        self,
        backends: Sequence[str | ExperimentBackend | LocalBackend] = ("local",),
        *,
        project: str | None = None,
        output_dir: str | Path | None = None,
        db_path: str | Path = "experiments.db",
        **options: Any,
    ) -> None:
        names = [one for one in backends if isinstance(one, str)]
        for one in backends:
            if isinstance(one, LocalBackend):
                db_path, names = one.path, [*names, "local"]
        if "local" in names:
            names = list(dict.fromkeys([*names, "sqlite"]))
            known = dict(options.get("sink_options") or {})
            known["sqlite"] = {"path": str(Path(db_path).absolute()), **known.get("sqlite", {})}
            options["sink_options"] = known
        self.backends = [one for one in backends if isinstance(one, ExperimentBackend)]
        self.db_path = Path(db_path)
        self._tracker = create_tracker(names, **{"project": project, "output_dir": output_dir, **options})
        self._shared = self._tracker.config

    @property
    def experiment_id(self) -> str | None:
        """Return the id of the experiment that goes on, or None."""
        return self._tracker.run_id

    @property
    def run_dir(self) -> Path | None:
        """Return the directory of the experiment that goes on, or None."""
        return self._tracker.run_dir

    def start_experiment(
        self,
        config: object = None,
        notes: str | None = None,
        experiment_name: str | None = None,
        tags: Sequence[str] | Mapping[str, object] | None = None,
    ) -> str:
        """Start an experiment and return its id, as ``exp_20250123_143022_a1b2c3``.

        Args:
            config: an `ExperimentConfig`, or anything else with named values.
            experiment_name: of the experiment, and of the group of runs that it is in.

        Raises:
            TrackerStateError: the experiment before has not been finished.
        """
        if self._tracker.run_id is not None:
            raise TrackerStateError(
                f"experiment {self._tracker.run_id!r} is active. End it with finish_experiment()."
            )
        given = {"experiment_name": experiment_name, "notes": notes, "tags": tags}
        known = {name: value for name, value in given.items() if value is not None}
        self._tracker.config = msgspec.structs.replace(self._shared, **known)
        exp_id = f"exp_{datetime.now():%Y%m%d_%H%M%S}_{secrets.token_hex(3)}"
        exp_id = str(self._tracker.start_run(experiment_name or exp_id, run_id=exp_id))
        params = _config_of(config)
        if params:
            self._tracker.log_params(params)
        metadata = {"name": experiment_name or exp_id, "notes": notes, "tags": tags}
        self._tell("start", lambda one: one.start_experiment(exp_id, params, metadata))
        return exp_id

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers of the training; see `eventlog.Tracker.log_metrics`."""
        self._tracker.log_metrics(metrics, step)
        if self.backends:
            self._tell("metrics", lambda one: one.log_metrics(self._id, dict(metrics), step))

    def log_evaluation(self, benchmark: str, result: Any, step: int | None = None) -> None:
        """Log the result of a benchmark.

        Args:
            result: a mapping, or an object with named values or `to_dict`: numbers (under ``metrics``, if it
                has that), anything else, and per-sample results as a list under ``samples`` or a like name.
                One that `eventlog.evaluation` has logged into this experiment is not logged again.
        """
        told = _config_of(result)
        if told.get("run_id") is None or told.get("run_id") != self._tracker.run_id:
            for event in events_of(benchmark, result, step):
                self._tracker.log_event(event)
        if self.backends:
            self._tell("evaluation", lambda one: one.log_evaluation(self._id, benchmark, told))

    def log_checkpoint(
        self, path: str | Path, step: int | None = None, metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Log that a checkpoint was saved, with its size; on the disk when this returns."""
        self._tracker.log_checkpoint(path, step, metrics)
        if self.backends:
            told = dict(metrics or {})
            self._tell("checkpoint", lambda one: one.log_checkpoint(self._id, str(path), step, told))

    def finish_experiment(self, status: str = "completed") -> None:
        """End the experiment: ``completed``, ``failed`` or ``killed``; without one do nothing."""
        if self._tracker.run_id is None:
            return
        exp_id = self._id
        self._tracker.end_run(_STATUS.get(status, status))
        self._tell("finish", lambda one: one.finish_experiment(exp_id, status))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or self._tracker.run_id is None:
            self.finish_experiment()
            return
        exp_id = self._id
        self._tracker.end_with(error)
        self._tell("finish", lambda one: one.finish_experiment(exp_id, "failed"))

    @property
    def _id(self) -> str:
        return self._tracker.run_id or ""

    def _tell(self, what: str, call: Callable[[ExperimentBackend], None]) -> None:
        for one in self.backends:
            try:
                call(one)
            except Exception as error:  # anybody's code; it must not stop the experiment
                warn_once(
                    f"backend {type(one).__name__} {what}",
                    f"{type(one).__name__} failed at {what}: {type(error).__name__}: {error}. "
                    "The log has everything.",
                )


def _config_of(config: object) -> dict[str, Any]:
    to_dict = getattr(config, "to_dict", None)
    if callable(to_dict) and not isinstance(config, Mapping):
        config = to_dict()
    converted = to_json(opened(config))
    return converted if isinstance(converted, dict) else {}
