"""The how-to page about evaluation says what the software does."""

from __future__ import annotations

from pathlib import Path

from eventlog.analysis.facts import load
from tests.docs.test_pages import DOCS, python_blocks, run_example


def test_the_pages_example_evaluates(tmp_path: Path) -> None:
    """The script prints the accuracy and leaves a run with its samples."""
    out = run_example(python_blocks(DOCS / "how-to" / "evaluate.md")[0], tmp_path)

    facts = load(tmp_path / "experiments" / "p" / "baseline", with_samples=True)
    assert out == "Accuracy: 100.0%\n"
    assert len(facts.samples["sums"]) == 50
