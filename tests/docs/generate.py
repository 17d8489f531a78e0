"""Writes the reference pages that are generated: `python -m tests.docs.generate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eventlog import tables
from eventlog.cli import reference

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {"tables.md": tables.reference_page, "cli.md": reference.reference_page}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make())


if __name__ == "__main__":
    main()
