"""``evlog import``: what other tools wrote, as runs."""

from __future__ import annotations

import typer

from eventlog.cli.import_sqlite import import_sqlite
from eventlog.cli.import_text import import_text

_EXAMPLES = """\b
Examples:
  evlog import text train.log --project old --param seed=1
  evlog import text train.log --dry-run
  evlog import sqlite experiments.db --project old"""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    group = typer.Typer(
        help="Make runs of what other tools wrote.", no_args_is_help=True, rich_markup_mode=None
    )
    group.command(
        "text",
        epilog="\b\nExamples:\n  evlog import text train.log --project old --param seed=1\n"
        "  my-trainer | evlog import text - --name tried\n"
        r"  evlog import text train.log --pattern 'it (?P<step>\d+) .* loss (?P<loss>\S+)' --dry-run",
    )(import_text)
    group.command(
        "sqlite",
        epilog="\b\nExamples:\n  evlog import sqlite experiments.db --project old\n"
        "  evlog import sqlite experiments.db --dry-run --timezone Europe/Berlin",
    )(import_sqlite)
    app.add_typer(group, name="import", epilog=_EXAMPLES)
