"""``evlog leaderboard`` and ``evlog decide``: who is best, over seeds."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.decide import decide
from eventlog.cli.find import RootNotFoundError
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.cli.runs import Status

if TYPE_CHECKING:
    from eventlog.analysis.ranking.board import Leaderboard


class Mode(StrEnum):
    """What is better."""

    MAX = "max"
    MIN = "min"


class Form(StrEnum):
    """What the places become."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"


Metric = Annotated[
    str | None,
    typer.Option(
        "--metric", "-m", metavar="KEY", help="Rank by this result, or the only one whose name ends so."
    ),
]
WhichMode = Annotated[
    Mode | None,
    typer.Option("--mode", metavar="max|min", help="What is better; default as the metric's name says."),
]
Benchmark = Annotated[
    str | None, typer.Option("--benchmark", "-b", metavar="NAME", help="Only results of this benchmark.")
]
GroupBy = Annotated[
    list[str] | None,
    typer.Option(
        "--group-by",
        "-g",
        metavar="PARAM",
        help="Take runs together that agree on it: mean ± std; repeatable, or with commas.",
    ),
]
Project = Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this project.")]
Experiment = Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this experiment.")]
Where = Annotated[
    str | None,
    typer.Option(metavar="SQL", help="Only runs for which this is true; the columns are those of `runs`."),
]


def leaderboard(
    metric: Metric = None,
    mode: WhichMode = None,
    benchmark: Benchmark = None,
    group_by: GroupBy = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top", "-n", min=1, metavar="N", help="So many places, and what is equal to the last."
        ),
    ] = None,
    project: Project = None,
    experiment: Experiment = None,
    where: Where = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            metavar="running|finished|failed|killed|crashed", help="Only runs that stand so; repeatable."
        ),
    ] = None,
    form: Annotated[
        Form,
        typer.Option("--format", "-f", metavar="table|csv|json|markdown", help="What the places become."),
    ] = Form.TABLE,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Rank runs, or groups of runs over seeds, by a result.

    Without --metric the only accuracy counts, else the only result that all runs have. Equal ranks are shown
    as 1=; NaN comes last. Runs that go on count with what they have so far.
    """
    from eventlog.analysis.ranking.board import leaderboard as ranked

    if not root.is_dir():
        raise RootNotFoundError(root)
    with render.progress("reading runs"):
        board = ranked(
            root,
            metric=metric,
            mode=None if mode is None else mode.value,
            benchmark=benchmark,
            group_by=group_by or (),
            top=top,
            project=project,
            experiment=experiment,
            where=where,
            status=[str(one) for one in status or ()],
        )
    for problem in board.problems:
        render.say(problem)
    form = Form.JSON if as_json else form
    if form is Form.JSON:
        render.write_json(board.to_dict())
    elif form is Form.MARKDOWN:
        render.write(board.to_markdown())
    elif form is Form.CSV:
        _write_csv(board)
    else:
        _write_table(board)


def _write_table(board: Leaderboard) -> None:
    render.write(render.printable(f"Leaderboard: {board.title}"))
    render.write("")
    columns, rows = board.columns, board.rows
    if render.fits_screen(columns, rows):
        render.write_table(columns, rows, right=("rank", *board.metrics, "runs", "seeds"))
    else:
        render.write_records(columns, rows)
    if board.foot:
        render.write("")
    for line in board.foot:
        render.write(render.printable(line))


def _write_csv(board: Leaderboard) -> None:
    """Write a row for each place, with every number in a column of its own."""
    who = list(board.group_by) if board.group_by else ["run", "name", "status"]
    kinds = ("mean", "std", "n") if board.group_by else ("mean",)
    names = [f"{key} {kind}" if board.group_by else key for key in board.metrics for kind in kinds]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["rank", *who, *names, *(["runs", "seeds"] if board.group_by else [])])
    for place in board.places:
        scores = [place.scores.get(key) for key in board.metrics]
        numbers = [None if score is None else getattr(score, kind) for score in scores for kind in kinds]
        cells = (
            [render.cell(value) for value in place.group.values()]
            if board.group_by
            else [place.runs[0], place.name, place.status]
        )
        last = [len(place.runs), place.seeds] if board.group_by else []
        writer.writerow([place.rank, *cells, *map(_plain, numbers), *last])


def _plain(value: object) -> object:
    plain = render.plain(value)
    return plain if plain is None or isinstance(plain, (str, int, float)) else json.dumps(plain)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    app.command(
        "leaderboard",
        epilog=_examples(
            "evlog leaderboard",
            "evlog leaderboard --benchmark gsm8k --top 10",
            "evlog leaderboard --metric val/loss --group-by lr --group-by model",
            "evlog leaderboard -m val_f1_macro --where \"tags['owner'] = 'ada'\" --json",
        ),
    )(leaderboard)
    app.command(
        "decide",
        epilog=_examples(
            'evlog decide "highest mean val_f1 with std<=0.5, tie-break accuracy" --experiment aug_v1',
            'evlog decide "lowest val/loss with n>=3 within 1%, tie-break lowest train_time" --group-by lr',
        ),
    )(decide)


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
