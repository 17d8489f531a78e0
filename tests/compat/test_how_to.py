"""The examples of the pages run and print what they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sinks._sqlite.schema import connect
from tests.docs.test_pages import DOCS, python_blocks


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_of_the_page_on_migration_run() -> None:
    """Both trackers, and what they give back."""
    experiments, evaluations = python_blocks(DOCS / "how-to" / "migrate.md")

    assert run(experiments) == "completed 500\n"
    assert run(evaluations) == "0.375 4 4\n"
    assert Path("results/leaderboard.csv").exists()


def test_columns_of_the_page_are_those_of_the_database(tmp_path: Path) -> None:
    """The table of the page names each column, in its order."""
    page = (DOCS / "how-to" / "csv-and-sqlite.md").read_text()
    database = connect(tmp_path / "e.db")
    tables = ("experiments", "training_metrics", "evaluation_results", "evaluation_metrics", "checkpoints")
    for table in tables:
        has = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
        assert f"| {', '.join(f'`{name}`' for name in has)} |" in page, table
    database.close()
