"""The GraphQL operations of the stand-in: one function each, from variables to data.

Answers carry more fields than one query asks for; neither the SDK nor the sink minds.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.standin.faults import Fault
from tests.standin.service import HISTORY, ArtifactState, RunState, Service

Variables = dict[str, Any]
Operation = Callable[[Service, Variables, str], dict[str, Any]]
TIME = "2026-01-01T00:00:00Z"


class GraphQLError(Exception):
    """An answer with ``errors``, or with another HTTP status."""

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message, status)
        self.message, self.status = message, status


def operation_name(body: dict[str, Any]) -> str:
    """Return the name of the operation that a request asks for."""
    named = body.get("operationName")
    found = re.search(r"(?:query|mutation)\s+(\w+)", body.get("query", ""))
    return str(named or (found.group(1) if found else ""))


def answer(service: Service, body: dict[str, Any], url: str, fault: Fault | None) -> dict[str, Any]:
    """Return the data of an operation.

    Args:
        url: the stand-in's own address.
        fault: how old a resume status shall be.
    """
    name = operation_name(body)
    variables = body.get("variables") or {}
    if name == "RunResumeStatus":
        return resume_status(service, variables, fault)
    operation = OPERATIONS.get(name)
    if operation is None:
        raise GraphQLError(f"the stand-in has no operation {name!r}")
    return operation(service, variables, url)


def viewer(service: Service, variables: Variables, url: str) -> dict[str, Any]:
    person = {"id": "1", "entity": service.entity, "username": service.entity, "email": "", "flags": "{}"}
    return {"viewer": {**person, "name": service.entity, "admin": False, "teams": {"edges": []}}}


def server_info(service: Service, variables: Variables, url: str) -> dict[str, Any]:
    return {"serverInfo": {"features": [], "cliVersionInfo": None, "latestLocalVersionInfo": None}}


def upsert_bucket(service: Service, v: Variables, url: str) -> dict[str, Any]:
    run, is_new = service.make_run(v.get("project") or "uncategorized", v["name"])
    if run.is_deleted:
        raise GraphQLError(f"run {run.name} was previously created and deleted", 409)
    names = ("groupName", "displayName", "notes", "commit", "host", "program", "repo", "jobType", "tags")
    run.fields.update({name: v[name] for name in names if v.get(name) is not None})
    if v.get("config"):
        run.config = json.loads(v["config"])
    if v.get("summaryMetrics"):
        run.lines["wandb-summary.json"] = {0: v["summaryMetrics"]}
    run.state = "running"
    return {"upsertBucket": {"bucket": _bucket(run), "inserted": is_new}}


def _bucket(run: RunState) -> dict[str, Any]:
    project = {"id": "p1", "name": run.project, "entity": {"id": "e1", "name": run.entity}}
    return {
        "id": run.id,
        "name": run.name,
        "displayName": run.fields.get("displayName", run.name),
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": None,
        "project": project,
        "historyLineCount": len(run.lines[HISTORY]),
        "tags": run.fields.get("tags", []),
        "notes": run.fields.get("notes"),
        "state": run.state,
    }


def resume_status(service: Service, v: Variables, fault: Fault | None) -> dict[str, Any]:
    behind = fault.behind if fault else 0
    run = service.find_run(v.get("project"), v.get("name"))
    if run is None or run.is_deleted or behind >= len(run.past) > 0:
        return {"model": None}
    telemetry = run.config.get("_wandb", {}).get("value", {}).get("t")
    bucket = {**_bucket(run), **run.counts(), "wandbConfig": json.dumps({"t": telemetry or {}})}
    if fault is not None and behind:
        newest = bucket["historyTail"]
        bucket.update(run.past[-1 - behind])
        bucket["historyTail"] = newest if fault.way == "torn" else bucket["historyTail"]
    return {
        "model": {
            "id": "p1",
            "name": run.project,
            "entity": {"id": "e1", "name": run.entity},
            "bucket": bucket,
        }
    }


def run_state(service: Service, v: Variables, url: str) -> dict[str, Any]:
    run = service.find_run(v.get("project"), v.get("name") or v.get("run"))
    if run is None:
        return {"project": None}
    return {"project": {"run": {**_bucket(run), "stopped": False, "exitCode": run.exit_code}}}


def history_page(service: Service, v: Variables, url: str) -> dict[str, Any]:
    run = service.find_run(v.get("project"), v.get("run"))
    if run is None:
        return {"project": {"run": None}}
    rows = [(json.loads(line)["_step"], line) for _, line in sorted(run.lines[HISTORY].items())]
    low, high = v["minStep"], v["maxStep"]
    # JSON has no NaN: what the real service answers with for it is a string.
    page = [json.dumps(_plain(json.loads(line))) for step, line in rows if low <= step < high]
    return {"project": {"run": {"history": page}}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value


def create_run_files(service: Service, v: Variables, url: str) -> dict[str, Any]:
    run = service.find_run(v["project"], v["run"])
    base = f"{url}/storage/run/{v['project']}/{v['run']}"
    files = [{"name": name, "uploadUrl": f"{base}/{quote(name)}"} for name in v["files"]]
    return {"createRunFiles": {"runID": run.id if run else "", "uploadHeaders": [], "files": files}}


# --- artifacts -----------------------------------------------------------------------------------


def create_artifact(service: Service, v: Variables, url: str) -> dict[str, Any]:
    wanted = v["input"]
    name, digest = wanted["artifactCollectionName"], wanted["digest"]
    older = [a for a in service.artifacts.values() if a.data["name"] == name]
    if any(a.data["type"] != wanted["artifactTypeName"] for a in older):
        raise GraphQLError(f"artifact collection {name} already exists with another type", 409)
    found = next((a for a in older if a.data["digest"] == digest), None)
    if found is None:
        id_ = base64.b64encode(f"Artifact:{len(service.artifacts)}".encode()).decode()
        found = ArtifactState(id_, {}, {})
        found.data.update(
            name=name,
            type=wanted["artifactTypeName"],
            digest=digest,
            metadata=wanted.get("metadata"),
            description=wanted.get("description"),
            project=wanted["projectName"],
            run=wanted.get("runName"),
            index=len(older),
            aliases=[],
            state="PENDING",
        )
        service.artifacts[id_] = found
    for alias in (a["alias"] for a in wanted.get("aliases") or []):
        for artifact in older:
            artifact.data["aliases"] = [a for a in artifact.data["aliases"] if a != alias]
        found.data["aliases"].append(alias)
    sequence = {"id": f"seq-{name}", "latestArtifact": None}
    return {"createArtifact": {"artifact": {**_artifact(service, found), "artifactSequence": sequence}}}


def create_manifest(service: Service, v: Variables, url: str) -> dict[str, Any]:
    place = f"{url}/storage/artifact/{v['artifactID']}/{v['name']}"
    file = {"id": "f", "name": v["name"], "displayName": v["name"], "uploadUrl": place, "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": f"m-{v['artifactID']}", "file": file}}}


def create_artifact_files(service: Service, v: Variables, url: str) -> dict[str, Any]:
    edges = []
    for spec in v["input"]["artifactFiles"]:
        id_, name = spec["artifactID"], spec["name"]
        node = {"id": "f", "name": name, "displayName": name, "uploadHeaders": [], "artifact": {"id": id_}}
        node |= {"uploadUrl": f"{url}/storage/artifact/{id_}/{quote(name)}", "storagePath": name}
        edges.append({"node": {**node, "uploadMultipartUrls": None}})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def commit_artifact(service: Service, v: Variables, url: str) -> dict[str, Any]:
    artifact = service.artifacts[v["artifactID"]]
    artifact.data["state"] = "COMMITTED"
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.data["digest"]}}}


def artifact_by_id(service: Service, v: Variables, url: str) -> dict[str, Any]:
    found = service.artifacts.get(v["id"])
    return {"artifact": None if found is None else _artifact(service, found)}


def _artifact(service: Service, artifact: ArtifactState) -> dict[str, Any]:
    data = artifact.data
    project = {"id": "p1", "internalId": "p1", "name": data["project"], "entity": {"name": service.entity}}
    collection = {"__typename": "ArtifactSequence", "name": data["name"], "project": project}
    aliases = [
        {"__typename": "ArtifactAlias", "id": f"a{i}", "alias": alias, "artifactCollection": collection}
        for i, alias in enumerate(data["aliases"])
    ]
    return {
        "__typename": "Artifact",
        "id": artifact.id,
        "state": data["state"],
        "digest": data["digest"],
        "digestAlgorithm": "MANIFEST_MD5",
        "artifactSequence": {**collection, "id": f"seq-{data['name']}", "latestArtifact": None},
        "artifactType": {"name": data["type"]},
        "versionIndex": data["index"],
        "description": data["description"],
        "metadata": data["metadata"] or "{}",
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "size": sum(map(len, artifact.files.values())),
        "commitHash": artifact.id,
        "fileCount": len(artifact.files),
        "createdAt": TIME,
        "updatedAt": TIME,
        "aliases": aliases,
    }


def use_artifact(service: Service, v: Variables, url: str) -> dict[str, Any]:
    return {"useArtifact": {"artifact": {"id": v["input"]["artifactID"]}}}


def artifact_type(service: Service, v: Variables, url: str) -> dict[str, Any]:
    return {"project": None}


def organization(service: Service, v: Variables, url: str) -> dict[str, Any]:
    return {"entity": {"organization": None}}


OPERATIONS: dict[str, Operation] = {
    "Viewer": viewer,
    "ServerInfo": server_info,
    "ServerFeaturesQuery": server_info,
    "UpsertBucket": upsert_bucket,
    "RunState": run_state,
    "RunStoppedStatus": run_state,
    "HistoryPage": history_page,
    "CreateRunFiles": create_run_files,
    "CreateArtifact": create_artifact,
    "CreateArtifactManifest": create_manifest,
    "CreateArtifactFiles": create_artifact_files,
    "CommitArtifact": commit_artifact,
    "ArtifactByID": artifact_by_id,
    "UseArtifact": use_artifact,
    "ArtifactType": artifact_type,
    "OrganizationCoreWeaveOrganizationID": organization,
}
