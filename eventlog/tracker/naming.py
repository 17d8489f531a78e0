"""Decides which directory a new run gets."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from eventlog.errors import RunNotFoundError, warn_once
from eventlog.ids import MAX_NAME_BYTES, check_name, writer_rank
from eventlog.storage.layout import is_run, list_segments, log_directory

MAX_SUFFIX = 100_000


class Placed(NamedTuple):
    """The run's directory, and whether this process starts it or takes part in one that exists."""

    path: Path
    is_new: bool


def default_run_id() -> str:
    """Return local date and time, as ``20260131_235959``."""
    return datetime.now().strftime("%Y%m%d_%H%M%S")


def place_run(root: Path, project: str, run_id: str, *, resume: bool, joins: bool, rank: int) -> Placed:
    """Return the directory for a run, which is created.

    A fresh run never writes into a directory that exists: it gets ``-1``, ``-2``, … and says so. A process
    of rank 1 and up takes part in the run of exactly this id, and rank 0 in one that only higher ranks
    have begun.

    Args:
        joins: take part in the run, whoever began it.

    Raises:
        InvalidNameError: the names cannot be directories.
        RunNotFoundError: *resume*, and there is no such run.
        OSError: the directory cannot be made.
    """
    parent = root / check_name("project", project)
    path = parent / check_name("run id", run_id)
    if resume and not is_run(path):
        raise RunNotFoundError(run_id, parent)
    if resume or joins or rank > 0:
        path.mkdir(parents=True, exist_ok=True)
        return Placed(path, is_new=False)
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(MAX_SUFFIX):
        suffix = f"-{number}" if number else ""
        candidate = (
            parent / (run_id.encode()[: MAX_NAME_BYTES - 8].decode(errors="ignore") + suffix)
            if number
            else path
        )
        try:
            candidate.mkdir()
        except FileExistsError:
            if candidate.is_dir() and _is_begun_by_other_ranks(candidate):
                return Placed(candidate, is_new=True)
            continue
        if number:
            warn_once(
                f"suffix {candidate}",
                f"run {run_id!r} exists in {parent}; this run is {candidate.name!r}. "
                "Pass resume=True to go on with the old one.",
            )
        return Placed(candidate, is_new=True)
    raise FileExistsError(f"{path}: {MAX_SUFFIX} runs have this name")


def unmade_run(root: Path, project: str, run_id: str, *, joins: bool) -> Placed:
    """Return a directory for a run that cannot be made now, only named.

    Args:
        joins: take part in the run of exactly this id; else no other run has the name, or will get it.

    Raises:
        InvalidNameError: the names cannot be directories.
    """
    parent = root / check_name("project", project)
    name = check_name("run id", run_id)
    if joins:
        return Placed(parent / name, is_new=False)
    short = name.encode()[: MAX_NAME_BYTES - 8].decode(errors="ignore")
    return Placed(parent / f"{short}-{os.urandom(3).hex()}", is_new=True)


def _is_begun_by_other_ranks(path: Path) -> bool:
    ranks = {writer_rank(writer) for writer in list_segments(log_directory(path))}
    return bool(ranks) and 0 not in ranks
