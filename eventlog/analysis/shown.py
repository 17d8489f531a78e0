"""How answers are shown: as Markdown, as HTML in a notebook, and their numbers as text."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import msgspec

from eventlog.analysis.groups import Spread

Cells = Sequence[Sequence[str]]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that a notebook shows as HTML; `to_dict` gives it as plain values."""

    def to_dict(self) -> dict[str, object]:
        """Return all fields as dicts, lists, texts and numbers; NaN and infinities stay floats."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found


def html_page(title: str, *tables: tuple[str, Sequence[str], Cells], foot: Sequence[str] = ()) -> str:
    """Return a heading, tables with a heading each, and lines below them, all escaped."""
    parts = [f"<h4>{html.escape(title)}</h4>"]
    for heading, columns, rows in tables:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(_cut(cell))}</td>' for cell in row)}</tr>" for row in rows
        )
        parts += [f"<h5>{html.escape(heading)}</h5>"] if heading else []
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    parts += [f"<p>{html.escape(line)}</p>" for line in foot]
    return "".join(parts)


def markdown_table(columns: Sequence[str], rows: Cells, *, right: Sequence[str] = ()) -> str:
    """Return a table of GitHub's Markdown; texts are escaped, so that they show as they are."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(markdown_text(_cut(cell)) for cell in cells)} |"

    rule = "|".join("---:" if name in right else "---" for name in columns)
    return "\n".join([line(columns), f"|{rule}|", *map(line, rows)])


def markdown_text(text: str) -> str:
    r"""Return *text* so that Markdown shows it as it is, on one line."""
    one_line = " ".join(text.split())
    escaped = "".join(f"\\{c}" if c in "\\`*[]|~$#" else c for c in html.escape(one_line, quote=False))
    # Between letters an underscore is one; elsewhere it would begin italics. `@` would call somebody.
    return escaped.replace(" _", " \\_").replace("_ ", "\\_ ").replace("@", "&#64;")


def _cut(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def number(value: float | None) -> str:
    """Return six significant digits; ``-`` for None."""
    return "-" if value is None else f"{value:.6g}"


def signed(value: float | None) -> str:
    """Return six significant digits with their sign, which NaN has not; ``-`` for None."""
    return "-" if value is None else "nan" if value != value else f"{value:+.6g}"


def mean_and_std(spread: Spread | None) -> str:
    """Return ``0.7583 ± 0.0042``: the mean to the place of the deviation's second digit."""
    if spread is None:
        return "-"
    std = spread.std
    if std is None:
        return number(spread.mean)
    if std == 0 or not math.isfinite(std) or not math.isfinite(spread.mean):
        return f"{number(spread.mean)} ± {std:.2g}"
    places = 1 - math.floor(math.log10(float(f"{std:.1e}")))  # of 0.00999…, which is shown as 0.010, too
    if not 0 <= places <= 9 or abs(spread.mean) >= 1e9:
        return f"{number(spread.mean)} ± {std:.2g}"
    return f"{spread.mean:.{places}f} ± {std:.{places}f}"


def figures(values: Sequence[float | None], *, as_percent: bool = False) -> list[str]:
    """Return *values* as texts, with so many digits that different ones look different; ``-`` for None.

    Args:
        as_percent: 0.731 is ``73.1%``.
    """
    wanted = len({value for value in values if value is not None})
    shown: list[str] = []
    for more in range(5):
        shown = [_figure(value, more, as_percent=as_percent) for value in values]
        if len({text for text in shown if text != "-"}) == wanted:
            break
    return shown


def _figure(value: float | None, more: int, *, as_percent: bool) -> str:
    if value is None:
        return "-"
    return (
        f"{value * 100:.{1 + more}f}%" if as_percent and math.isfinite(value) else f"{value:.{6 + 2 * more}g}"
    )
