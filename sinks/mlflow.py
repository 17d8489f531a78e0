"""The `mlflow` sink: a run of the log as a run of MLflow.

How a repeated batch becomes harmless:

* The run is found by its tag ``evlog.key`` (a hash of project, run id and generation) before it is made. If
  the answer to ``create`` was lost, the run is found afterwards; a second one is marked and deleted.
* Metrics carry the event's own time: MLflow's SQL stores ignore a point that they have. (The old file store
  does not, and needs ``MLFLOW_ALLOW_FILE_STORE`` anyway.)
* A param is set once; what the run holds is asked for when the sink is opened. Tags and files are replaced by
  themselves. Texts that grow lie in a spool whose sizes are saved with the checkpoint, and are stored whole.
* A version in the registry carries a tag that is looked for before one is made.

`docs/reference/mlflow.md` says what each event becomes, and what MLflow cannot hold.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, cast

from eventlog.errors import SinkRejectedError
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from sinks._mlflow import finding as finding
from sinks._mlflow.compare import delivered_points, expected_points
from sinks._mlflow.files import whole_files
from sinks._mlflow.mapping import Gathered, Mapper
from sinks._mlflow.names import MAX_TAG, without_secrets
from sinks._mlflow.rest import connect
from sinks._mlflow.sending import Sender
from sinks._mlflow.spool import Spool
from sinks._mlflow.stores import ClientStore, RefusedError, StoredRun, load_mlflow, unavailable

STATUSES = {"running": "RUNNING", "finished": "FINISHED", "killed": "KILLED"}


class MLflowSink:
    """Delivers a run to MLflow.

    Args:
        tracking_uri: where; None takes ``MLFLOW_TRACKING_URI`` and then MLflow's own default.
        experiment_name: which experiment; None takes the run's own and then its project.
        registry_uri: of the model registry; None takes the tracking URI.
    """

    traits: ClassVar[Traits] = Traits(batch_events=10_000, batch_age_s=1.0, merges_equal_points=True)

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment_name: str | None = None,
        registry_uri: str | None = None,
    ) -> None:
        self._uri = _absolute(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _default_uri())
        self._experiment_name = experiment_name or None
        self._registry_uri = registry_uri or None
        self.destination = without_secrets(self._uri)
        self._store: ClientStore | None = None
        self._run: StoredRun | None = None
        self._info: RunInfo | None = None

    # --- the contract ---------------------------------------------------------------------------

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Find or make the run; MLflow does not say how far it came."""
        self._store = store = self._store or connect(self._uri, self._registry_uri)
        self._info = run
        with self._refusals(f"it does not take the run {run.run_id}"):
            self._run = finding.find_or_make(store, run, self._experiment(run), self._known_id(run))
            finding.link(store, run, self._run)
        state = run.state
        sizes = cast("dict[str, object]", state.get("spool", {}))
        self._spool = Spool(run.path, self.destination, run.generation, sizes)
        self._unsent = set(cast("list[str]", state.get("unsent", [])))
        self._mapper = Mapper(run.started.ts if run.started else None)
        self._mapper.remember(self._spool, self._run.tags)
        self._sender = Sender(store, self._run, run.path)
        return None

    def write(self, batch: Batch) -> None:
        """Send params, tags, points and files; gather what is stored whole at the end."""
        for entry in batch.entries():
            self._mapper.take(entry)
        gathered = self._mapper.gathered()
        for name, line in gathered.lines:
            self._spool.add(name, line)
        self._name_keys(gathered)
        with self._refusals("it does not take what belongs to the run"):
            self._resume()
            self._sender.send(gathered)
        self._unsent |= self._spool.keep()
        if gathered.refused:
            (writer, seq), why = next(iter(gathered.refused.items()))
            more = f" and {len(gathered.refused) - 1} more" if len(gathered.refused) > 1 else ""
            raise SinkRejectedError(
                f"MLflow at {self.destination} refuses event {seq} of {writer}{more}: {why}",
                list(gathered.refused),
            )

    def close(self, status: RunStatus | None) -> None:
        """Store the whole files and set the status."""
        if status is None or self._run is None:
            return
        with self._refusals(f"it does not take the end of {self._run.run_id}"):
            self._finish(status, self._run)

    def state(self) -> dict[str, object]:
        """Return the run's id in MLflow, and what the spool holds."""
        return {
            "mlflow_run_id": self._run.run_id if self._run else None,
            "spool": dict(self._spool.sizes),
            "unsent": sorted(self._unsent),
        }

    # --- reading back ---------------------------------------------------------------------------

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield the metrics, params, tags and files that *entries* become."""
        return expected_points(entries)

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield the metrics, params, tags and files that MLflow holds of *run*."""
        store = self._store = self._store or connect(self._uri, self._registry_uri)
        found = finding.find(store, run, self._experiment(run), self._known_id(run))
        if found is not None:
            yield from delivered_points(store, found)

    # --- inside -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """Report a refusal that no event is to blame for, such as a deleted run: somebody has to act."""
        try:
            yield
        except RefusedError as error:
            raise unavailable(self._uri, f"{what}: {error}") from error

    def _finish(self, status: RunStatus, run: StoredRun) -> None:
        assert self._store is not None
        assert self._info is not None
        self._store_files(self._store, run)
        finding.link(self._store, self._info, run)
        finding.drop_duplicates(self._store, self._info, run)
        mapped = STATUSES.get(status.status, "FAILED")
        end_ms = None if status.is_running or status.ended_at is None else max(0, status.ended_at // 1000)
        tags = {"evlog.status": status.status}
        if status.exit_code is not None:
            tags["evlog.exit_code"] = str(status.exit_code)
        self._store.log_words(run.run_id, {}, tags)
        self._store.update_run(run.run_id, mapped, end_ms)

    def _experiment(self, run: RunInfo) -> str:
        own = run.started.experiment if run.started else None
        return (self._experiment_name or own or run.project)[:500]

    def _resume(self) -> None:
        """Show a run that goes on after its end as running."""
        assert self._store is not None
        assert self._run is not None
        if self._run.status != "RUNNING":
            self._store.update_run(self._run.run_id, "RUNNING", None)
            self._run = self._run._replace(status="RUNNING")

    def _known_id(self, run: RunInfo) -> str | None:
        known = run.state.get("mlflow_run_id")
        return known if isinstance(known, str) else None

    def _name_keys(self, gathered: Gathered) -> None:
        """Keep the map of renamed keys in a tag, or say where it is if it is too long for one."""
        if any(name == "keymap" for name, _ in gathered.lines):
            text = self._mapper.keymap()
            gathered.tags["evlog.keymap"] = (
                text if len(text) <= MAX_TAG else "evlog/keymap.json",
                ("", -1),
            )

    def _store_files(self, store: ClientStore, run: StoredRun) -> None:
        self._sender.dropped(self._spool.lines("dropped") if "dropped" in self._unsent else iter(()))
        with tempfile.TemporaryDirectory() as directory:
            for name, path in whole_files(self._spool, self._unsent, Path(directory)):
                store.put(run, name, path)
        self._unsent = set()


def _default_uri() -> str:
    load_mlflow()
    import mlflow

    return str(mlflow.get_tracking_uri())


def _absolute(uri: str) -> str:
    """Return *uri* so that it means the same from every working directory."""
    if uri.startswith("sqlite:///") and not uri.startswith(("sqlite:////", "sqlite:///:")):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    is_path = "://" not in uri and not uri.startswith(("file:", "databricks", "uc:"))
    return Path(uri).absolute().as_uri() if is_path else uri
