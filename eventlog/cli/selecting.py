"""Reads what stands for several runs on a command line: names, or what the runs have in common."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from eventlog.analysis.runs import find_run
from eventlog.cli.find import RootNotFoundError
from eventlog.errors import RunNotFoundError

SYNTAX = (
    "A run; several runs between commas; or conditions between commas, which must all hold: "
    "experiment=NAME, tag:NAME[=VALUE], PARAM=VALUE."
)


def select(text: str, root: Path) -> list[Path]:
    """Return the directories of the runs that *text* means.

    Raises:
        RunNotFoundError, AmbiguousRunError: a name fits no run, or several.
        StatisticsError: no run fits the conditions.
    """
    from eventlog.analysis.selection import is_condition, matching

    whole = _exactly(text, root)
    if whole is not None:
        return [whole]
    parts = [part.strip() for part in text.split(",") if part.strip()]
    exact = [_exactly(part, root) for part in parts]
    conditions = [part for part, run in zip(parts, exact, strict=True) if run is None and is_condition(part)]
    if conditions and len(conditions) < len(parts):
        raise typer.BadParameter(f"{text!r} mixes runs and conditions. Give one or the other.")
    if not parts:
        raise RunNotFoundError(text, root)
    if not root.is_dir() and conditions:
        raise RootNotFoundError(root)
    if conditions:
        return matching(root, conditions)
    found = [run or find_run(part, root).path for part, run in zip(parts, exact, strict=True)]
    return list(dict.fromkeys(found))


def _exactly(name: str, root: Path) -> Path | None:
    """Return the run of this very id; ids may hold ``=`` and commas, so that they come first."""
    if "=" not in name and "," not in name:
        return None
    with contextlib.suppress(RunNotFoundError):
        found = find_run(name, root)
        if name in {found.run_id, f"{found.project}/{found.run_id}"} or "/" in name:
            return found.path
    return None
