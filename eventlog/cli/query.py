"""``evlog query``: SQL over all runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventlog.cli import render, spark
from eventlog.cli.find import RootNotFoundError
from eventlog.cli.formats import BINARY, Format, write_arrow, write_rows
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from eventlog.query import Database
    from eventlog.query.sandbox import Sandbox

Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory for an answer, as 2GB; default a quarter of the machine's. The rest spills to disk.",
    ),
]


def query(
    sql: Annotated[
        str | None, typer.Argument(metavar="[SQL]", help="The question; read from standard input if '-'.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Read the question from there.")
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="A value for $NAME in the question: a number, true, false or null, else a text.",
        ),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            metavar="table|csv|json|jsonl|markdown|parquet|arrow",
            help="What the rows become.",
        ),
    ] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of the screen.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME|RUN:SEQ",
            help="Show every table as it was at a time (ISO 8601; UTC if it has no zone) or at an event.",
        ),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="For SQL of strangers: no file, no network, nothing written.")
    ] = False,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="Stop a question in a sandbox after so long."),
    ] = 30.0,
    memory: Memory = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Ask one question after the other.")
    ] = False,
    engine: spark.WhichEngine = spark.Engine.DUCKDB,
    master: spark.Master = None,
    lake: spark.Lake = None,
    option: spark.StoreOption = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Ask all runs a question in SQL.

    `evlog schema` shows the tables. Running jobs are in the answer up to their last line; rows are written as
    they come.
    """
    form = Format.JSON if as_json else form
    _check(form, output, sandbox=sandbox, interactive=interactive, has_sql=bool(sql or file))
    question = "" if interactive else _question(sql, file)
    if engine is spark.Engine.SPARK:
        if interactive or sandbox or as_of is not None or params:
            raise typer.BadParameter(
                "Spark knows no --interactive, --sandbox, --as-of and --param.", param_hint="--engine"
            )
        spark.answer(question, form, output, root=root, lake=lake, master=master, option=option)
        return
    values = _values(params or [])
    with _opened(root, as_of, memory, timeout_s if sandbox else None, output if form in BINARY else None) as (
        source,
        young,
    ):
        if interactive:
            from eventlog.cli.shell import Shell

            Shell(source, form).run()
        else:
            _answer(source, question, values, form, output, young)


def _check(form: Format, output: Path | None, *, sandbox: bool, interactive: bool, has_sql: bool) -> None:
    if output is not None and not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no directory for {str(output)!r}.")
    if form is Format.PARQUET and output is None:
        raise typer.BadParameter("parquet needs a file: add --output FILE.")
    if form is Format.ARROW and output is None and sys.stdout.isatty():
        raise typer.BadParameter("arrow is no text: add --output FILE, or a pipe.")
    if form is Format.PARQUET and sandbox:
        raise typer.BadParameter("a sandbox writes no parquet. Take --format arrow, csv or jsonl.")
    if interactive and (has_sql or output is not None or form in BINARY):
        raise typer.BadParameter("--interactive asks for the questions, and shows the answers as text.")


def _question(sql: str | None, file: Path | None) -> str:
    if sql is not None and file is not None:
        raise typer.BadParameter("there is SQL as an argument and in --file. Give one of them.")
    if sql is None and file is None and sys.stdin.isatty():
        raise typer.BadParameter(
            "there is no SQL. Give it in quotes, with --file, or '-' to read it from standard input."
        )
    if file is not None:
        question = file.read_text()
    else:
        question = sys.stdin.read() if sql is None or sql == "-" else sql
    if not question.strip():
        raise typer.BadParameter("the SQL is empty.")
    return question


def _values(params: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for param in params:
        name, separator, text = param.partition("=")
        if not name or not separator:
            raise typer.BadParameter(f"{param!r} is no NAME=VALUE.", param_hint="--param")
        found[name.removeprefix("$")] = _value(text)
    return found


def _value(text: str) -> object:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, (str, int, float)) else text


@contextlib.contextmanager
def _opened(
    root: Path, as_of: str | None, memory: str | None, timeout_s: float | None, output: Path | None
) -> Iterator[tuple[Database | Sandbox, Path | None]]:
    """Yield what answers, and where a file grows until it is whole."""
    from eventlog.query import Database
    from eventlog.query.limits import parse_memory

    if not root.is_dir():
        raise RootNotFoundError(root)
    size = parse_memory(memory) if memory else None
    young = _young(output.absolute()) if output else None
    with render.progress("reading runs") as bar:
        database = Database.open(
            root,
            on_progress=bar.set,
            as_of=as_of,
            memory=None if timeout_s is not None else size,
            writes_to=young,
        )
    with database:
        for problem in database.problems:
            render.say(problem)
        if timeout_s is None:
            yield database, young
        else:
            from eventlog.query.sandbox import Sandbox

            with Sandbox(database, memory=size, timeout_s=timeout_s) as sandbox:
                yield sandbox, young


def _young(output: Path) -> Path:
    """Return where a file is made: whoever waits for it shall not find half of it."""
    return output.with_name(f".{output.name}.{os.getpid()}.tmp")


def _answer(
    source: Database | Sandbox,
    question: str,
    values: Mapping[str, object],
    form: Format,
    output: Path | None,
    young: Path | None,
) -> None:
    from eventlog.query.answer import Answer
    from eventlog.query.database import Database

    if output is None:
        if form is Format.ARROW:
            write_arrow(Answer(source, question, values), sys.stdout.buffer)
        else:
            write_rows(source.execute(question, values), form, sys.stdout)
        return
    young = young or _young(output)
    try:
        if form is Format.PARQUET:
            assert isinstance(source, Database)
            source.write_parquet(question, young, values)
        elif form is Format.ARROW:
            with young.open("wb") as binary:
                write_arrow(Answer(source, question, values), binary)
        else:
            with young.open("w", newline="", encoding="utf-8") as text:
                write_rows(source.execute(question, values), form, text)
        young.replace(output)
    finally:
        young.unlink(missing_ok=True)
