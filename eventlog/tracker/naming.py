"""Decides which directory a new run gets."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.configuration import ConfigurationError, read_table
from eventlog.errors import RunNotFoundError, warn_once
from eventlog.ids import MAX_NAME_BYTES, check_name, writer_rank
from eventlog.settings import from_environment
from eventlog.storage.layout import is_run, list_rings, list_segments, log_directory
from eventlog.storage.liveness import silence_s
from eventlog.storage.modes import close_to_others, keep_private
from eventlog.storage.system import SYSTEM, System

MAX_SUFFIX = 100_000
BEGIN_S, YOUNG_S = 1.0, 10.0
"""How long rank 0 waits for a first file in a directory that is younger than this."""


class Placed(NamedTuple):
    """The run's directory, and whether this process starts it or takes part in one that exists."""

    path: Path
    is_new: bool


def default_run_id() -> str:
    """Return local date and time, as ``20260131_235959``."""
    return datetime.now().strftime("%Y%m%d_%H%M%S")


class PrivateTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[private]`` of ``evlog.toml``.

    Attributes:
        enabled: nobody else may read new runs, where neither program nor environment says.
    """

    enabled: bool = False


def wants_private(root: Path, said: bool | None = None) -> bool:
    """Tell whether new runs below *root* are to be private: as program, environment or file say."""
    said = from_environment().private if said is None else said
    if said is not None:
        return said
    try:
        return read_table("private", PrivateTable, root=root).enabled
    except ConfigurationError as error:
        # The safe side: a run that was too private can be opened later.
        warn_once("private", f"{error} Until then new runs are private.")
        return True


def make_private(run: Path) -> None:
    """Close the directory *run* to others, and let it be closed if it is not there yet."""
    keep_private(run)
    try:
        close_to_others(run)
    except FileNotFoundError:
        pass
    except OSError as error:
        warn_once(
            f"private {run}", f"{run} cannot be made private: {error.strerror}. Who owns it has to do that."
        )


def place_run(
    root: Path,
    project: str,
    run_id: str,
    *,
    resume: bool,
    joins: bool,
    rank: int,
    private: bool = False,
    system: System = SYSTEM,
) -> Placed:
    """Return the directory for a run, which is created.

    A fresh run never writes into a directory that exists: it gets ``-1``, ``-2``, … and says so. A process
    of rank 1 and up takes part in the run of exactly this id, and rank 0 in one that only higher ranks
    have begun.

    Args:
        joins: take part in the run, whoever began it.
        private: make the directory so that nobody else may read it.

    Raises:
        InvalidNameError: the names cannot be directories.
        RunNotFoundError: *resume*, and there is no such run.
        OSError: the directory cannot be made.
    """
    parent = root / check_name("project", project)
    path = parent / check_name("run id", run_id)
    if resume and not is_run(path):
        raise RunNotFoundError(run_id, parent)
    mode = 0o700 if private else 0o777
    if resume or joins or rank > 0:
        path.mkdir(mode, parents=True, exist_ok=True)
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
            candidate.mkdir(mode)
        except FileExistsError:
            if candidate.is_dir() and _is_begun_by_other_ranks(candidate, system):
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


def _is_begun_by_other_ranks(path: Path, system: System) -> bool:
    """Tell whether only higher ranks log below *path*.

    Between making the directory and the first file in it a moment passes: whoever has just done the one is
    given time to do the other.
    """
    deadline = system.monotonic_s() + BEGIN_S
    while True:
        ranks = _ranks_below(path, system)
        is_waiting = silence_s(path, system) < YOUNG_S and system.monotonic_s() < deadline
        if ranks or not is_waiting:
            return bool(ranks) and 0 not in ranks
        system.sleep(0.002)


def _ranks_below(path: Path, system: System) -> set[int | None]:
    """Return the ranks that log below *path*: a ring is there before the first segment."""
    log_dir = log_directory(path)
    return {writer_rank(one) for one in {**list_segments(log_dir, system), **list_rings(log_dir, system)}}
