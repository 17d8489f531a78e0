"""A tracking server, over HTTP: each request is sent once.

It speaks MLflow's documented REST API through MLflow's own `http_request`, which knows users, tokens and
certificates from MLflow's environment variables. The waiting is left to the pump: MLflow's client would wait
up to four minutes inside one call, repeat a ``create`` by itself, and keep a server's ``Retry-After`` to
itself. Only files that go to an object store, or in parts, and other registries go through the client.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import orjson

from sinks._mlflow.stores import (
    ClientStore,
    MetricPoint,
    RefusedError,
    StoredExperiment,
    StoredRun,
    load_mlflow,
    unavailable,
)

Json = dict[str, Any]

REQUEST_TIMEOUT_S = 60
SLOW_BYTES_PER_S = 1 << 20
"""A server may pass a file on to an object store this slowly before it answers."""
HISTORY_PAGE = 25_000
PROXY = "mlflow-artifacts"
_DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")


def connect(uri: str, registry_uri: str | None) -> ClientStore:
    """Return the store behind *uri*.

    Raises:
        ImportError: MLflow is missing, or what it needs for this kind of URI.
        SinkUnavailableError: it cannot be opened.
    """
    mlflow = load_mlflow()
    if uri.startswith(_DATABASES):
        import sqlalchemy  # noqa: F401 - mlflow-skinny comes without it
    try:
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=registry_uri or uri)
    except Exception as error:
        raise unavailable(uri, error) from error
    kind = RestStore if uri.startswith(("http://", "https://")) else ClientStore
    return kind(uri, client, has_own_registry=registry_uri in (None, uri))


class RestStore(ClientStore):
    """The same for a tracking server, each request sent once."""

    def _request(self, method: str, endpoint: str, *, size_bytes: int = 0, **body: Any) -> Any:
        from mlflow.utils import credentials, rest_utils

        http_request: Any = rest_utils.http_request  # neither it nor the next has types
        host: Any = credentials.get_default_host_creds
        try:
            answer = http_request(
                host(self.uri),
                endpoint,
                method,
                max_retries=0,
                raise_on_status=False,
                timeout=_timeout_s() + size_bytes / SLOW_BYTES_PER_S,
                **body,
            )
        except Exception as error:
            raise unavailable(self.uri, error) from error
        if answer.status_code != 200:
            raise self._of(answer)
        return answer

    def _of(self, answer: Any) -> Exception:
        """Return the error that *answer* tells of; a page without MLflow's fields is not from MLflow."""
        try:
            told = orjson.loads(answer.content)
            code, message = str(told["error_code"]), str(told.get("message", ""))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            code, message = "", answer.text[:500]
        status = answer.status_code
        if not code and status != 413 and 400 <= status < 500 and status not in (401, 403):
            where = "Is the tracking URI right?" if status == 404 else "It was not MLflow that answered."
            return unavailable(self.uri, f"HTTP {status}: {message} {where}", _seconds(answer))
        return self._answered(status, code, message, _seconds(answer))

    def _json(self, method: str, endpoint: str, body: Json) -> Json:
        if method == "GET":
            answer = self._request(method, f"/api/2.0/mlflow/{endpoint}", params=body)
        else:
            headers = {"Content-Type": "application/json"}
            data = orjson.dumps(body)
            answer = self._request(method, f"/api/2.0/mlflow/{endpoint}", data=data, extra_headers=headers)
        try:
            return cast("Json", orjson.loads(answer.content or b"{}"))
        except orjson.JSONDecodeError as error:
            raise unavailable(self.uri, f"what it answers is no JSON: {answer.text[:200]}") from error

    def experiment(self, name: str) -> StoredExperiment | None:
        """Return the experiment called *name*, also a deleted one."""
        try:
            told = self._json("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]
        except RefusedError as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return StoredExperiment(told["experiment_id"], told["name"], told["lifecycle_stage"] == "active")

    def create_experiment(self, name: str) -> str:
        """Make an experiment and return its id."""
        return str(self._json("POST", "experiments/create", {"name": name})["experiment_id"])

    def find_runs(self, experiment_ids: Sequence[str], condition: str) -> list[StoredRun]:
        """Return the runs, deleted ones too, that *condition* holds for."""
        body: Json = {"experiment_ids": list(experiment_ids), "filter": condition, "run_view_type": "ALL"}
        found: list[StoredRun] = []
        while True:
            told = self._json("POST", "runs/search", {**body, "max_results": 1000})
            found += [_told_run(run) for run in told.get("runs", [])]
            if not told.get("next_page_token"):
                return found
            body["page_token"] = told["next_page_token"]

    def get_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if MLflow does not know it."""
        try:
            return _told_run(self._json("GET", "runs/get", {"run_id": run_id})["run"])
        except RefusedError as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def create_run(self, experiment_id: str, name: str, start_ms: int, tags: Mapping[str, str]) -> None:
        """Make a run; it is found by its tags."""
        body = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": start_ms,
            "tags": _pairs(tags),
        }
        self._json("POST", "runs/create", body)

    def update_run(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Set status and end."""
        body: Json = {"run_id": run_id, "status": status}
        if end_ms is not None:
            body["end_time"] = end_ms
        self._json("POST", "runs/update", body)

    def delete_run(self, run_id: str) -> None:
        """Move a run to the deleted ones."""
        self._json("POST", "runs/delete", {"run_id": run_id})

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Log at most 1000 points."""
        metrics = [
            {"key": p.key, "value": _wire_number(p.value), "timestamp": p.time_ms, "step": p.step}
            for p in points
        ]
        self._json("POST", "runs/log-batch", {"run_id": run_id, "metrics": metrics})

    def log_words(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log at most 100 params and 100 tags."""
        body = {"run_id": run_id, "params": _pairs(params), "tags": _pairs(tags)}
        self._json("POST", "runs/log-batch", body)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag; one that is not there is no error."""
        with contextlib.suppress(RefusedError):
            self._json("POST", "runs/delete-tag", {"run_id": run_id, "key": key})

    def log_dataset(self, run_id: str, dataset: Mapping[str, str], context: str | None) -> None:
        """Log a dataset that the run read; the same name and digest again changes nothing."""
        tags = _pairs({"mlflow.data.context": context} if context else {})
        body = {"run_id": run_id, "datasets": [{"dataset": dict(dataset), "tags": tags}]}
        self._json("POST", "runs/log-inputs", body)

    def history(self, run_id: str, key: str) -> Iterator[tuple[int, float, int]]:
        """Yield step, value and time in ms of each point of a metric."""
        query: Json = {"run_id": run_id, "metric_key": key, "max_results": HISTORY_PAGE}
        while True:
            told = self._json("GET", "metrics/get-history", query)
            for point in told.get("metrics", []):
                yield int(point.get("step", 0)), float(point["value"]), int(point["timestamp"])
            if not told.get("next_page_token"):
                return
            query["page_token"] = told["next_page_token"]

    def create_model(self, name: str) -> None:
        """Make a name in the registry."""
        if self.has_own_registry:
            self._json("POST", "registered-models/create", {"name": name})
        else:
            super().create_model(name)

    def create_version(self, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> str:
        """Make a version of a registered model and return its number."""
        if not self.has_own_registry:
            return super().create_version(name, source, run_id, tags)
        body = {"name": name, "source": source, "run_id": run_id, "tags": _pairs(tags)}
        return str(self._json("POST", "model-versions/create", body)["model_version"]["version"])

    def versions(self, name: str) -> list[tuple[int, dict[str, str]]]:
        """Return number and tags of each version of a registered model."""
        if not self.has_own_registry:
            return super().versions(name)
        quote = '"' if "'" in name else "'"
        query: Json = {"filter": f"name={quote}{name}{quote}", "max_results": 1000}
        found: list[tuple[int, dict[str, str]]] = []
        while True:
            told = self._json("GET", "model-versions/search", query)
            found += [(int(v["version"]), _words(v.get("tags", []))) for v in told.get("model_versions", [])]
            if not told.get("next_page_token"):
                return found
            query["page_token"] = told["next_page_token"]

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias of a registered model point to a version."""
        if not self.has_own_registry:
            super().set_alias(name, alias, version)
            return
        self._json("POST", "registered-models/alias", {"name": name, "alias": alias, "version": version})

    def set_stage(self, name: str, version: str, stage: str) -> None:
        """Set the stage of a version: one of MLflow's four."""
        if not self.has_own_registry:
            super().set_stage(name, version, stage)
            return
        body = {"name": name, "version": version, "stage": stage, "archive_existing_versions": False}
        self._json("POST", "model-versions/transition-stage", body)

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        if not self.has_own_registry:
            super().set_version_tag(name, version, key, value)
            return
        body = {"name": name, "version": version, "key": key, "value": value}
        self._json("POST", "model-versions/set-tag", body)

    def put(self, run: StoredRun, name: str, content: Path | bytes) -> None:
        """Store a file under the path *name*; what was there is replaced."""
        place = self._proxied(run)
        if place is None or _is_for_parts(content):
            super().put(run, name, content)
            return
        endpoint = f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{place}/{name}')}"
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(content, bytes):
            self._request("PUT", endpoint, data=content, extra_headers=headers)
            return
        with content.open("rb") as file:
            # An empty file would go out as a chunked body, which some servers never see the end of.
            size = content.stat().st_size
            data = file if size else b""
            self._request("PUT", endpoint, size_bytes=size, data=data, extra_headers=headers)

    def _listed(self, run: StoredRun, directory: str) -> list[tuple[str, bool, int]]:
        place = self._proxied(run)
        if place is None:
            return super()._listed(run, directory)
        path = f"{place}/{directory}" if directory else place
        query = {"path": path}
        answer = self._request("GET", "/api/2.0/mlflow-artifacts/artifacts", params=query)
        prefix = f"{directory}/" if directory else ""
        return [
            (prefix + file["path"], bool(file["is_dir"]), int(file.get("file_size", 0)))
            for file in orjson.loads(answer.content).get("files", [])
        ]

    def _proxied(self, run: StoredRun) -> str | None:
        """Return where the tracking server itself keeps the run's files; None if they lie elsewhere."""
        scheme, _, rest = run.artifact_uri.partition(":")
        return rest.strip("/") if scheme == PROXY and not rest.startswith("//") else None


def _is_for_parts(content: Path | bytes) -> bool:
    """Tell whether MLflow's client might send *content* in parts, which takes away limits of size."""
    from mlflow import environment_variables

    least: Any = environment_variables.MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return size >= int(least.get() or 1 << 62)


def _timeout_s() -> float:
    """Return how long one request may take: what MLflow's own variable says, or our default."""
    try:
        return float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    except (KeyError, ValueError):
        return REQUEST_TIMEOUT_S


def _wire_number(value: float) -> float | str:
    if value - value == 0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _pairs(words: Mapping[str, str]) -> list[Json]:
    return [{"key": key, "value": value} for key, value in words.items()]


def _words(pairs: Sequence[Json]) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in pairs}


def _seconds(answer: Any) -> float | None:
    """Return what ``Retry-After`` says, in seconds; a date is left alone."""
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "")))
    except ValueError:
        return None


def _told_run(told: Json) -> StoredRun:
    info, data = told["info"], told.get("data", {})
    return StoredRun(
        info["run_id"],
        info["experiment_id"],
        info["status"],
        info["lifecycle_stage"] == "active",
        int(info.get("start_time", 0)),
        info.get("artifact_uri", ""),
        _words(data.get("tags", [])),
        _words(data.get("params", [])),
        [metric["key"] for metric in data.get("metrics", [])],
    )
