"""Finds the run that somebody means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from eventlog.analysis.runs import find_run, label_of
from eventlog.errors import EvlogError
from eventlog.storage.layout import RunPath, iter_runs


class RootNotFoundError(EvlogError, FileNotFoundError):
    """The directory of all projects is not there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root

    def __str__(self) -> str:
        return f"There is no directory {str(self.root)!r}. Name another with --dir or EVLOG_DIR."


def all_runs(root: Path) -> list[RunPath]:
    """Return the runs below *root*, sorted by project and id.

    Raises:
        RootNotFoundError: there is no such directory.
    """
    if not root.is_dir():
        raise RootNotFoundError(root)
    return list(iter_runs(root))


def resolve_runs(names: Sequence[str] | None, root: Path) -> list[RunPath]:
    """Return the runs that *names* mean, each once, or all below *root* if there are no names."""
    if not names:
        return all_runs(root)
    return list(dict.fromkeys(find_run(name, root) for name in names))


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what a shell may offer for the beginning of a RUN."""
    root = Path(ctx.params.get("root") or os.environ.get("EVLOG_DIR") or "./experiments")
    with_project = "/" in incomplete
    return [label for run in iter_runs(root) if (label := label_of(run, with_project)).startswith(incomplete)]
