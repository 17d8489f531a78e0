"""What the rows of an answer become: text that streams, so that a large answer is never held in memory."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import IO, TYPE_CHECKING, TextIO

from eventlog.cli import render

if TYPE_CHECKING:
    from eventlog.query.answer import Answer, Rows

MAX_SCREEN_ROWS = 1000
"""Nobody scrolls back over more; elsewhere the first so many set the widths of the columns."""


class Format(StrEnum):
    """What the rows become."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"
    PARQUET = "parquet"
    ARROW = "arrow"


BINARY = frozenset({Format.PARQUET, Format.ARROW})
"""These are no text: they go to a file or into a pipe."""


def write_rows(result: Rows, form: Format, file: TextIO) -> None:
    """Write *result* as text."""
    writers: dict[Format, Callable[[Rows, TextIO], None]] = {
        Format.CSV: _write_csv,
        Format.JSON: _write_json,
        Format.JSONL: _write_jsonl,
        Format.MARKDOWN: _write_markdown,
        Format.TABLE: _write_table,
    }
    writers[form](result, file)


def write_arrow(answer: Answer, file: IO[bytes]) -> None:
    """Write *answer* as an Arrow stream.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    from eventlog.query.answer import need

    need("--format arrow", "pyarrow")
    import pyarrow

    reader = answer.arrow_reader()
    with pyarrow.ipc.new_stream(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _write_csv(result: Rows, file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows(map(_csv_cells, result.rows()))


def _csv_cells(row: tuple[object, ...]) -> list[object]:
    return [
        value
        if type(value) is str or type(value) is int or (type(value) is float and math.isfinite(value))
        else render.cell(value)
        for value in row
    ]


def _write_json(result: Rows, file: TextIO) -> None:
    separator = "["
    for line in _json_rows(result):
        file.write(f"{separator}\n{line}")
        separator = ","
    file.write("[]\n" if separator == "[" else "\n]\n")


def _write_jsonl(result: Rows, file: TextIO) -> None:
    file.writelines(line + "\n" for line in _json_rows(result))


def _json_rows(result: Rows) -> Iterator[str]:
    for row in result.rows():
        named = dict(zip(result.columns, row, strict=True))
        yield json.dumps(render.plain(named), ensure_ascii=False)


def _write_markdown(result: Rows, file: TextIO) -> None:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(render.printable(cell.replace("\n", " ")) for cell in cells) + " |\n"

    file.write(line([name.replace("|", "\\|") for name in result.columns]))
    file.write("|" + "---|" * len(result.columns) + "\n")
    cells = ([render.cell(value).replace("|", "\\|") for value in row] for row in result.rows())
    file.writelines(map(line, cells))


def _write_table(result: Rows, file: TextIO) -> None:
    rows = result.rows()
    shown = list(islice(rows, MAX_SCREEN_ROWS))
    cells = [[render.cell(value) for value in row] for row in shown]
    numbers = [_is_number_column(shown, i) for i in range(len(result.columns))]
    if file is not sys.stdout or not sys.stdout.isatty():
        _write_columns(result.columns, cells, numbers, rows, file)
        return
    if render.fits_screen(result.columns, cells):
        right = {name for name, is_number in zip(result.columns, numbers, strict=True) if is_number}
        render.write_table(result.columns, cells, right=right)
    else:
        render.write_records(result.columns, cells)
    if next(rows, None) is not None:
        render.say(f"the first {MAX_SCREEN_ROWS} rows. All of them: --format csv --output FILE")


def _write_columns(
    columns: Sequence[str],
    first: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    rest: Iterator[tuple[object, ...]],
    file: TextIO,
) -> None:
    """Write columns between spaces, as wide as the first rows need."""
    head = [render.printable(name) for name in columns]
    shown = [[render.printable(text) for text in row] for row in first]
    widths = [max(map(len, column)) for column in zip(head, *shown, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if is_number else text.ljust(width)
            for text, width, is_number in zip(cells, widths, numbers, strict=True)
        )
        return "  ".join(padded).rstrip() + "\n"

    file.write(line(head))
    file.writelines(map(line, shown))
    file.writelines(line([render.printable(render.cell(value)) for value in row]) for row in rest)


def _is_number_column(rows: Sequence[tuple[object, ...]], i: int) -> bool:
    return all(row[i] is None or (isinstance(row[i], (int, float)) and row[i] is not True) for row in rows)
