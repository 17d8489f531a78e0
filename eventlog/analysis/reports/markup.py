"""HTML out of texts that anybody may have written."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from eventlog.errors import printable

_MOST_CHARACTERS = 300
_SHORT = 40


class Markup(str):
    """Text that is HTML already; any other text is escaped."""

    __slots__ = ()


def text(value: str, most: int = _MOST_CHARACTERS) -> Markup:
    """Return *value* escaped, on one line."""
    return Markup(html.escape(one_line(value, most), quote=True))


def one_line(value: str, most: int = _MOST_CHARACTERS) -> str:
    r"""Return *value* on one line, cut, with what would change directions written as ``\u202e``."""
    line = " ".join(value.split())
    return printable(line if len(line) <= most else f"{line[: most - 1]}…")


def lines(value: str, most: int = 2000) -> Markup:
    """Return *value* with its line breaks."""
    cut = value if len(value) <= most else f"{value[: most - 1]}…"
    return Markup(
        "<br>".join(html.escape(printable(line.replace("\t", "    "))) for line in cut.splitlines())
    )


def name(value: str) -> Markup:
    """Return a name within a sentence: whatever its letters, the words around it stay where they are."""
    return tag("bdi", text(value), of="short" if len(value) <= _SHORT else "")


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Return *parts* one after the other; plain texts are escaped."""
    return Markup(between.join(part if isinstance(part, Markup) else text(part) for part in parts))


def tag(element: str, content: str, *, of: str = "") -> Markup:
    """Return *content* within an element of the class *of*."""
    inner = content if isinstance(content, Markup) else text(content)
    return Markup(f"<{element}{_class(of)}>{inner}</{element}>")


def _class(names: str) -> str:
    return f' class="{names}"' if names else ""


class Cell:
    """A cell of a table; *value* is what it is sorted by, if not its text."""

    def __init__(self, content: str, *, value: float | None = None, is_number: bool = False) -> None:
        self.content = content if isinstance(content, Markup) else text(content)
        self.value, self.is_number = value, is_number or value is not None

    def __str__(self) -> str:
        value = "" if self.value is None or self.value != self.value else f' data-v="{self.value!r}"'
        return f"<td{_class('n' if self.is_number else '')}{value}>{self.content}</td>"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell | str]], *, numbers: Iterable[str] = ()
) -> Markup:
    """Return a table that can be sorted where scripts run; *numbers* names the columns with numbers."""
    right = set(numbers)

    def line(row: Sequence[Cell | str]) -> str:
        pairs = zip(row, columns, strict=True)
        cells = (one if isinstance(one, Cell) else Cell(one, is_number=key in right) for one, key in pairs)
        return f"<tr>{''.join(map(str, cells))}</tr>"

    head = "".join(
        f'<th scope="col"{_class("n" if key in right else "")}>{text(key)}</th>' for key in columns
    )
    return Markup(
        f'<div class="wide" tabindex="0"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(line, rows))}</tbody></table></div>"
    )


def moment(t_us: int | None) -> str:
    """Return a time as ``2026-01-31 12:00 UTC``; ``-`` for None."""
    if t_us is None:
        return "-"
    try:
        return datetime.fromtimestamp(t_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return str(t_us)  # a log may hold any number


def duration(seconds: float | None) -> str:
    """Return *seconds* as people say it: ``3.2 s``, ``4 min``, ``2.5 h``; ``-`` for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
