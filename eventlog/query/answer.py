"""What a question gives: rows, or a data frame of whichever library is there."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from eventlog.errors import EvlogError

if TYPE_CHECKING:
    import duckdb
    import pandas
    import polars
    import pyarrow

SHOWN_ROWS = 30
"""Rows of an answer that a notebook shows."""


class MissingExtraError(EvlogError, ImportError):
    """A form of the answer needs a package that is not installed."""

    def __init__(self, what: str, package: str) -> None:
        super().__init__(what, package)
        self.what, self.package = what, package

    def __str__(self) -> str:
        return f"{self.what} needs a package that is not installed. Install it: pip install {self.package}"


class Rows(Protocol):
    """Rows that are fetched as they are wanted."""

    columns: list[str]
    types: list[str]

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the rows."""


class Source(Protocol):
    """Whatever answers SQL."""

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> Rows:
        """Run *sql*."""

    def relation(
        self, sql: str, parameters: Mapping[str, object] | None = None
    ) -> duckdb.DuckDBPyRelation | None:
        """Return *sql* as a relation of DuckDB, None if no connection of this process has the tables."""


class Answer:
    """The answer to a question; each call that takes rows asks anew.

    Any number of threads may use it at once. A notebook shows it as a table.
    """

    def __init__(self, source: Source, sql: str, parameters: Mapping[str, object]) -> None:
        self._source, self._sql, self._parameters = source, sql, dict(parameters)
        self._first: Rows | None = source.execute(sql, self._parameters)
        self.columns = list(self._first.columns)
        self.types = list(self._first.types)

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return self._rows().rows()

    def fetchall(self) -> list[tuple[object, ...]]:
        """Return all rows; times are datetimes in UTC."""
        return list(self)

    def fetchone(self) -> tuple[object, ...] | None:
        """Return the first row, None if there is none."""
        return next(iter(self), None)

    def df(self) -> pandas.DataFrame:
        """Return a pandas data frame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        need("df()", "pandas")
        import pandas

        relation = self._source.relation(self._sql, self._parameters)
        if relation is None:
            return pandas.DataFrame(self.fetchall(), columns=self.columns)
        return relation.df()

    def pl(self) -> polars.DataFrame:
        """Return a polars data frame.

        Raises:
            MissingExtraError: polars or pyarrow is not installed.
        """
        need("pl()", "polars")
        import polars

        return polars.DataFrame(polars.from_arrow(self.arrow()))

    def arrow(self) -> pyarrow.Table:
        """Return an Arrow table.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        need("arrow()", "pyarrow")
        return self.arrow_reader().read_all()

    def arrow_reader(self) -> pyarrow.RecordBatchReader:
        """Return the rows as Arrow batches, as they are wanted; pyarrow must be there."""
        relation = self._source.relation(self._sql, self._parameters)
        if relation is not None:
            # The second version of DuckDB has given it another name.
            make = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
            reader: pyarrow.RecordBatchReader = make(100_000)
            return reader
        import pyarrow

        columns = list(map(list, zip(*self.fetchall(), strict=True))) or [[] for _ in self.columns]
        table: pyarrow.Table = pyarrow.table(columns, names=self.columns)
        return table.to_reader()

    def _rows(self) -> Rows:
        first, self._first = self._first, None
        return first or self._source.execute(self._sql, self._parameters)

    def __repr__(self) -> str:
        named = ", ".join(f"{name} {kind}" for name, kind in zip(self.columns, self.types, strict=True))
        return f"<Answer: {named}>"

    def _repr_html_(self) -> str:
        return html_table(self.columns, self)


def need(what: str, package: str) -> None:
    """Raise `MissingExtraError` if *package* is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(what, package)


def html_table(columns: Sequence[str], rows: Iterator[tuple[object, ...]] | Answer) -> str:
    """Return the first rows as HTML."""
    found = list(islice(iter(rows), SHOWN_ROWS + 1))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    cells = ("".join(f"<td>{html.escape(_short(cell))}</td>" for cell in row) for row in found[:SHOWN_ROWS])
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    more = f"<p>the first {SHOWN_ROWS} rows</p>" if len(found) > SHOWN_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _short(cell: object) -> str:
    text = "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    return text if len(text) <= 200 else text[:199] + "…"
