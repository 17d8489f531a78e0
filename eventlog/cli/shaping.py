"""What the options of ``evlog sync`` mean: destinations, shapes, and which runs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import typer
from msgspec.structs import replace

from eventlog.analysis.runs import find_run
from eventlog.cli.find import all_runs
from eventlog.clock import SYSTEM_CLOCK
from eventlog.delivery.shaping import Shape
from eventlog.errors import EvlogError, RunNotFoundError
from eventlog.storage.layout import RunPath, is_run, iter_runs
from eventlog.sync import Outcome, Selection, Target
from eventlog.watch import RunSource

_AGO = re.compile(r"(\d+)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def targets_of(sinks: Sequence[str], options: Sequence[str]) -> list[Target]:
    """Return the destinations; an option is ``KEY=VALUE``, or ``SINK.KEY=VALUE`` if there are several sinks.

    Raises:
        typer.BadParameter: an option that is neither, or whose sink is not among *sinks*.
    """
    found: dict[str, dict[str, object]] = {name: {} for name in sinks}
    for option in options:
        left, equals, value = option.partition("=")
        sink, dot, key = left.partition(".")
        if not dot:
            sink, key = (sinks[0] if len(found) == 1 else ""), left
        if not equals or not key:
            raise typer.BadParameter(f"{option!r}: give KEY=VALUE", param_hint="--option")
        if sink not in found:
            names = " or ".join(f"{name}.{key}=…" for name in found)
            raise typer.BadParameter(f"{option!r}: say whose option it is: {names}", param_hint="--option")
        found[sink][key] = value
    return [Target(sink=name, options=own) for name, own in found.items()]


def shape_of(
    include: Sequence[str],
    exclude: Sequence[str],
    rename: Sequence[str],
    every: int,
    max_points: int | None,
    redact: Sequence[str],
) -> Shape:
    """Return the shape that the options describe.

    Raises:
        typer.BadParameter: a rename that is not ``OLD=NEW``.
        BadShapeError: options that cannot be.
    """
    names: dict[str, str] = {}
    for pair in rename:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise typer.BadParameter(f"{pair!r}: give OLD=NEW", param_hint="--rename")
        names[old] = new
    return Shape(
        include=tuple(include),
        exclude=tuple(exclude),
        rename=names,
        every=every,
        max_points=max_points,
        redact=tuple(redact),
    )


def since_us(text: str | None) -> int | None:
    """Return the time that ``2026-11-01``, ``2026-11-01T08:00`` (local) or ``36h`` (ago) means.

    Raises:
        typer.BadParameter: none of these.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return SYSTEM_CLOCK.now_us() - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r}: give a date (2026-11-01), a time (2026-11-01T08:00) or how long ago (36h, 7d)",
            param_hint="--since",
        ) from None
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def wanted_runs(names: Sequence[str] | None, root: Path) -> tuple[list[RunPath], list[Outcome]]:
    """Return the runs that *names* mean, and a failure for each name that means none.

    A name may also be a directory of all projects, or of one project. Without names all below *root*.

    Raises:
        RootNotFoundError: no names, and no such directory.
    """
    if not names:
        return all_runs(root), []
    runs: dict[Path, RunPath] = {}
    failures = []
    for name in names:
        try:
            for run in _runs_of(name, root):
                runs.setdefault(_absolute(run.path), run)
        except EvlogError as error:
            failures.append(Outcome(project="", run_id=name, sink="", result="failed", message=str(error)))
    return list(runs.values()), failures


def _runs_of(name: str, root: Path) -> list[RunPath]:
    try:
        return [find_run(name, root)]
    except RunNotFoundError:
        path = _absolute(name)
        if not path.is_dir():
            raise
        found = list(iter_runs(path)) or [
            RunPath(path.name, child.name, child) for child in sorted(path.iterdir()) if is_run(child)
        ]
        if not found:
            raise
        return found


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links and change the names


class Scope(NamedTuple):
    """What is followed: a place, the runs there at any moment, and which of them are wanted."""

    place: Path
    runs: RunSource
    selection: Selection


def scope_of(name: str | None, root: Path, selection: Selection) -> Scope:
    """Return what *name* means for ``--follow``: a run, a directory of all projects, or of one project.

    A *root* that is not there may come: who follows is often there before the first run.

    Raises:
        RunNotFoundError, AmbiguousRunError: there is no such thing to follow.
    """
    if name is None:
        return Scope(root, RunSource(root), selection)
    try:
        run = find_run(name, root)
        return Scope(run.path, RunSource(run.path.parent.parent, only=run), selection)
    except RunNotFoundError:
        path = _absolute(name)
        if not path.is_dir():
            raise
    # A project that is empty yet is told from a root by where it lies.
    if path.parent == _absolute(root) or any(is_run(child) for child in path.iterdir() if child.is_dir()):
        return Scope(path, RunSource(path.parent), replace(selection, projects=(path.name,)))
    return Scope(path, RunSource(path), selection)
