"""Carries out a plan: makes code, environment and data ready, starts the command, finds what it logged."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eventlog.lineage.reproduce.code import check_out
from eventlog.lineage.reproduce.command import argv_for, variables_of
from eventlog.lineage.reproduce.data import bring_data
from eventlog.lineage.reproduce.environment import Tell, build, moved, variables_for
from eventlog.lineage.reproduce.errors import ReproductionError
from eventlog.lineage.reproduce.plan import Plan
from eventlog.lineage.reproduce.recorded import Recorded, begun_at, processes_of, read_recorded
from eventlog.storage.layout import iter_runs, list_segments, log_directory


class Start(NamedTuple):
    """A command that is ready to be started."""

    argv: list[str]
    cwd: Path
    environment: dict[str, str]


class Places(NamedTuple):
    """Where the parts of a repetition are made."""

    code: Path
    environment: Path
    clone: Path


def places_below(directory: Path) -> Places:
    """Return the places below *directory*, which is there."""
    return Places(directory / "code", directory / "environment", directory / "clone")


def prepare(
    plan: Plan,
    places: Places,
    tell: Tell,
    *,
    find_links: Sequence[Path] = (),
    no_index: bool = False,
    is_forced: bool = False,
) -> Start:
    """Make everything ready; return what to start.

    Args:
        tell: is told each step, in words.
        is_forced: go on although data are not what they were.

    Raises:
        ReproductionError: something is not to be had.
    """
    assert plan.command is not None
    move = move_of(plan, places)
    if plan.code.commit and not plan.code.in_place:
        tell(
            f"checking out {plan.code.commit[:12]}" + (" with its uncommitted changes" * bool(plan.code.diff))
        )
        check_out(plan.code, places.code, clone_to=places.clone)
        wrong = bring_data(plan.data, places.code)
        if wrong and not is_forced:
            raise ReproductionError("data", "; ".join(wrong), "Bring it back, or go on with --force.")
        for line in wrong:
            tell(line)
    if plan.environment.kind in ("uv", "venv"):
        tell(f"building the environment with {plan.environment.kind}")
    interpreter = build(
        plan.environment, places.environment, move=move, tell=tell, find_links=find_links, no_index=no_index
    )
    cwd = working_directory(plan, places, move)
    if move and cwd.is_relative_to(places.code):
        cwd.mkdir(parents=True, exist_ok=True)  # a directory that git does not know
    if not cwd.is_dir():
        raise ReproductionError("command", f"its working directory {cwd} is not there")
    variables = variables_of(plan.command, move)
    environment = _merged(os.environ, variables, variables_for(plan.environment, interpreter, move))
    return Start(argv_for(plan.command, interpreter, move), cwd, environment)


def move_of(plan: Plan, places: Places) -> dict[str, str]:
    """Return the old place of the code to its new one, empty if it stays where it is."""
    has_moved = plan.code.commit and plan.code.root and not plan.code.in_place
    return {str(plan.code.root): str(places.code)} if has_moved else {}


def working_directory(plan: Plan, places: Places, move: Mapping[str, str]) -> Path:
    """Return where the command is started."""
    cwd = plan.command.cwd if plan.command else None
    return Path(moved(cwd, move)) if cwd else places.code


def _merged(
    ours: Mapping[str, str], recorded: Mapping[str, str], needed: Mapping[str, str]
) -> dict[str, str]:
    merged = {**ours, **recorded}
    for name, value in needed.items():
        before = merged.get(name) if name == "PYTHONPATH" else None
        merged[name] = f"{value}{os.pathsep}{before}" if before else value
    return merged


# --- what the command logged -----------------------------------------------------------------------


def roots_of(plan: Plan, root: Path, start: Start) -> list[Path]:
    """Return where runs of the command may lie: below *root*, or where its code says, in the worktree."""
    candidates = [root, start.cwd / "experiments"]
    if plan.code.root and root.is_absolute() and not plan.code.in_place:
        top = _top(start.cwd, plan)
        if top is not None and root.is_relative_to(plan.code.root):
            candidates.append(top / root.relative_to(plan.code.root))
    return list(dict.fromkeys(path.absolute() for path in candidates))


def _top(cwd: Path, plan: Plan) -> Path | None:
    """Return the top of the worktree, given the working directory in it."""
    if plan.command is None or plan.command.cwd is None or plan.code.root is None:
        return None
    old = Path(plan.command.cwd)
    if not old.is_relative_to(plan.code.root):
        return None
    for _ in old.relative_to(plan.code.root).parts:
        cwd = cwd.parent
    return cwd


def known_runs(roots: Sequence[Path]) -> set[Path]:
    """Return the runs that are there."""
    return {run.path for root in roots if root.is_dir() for run in iter_runs(root)}


def find_repeated(plan: Plan, original: Recorded, first: Path, made: set[Path]) -> Path:
    """Return the run that repeats *original*.

    Args:
        first: the run that was begun for the command; it is empty if the command began its own by name.
        made: the runs that were not there before.

    Raises:
        ReproductionError: none of them is.
    """
    own = processes_of(first)
    # Another repetition may go on at the same time: its run has the tag too, and its others its processes.
    repeats = [run for run in made if run != first and "reproduces" in read_recorded(run).facts.view.tags]
    others = {process for run in repeats for process in processes_of(run)} - own
    ordered = sorted(
        (run for run in {first, *made} if not others & processes_of(run)),
        key=lambda path: (begun_at(path), str(path)),
    )
    related = [path for path in ordered if path == first or own & processes_of(path)]
    if len(list_segments(log_directory(first))) < 2:
        # Nobody joined: the command names its runs itself, which then are the first to be there.
        related = [path for path in ordered if path != first] or [first]
    if plan.position < len(related):
        return related[plan.position]
    wanted = original.facts.view.name
    named = [path for path in ordered if read_recorded(path).facts.view.name == wanted]
    if not named:
        raise ReproductionError(
            "run", f"the command made {len(related)} runs, and number {plan.position + 1} was to be compared"
        )
    return named[0]


def writers_of(run: Path) -> set[str]:
    """Return who wrote into *run*, to see later that nobody else did."""
    return set(list_segments(log_directory(run)))


def data_notes(old: Recorded, new: Recorded) -> list[str]:
    """Return which data the two runs say to have read with different content."""
    hashes = {(one.name, one.split): one.sha256 for one in old.facts.datasets}
    return [
        f"the data {one.name}{f' ({one.split})' if one.split else ''} had another content"
        for one in new.facts.datasets
        if one.sha256 and hashes.get((one.name, one.split)) not in (None, one.sha256)
    ]
