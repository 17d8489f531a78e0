"""``evlog schema`` and ``evlog compact``: what can be asked, and asking sooner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import RootNotFoundError
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.cli.query import Memory
from eventlog.errors import EvlogError
from eventlog.tables import RUN_PARAMS, TABLES, Column, Table


class UnknownTableError(EvlogError, LookupError):
    """No table has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"There is no table {self.name!r}. The tables: {', '.join(t.name for t in TABLES)}."


def schema(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Show its columns.")] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show the tables that `evlog query` offers, or the columns of one."""
    if table is None:
        _write_tables(as_json)
        return
    found = next((one for one in TABLES if one.name == table.lower()), None)
    if found is None:
        raise UnknownTableError(table)
    _write_columns(_with_params(found, root), as_json)


def _write_tables(as_json: bool) -> None:
    from eventlog.query.macros import SIGNATURES

    if as_json:
        render.write_json({t.name: {c.name: c.type for c in t.columns} for t in TABLES})
        return
    render.write_table(["table", "a row is"], [[t.name, t.row] for t in TABLES])
    render.write("")
    render.write_table(["function", "its rows are"], [[name, rows] for name, rows in SIGNATURES.items()])


def _with_params(table: Table, root: Path) -> Table:
    """Return *table*; that of the params with the columns that it has below *root*."""
    if table is not RUN_PARAMS or not root.is_dir():
        return table
    from eventlog.query import Database

    with Database.open(root) as database:
        rows = list(database.execute(f"DESCRIBE {table.name}").rows())[len(table.columns) :]
    params = tuple(Column(str(row[0]), str(row[1]), "param") for row in rows)
    return Table(table.name, table.row, (*table.columns, *params))


def _write_columns(table: Table, as_json: bool) -> None:
    if as_json:
        render.write_json([{"name": c.name, "type": c.type, "meaning": c.meaning} for c in table.columns])
        return
    render.write(f"A row is {table.row}.")
    render.write_table(["column", "type", "meaning"], [[c.name, c.type, c.meaning] for c in table.columns])


def compact(
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C: take in what is new as it comes.")
    ] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="With --watch, look so often.")
    ] = 5.0,
    memory: Memory = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Fill the cache of queries ahead, so that the next question need not.

    It lies in ROOT/.evlog and may be removed at any time.
    """
    from eventlog.query.compact import compact as compact_root
    from eventlog.query.limits import parse_memory

    if not root.is_dir():
        raise RootNotFoundError(root)
    size = parse_memory(memory) if memory else None
    shown = 0
    while True:
        with render.progress("reading runs") as bar:
            done = compact_root(root, memory=size, wants_all=not shown, on_progress=bar.set)
        if done.number != shown or not shown:
            for problem in done.problems:
                render.say(problem)
            if as_json:
                render.write_json({k: v for k, v in done._asdict().items() if k != "number"})
            else:
                render.write(
                    f"{done.runs:,} runs, {done.events:,} events, {render.size(done.size_bytes)} "
                    f"in {done.files:,} files"
                )
            shown = done.number or 1
        if not watch:
            return
        time.sleep(interval_s)
