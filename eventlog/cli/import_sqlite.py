"""``evlog import sqlite``: a database of experiments, as runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.cli.render import printable, say, write, write_json, write_table

if TYPE_CHECKING:
    from eventlog.importers.sqlite import ImportedDatabase

_COUNTS = ("values", "evaluations", "samples", "checkpoints")


def import_sqlite(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The database.")],
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            "-p",
            metavar="NAME",
            help="Project of the runs; default what the database says, else the file's name.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="NAME", help="Of times that name none, as Europe/Berlin.")
    ] = "UTC",
    as_json: AsJson = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Make a run of each experiment of a SQLite database, with the times that it had.

    Read are databases of the sqlite sink and of trackers with the tables experiments, training_metrics,
    evaluation_results and checkpoints. The database is not changed. Repeating it adds nothing.

    Ends with 1 if a run of another origin has the id of an experiment, or an experiment has changed since it
    was imported: such a run is left as it is.
    """
    from eventlog.importers.sqlite import import_database

    done = import_database(
        file, root, project=project, zone=_zone(timezone), dry_run=dry_run, on_experiment=_watch()
    )
    if as_json:
        write_json(done.to_dict())
    else:
        _show(done)
    if not done.is_good:
        raise typer.Exit(1)


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise typer.BadParameter(f"{name!r} is no time zone", param_hint="--timezone") from error


def _watch() -> Callable[[int, int], None] | None:
    """Return what shows how far it is, if somebody looks."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        sys.stderr.write(f"\r\x1b[2K{done} of {of} experiments" if done < of else "\r\x1b[2K")
        sys.stderr.flush()

    return show


def _show(done: ImportedDatabase) -> None:
    rows = [
        [f"{one.project}/{one.run_id}", one.result, *(str(getattr(one, name)) for name in _COUNTS)]
        for one in done.experiments
    ]
    if rows:
        write_table(["run", "result", *_COUNTS], rows, right=_COUNTS)
    else:
        write(printable(f"{done.path} holds no experiments"))
    for what, count in sorted(done.left_out.items()):
        say(f"left out: {what}" + (f" ({count})" if count > 1 else ""))
    taken = [one.run_id for one in done.experiments if one.result == "taken"]
    if taken:
        shown = ", ".join(taken[:5]) + (", …" if len(taken) > 5 else "")
        say(
            f"not imported: {shown}: a run of this id is there that was not made from what the database says "
            "now. Remove it, or choose another --project."
        )
