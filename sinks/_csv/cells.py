"""How a value becomes a cell of a CSV file, for people, pandas and spreadsheets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

MAX_CELL = 32_000
"""Characters; spreadsheets cut at 32,767, and Python's reader refuses cells over 131,072."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_SPECIAL = re.compile(r'[",\r\n]')


def cell(value: object) -> str:
    """Return *value* as one cell: numbers as they are, texts made harmless, what is nested as JSON.

    None gives an empty cell. A text that a spreadsheet would take for a formula gets an apostrophe in front,
    and a text or JSON over `MAX_CELL` characters is cut and ends with ``…``; the log has all of it.

    Source: OWASP, "CSV Injection".
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        text = f"'{value}" if value.startswith(_FORMULA) else value
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def encode(rows: Iterable[Sequence[str]]) -> bytes:
    """Return *rows* as CSV in UTF-8, each line ended by a newline.

    Python's writer puts no quotes around a lone carriage return, which its reader takes for a line's end.
    """
    return "".join(",".join(map(_quoted, row)) + "\n" for row in rows).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text
