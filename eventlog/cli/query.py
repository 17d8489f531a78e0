"""``evlog query``: SQL over all runs."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from eventlog.cli import render
from eventlog.cli.find import all_runs
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from eventlog.query import Database, Result

MAX_SCREEN_ROWS = 1000


class Format(StrEnum):
    """What the rows become."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def query(
    sql: Annotated[
        str | None, typer.Argument(metavar="[SQL]", help="The question; read from standard input if '-'.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", "-f", metavar="table|csv|json|parquet", help="What the rows become.")
    ] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of the screen.")
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Ask all runs a question in SQL.

    The tables are runs, metrics, params, summaries, events, tags, artifacts and damage. CSV and JSON rows
    are written as they come.
    """
    form = Format.JSON if as_json else form
    if form is Format.PARQUET and output is None:
        raise typer.BadParameter("parquet needs a file: add --output FILE.")
    question = _question(sql)
    runs = all_runs(root)
    with _opened(root, len(runs)) as database:
        for problem in database.problems:
            render.say(problem)
        _answer(database, question, form, output)


def _question(sql: str | None) -> str:
    if sql is None and sys.stdin.isatty():
        raise typer.BadParameter("there is no SQL. Give it in quotes, or '-' to read it from standard input.")
    question = sys.stdin.read() if sql is None or sql == "-" else sql
    if not question.strip():
        raise typer.BadParameter("the SQL is empty.")
    return question


@contextlib.contextmanager
def _opened(root: Path, total: int) -> Iterator[Database]:
    from eventlog.query import Database

    with render.progress("reading runs", total=total) as bar:
        database = Database.open(root, on_progress=bar.set)
    with database:
        yield database


def _answer(database: Database, question: str, form: Format, output: Path | None) -> None:
    if output is None:
        _write_rows(database.execute(question), form, sys.stdout)
        return
    # Whoever waits for the file shall not find half of it.
    young = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        if form is Format.PARQUET:
            database.write_parquet(question, young)
        else:
            with young.open("w", newline="", encoding="utf-8") as file:
                _write_rows(database.execute(question), form, file)
        young.replace(output)
    finally:
        young.unlink(missing_ok=True)


def _write_rows(result: Result, form: Format, file: TextIO) -> None:
    if form is Format.CSV:
        _write_csv(result, file)
    elif form is Format.JSON:
        _write_json(result, file)
    elif file is sys.stdout:
        _write_screen(result)
    else:
        with contextlib.redirect_stdout(file):
            _write_screen(result)


def _write_csv(result: Result, file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(result.columns)
    for row in result.rows():
        writer.writerow([render.cell(value) for value in row])


def _write_json(result: Result, file: TextIO) -> None:
    separator = "["
    for row in result.rows():
        named = dict(zip(result.columns, row, strict=True))
        file.write(f"{separator}\n{json.dumps(render.plain(named), ensure_ascii=False)}")
        separator = ","
    file.write("[]\n" if separator == "[" else "\n]\n")


def _write_screen(result: Result) -> None:
    """Write a table; a terminal gets the first rows of a long one, for nobody scrolls back over more."""
    rows = result.rows()
    shown = list(islice(rows, MAX_SCREEN_ROWS)) if sys.stdout.isatty() else list(rows)
    numbers = {
        name
        for i, name in enumerate(result.columns)
        if all(row[i] is None or (isinstance(row[i], (int, float)) and row[i] is not True) for row in shown)
    }
    cells = [[render.cell(value) for value in row] for row in shown]
    if render.fits_screen(result.columns, cells):
        render.write_table(result.columns, cells, right=numbers)
    else:
        render.write_records(result.columns, cells)
    if next(rows, None) is not None:
        render.say(f"the first {MAX_SCREEN_ROWS} rows. All of them: --format csv --output FILE")
