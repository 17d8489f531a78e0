"""Everything that the sink asks of an MLflow, by MLflow's own client: databases, Databricks, plug-ins.

A tracking server is spoken to by `sinks._mlflow.rest`, which replaces what is called often. Every error of
MLflow becomes `SinkUnavailableError` or, if the request itself is bad, `RefusedError`.
Not safe for concurrent use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from eventlog.errors import EvlogError, SinkUnavailableError
from sinks._mlflow.names import file_name, without_secrets

T = TypeVar("T")

MAX_REQUEST_BYTES = 900_000
_BAD_REQUEST = frozenset({400, 413, 422})


class RefusedError(EvlogError):
    """MLflow says that a request is wrong in itself: *code* is MLflow's, such as INVALID_PARAMETER_VALUE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class MetricPoint(NamedTuple):
    """A value of a metric as MLflow keeps it, and the event that it comes from."""

    key: str
    value: float
    time_ms: int
    step: int
    origin: tuple[str, int]


class StoredRun(NamedTuple):
    """What MLflow tells of a run."""

    run_id: str
    experiment_id: str
    status: str
    is_active: bool
    start_ms: int
    artifact_uri: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[str]


class StoredExperiment(NamedTuple):
    """What MLflow tells of an experiment."""

    experiment_id: str
    name: str
    is_active: bool


def load_mlflow() -> Any:
    """Import MLflow without its telemetry, unless the job has imported it already."""
    known = sys.modules.get("mlflow")
    if known is not None:
        return known
    before = os.environ.get("MLFLOW_DISABLE_TELEMETRY")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    try:
        import mlflow
    finally:  # what else the job imports shall find its environment as it was
        if before is None:
            os.environ.pop("MLFLOW_DISABLE_TELEMETRY", None)
        else:
            os.environ["MLFLOW_DISABLE_TELEMETRY"] = before
    return mlflow


def unavailable(uri: str, error: object, retry_after_s: float | None = None) -> SinkUnavailableError:
    """Return the error that says that MLflow cannot be used now; without the password in *uri*."""
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    words = str(error).replace(f"{secret}@", "") if secret else str(error)
    return SinkUnavailableError(f"MLflow at {without_secrets(uri)}: {words}", retry_after_s)


class ClientStore:
    """Everything that the sink asks of MLflow, by `mlflow.MlflowClient`."""

    def __init__(self, uri: str, client: Any, *, has_own_registry: bool = True) -> None:
        self.uri, self.client, self.has_own_registry = uri, client, has_own_registry

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a method of the client; its errors become ours."""
        try:
            return function(*arguments, **options)
        except (EvlogError, ImportError):
            raise
        except Exception as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        code = str(getattr(error, "error_code", "") or "")
        status = getattr(error, "get_http_status_code", lambda: 0)()
        if code and code != "INTERNAL_ERROR" and status:
            return self._answered(status, code, str(error), None)
        return unavailable(self.uri, error)

    def _answered(self, status: int, code: str, message: str, retry_after_s: float | None) -> Exception:
        if status in (401, 403):
            return unavailable(
                self.uri,
                f"it lets us not in (HTTP {status}). Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD, and sync again; nothing is lost.",
            )
        if status in _BAD_REQUEST or code in {"RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}:
            return RefusedError(code or f"HTTP_{status}", message)
        return unavailable(self.uri, f"HTTP {status} {code}: {message}", retry_after_s)

    # --- experiments and runs -----------------------------------------------------------------------

    def experiment(self, name: str) -> StoredExperiment | None:
        """Return the experiment called *name*, also a deleted one."""
        found = self.call(self.client.get_experiment_by_name, name)
        if found is None:
            return None
        return StoredExperiment(found.experiment_id, found.name, found.lifecycle_stage == "active")

    def create_experiment(self, name: str) -> str:
        """Make an experiment and return its id."""
        place = None
        if self.uri.startswith("sqlite:////"):
            # MLflow would take the working directory, which is another one at the next delivery.
            database = Path(self.uri.removeprefix("sqlite:///"))
            place = (database.parent / "mlruns" / file_name(name)).as_uri()
        return cast("str", self.call(self.client.create_experiment, name, place))

    def experiment_ids(self) -> list[str]:
        """Return the ids of the experiments that were used last, at most a thousand."""
        found = self.call(self.client.search_experiments, max_results=1000)
        return [experiment.experiment_id for experiment in found]

    def find_runs(self, experiment_ids: Sequence[str], condition: str) -> list[StoredRun]:
        """Return the runs, deleted ones too, that *condition* holds for."""
        from mlflow.entities import ViewType

        found, token = [], None
        while True:
            page = self.call(
                self.client.search_runs,
                list(experiment_ids),
                condition,
                ViewType.ALL,
                max_results=1000,
                page_token=token,
            )
            found += [_run(run) for run in page]
            token = page.token
            if not token:
                return found

    def get_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if MLflow does not know it."""
        try:
            return _run(self.call(self.client.get_run, run_id))
        except RefusedError as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def create_run(self, experiment_id: str, name: str, start_ms: int, tags: Mapping[str, str]) -> None:
        """Make a run; it is found by its tags."""
        self.call(self.client.create_run, experiment_id, start_ms, dict(tags), name)

    def update_run(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Set status and end."""
        if end_ms is None:
            self.call(self.client.update_run, run_id, status=status)
        else:
            self.call(self.client.set_terminated, run_id, status, end_ms)

    def delete_run(self, run_id: str) -> None:
        """Move a run to the deleted ones."""
        self.call(self.client.delete_run, run_id)

    # --- what a run holds ---------------------------------------------------------------------------

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Log at most 1000 points."""
        from mlflow.entities import Metric

        metrics = [Metric(p.key, p.value, p.time_ms, p.step) for p in points]
        self.call(self.client.log_batch, run_id, metrics, (), (), synchronous=True)

    def log_words(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log at most 100 params and 100 tags."""
        from mlflow.entities import Param, RunTag

        some_params = [Param(key, value) for key, value in params.items()]
        some_tags = [RunTag(key, value) for key, value in tags.items()]
        self.call(self.client.log_batch, run_id, (), some_params, some_tags, synchronous=True)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag; one that is not there is no error."""
        with contextlib.suppress(RefusedError):
            self.call(self.client.delete_tag, run_id, key)

    def log_dataset(self, run_id: str, dataset: Mapping[str, str], context: str | None) -> None:
        """Log a dataset that the run read; the same name and digest again changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = [InputTag("mlflow.data.context", context)] if context else []
        given = DatasetInput(Dataset(**dataset), tags)
        self.call(self.client.log_inputs, run_id, [given])

    def history(self, run_id: str, key: str) -> Iterator[tuple[int, float, int]]:
        """Yield step, value and time in ms of each point of a metric."""
        for point in self.call(self.client.get_metric_history, run_id, key):
            yield point.step, point.value, point.timestamp

    # --- the registry ----------------------------------------------------------------------------------

    def create_model(self, name: str) -> None:
        """Make a name in the registry."""
        self.call(self.client.create_registered_model, name)

    def create_version(self, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> str:
        """Make a version of a registered model and return its number."""
        made = self.call(
            self.client.create_model_version, name, source, run_id, dict(tags), await_creation_for=0
        )
        return str(made.version)

    def versions(self, name: str) -> list[tuple[int, dict[str, str]]]:
        """Return number and tags of each version of a registered model."""
        quote = '"' if "'" in name else "'"
        wanted, token = f"name={quote}{name}{quote}", None
        found: list[tuple[int, dict[str, str]]] = []
        while True:
            search = self.client.search_model_versions
            page = self.call(search, wanted, max_results=1000, page_token=token)
            found += [(int(version.version), dict(version.tags)) for version in page]
            token = page.token
            if not token:
                return found

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias of a registered model point to a version."""
        self.call(self.client.set_registered_model_alias, name, alias, version)

    def set_stage(self, name: str, version: str, stage: str) -> None:
        """Set the stage of a version: one of MLflow's four."""
        with warnings.catch_warnings():  # deprecated in favour of aliases; the event asks for one
            warnings.simplefilter("ignore", FutureWarning)
            self.call(self.client.transition_model_version_stage, name, version, stage)

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        self.call(self.client.set_model_version_tag, name, version, key, value)

    # --- files -----------------------------------------------------------------------------------------

    def put(self, run: StoredRun, name: str, content: Path | bytes) -> None:
        """Store a file under the path *name*; what was there is replaced."""
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as directory:
            local = Path(directory) / path.name
            if isinstance(content, bytes):
                local.write_bytes(content)
            elif content.name == path.name:
                local = content
            else:
                shutil.copyfile(content, local)
            above = None if len(path.parts) == 1 else str(path.parent)
            self.call(self.client.log_artifact, run.run_id, str(local), above)

    def files(self, run: StoredRun) -> Iterator[tuple[str, int]]:
        """Yield path and size of every file of the run."""
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            for name, is_directory, size in self._listed(run, directory):
                if is_directory:
                    waiting.append(name)
                else:
                    yield name, size

    def _listed(self, run: StoredRun, directory: str) -> list[tuple[str, bool, int]]:
        found = self.call(self.client.list_artifacts, run.run_id, directory or None)
        return [(file.path, file.is_dir, file.file_size or 0) for file in found]


def _run(run: Any) -> StoredRun:
    return StoredRun(
        run.info.run_id,
        run.info.experiment_id,
        run.info.status,
        run.info.lifecycle_stage == "active",
        run.info.start_time or 0,
        run.info.artifact_uri,
        dict(run.data.tags),
        dict(run.data.params),
        list(run.data.metrics),
    )
