"""Makes tables and macros in a connection when a question first names them.

To bind a view costs a look into each of its files, and a question needs two or three of thirty.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from eventlog.query.convert import quoted
from eventlog.query.macros import MACROS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TYPED = "run_params"
MAX_TYPED = 2000
"""Columns of `run_params`; params beyond are still in `params`."""

_WORD = re.compile(r"\w+")
_NUMBER = r"-?((0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|Infinity)|NaN"
_KEYS = f"""
    SELECT key,
           CASE WHEN bool_and(TRY_CAST(value AS BIGINT)::VARCHAR IS NOT DISTINCT FROM value) THEN 'BIGINT'
                WHEN bool_and(value IS NULL OR regexp_full_match(value, '{_NUMBER}')) THEN 'DOUBLE'
                WHEN bool_and(value IS NULL OR value IN ('true', 'false')) THEN 'BOOLEAN'
                ELSE 'VARCHAR' END
    FROM all_params GROUP BY key ORDER BY key LIMIT {MAX_TYPED}
"""


class Shape:
    """The tables and macros of one state of the cache.

    Any number of threads may call `prepare` at once.
    """

    def __init__(self, connection: DuckDBPyConnection, definitions: Mapping[str, str]) -> None:
        self._connection = connection
        self._definitions = dict(definitions)
        self._made: set[str] = set()
        self._lock = threading.Lock()

    def prepare(self, sql: str) -> None:
        """Make what *sql* names and is not there yet.

        Raises:
            duckdb.Error: files of the cache are gone.
        """
        words = set(map(str.lower, _WORD.findall(sql)))
        self._make({name for name in (*self._definitions, *MACROS, TYPED) if name in words})

    def prepare_all(self) -> None:
        """Make everything: for questions about the tables themselves."""
        self._make({*self._definitions, *MACROS, TYPED})

    def statements(self) -> list[str]:
        """Return the SQL that makes everything, in order, for another connection."""
        self.prepare_all()
        views = {**self._definitions, TYPED: typed_params(self._connection)}
        return [_view(name, body) for name, body in views.items()] + list(map(_macro, MACROS.values()))

    def _make(self, names: set[str]) -> None:
        if names <= self._made:
            return
        with self._lock:
            for name in self._with_needed(names - self._made):
                if name in MACROS:
                    self._connection.execute(_macro(MACROS[name]))
                elif name == TYPED:
                    self._connection.execute(_view(TYPED, typed_params(self._connection)))
                else:
                    self._connection.execute(_view(name, self._definitions[name]))
                self._made.add(name)

    def _with_needed(self, names: set[str]) -> list[str]:
        """Return *names* and all that they are made of, each after what it needs."""
        needed, found = set(names), set(names)
        while found:
            words = {word for name in found for word in _WORD.findall(self._body(name))}
            found = {name for name in self._definitions if name in words} - needed
            needed |= found
        order = [*self._definitions, TYPED, *MACROS]
        return [name for name in order if name in needed and name not in self._made]

    def _body(self, name: str) -> str:
        return "all_runs all_params" if name == TYPED else MACROS.get(name) or self._definitions[name]


def typed_params(connection: DuckDBPyConnection) -> str:
    """Return the SQL of `run_params`: a row for each run and a column for each param."""
    taken = {"project", "run_id"}
    cells = []
    for key, kind in connection.execute(_KEYS).fetchall():
        name, number = key, 1
        while name.lower() in taken:
            number += 1
            name = f"{key}_{number}"
        taken.add(name.lower())
        column = '"' + name.replace('"', '""') + '"'
        cells.append(f"max(p.value) FILTER (p.key = {quoted(key)})::{kind} AS {column}")
    return (
        f"SELECT {', '.join(['r.project', 'r.run_id', *cells])} FROM all_runs AS r "
        "LEFT JOIN all_params AS p ON p.project = r.project AND p.run_id = r.run_id "
        "GROUP BY r.project, r.run_id"
    )


def _view(name: str, body: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS {body}"


def _macro(body: str) -> str:
    return f"CREATE OR REPLACE MACRO {body}"
