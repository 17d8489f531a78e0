"""``evlog query --engine spark``: the same question on many machines, over the published lake."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import RootNotFoundError
from eventlog.cli.formats import BINARY, Format, write_rows
from eventlog.cli.publish import store_options


class Engine(StrEnum):
    """Who answers."""

    DUCKDB = "duckdb"
    SPARK = "spark"


WhichEngine = Annotated[
    Engine,
    typer.Option(
        "--engine", metavar="duckdb|spark", help="Who answers: this machine's runs, or a lake by Spark."
    ),
]
Master = Annotated[
    str | None,
    typer.Option("--master", metavar="URL", help="Where Spark runs: spark://host:7077, yarn; default here."),
]
Lake = Annotated[
    str | None,
    typer.Option(
        "--lake", envvar="EVLOG_LAKE", metavar="URL", help="The lake; default where this root was published."
    ),
]
StoreOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="For the lake's store, with --engine spark; repeatable."
    ),
]


class _Answer:
    """What `write_rows` wants of an answer."""

    def __init__(self, columns: list[str], rows: Iterator[tuple[object, ...]]) -> None:
        self.columns = columns
        self.types = [""] * len(columns)
        self._rows = rows

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the rows, once."""
        return self._rows


def answer(
    question: str,
    form: Format,
    output: Path | None,
    *,
    root: Path,
    lake: str | None,
    master: str | None,
    option: list[str] | None = None,
) -> None:
    """Ask Spark and write the rows.

    Raises:
        typer.BadParameter: a form that only DuckDB makes.
        RootNotFoundError, LakeError, LakePackageError, QueryError: as they say.
    """
    from eventlog.lake.published import lake_of
    from eventlog.lake.spark import query_spark

    if form in BINARY:
        raise typer.BadParameter(f"{form} comes from DuckDB only. Take csv or jsonl.", param_hint="--format")
    if lake is None and not root.is_dir():
        raise RootNotFoundError(root)
    with render.progress("starting Spark"):
        columns, rows = query_spark(
            lake or lake_of(root), question, master=master, options=store_options(option or [])
        )
    found = _Answer(columns, rows)
    if output is None:
        write_rows(found, form, sys.stdout)
        return
    # Whoever waits for the file shall not find half of it.
    young = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with young.open("w", newline="", encoding="utf-8") as file:
            write_rows(found, form, file)
        young.replace(output)
    finally:
        young.unlink(missing_ok=True)
