"""What the pages say is what the software does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import Tracker, TrackingConfig
from eventlog.replay import view
from tests.docs.generate import PAGES, REFERENCE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES_WITH_LINKS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), ROOT / "benchmarks" / "README.md"]


def python_blocks(page: Path) -> list[str]:
    """Return the Python examples of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run_example(code: str, cwd: Path) -> str:
    """Run *code* as a script and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    """`make docs` would change nothing."""
    assert (REFERENCE / name).read_text() == PAGES[name]()


@pytest.mark.parametrize("page", PAGES_WITH_LINKS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]

    assert missing == []


def test_the_tutorials_script_logs_a_thousand_steps(tmp_path: Path) -> None:
    """The first script of the tutorial runs as it stands."""
    run_example(python_blocks(DOCS / "tutorial" / "first-run.md")[0], tmp_path)

    seen = view(tmp_path / "experiments" / "tutorial" / "first")
    assert seen.metrics["train/loss"].count == 1000
    assert (tmp_path / "experiments" / "tutorial" / "first" / "metrics.json").exists()


def test_the_resume_example_goes_on_where_the_run_was(tmp_path: Path) -> None:
    """The how-to's script continues a run after its last step."""
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path / "experiments")
    with tracker.start_run("baseline"):
        for step in range(40):
            tracker.log_metrics({"loss": 1.0}, step)
    run_example(python_blocks(DOCS / "how-to" / "resume.md")[0], tmp_path)

    assert view(tmp_path / "experiments" / "p" / "baseline").metrics["loss"].count == 100


def test_the_query_example_prints_the_runs(tmp_path: Path) -> None:
    """The how-to's script shows a row for each run."""
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path / "experiments")
    tracker.start_run("baseline")
    tracker.end_run()

    assert (
        run_example(python_blocks(DOCS / "how-to" / "query.md")[0], tmp_path) == "('baseline', 'finished')\n"
    )


def test_the_readmes_example_prints_what_it_says(tmp_path: Path) -> None:
    """The README shows the real output of its example."""
    text = (ROOT / "README.md").read_text()
    code = python_blocks(ROOT / "README.md")[0]
    shown = re.search(r"<!-- output -->\n```\n(.*?)```", text, re.DOTALL)
    assert shown is not None

    assert run_example(code, tmp_path) == shown[1]


def test_every_logging_call_is_in_the_reference() -> None:
    """The tracker's page names each public method."""
    page = (REFERENCE / "tracker.md").read_text()
    public = [name for name in dir(Tracker) if not name.startswith("_") and callable(getattr(Tracker, name))]
    internal = {"end_with", "log_event"}

    assert [
        name for name in public if name not in internal and f"`{name}(" not in page and f"{name}(" not in page
    ] == []
