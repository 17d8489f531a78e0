"""The page on reports: its example runs."""

from __future__ import annotations

from pathlib import Path

from tests.analysis.support_comparison import make_run
from tests.docs.test_pages import DOCS, python_blocks, run_example


def test_the_report_example_writes_a_page(tmp_path: Path) -> None:
    """The how-to's script says who is best and leaves a file."""
    for name, values in (("flip", [0.7, 0.8]), ("cutout", [0.5, 0.6])):
        for seed, value in enumerate(values):
            make_run(
                tmp_path / "experiments",
                f"{name}-{seed}",
                {"val/f1": value},
                experiment="aug_compare_v1",
                params={"aug": name, "seed": seed},
            )

    printed = run_example(python_blocks(DOCS / "how-to" / "report.md")[0], tmp_path)

    assert printed.startswith("aug=flip No difference between aug=flip and aug=cutout can be told")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
