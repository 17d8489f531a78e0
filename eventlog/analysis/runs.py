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
    """Return the run that *name* means: PROJECT/ID, an id, a directory, or the beginning of an id.

    They are tried in this order, so that a longer id never hides a run that is named in full; a path object,
    and what begins with ``/`` or ``.``, is a directory at once.

    Raises:
        RunNotFoundError: it fits none.
        AmbiguousRunError: it fits several.
    """
    text = os.fspath(name)
    is_directory = not isinstance(name, str) or text.startswith((os.sep, "."))
    exact = None if is_directory else _below(text, root)
    if exact is not None:
        return exact
    runs = [] if is_directory else list(iter_runs(root))
    with_id = [run for run in runs if run.run_id == text]
    if with_id:
        return _only(text, with_id, root)
    path = Path(os.path.abspath(text))  # noqa: PTH100 - resolve() would follow links and change the names
    if text and is_run(path):
        return RunPath(path.parent.name, path.name, path)
    is_prefix = text != "" and not text.endswith("/")
    return _only(
        text, [run for run in runs if is_prefix and label_of(run, "/" in text).startswith(text)], root
    )


def directory_of(run: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Path:
    """Return the directory of *run*, which may be one already, or a name as `find_run` takes it.

    Raises:
        RunNotFoundError, AmbiguousRunError: as `find_run`.
    """
    path = Path(run)
    if run and is_run(path):
        return path
    return find_run(run, root_path(root)).path


def label_of(run: RunPath, with_project: bool) -> str:
    """Return the run's id, or ``PROJECT/ID``."""
    return f"{run.project}/{run.run_id}" if with_project else run.run_id


def _below(name: str, root: Path) -> RunPath | None:
    project, _, run_id = name.rstrip("/").partition("/")
    path = root / project / run_id
    return RunPath(project, run_id, path) if run_id and "/" not in run_id and is_run(path) else None


def _only(name: str, fits: Sequence[RunPath], root: Path) -> RunPath:
    if not fits:
        raise RunNotFoundError(name, root)
    if len(fits) > 1:
        raise AmbiguousRunError(name, [label_of(run, True) for run in fits])
    return fits[0]


def short_labels(runs: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return what to call each run (project, id, path): its id, or more where several have that."""
    names: list[list[str]] = [[run_id, f"{project}/{run_id}", path] for project, run_id, path in runs]
    return [
        next((own for i, own in enumerate(mine) if [other[i] for other in names].count(own) == 1), mine[-1])
        for mine in names
    ]
