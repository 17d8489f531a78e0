"""Which run somebody means, where a function takes names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from eventlog.errors import AmbiguousRunError, EvlogError, RunNotFoundError
from eventlog.storage.layout import RunPath, is_run, iter_runs

DEFAULT_ROOT = "./experiments"


class NoRunsError(EvlogError, LookupError):
    """No run fits the conditions."""

    def __init__(self, root: str, conditions: str = "") -> None:
        super().__init__(root, conditions)
        self.root, self.conditions = root, conditions

    def __str__(self) -> str:
        what = (
            f"No run below {self.root} fits {self.conditions}."
            if self.conditions
            else f"No runs below {self.root}."
        )
        return f"{what} `evlog list` shows the runs; --dir names another root."


def root_path(root: str | os.PathLike[str] | None) -> Path:
    """Return the directory of all projects: *root*, else ``EVLOG_DIR``, else ``./experiments``."""
    return Path(root or os.environ.get("EVLOG_DIR") or DEFAULT_ROOT)


def find_run(name: str | os.PathLike[str], root: Path) -> RunPath:
    """Return the run *name* below *root*: an id, PROJECT/ID, the beginning of an id, or a directory.

    Raises:
        RunNotFoundError: it is none.
        AmbiguousRunError: it may be several.
    """
    path = Path(os.path.abspath(name))  # noqa: PTH100 - resolve() would follow links and change the names
    if not isinstance(name, str) and is_run(path):
        return RunPath(path.parent.name, path.name, path)
    text = os.fspath(name)
    runs = list(iter_runs(root))
    exact = [run for run in runs if text in {run.run_id, f"{run.project}/{run.run_id}"}]
    if not exact and is_run(path):
        return RunPath(path.parent.name, path.name, path)
    fits = exact or [run for run in runs if text and _label(run, text).startswith(text)]
    if not fits:
        raise RunNotFoundError(text, root)
    if len(fits) > 1:
        raise AmbiguousRunError(text, [f"{run.project}/{run.run_id}" for run in fits])
    return fits[0]


def _label(run: RunPath, text: str) -> str:
    return f"{run.project}/{run.run_id}" if "/" in text else run.run_id


def short_labels(runs: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return what to call each run (project, id, path): its id, or more where several have that."""
    names: list[list[str]] = [[run_id, f"{project}/{run_id}", path] for project, run_id, path in runs]
    return [
        next((own for i, own in enumerate(mine) if [other[i] for other in names].count(own) == 1), mine[-1])
        for mine in names
    ]
