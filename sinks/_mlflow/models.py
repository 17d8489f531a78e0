"""Models of a run as MLflow's models, and their entries in its registry.

A directory that holds an ``MLmodel`` was written by MLflow in the job and is a model as it lies. Any other
directory gets an ``MLmodel`` that names the flavor: `mlflow.models.Model.load` reads it, and what loads the
files is up to their owner. A single file, or a model by reference, gets a directory of its own for that.

A version in the registry is made once for each run, name and version (or, without a version, path): it
carries the tag ``evlog.registration``, which is looked for before one is made.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

import orjson

from eventlog import events as ev
from eventlog.sink import Entry
from eventlog.storage.layout import ARTIFACTS_DIRECTORY
from sinks._mlflow.mapping import Upload, artifact_name
from sinks._mlflow.names import file_name, model_name
from sinks._mlflow.stores import ClientStore, RefusedError, StoredRun

STAGES = {"none": "None", "staging": "Staging", "production": "Production", "archived": "Archived"}
HISTORY_TAG = "mlflow.log-model.history"
_ALIAS = re.compile(r"[\w\-]{1,255}")
_VERSION_LIKE = re.compile(r"[vV]\d+|latest")
_MODEL_FILE = "MLmodel"


def model_place(run: Path, event: ev.Model | ev.ModelRegistered) -> str:
    """Return the directory in MLflow that holds a model's `MLmodel`; empty if the run has no such model."""
    path = _path(event)
    if path is None:
        return ""
    if path.startswith(f"{ARTIFACTS_DIRECTORY}/") and (run / path).is_dir():
        return artifact_name(path)
    return f"evlog/models/{file_name(path.removeprefix(f'{ARTIFACTS_DIRECTORY}/').lstrip('/'))}"


def _path(event: ev.Model | ev.ModelRegistered) -> str | None:
    if event.path is not None:
        return event.path
    return None if event.artifact is None else f"{ARTIFACTS_DIRECTORY}/{event.artifact}"


def model_uploads(run: Path, stored: StoredRun, entry: Entry, event: ev.Model) -> list[Upload]:
    """Return what must be stored beside the artifact so that it is a model of MLflow."""
    origin, path, place = (entry.writer, event.seq), _path(event) or "", model_place(run, event)
    found: list[Upload] = []
    data = "."
    if not place.startswith("evlog/"):
        if (run / path / _MODEL_FILE).is_file():
            return []
    elif path.startswith(f"{ARTIFACTS_DIRECTORY}/"):
        data = file_name(Path(path).name)
        found.append(Upload(f"{place}/{data}", None, path, origin=origin))
    else:
        data = path
    content = orjson.dumps(_mlmodel(event, stored, place, data), option=orjson.OPT_INDENT_2)
    return [*found, Upload(f"{place}/{_MODEL_FILE}", content, origin=origin)]


def model_history(run: Path, stored: StoredRun, event: ev.Model, before: str) -> str:
    """Return the value of MLflow's tag that lists the models of a run, *event*'s added to those *before*."""
    place = model_place(run, event)
    listed = [model for model in _listed(before) if model.get("artifact_path") != place]
    return orjson.dumps([*listed, _mlmodel(event, stored, place, ".")]).decode()


def _listed(text: str) -> list[dict[str, object]]:
    try:
        told = orjson.loads(text or "[]")
    except orjson.JSONDecodeError:
        return []
    return [model for model in told if isinstance(model, dict)] if isinstance(told, list) else []


def _mlmodel(event: ev.Model, stored: StoredRun, place: str, data: str) -> dict[str, object]:
    """Return the content of an `MLmodel` file; JSON is YAML."""
    created = datetime.fromtimestamp(event.ts / 1e6, UTC).replace(tzinfo=None)
    return {
        "artifact_path": place,
        "flavors": {event.flavor or "evlog": {"data": data, "logged_by": "evlog"}},
        "model_uuid": hashlib.sha256(f"{stored.run_id}/{place}".encode()).hexdigest()[:32],
        "run_id": stored.run_id,
        "utc_time_created": str(created),
    }


# --- the registry -------------------------------------------------------------------------------------


def register(
    store: ClientStore, run: Path, stored: StoredRun, entry: Entry, event: ev.ModelRegistered
) -> None:
    """Make sure that the registry holds what *event* says.

    Raises:
        RefusedError: the registry does not take it.
        SinkUnavailableError: it cannot be reached.
    """
    name, place = model_name(event.name), model_place(run, event)
    what = f"version {event.version}" if event.version is not None else f"path {event.path}"
    identity = f"{stored.run_id}\n{event.name}\n{what}"
    mark = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:32]
    version = _version_with(store, name, mark)
    if version is None:
        try:
            store.create_model(name)
        except RefusedError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {
            "evlog.registration": mark,
            "evlog.event": f"{stored.tags.get('evlog.run_id', '')}/{entry.writer}/{event.seq}",
            "evlog.version": event.version or "",
        }
        source = f"{stored.artifact_uri}/{place}".rstrip("/")
        version = store.create_version(name, source, stored.run_id, tags)
    _promote(store, name, version, event)


def _version_with(store: ClientStore, name: str, mark: str) -> str | None:
    """Return the first version that carries *mark*."""
    found = [number for number, tags in store.versions(name) if tags.get("evlog.registration") == mark]
    return str(min(found)) if found else None


def _promote(store: ClientStore, name: str, version: str, event: ev.ModelRegistered) -> None:
    """Set alias and stage; what MLflow knows no such thing for becomes a tag."""
    if event.alias:
        if _ALIAS.fullmatch(event.alias) and not _VERSION_LIKE.fullmatch(event.alias):
            store.set_alias(name, event.alias, version)
        else:
            store.set_version_tag(name, version, "evlog.alias", event.alias)
    if event.stage:
        stage = STAGES.get(event.stage.lower())
        if stage:
            store.set_stage(name, version, stage)
        else:
            store.set_version_tag(name, version, "evlog.stage", event.stage)
