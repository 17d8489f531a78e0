"""What the stand-in knows: projects with runs and artifacts, and how requests change them."""

from __future__ import annotations

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Offsets = Literal["overwrite", "append"]

HISTORY, EVENTS, OUTPUT, SUMMARY = (
    "wandb-history.jsonl",
    "wandb-events.jsonl",
    "output.log",
    "wandb-summary.json",
)


class Request(NamedTuple):
    """A request that reached the stand-in, whatever became of it."""

    kind: str
    path: str
    body: Any


class RunState:
    """A run as the service holds it.

    Attributes:
        lines: the lines of each streamed file, by their place.
        files: name and bytes of each file that was uploaded.
        past: numbers of lines, newest last: what a stale status shows.
    """

    def __init__(self, entity: str, project: str, name: str) -> None:
        self.entity, self.project, self.name = entity, project, name
        self.id = base64.b64encode(f"Run:v1:{name}:{project}:{entity}".encode()).decode()
        self.fields: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.lines: dict[str, dict[int, str]] = defaultdict(dict)
        self.files: dict[str, bytes] = {}
        self.uploaded: set[str] = set()
        self.state = "running"
        self.exit_code: int | None = None
        self.is_deleted = False
        self.past: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """Return the history in the order in which it lies."""
        return [json.loads(line) for _, line in sorted(self.lines[HISTORY].items())]

    def stats(self) -> list[dict[str, Any]]:
        """Return the lines of the machine's load."""
        return [json.loads(line) for _, line in sorted(self.lines[EVENTS].items())]

    def output(self) -> list[str]:
        """Return the console's lines."""
        return [line for _, line in sorted(self.lines[OUTPUT].items())]

    @property
    def summary(self) -> dict[str, Any]:
        """Return the summary that was sent last."""
        lines = self.lines[SUMMARY]
        return json.loads(lines[max(lines)]) if lines else {}

    def user_config(self) -> dict[str, Any]:
        """Return the config as a user sees it."""
        return {k: v.get("value") for k, v in self.config.items() if k not in ("_wandb", "wandb_version")}

    def stream(self, body: Mapping[str, Any], offsets: Offsets) -> None:
        """Take a post to the run's file stream."""
        for name, chunk in body.get("files", {}).items():
            lines = self.lines[name]
            is_new_at_the_end = offsets == "append" and name != SUMMARY
            start = len(lines) if is_new_at_the_end else chunk["offset"]
            lines.update({start + i: line for i, line in enumerate(chunk["content"])})
        self.uploaded.update(body.get("uploaded") or ())
        if body.get("complete"):
            self.exit_code = body.get("exitcode")
            self.state = "failed" if self.exit_code else "finished"
        else:
            self.state, self.exit_code = "running", None
        self.past.append(self.counts())

    def counts(self) -> dict[str, Any]:
        """Return what the resume status says about lines."""
        tails = {
            name: json.dumps([line for _, line in sorted(self.lines[file].items())[-1:]])
            for name, file in (("historyTail", HISTORY), ("eventsTail", EVENTS))
        }
        return {
            "historyLineCount": len(self.lines[HISTORY]),
            "eventsLineCount": len(self.lines[EVENTS]),
            "logLineCount": len(self.lines[OUTPUT]),
            "summaryMetrics": json.dumps(self.summary),
            **tails,
        }


class ArtifactState(NamedTuple):
    """A version of an artifact: fields are changed in place."""

    id: str
    data: dict[str, Any]
    files: dict[str, bytes]


class Service:
    """All runs and artifacts. Its methods are called with `lock` held."""

    def __init__(self, offsets: Offsets) -> None:
        self.offsets = offsets
        self.lock = threading.RLock()
        self.runs: dict[tuple[str, str], RunState] = {}
        self.artifacts: dict[str, ArtifactState] = {}
        self.requests: list[Request] = []
        self.entity = "ada"

    def find_run(self, project: object, name: object) -> RunState | None:
        """Return a run, or None."""
        return self.runs.get((str(project), str(name)))

    def make_run(self, project: str, name: str) -> tuple[RunState, bool]:
        """Return a run and whether it is new."""
        found = self.runs.get((project, name))
        if found is not None:
            return found, False
        run = self.runs[project, name] = RunState(self.entity, project, name)
        run.past.append(run.counts())
        return run, True

    def upload(self, path: str, data: bytes) -> bool:
        """Take the bytes of a file whose upload was asked for; tell whether it is known."""
        where, _, rest = path.partition("/")
        if where == "run":
            project, name, file = rest.split("/", 2)
            run = self.find_run(project, name)
            if run is not None:
                run.files[file] = data
            return run is not None
        artifact, _, file = rest.partition("/")
        if artifact not in self.artifacts:
            return False
        self.artifacts[artifact].files[file] = data
        return True

    def versions(self, name: str) -> list[ArtifactState]:
        """Return the committed versions of an artifact, oldest first."""
        found = [a for a in self.artifacts.values() if a.data["name"] == name]
        return [a for a in found if a.data["state"] == "COMMITTED"]
