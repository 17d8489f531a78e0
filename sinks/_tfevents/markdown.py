"""Texts for TensorBoard's Text page, which shows Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

MAX_TEXT = 64 << 10
MAX_ROWS, MAX_COLUMNS, MAX_CELL = 100, 30, 500
_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def plain(value: object) -> str:
    """Return *value* so that it is shown as it is, in one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(_cut(text, MAX_CELL).split())
    return _SPECIAL.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


def pairs(data: Mapping[str, object]) -> str:
    """Return a table of names and values; those that are None or empty are left out."""
    shown = [(name, value) for name, value in data.items() if value not in (None, "", [], {})]
    return table(["name", "value"], shown)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; what is too wide or too long for a page is counted below it."""
    rows = list(rows)
    width = min(len(columns), MAX_COLUMNS)
    lines = [_line(columns[:width]), "|" + " --- |" * width]
    lines += [_line([*row[:width], *[""] * (width - len(row))]) for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS or len(columns) > MAX_COLUMNS:
        lines += ["", f"{len(rows)} rows of {len(columns)} columns in all; the log holds the rest."]
    return "\n".join(lines)


def bounded(text: str) -> str:
    """Return *text*, or its beginning and what it lacks."""
    return _cut(text, MAX_TEXT)


def verbatim(text: str) -> str:
    """Return *text* as a block of code, line by line."""
    return "\n".join("    " + line for line in _cut(text, MAX_TEXT).splitlines())


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(plain, cells)) + " |"


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size]}… ({len(text)} characters in all)"
