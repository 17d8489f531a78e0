"""The data of a run: whether they are still what they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from eventlog.errors import BadValueError
from eventlog.events import Dataset
from eventlog.lineage.reproduce.code import CodePlan, has_file
from eventlog.lineage.reproduce.errors import ReproductionError
from eventlog.storage.artifacts import describe

State = Literal["same", "changed", "gone", "in the commit", "unchecked"]


class DataPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A data set that the run read.

    Attributes:
        path: where it was, absolute; None if it was not given as a file.
        state: ``in the commit`` is checked when that is checked out; ``unchecked`` has no path or no hash.
        relative: its place below the repository, if it was there.
    """

    name: str
    split: str | None
    path: str | None
    sha256: str | None
    state: State
    relative: str | None = None

    @property
    def label(self) -> str:
        """Return what to call it in messages."""
        return f"{self.name} ({self.split})" if self.split else self.name


def plan_data(datasets: Sequence[Dataset], code: CodePlan, cwd: str | None) -> list[DataPlan]:
    """Return the data sets of a run and whether they are there; of files that were logged twice the last."""
    found: dict[tuple[str, str | None, str | None], DataPlan] = {}
    for dataset in datasets:
        one = _plan_one(dataset, code, cwd)
        found[one.name, one.split, one.path] = one
    return list(found.values())


def _plan_one(dataset: Dataset, code: CodePlan, cwd: str | None) -> DataPlan:
    path = Path(dataset.path) if dataset.path and "://" not in dataset.path else None
    if path is not None and not path.is_absolute() and cwd:
        path = Path(cwd) / path
    relative = None
    if (
        path is not None
        and code.root
        and path.is_relative_to(code.root)
        and ".." not in path.parts
        and not code.in_place
    ):
        relative = path.relative_to(code.root).as_posix()
    state: State = "unchecked"
    is_of_file = dataset.data.get("hash") in (None, "file", "tree")
    if path is not None and path.is_absolute() and dataset.sha256 and is_of_file:
        path, state = _find(path, dataset.sha256, relative, code)
    if relative and code.commit and code.repository and not code.is_clone:
        state = "in the commit" if has_file(Path(code.repository), code.commit, relative) else state
    return DataPlan(
        name=dataset.name,
        split=dataset.split,
        path=None if path is None else str(path),
        sha256=dataset.sha256 if is_of_file else None,
        state=state,
        relative=relative,
    )


def _find(path: Path, sha256: str, relative: str | None, code: CodePlan) -> tuple[Path, State]:
    """Return where the data are now: where they were, or at the same place in a repository that has moved."""
    state = _state(path, sha256)
    if state != "same" and relative and code.repository and not code.is_clone:
        moved = Path(code.repository) / relative
        if _state(moved, sha256) == "same":
            return moved, "same"
    return path, state


def _state(path: Path, sha256: str) -> State:
    try:
        return "same" if describe(path).sha256 == sha256 else "changed"
    except (OSError, BadValueError):
        return "gone"


def bring_data(plans: Sequence[DataPlan], tree: Path) -> list[str]:
    """See to it that each data set that lay in the repository is in *tree* too; say what is wrong.

    What git does not know is linked from where it was, and only if it is what it was.

    Raises:
        ReproductionError: a link cannot be made.
    """
    wrong = []
    for plan in plans:
        if plan.relative is None or plan.path is None:
            continue
        there = tree / plan.relative
        if not there.exists():
            _link(Path(plan.path), there)
        if plan.sha256 and _state(there, plan.sha256) != "same":
            wrong.append(f"{plan.label}: {plan.relative} is not what the run read")
    return wrong


def _link(source: Path, target: Path) -> None:
    if not source.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source, target_is_directory=source.is_dir())
    except OSError as error:
        raise ReproductionError("data", f"{source} cannot be linked to {target}: {error}") from error
