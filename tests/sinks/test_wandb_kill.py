"""The `wandb` sink dies at any request and goes on from its last saved state."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eventlog.events import Artifact
from tests.sinks.test_wandb_faults import assert_exact, everything_but_artifacts
from tests.sinks.wandb_support import Pump, environment, make_log, quick_sink, rows
from tests.standin import StandIn, hang
from tests.standin.service import Offsets
from tests.waiting import wait_until

POINTS = [
    ("RunResumeStatus", 0),
    ("UpsertBucket", 0),
    ("UpsertBucket", 1),
    ("CreateRunFiles", 0),
    ("upload", 0),
    ("file_stream", 0),
    ("RunResumeStatus", 1),
    ("file_stream", 1),
    ("RunResumeStatus", 3),
    ("file_stream", 2),
    ("file_stream", 3),
    ("RunState", 0),
]
"""Where it dies, one delivery after the other; each begins where the one before was saved."""

CHILD = """
import json, os, sys
from pathlib import Path
from tests.sinks.wandb_support import FINISHED, Pump, info, quick_sink

run, kept = Path(sys.argv[1]), Path(sys.argv[2])
pump, sink = Pump(run, size=2), quick_sink(timeout_s=60)
if kept.exists():
    pump.state, pump.at = json.loads(kept.read_text())
sink.open(info(run, pump.state))
while pump.at < len(pump._batches):
    sink.write(pump._batches[pump.at])
    pump.state, pump.at = sink.state(), pump.at + 1
    young = kept.with_suffix(".tmp")
    young.write_text(json.dumps([pump.state, pump.at]))
    os.replace(young, kept)
sink.close(FINISHED)
"""


@pytest.mark.parametrize("offsets", ["overwrite", "append"])
@pytest.mark.parametrize("is_taken", [False, True])
def test_a_killed_delivery_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offsets: Offsets, is_taken: bool
) -> None:
    """Killed at one request after the other, with its data taken or not, it loses and repeats nothing."""
    run, kept = make_log(tmp_path / "demo" / "run-1", everything_but_artifacts()), tmp_path / "state.json"
    with StandIn(offsets) as service:
        for name, value in environment(service, tmp_path).items():
            monkeypatch.setenv(name, value)
        deaths = sum(_killed_at(service, run, kept, point, is_taken) for point in POINTS)
        pump = Pump(run, size=2)
        pump.state, pump.at = json.loads(kept.read_text())
        pump.deliver(quick_sink())

        print(f"{deaths} of {len(POINTS)} deliveries killed")  # noqa: T201 - the figure for the docs
        assert deaths == len(POINTS)
        assert_exact(service)


@pytest.mark.parametrize(
    ("kind", "is_taken"), [("CreateArtifact", False), ("upload", True), ("CommitArtifact", True)]
)
def test_a_delivery_killed_inside_the_sdk_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_taken: bool
) -> None:
    """Killed while the SDK logs an artifact, it leaves one version, each row once and no process behind."""
    run, kept = tmp_path / "demo" / "run-1", tmp_path / "state.json"
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "a").write_text("content")
    make_log(run, [*rows(2), Artifact(name="a", path="artifacts/a"), *rows(2)])
    with StandIn("append") as service:
        for name, value in environment(service, tmp_path).items():
            monkeypatch.setenv(name, value)
        assert _killed_at(service, run, kept, (kind, 0), is_taken)
        left = _service_processes(tmp_path)
        pump = Pump(run, size=2)
        pump.state, pump.at = json.loads(kept.read_text())

        pump.deliver(quick_sink())

        sys.modules["wandb"].teardown()
        held = service.only_run
        assert [row["_step"] for row in held.rows()] == [0, 1, 2, 3]
        assert [row["i"] for row in held.rows()] == [0, 1, 0, 1]
        (version,) = service.service.versions("a")
        assert version.files["a"] == b"content"
        wait_until(lambda: not _alive(left), "the service process of the killed client", timeout_s=60)


def _service_processes(scratch: Path) -> list[int]:
    """Return the SDK's service processes that were started with *scratch* as their place."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_service = (process / "comm").read_text().strip() == "wandb-core"
            if is_service and os.fsencode(scratch) in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _alive(processes: list[int]) -> list[int]:
    """Return those of *processes* that run; one that nobody waited for is dead as well."""
    alive = []
    for process in processes:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                alive.append(process)
    return alive


def _killed_at(service: StandIn, run: Path, kept: Path, point: tuple[str, int], is_taken: bool) -> bool:
    """Start a delivery and kill it while it waits for the answer to a request; tell whether it was."""
    kind, after = point
    release = threading.Event()
    service.faults.add(kind, hang(release, is_taken=is_taken), after=after)
    used = len(service.faults.used)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(run), str(kept)], env={**os.environ})
    wait_until(lambda: len(service.faults.used) > used or child.poll() is not None, kind)
    was_waiting = child.poll() is None
    child.kill()
    child.wait()
    release.set()
    service.faults.clear()
    return was_waiting
