"""Prints: tables, JSON, messages, progress. What comes from logs is made harmless here.

On a terminal tables are drawn by rich, which honours NO_COLOR; anywhere else they are columns of full width
between spaces, for `awk` and `column`.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import TYPE_CHECKING

from eventlog.errors import printable as printable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, Task, TaskID

_STYLES = {
    "running": "cyan",
    "growing": "cyan",
    "finished": "green",
    "complete": "green",
    "delivered": "green",
    "killed": "yellow",
    "torn tail": "yellow",
    "pass": "green",
    "warn": "yellow",
}
_STATE_COLUMNS = frozenset({"status", "state", "result", "level"})


MAX_SHOWN = 2000
"""Characters of one value that are shown to people."""

# --- text ----------------------------------------------------------------------------------------


def local_time(t_us: int | None) -> str:
    """Return *t_us* (microseconds since the epoch) as local date and time, ``-`` for None."""
    if t_us is None:
        return "-"
    try:
        return datetime.fromtimestamp(t_us / 1e6).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return str(t_us)


def duration(seconds: float | None) -> str:
    """Return *seconds* as people say it: ``3.2s``, ``4m05s``, ``2h00m``, ``3d04h``; ``-`` for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, whole = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{whole:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 24 else f"{hours // 24}d{hours % 24:02d}h"


def size(size_bytes: int | None) -> str:
    """Return a number of bytes in units of 1024, ``-`` for None."""
    if size_bytes is None:
        return "-"
    if size_bytes < 1024:
        return f"{size_bytes} B"
    power = min(4, (size_bytes.bit_length() - 1) // 10)
    return f"{size_bytes / 1024**power:.1f} {'KMGT'[power - 1]}iB"


def number(value: float) -> str:
    """Return six significant digits."""
    return f"{value:.6g}"


def cell(value: object) -> str:
    """Return any value as one cell: nothing for None, text as it is, times as ISO 8601, the rest as JSON."""
    if value is None:
        return ""
    value = plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def shortened(text: str) -> str:
    """Return *text*, or its beginning and its length if it would fill screens."""
    return (
        text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters; --json shows all)"
    )


def plain(value: object) -> object:
    """Return *value* in terms that JSON has; non-finite floats as the strings that the log has for them."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if value != value else f"{'-' * (value < 0)}Infinity"
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return str(value)


# --- output --------------------------------------------------------------------------------------


def write(text: str) -> None:
    """Write one line."""
    sys.stdout.write(text + "\n")


def write_json(value: object) -> None:
    """Write *value* as indented JSON, with escapes for all that a terminal could obey."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=2)
    for c in {c for c in text if not c.isprintable()} - {"\n"}:
        text = text.replace(c, json.dumps(c)[1:-1])
    write(text)


def say(message: str) -> None:
    """Write a message to stderr, so that it never mixes with what a program reads."""
    lines = [printable(line) for line in message.splitlines()] or [""]
    sys.stderr.write("evlog: " + "\n".join(lines) + "\n")
    sys.stderr.flush()


def write_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = (), indent: int = 0
) -> None:
    """Write a table.

    Args:
        rows: one text per column; made harmless here.
        right: the columns that are aligned to the right.
    """
    columns = [printable(name) for name in columns]
    rows = [[printable(text) for text in row] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, rows, right, indent)
        return
    widths = [max(len(text) for text in column) for column in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        padded = [
            text.rjust(width) if name in right else text.ljust(width)
            for name, text, width in zip(columns, row, widths, strict=True)
        ]
        write(" " * indent + "  ".join(padded).rstrip())


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str], indent: int) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        # Text, not str: brackets in a name are no markup.
        table.add_row(
            *(
                Text(text, _STYLES.get(text, "red") if name in _STATE_COLUMNS else "")
                for name, text in zip(columns, row, strict=True)
            )
        )
    sys.stdout.flush()
    # As wide as it is: the terminal wraps long lines, and what is copied from it is whole.
    width = sum(max(map(cell_len, column)) + 2 for column in zip(columns, *rows, strict=True)) + indent
    console = Console(highlight=False)
    console.width = max(console.width, width)
    console.print(Padding(table, (0, 0, 0, indent)))


def fits_screen(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether a table is no wider than the terminal; where there is none, everything fits."""
    if not sys.stdout.isatty():
        return True
    widths = [max(map(len, column)) + 2 for column in zip(columns, *rows, strict=True)]
    return sum(widths) - 2 <= shutil.get_terminal_size().columns


def write_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write each row as a block of lines, a column in each."""
    indent = max(map(len, columns)) + 2
    for i, row in enumerate(rows):
        write(f"--- {i + 1}")
        for name, text in zip(columns, row, strict=True):
            write(f"{printable(name):<{indent}}{printable(text)}")


# --- progress ------------------------------------------------------------------------------------


class Bar:
    """A progress bar, or nothing if nobody would see it."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float = 1) -> None:
        """Go on by *amount*."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, amount)

    def set(self, done: float, total: float) -> None:
        """Say how far it is."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def tell(self, what: str) -> None:
        """Say what is being done now."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=printable(what))


def is_watched() -> bool:
    """Tell whether somebody would see a progress bar."""
    return sys.stderr.isatty()


@contextmanager
def progress(what: str, total: float | None = None, *, has_rate: bool = False) -> Iterator[Bar]:
    """Show a bar on stderr while the block runs, if stderr is a terminal; without *total* it only moves.

    Args:
        has_rate: count events: how many a second, and how long it will take.
    """
    if not is_watched():
        yield Bar(None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn()]
    columns += _rate_columns() if has_rate else [TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Bar(bar, bar.add_task(printable(what), total=total))


def _rate_columns() -> list[ProgressColumn]:
    from rich.progress import MofNCompleteColumn, ProgressColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Events a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} events/s")

    return [MofNCompleteColumn(), Rate(), TimeRemainingColumn()]
