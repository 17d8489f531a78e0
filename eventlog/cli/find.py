"""Finds the run that somebody means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from eventlog.errors import AmbiguousRunError, EvlogError, RunNotFoundError
from eventlog.storage.layout import RunPath, is_run, iter_runs


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


def resolve_run(name: str, root: Path) -> RunPath:
    """Return the run that *name* means: PROJECT/ID, an id, a directory, or the beginning of an id.

    They are tried in this order, so that a longer id never hides a run that is named in full; what begins
    with ``/`` or ``.`` is a directory at once.

    Raises:
        RunNotFoundError: it fits none.
        AmbiguousRunError: it fits several.
    """
    looks_like_path = name.startswith((os.sep, "."))
    exact = None if looks_like_path else _below(name, root)
    if exact is not None:
        return exact
    runs = [] if looks_like_path else list(iter_runs(root))
    with_id = [run for run in runs if run.run_id == name]
    if with_id:
        return _only(name, with_id)
    path = Path(os.path.abspath(name))  # noqa: PTH100 - resolve() would follow links and change the names
    if name and is_run(path):
        return RunPath(path.parent.name, path.name, path)
    is_prefix = name != "" and not name.endswith("/")
    matches = [run for run in runs if is_prefix and _label(run, "/" in name).startswith(name)]
    if not matches:
        raise RunNotFoundError(name, root)
    return _only(name, matches)


def resolve_runs(names: Sequence[str] | None, root: Path) -> list[RunPath]:
    """Return the runs that *names* mean, each once, or all below *root* if there are no names."""
    if not names:
        return all_runs(root)
    return list(dict.fromkeys(resolve_run(name, root) for name in names))


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what a shell may offer for the beginning of a RUN."""
    root = Path(ctx.params.get("root") or os.environ.get("EVLOG_DIR") or "./experiments")
    with_project = "/" in incomplete
    return [label for run in iter_runs(root) if (label := _label(run, with_project)).startswith(incomplete)]


def _below(name: str, root: Path) -> RunPath | None:
    project, _, run_id = name.rstrip("/").partition("/")
    path = root / project / run_id
    return RunPath(project, run_id, path) if run_id and "/" not in run_id and is_run(path) else None


def _label(run: RunPath, with_project: bool) -> str:
    return f"{run.project}/{run.run_id}" if with_project else run.run_id


def _only(name: str, matches: list[RunPath]) -> RunPath:
    if len(matches) > 1:
        raise AmbiguousRunError(name, [_label(run, True) for run in matches])
    return matches[0]
