"""The sink of the page "Write a sink" is found, delivers once, and keeps the contract."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.sink import Point, RunInfo, Sink
from eventlog.testing import SinkContract, make_run
from eventlog.values import number_in_memory

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "ndjson_sink.py"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a directory with the example installed in it, as pip would."""
    site = tmp_path / "site"
    info = site / "ndjson_sink-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(EXAMPLE, site)
    page = (DOCS / "how-to" / "write-a-sink.md").read_text()
    (point,) = re.findall(r"^ndjson = \"(.+)\"$", page, re.MULTILINE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ndjson-sink\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[eventlog.sinks]\nndjson = {point}\n")
    return site


def sync(site: Path, root: Path, out: Path) -> list[dict[str, object]]:
    """Deliver with the command of the page and return its table."""
    page = (DOCS / "how-to" / "write-a-sink.md").read_text()
    (command,) = re.findall(r"^evlog (sync --to ndjson .+)$", page, re.MULTILINE)
    words = command.replace("/data/events", str(out)).split()
    program = f"import sys; sys.path.insert(0, {str(site)!r}); from eventlog.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--dir", str(root), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_page_shows_the_example_as_it_is() -> None:
    """What one copies from the page is what is tested here."""
    page = (DOCS / "how-to" / "write-a-sink.md").read_text()

    shown = re.search(r"<!-- docs/examples/ndjson_sink.py -->\n```python\n(.*?)```", page, re.DOTALL)

    assert shown is not None
    assert shown[1] == EXAMPLE.read_text()


def test_the_command_line_delivers_with_it(site: Path, tmp_path: Path) -> None:
    """Installed, it is a sink like evlog's own: once each, also when a run goes on."""
    root, out = tmp_path / "experiments", tmp_path / "out"
    run = make_run(root / "demo" / "one", [ev.Metrics(step=step, data={"loss": 0.5}) for step in range(3)])

    first = sync(site, root, out)
    make_run(run, [ev.Metrics(step=3, data={"loss": 0.25})])
    sync(site, root, out)

    assert [row["result"] for row in first] == ["delivered"]
    held = [line["event"] for line in lines(out / "demo" / "one.ndjson")]
    assert [event["step"] for event in held if event["type"] == "metrics"] == [0, 1, 2, 3]  # type: ignore[index]


class TestNdjson(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(site))
        self.sink_class = importlib.import_module("ndjson_sink").NdjsonSink
        self.to = tmp_path / "out"

    def make_sink(self) -> Sink:
        sink: Sink = self.sink_class(to=str(self.to))
        return sink

    def points(self, run: RunInfo) -> list[Point]:
        found = []
        for line in lines(self.to / run.project / f"{run.run_id}.ndjson"):
            event, rank = line["event"], line["rank"]
            assert isinstance(event, dict)
            for key, value in event.get("data", {}).items() if event["type"] == "metrics" else ():
                name = f"rank{rank}/{key}" if rank else key
                found.append(Point(f"metric {name}", event.get("step"), number_in_memory(value)))
        return found
