"""The `wandb` sink in offline mode: what W&B's own reader and `wandb sync` find in the files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import events as ev
from eventlog.delivery.pump import deliver_run
from eventlog.sink import RunStatus
from sinks.wandb import WandBSink
from tests.sinks.wandb_support import FINISHED, batches, environment, info, make_log, png, rows
from tests.standin import StandIn


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with StandIn() as stand_in, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(stand_in, tmp_path_factory.mktemp("wandb")).items():
            patch.setenv(name, value)
        yield stand_in
        sys.modules["wandb"].teardown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, service: StandIn) -> Path:
    """A run that was written twice."""
    run = tmp_path_factory.mktemp("logs") / "demo" / "off-1"
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "a.png").write_bytes(png())
    make_log(
        run,
        [
            ev.Params(data={"lr": 0.1, "opt": {"name": "adam"}}),
            *rows(20),
            ev.Metrics(step=3, data={"loss": "NaN"}),
            ev.Media(key="pic", media_type="image", path="artifacts/a.png"),
            ev.Histogram(key="h", edges=[0.0, 1.0, 2.0], counts=[3, 4]),
            ev.Table(key="tab", columns=["a"], rows=[[1]]),
            ev.Console(stream="stdout", text="hello"),
            ev.Summary(data={"verdict": "good"}),
            ev.Tags(data={"late": None}),
            ev.Artifact(name="pic", path="artifacts/a.png", artifact_type="image"),
        ],
    )
    write(run, WandBSink(mode="offline"), FINISHED)
    deliver_run(run, WandBSink(mode="offline"), "wandb", timeout_s=60)
    return run


def write(run: Path, sink: WandBSink, status: RunStatus) -> None:
    sink.open(info(run))
    for batch in batches(run, 10):
        sink.write(batch)
    sink.close(status)


@pytest.fixture(scope="module")
def records(run: Path) -> list[dict[str, Any]]:
    """What W&B's own reader says."""
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    tool = Path(sys.executable).parent / "wandb"
    done = subprocess.run(
        [str(tool), "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def of(records: list[dict[str, Any]], kind: str) -> list[Any]:
    return [record[kind] for record in records if kind in record]


def test_writing_again_leaves_one_run(run: Path) -> None:
    """The files are made anew and take the place of the old ones; nothing else stays."""
    assert len(list((run / "wandb").iterdir())) == 1
    assert not list((run / "wandb").glob(".*"))


def test_the_reader_finds_every_row(records: list[dict[str, Any]]) -> None:
    """Rows have their own numbers, the user's steps and the events' times."""
    found = [
        {i["key"]: i["value_json"] for i in r["item"]} if isinstance(r["item"], list) else r["item"]
        for r in of(records, "history")
    ]

    text = json.dumps(found)
    assert len(found) == 24
    assert "1763700000" in text
    assert "image-file" in text
    assert "table-file" in text


def test_wandb_sync_uploads_it(run: Path, service: StandIn) -> None:
    """W&B's own command brings everything to the service."""
    (directory,) = (run / "wandb").glob("offline-run-*")
    tool = Path(sys.executable).parent / "wandb"
    subprocess.run(
        [str(tool), "sync", str(directory)], check=True, timeout=60, env={**os.environ}, capture_output=True
    )

    held = service.run("demo", "off-1")
    found = held.rows()
    assert [row["i"] for row in found if "i" in row] == list(range(20))
    assert [row["step"] for row in found if "i" in row] == [2 * i for i in range(20)]
    assert [row["_step"] for row in found] == list(range(24))
    assert found[0]["_timestamp"] == pytest.approx(1763700000.002, abs=0.01)
    assert held.user_config()["opt"] == {"name": "adam"}
    assert held.summary["verdict"] == "good"
    assert set(held.fields["tags"]) == {"t", "k:v", "late"}
    assert any(row.get("pic", {}).get("path") in held.files for row in found)
    assert held.files["console.log"].endswith(b"hello\n")
    assert held.state == "finished"
    assert service.service.versions("pic")


def test_a_broken_off_writing_leaves_the_old_files(run: Path) -> None:
    """Closed before the end, nothing of the new files stays."""
    before = sorted(p.name for p in (run / "wandb").iterdir())
    sink = WandBSink(mode="offline")
    sink.open(info(run))
    sink.write(next(batches(run, 5)))

    sink.close(None)

    assert sorted(p.name for p in (run / "wandb").iterdir()) == before


def test_the_directory_can_be_chosen(tmp_path: Path, service: StandIn) -> None:
    """Several runs lie beside each other there."""
    for name in ("a", "b"):
        run = make_log(tmp_path / "demo" / name, rows(2))
        sink = WandBSink(mode="offline", dir=str(tmp_path / "out"))
        assert sink.traits.is_projection
        assert sink.destination == f"offline:{tmp_path / 'out'}"
        write(run, sink, RunStatus(status="failed", exit_code=3))

    assert len(list((tmp_path / "out").glob("offline-run-*-[ab]"))) == 2
