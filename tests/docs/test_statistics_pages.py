"""The pages on statistics, plots and exports: their examples run, and they name what there is."""

from __future__ import annotations

import math
from pathlib import Path

from eventlog.analysis import canonical, canonical_bytes, statistics
from tests.analysis.support_statistics import log_run
from tests.docs.test_pages import DOCS, python_blocks, run_example


def log_augmentations(root: Path) -> None:
    """Log six seeds of two augmentations."""
    for name, offset in (("flip", 0.0), ("cutout", -0.05)):
        for seed in range(6):
            points = [(i, {"val/acc": 0.9 - math.exp(-i / 9) / 2 + offset + seed / 500}) for i in range(30)]
            end = (30, {"val_f1_macro": 0.8 + offset + seed / 1000})
            log_run(root, f"{name}-{seed}", params={"aug": name, "seed": seed}, points=[*points, end])


def test_the_significance_example_prints_what_was_found(tmp_path: Path) -> None:
    """The how-to's script says it in words."""
    log_augmentations(tmp_path / "experiments")

    printed = run_example(python_blocks(DOCS / "how-to" / "significance.md")[0], tmp_path)

    assert printed.startswith("flip is better than cutout by 0.05, p=0.031 (permutation, exact, all 64 arr")


def test_the_plot_example_draws_and_writes(tmp_path: Path) -> None:
    """The how-to's script prints a plot and leaves a file."""
    log_augmentations(tmp_path / "experiments")

    printed = run_example(python_blocks(DOCS / "how-to" / "plot.md")[0], tmp_path)

    assert printed.startswith("val/acc by step, smoothed 0.6\n")
    assert (tmp_path / "val_acc.svg").exists()


def test_the_export_example_writes_a_baseline(tmp_path: Path) -> None:
    """The how-to's script says what there is, and its file is what the command writes."""
    for name in ("digits-1", "digits-2"):
        log_run(tmp_path / "experiments", name, points=[(i, {"loss": 1 / (i + 1)}) for i in range(4)])

    printed = run_example(python_blocks(DOCS / "how-to" / "export.md")[0], tmp_path)

    assert printed == "4 points\n0.25\n2 runs\n"
    written = (tmp_path / "baseline.json").read_bytes()
    assert written == canonical_bytes(canonical("digits-2", root=tmp_path / "experiments"))


def test_the_reference_names_every_statistic() -> None:
    """Each function is on the page."""
    page = (DOCS / "reference" / "statistics.md").read_text()
    functions = [
        name for name in statistics.__all__ if name.islower() and name not in {"arrangements", "corrected"}
    ]

    assert [name for name in functions if name.removesuffix("_counts") not in page] == []
