"""Which run of MLflow a run of the log is: found by tags, made once, linked to its parent and children."""

from __future__ import annotations

import hashlib

from eventlog.clock import SYSTEM_CLOCK
from eventlog.errors import SinkUnavailableError
from eventlog.sink import RunInfo
from sinks._mlflow.stores import ClientStore, RefusedError, StoredRun, unavailable

KEY = "evlog.key"
DUPLICATE = "evlog.duplicate_of"
FAMILY = "evlog.family"
PARENT = "evlog.parent_family"
MLFLOW_PARENT = "mlflow.parentRunId"


def run_key(project: str, run_id: str, generation: int) -> str:
    """Return what is looked for instead of the names, which a search could not quote in all cases."""
    return _hash("run", project, run_id, str(generation))


def family_key(project: str, run_id: str) -> str:
    """Return the same for all generations of a run."""
    return _hash("family", project, run_id)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:32]


def _where(tag: str, value: str) -> str:
    return f"tags.`{tag}` = '{value}'"


def find(store: ClientStore, run: RunInfo, experiment: str, known_id: str | None) -> StoredRun | None:
    """Return the run of MLflow that *run* is delivered to, or None if there is none.

    Args:
        known_id: the one that earlier deliveries went to; it is right also if it was moved or renamed.

    Raises:
        SinkUnavailableError: it or its experiment was deleted in MLflow.
    """
    if known_id is not None:
        known = store.get_run(known_id)
        if known is not None:
            return _active(store, known)
        raise unavailable(
            store.uri,
            f"the run {known_id} that {run.run_id} was delivered to is gone for good. "
            "Deliver it anew: `evlog sync --restart`.",
        )
    place = store.experiment(experiment)
    if place is None:
        return None
    if not place.is_active:
        raise _deleted_experiment(store, place.name, place.experiment_id)
    same = _same(store, run, place.experiment_id)
    return _active(store, _first(same)) if same else None


def find_or_make(store: ClientStore, run: RunInfo, experiment: str, known_id: str | None) -> StoredRun:
    """Return the run of MLflow for *run*, made now if there is none.

    Raises:
        SinkUnavailableError: MLflow cannot be reached, or the run was deleted there.
        RefusedError: it does not take such a run.
    """
    found = find(store, run, experiment, known_id)
    if found is not None:
        return found
    place = _experiment_id(store, experiment)
    _make(store, run, place)
    # Not the answer counts but what is there: an earlier answer may have been lost.
    made = _same(store, run, place)
    if not made:
        raise unavailable(store.uri, f"it made the run {run.run_id} but does not find it yet")
    return _active(store, _first(made))


def _experiment_id(store: ClientStore, name: str) -> str:
    place = store.experiment(name)
    if place is None:
        try:
            return store.create_experiment(name)
        except RefusedError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
        place = store.experiment(name)
    if place is None or not place.is_active:
        raise _deleted_experiment(store, name, place.experiment_id if place else "?")
    return place.experiment_id


def _make(store: ClientStore, run: RunInfo, experiment_id: str) -> None:
    started = run.started
    tags = {
        KEY: run_key(run.project, run.run_id, run.generation),
        FAMILY: family_key(run.project, run.run_id),
        "evlog.project": run.project,
        "evlog.run_id": run.run_id,
        "evlog.generation": str(run.generation),
    }
    if started and started.parent_run_id:
        tags[PARENT] = family_key(run.project, started.parent_run_id)
        tags["evlog.parent_run_id"] = started.parent_run_id
    start_us = started.ts if started else SYSTEM_CLOCK.now_us()
    name = (started.name if started else run.run_id)[:250] or run.run_id
    store.create_run(experiment_id, name, max(0, start_us // 1000), tags)


def _same(store: ClientStore, run: RunInfo, experiment_id: str) -> list[StoredRun]:
    return [found for found in _all(store, run, experiment_id) if DUPLICATE not in found.tags]


def _all(store: ClientStore, run: RunInfo, experiment_id: str) -> list[StoredRun]:
    key = run_key(run.project, run.run_id, run.generation)
    return store.find_runs([experiment_id], _where(KEY, key))


def _first(runs: list[StoredRun]) -> StoredRun:
    return min(runs, key=lambda run: (not run.is_active, run.start_ms, run.run_id))


def _active(store: ClientStore, run: StoredRun) -> StoredRun:
    if run.is_active:
        return run
    raise deleted(store, run.run_id)


def deleted(store: ClientStore, run_id: str) -> SinkUnavailableError:
    """Return the error that says that somebody deleted a run in MLflow, and what to do."""
    return unavailable(
        store.uri,
        f"the run {run_id} was deleted there. Bring it back with `mlflow runs restore --run-id {run_id}`, "
        "or deliver it anew: `evlog sync --restart`.",
    )


def _deleted_experiment(store: ClientStore, name: str, experiment_id: str) -> SinkUnavailableError:
    return unavailable(
        store.uri,
        f"the experiment {name!r} was deleted there. Bring it back with `mlflow experiments restore "
        f"--experiment-id {experiment_id}`, or name another with experiment_name.",
    )


def drop_duplicates(store: ClientStore, run: RunInfo, kept: StoredRun) -> None:
    """Mark and delete other runs for *run*: made by a request whose answer was lost, and empty."""
    for other in _all(store, run, kept.experiment_id):
        if other.run_id != kept.run_id and other.is_active:
            store.log_words(other.run_id, {}, {DUPLICATE: kept.run_id})  # first: a deleted run takes no tags
            store.delete_run(other.run_id)


def link(store: ClientStore, run: RunInfo, stored: StoredRun) -> None:
    """Nest the run under its parent, and under it the runs that came before it and name it as theirs.

    Each run looks for the others after it was made, so whichever comes second makes the link.
    """
    started = run.started
    if started and started.parent_run_id and MLFLOW_PARENT not in stored.tags:
        parent = _parent(store, stored, family_key(run.project, started.parent_run_id))
        if parent is not None:
            store.log_words(stored.run_id, {}, {MLFLOW_PARENT: parent.run_id})
            stored.tags[MLFLOW_PARENT] = parent.run_id
    mine = _where(PARENT, family_key(run.project, run.run_id))
    for child in store.find_runs([stored.experiment_id], mine):
        is_linked = child.tags.get(MLFLOW_PARENT) == stored.run_id
        if child.is_active and DUPLICATE not in child.tags and not is_linked:
            store.log_words(child.run_id, {}, {MLFLOW_PARENT: stored.run_id})


def _parent(store: ClientStore, child: StoredRun, family: str) -> StoredRun | None:
    """Return the newest generation of the parent, from the child's experiment if it is there."""
    for places in ([child.experiment_id], store.experiment_ids()):
        found = store.find_runs(places, _where(FAMILY, family))
        runs = [run for run in found if run.is_active and DUPLICATE not in run.tags]
        if runs:
            return min(runs, key=lambda run: (-int(run.tags.get("evlog.generation", "0")), run.run_id))
    return None
