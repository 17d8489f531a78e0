"""``evlog plot``: curves in the terminal and as files."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import complete_run
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.cli.selecting import SYNTAX, select

if TYPE_CHECKING:
    from eventlog.analysis.plots.curves import Curves


class XAxis(StrEnum):
    """What the curves are drawn over."""

    STEP = "step"
    TIME = "time"
    RELATIVE = "relative"


def plot(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", autocompletion=complete_run, help=SYNTAX)],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", metavar="KEY", help="What is drawn; repeatable.")
    ] = None,
    x: Annotated[
        XAxis,
        typer.Option(
            "--x", metavar="step|time|relative", help="Over steps, the time, or time since the start."
        ),
    ] = XAxis.STEP,
    smooth: Annotated[
        float, typer.Option(min=0.0, max=0.9999, metavar="W", help="Weight of the past: 0 none, 0.9 much.")
    ] = 0.0,
    log_y: Annotated[bool, typer.Option("--log-y", help="A logarithmic scale.")] = False,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            "--group-by", "-g", metavar="PARAM", help="A band (mean ± std) for each value of it; repeatable."
        ),
    ] = None,
    bands: Annotated[
        bool, typer.Option("--bands", help="A band (mean ± std) for each RUN argument.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write .png, .svg or .pdf instead.")
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Over the figure in the file.")] = None,
    width: Annotated[
        int | None, typer.Option(min=30, max=1000, metavar="N", help="Columns; default all of the terminal.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=10, max=500, metavar="N", help="Lines of each plot.")
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Draw metrics of runs in the terminal or into a file.

    The terminal's curves are coloured; in a pipe, or with NO_COLOR, each has a letter.
    """
    from eventlog.analysis.plots.curves import curves

    if bands and group_by:
        raise typer.BadParameter("--bands and --group-by both say what a curve is. Give one of them.")
    if output is not None and not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no directory for {str(output)!r}.")
    chosen = {text: select(text, root) for text in runs}
    paths = list(dict.fromkeys(path for members in chosen.values() for path in members))
    with render.progress("reading runs"):
        groups = chosen if bands else _grouped(paths, group_by) if group_by else None
        found = curves(paths, metric or (), root=root, x=x.value, smooth=smooth, groups=groups)
    if output is not None:
        from eventlog.analysis.plots.drawing import save

        save(found, output, log_y=log_y, title=title)
    if as_json:
        render.write_json(found.to_dict())
    elif output is None:
        _show(found, width, height, log_y=log_y)
    for note in found.notes:
        render.say(note)


def _grouped(paths: list[Path], names: list[str]) -> dict[str, list[Path]]:
    from eventlog.analysis.selection import grouped

    return grouped(paths, names)


def _show(found: Curves, width: int | None, height: int | None, *, log_y: bool) -> None:
    from eventlog.analysis.plots.text import terminal

    columns, lines = shutil.get_terminal_size((80, 24))
    is_screen = sys.stdout.isatty()
    # One plot fills the screen but for the prompt; several take half of it each.
    tall = max(14, min(40, lines - 2)) if len(found.keys) == 1 else max(14, min(24, lines // 2))
    render.write(
        terminal(
            found,
            width=width or columns,
            height=height or (tall if is_screen else 22),
            has_colour=is_screen and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            log_y=log_y,
        )
    )


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    app.command(
        "plot",
        epilog="\b\nExamples:\n"
        "  evlog plot flip-0 flip-1 --metric train/loss --smooth 0.9\n"
        "  evlog plot experiment=aug_compare_v1 --metric val/acc --group-by aug --output val_acc.png\n"
        "  evlog plot aug=flip aug=cutout --metric val/acc --bands --x relative\n"
        "  evlog plot baseline --metric loss --log-y --output loss.svg",
    )(plot)
