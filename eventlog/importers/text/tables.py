"""Tables that were printed: a header, then rows with as many cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventlog.importers.text.observed import Value
from eventlog.importers.text.values import value_of

MAX_ROWS = 100_000

_RULE = re.compile(r"^[\s|+\-=:\u2500-\u257f]*$")
_PROGRESS = re.compile(r"(?<=\s)\d{1,3}%\|.*$")
_NAME = re.compile(r"[A-Za-z_][\w ./@%()#-]{0,40}")
_CLOCK = re.compile(r"\d{1,4}:\d{2}(?::\d{2})?")
_STEPS = ("step", "global_step", "epoch", "iter", "iteration")


class PrintedTable(NamedTuple):
    """A table: names, rows of values, and how many lines it takes."""

    columns: list[str]
    rows: list[list[Value]]
    lines: int

    @property
    def step_column(self) -> int | None:
        """Return which column says the step."""
        lower = [name.lower() for name in self.columns]
        return next((lower.index(name) for name in _STEPS if name in lower), None)

    @property
    def names_values(self) -> bool:
        """Tell whether each row is a name and its value."""
        return len(self.columns) == 2 and all(isinstance(row[0], str) for row in self.rows)

    @property
    def total_row(self) -> list[Value] | None:
        """Return the row that is about everything: of the label all, or the only one."""
        named = [row for row in self.rows if str(row[0]).lower() == "all"]
        return named[0] if len(named) == 1 else self.rows[0] if len(self.rows) == 1 else None


def table_at(lines: Sequence[str], at: int) -> PrintedTable | None:
    """Return the table whose header is line *at*, if there is one."""
    for split in (_by_bars, _by_tabs, _by_commas, _by_gaps):
        table = _read(lines, at, split)
        if table is not None:
            return table
    return None


def _without_bar(line: str) -> str:
    """Return *line* without the progress bar that stands behind the cells."""
    found = _PROGRESS.search(line)
    return line[: found.start()].rstrip(" :") if found else line


def _by_bars(line: str) -> list[str]:
    if not any(bar in line for bar in "|│┃"):
        return []
    return [cell.strip() for cell in re.split("[|│┃]", line.strip().strip("|│┃"))]


def _by_tabs(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("\r\n").split("\t")] if "\t" in line.strip() else []


def _by_commas(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")] if "," in line else []


def _by_gaps(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def _read(lines: Sequence[str], at: int, split: Callable[[str], list[str]]) -> PrintedTable | None:
    columns = split(_without_bar(lines[at]))
    if len(columns) < 2 or not all(_NAME.fullmatch(name) for name in columns):
        return None
    if len({name.lower() for name in columns}) < len(columns):
        return None
    rows: list[list[Value]] = []
    taken = 1
    while at + taken < len(lines) and len(rows) < MAX_ROWS:
        line = _without_bar(lines[at + taken])
        taken += 1
        if _RULE.match(line) and (line.strip() or not rows):
            continue
        if not rows and split is _by_gaps and len(line.split()) == len(columns) + 1:
            columns = ["label", *columns]  # of a report whose first column has no name
        row = _row(line, len(columns), split, rows[0] if rows else None)
        if row is None:
            taken -= 1
            break
        rows.append(row)
    if not rows:
        return None
    return PrintedTable([_tidy(name) for name in columns], rows, taken)


def _row(
    line: str, width: int, split: Callable[[str], list[str]], first: list[Value] | None
) -> list[Value] | None:
    """Return the values of a row, or None if *line* is none: a column of numbers goes on with numbers."""
    cells = split(line)
    if split is _by_gaps and len(cells) != width:
        cells = line.split()
    if len(cells) != width:
        return None
    values = [_cell(cell) for cell in cells]
    if not any(map(_is_number, values)):
        return None
    if first and any(_is_number(a) and isinstance(b, str) for a, b in zip(first, values, strict=True)):
        return None
    return values


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(text: str) -> Value:
    """Return what a cell says; ``1:02:03`` is seconds."""
    if _CLOCK.fullmatch(text):
        seconds = 0
        for part in text.split(":"):
            seconds = seconds * 60 + int(part)
        return seconds
    return value_of(text)


def _tidy(name: str) -> str:
    return re.sub(r"[^\w./@%-]+", "_", name.strip()).strip("_").lower()
