r"""Whether two answers to a mathematical question mean the same, however they are written.

`normal` brings an answer to one form of writing; `same_answer` compares two: as text, as exact numbers,
part by part (tuples, intervals, sets, lists, matrices), and, if asked to, by algebra
(`eventlog.evaluation.benchmarks.algebra`). Decimals are exact: 0.33 is not 1/3. Units, degrees, currency
and percent signs are left out on both sides.

Source: the rules of Hendrycks et al. (2021), "Measuring Mathematical Problem Solving With the MATH Dataset",
and of Lewkowycz et al. (2022), "Solving Quantitative Reasoning Problems with Language Models", appendix D.1,
in our own order and words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from eventlog.evaluation.benchmarks.latex import parse, rational
from eventlog.evaluation.text import plain

MAX_LENGTH = 2000
"""A longer answer is compared as text only."""
MAX_PARTS = 60

Algebra = Callable[[str, str], bool]
"""Tells whether two texts, in normal form, are equal as algebra."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SYMBOLS = {
    "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "÷": r"\div ",
    "·": r"\cdot ", "⋅": r"\cdot ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "°": "", "−": "-",
}  # fmt: skip
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))
_RENAMED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le",
    "geq": "ge", "geqslant": "ge",
    "neq": "ne", "lbrace": "{", "rbrace": "}", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|",
    "varnothing": "emptyset",
   }  # fmt: skip
_DROPPED = frozenset(
    [
        "left",
        "right",
        "big",
        "Big",
        "bigg",
        "Bigg",
        "bigl",
        "bigr",
        "Bigl",
        "Bigr",
        "displaystyle",
        "textstyle",
        "limits",
        "quad",
        "qquad",
        "circ",
        "degree",
        "boxed",
        "fbox",
        "hfill",
    ]
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_DELIMITERS = re.compile(r"\\\(|\\\)|\\\[|\\\]|\$")
_SPACING = re.compile(r"(?<!\\)\\[,;: ]|~")
_ROUND_OR_SQUARE = re.compile(r"(?<=\{)[pbB]?matrix(?=\})")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}")
_UNITS = (
    "degrees?|deg|radians?|dollars?|cents?|usd|euros?|percent|points?|units?|square|sq|cubic|cm|mm|km|kg|mph|kph|ft|inch|"
    "inches|in|feet|foot|yards?|miles?|meters?|metres?|centimeters?|kilometers?|grams?|pounds?|lbs?|ounces?|oz|liters?|"
    "litres?|gallons?|seconds?|sec|minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|per|ways?|people|students?|"
    "apples?|integers?|numbers?|digits?|edges?|faces?|sides?|cups?|miles|marbles?|books?|games?|pages?|coins?|balls?|cards?"
)
_UNIT = re.compile(rf"(?<=[0-9}})\s])(?:\s?(?:{_UNITS})\b(?:\^\{{?[23]\}}?)?[./]?)+$", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_SHORT_LEFT = re.compile(
    r"^(?:[A-Za-z]|\\[a-z]+|[a-z]\([a-z]\))(?:_\{?\w\}?)?\s*(?:=|\\in(?![a-z]))\s*(?=[^=]+$)"
)
_FRAC_ARGUMENTS = re.compile(r"\\frac\s*(?:\{|([0-9A-Za-z]))")
_DECIMAL = re.compile(r"(?<![0-9.A-Za-z_])([0-9]*)\.([0-9]+)(?![0-9.])")
_LEADING_ZEROS = re.compile(r"(?<![0-9.])0+(?=[0-9])")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]{2,}")
_MATRIX = re.compile(r"\\begin\{([a-z]?matrix|array)\}(?:\{[lcr|]*\})?(.*?)\\end\{\1\}", re.DOTALL)


@lru_cache(maxsize=4096)
def normal(answer: str) -> str:
    """Return *answer* in one form of writing; the same if it is in that form already."""
    if len(answer) > MAX_LENGTH:
        return " ".join(answer.split())
    text = answer
    for _ in range(8):  # one rule may make room for another
        before, text = text, _rewritten(text)
        if text == before:
            break
    return text


def _rewritten(text: str) -> str:
    for rule in _RULES:
        text = rule(text)
    return text


def _symbols(text: str) -> str:
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _ROUND_OR_SQUARE.sub("pmatrix", _SYMBOL.sub(lambda found: _SYMBOLS[found[0]], text))
    return " ".join(plain(text).split())


def _commands(text: str) -> str:
    text = text.replace("\\!", "").replace("{,}", "").replace("\\%", "").replace("%", "").replace("\\$", "")
    text = re.sub(r"(?<=[0-9])\\,(?=[0-9]{3}(?![0-9]))", "", text)
    text = _SPACING.sub(" ", _DELIMITERS.sub("", text))
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "", text)
    text = re.sub(r"\\(left|right)\s*\.", "", text)
    return _COMMAND.sub(_command, text)


def _command(found: re.Match[str]) -> str:
    name = found[1]
    if name in _DROPPED:
        return " "
    renamed = _RENAMED.get(name, name)
    return renamed if renamed == "|" else "\\" + renamed


def _words(text: str) -> str:
    r"""Resolve ``\text{…}``: a separator, a unit at the end, or the words themselves."""
    text = re.sub(r"\\(?:text|mbox)\s*\{\s*(?:and|or)\s*,?\s*\}", ",", text)
    whole = _TEXT.fullmatch(text)
    if whole:
        return whole[1].strip()
    # A text after a value is its unit, whatever it says.
    text = re.sub(
        r"(?<=[0-9A-Za-z})\]])\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?\s*$", "", text
    )
    text = _TEXT.sub(lambda found: f" {found[1]} ", text).strip()
    text = re.sub(r"(?<=[0-9})])\s+(?:and|or)\s+(?=[-0-9\\({])", ",", text)
    # Only the end is looked at, since the pattern takes quadratic time.
    head, tail = text[:-60], text[-60:]
    return (head + _UNIT.sub("", tail)).strip() if re.search("[0-9]", text) else text


def _ends(text: str) -> str:
    r"""Drop what stands around an answer: a full stop, ``x =``, braces around the whole, Markdown."""
    text = text.strip().strip("*`").rstrip(".:;,").strip()
    text = _SHORT_LEFT.sub("", text, count=1)
    if text.startswith("{") and _spans(text):
        text = text[1:-1].strip()
    choice = re.fullmatch(r"\(([A-Za-z0-9])\)", text)
    return choice[1] if choice else text


def _spans(text: str) -> bool:
    """Tell whether the bracket that *text* begins with is closed at its end."""
    return bool(text) and text[-1:] in ")]}" and _matching(text, 0) == len(text) - 1


def _fractions(text: str) -> str:
    r"""Give every ``\frac`` and ``\sqrt`` its braces, and a mixed number its ``\frac``."""
    text = re.sub(r"(?<![0-9./])([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)(?![0-9./])", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"^(-?)([0-9]+)\s*/\s*([0-9]+)$", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"\\sqrt\s*([0-9]+|[A-Za-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac\s*([0-9A-Za-z])", r"\\frac{\1}", text)
    return re.sub(r"(\\frac\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}", text)


def _digits(text: str) -> str:
    """Drop separators of thousands (outside brackets, where a comma parts coordinates) and idle zeros."""
    if not re.search(r"[(\[{]", text) or "\\frac" in text:
        text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    text = _DECIMAL.sub(lambda found: f"{found[1] or '0'}.{found[2].rstrip('0')}".rstrip("."), text)
    return _LEADING_ZEROS.sub("", text)


def _spaces(text: str) -> str:
    if _WORDS.fullmatch(text):
        return " ".join(text.split()).casefold()
    text = re.sub(r"([\^_])\s*\{\s*([0-9A-Za-z])\s*\}", r"\1\2", text)
    text = re.sub(r"(\\[A-Za-z]+)\s+(?![A-Za-z\s])", r"\1", text)
    text = re.sub(r"\s+", " ", text)
    # A space that ends a command, or parts two numbers or two words, means something.
    return re.sub(r"(?<!\\) (?![A-Za-z0-9])|(?<![A-Za-z0-9\\]) ", "", text).strip()


_RULES: Sequence[Callable[[str], str]] = (_symbols, _commands, _words, _ends, _fractions, _digits, _spaces)


def same_answer(one: str, other: str, algebra: Algebra | None = None) -> str | None:
    """Return how two answers are the same: by ``text``, ``number``, ``parts`` or ``algebra``; else None."""
    return _same(normal(one), normal(other), algebra, depth=0)


def _same(one: str, other: str, algebra: Algebra | None, depth: int) -> str | None:
    if one == other:
        return "text"
    one, other = min(one, other), max(one, other)  # so that the order in which they are given never counts
    if depth > 4 or len(one) > MAX_LENGTH or len(other) > MAX_LENGTH:
        return None
    left, right = _structure(one), _structure(other)
    if left is not None or right is not None:
        return "parts" if left and right and _same_parts(left, right, algebra, depth) else None
    return _same_value(one, other, algebra)


def _same_value(one: str, other: str, algebra: Algebra | None) -> str | None:
    meanings = parse(one), parse(other)
    if meanings[0] is not None and meanings[1] is not None:
        values = rational(meanings[0]), rational(meanings[1])
        if values[0] is not None and values[1] is not None:
            return "number" if values[0] == values[1] else None
    sides = one.split("="), other.split("=")
    if len(sides[0]) == len(sides[1]) == 2 and algebra is not None:
        moved = [f"({left})-({right})" for left, right in sides]
        is_same = algebra(*moved) or algebra(moved[0], f"-({moved[1]})")
        return "algebra" if is_same else None
    # Letters alone are a word or a name: "seat" is not "east" although both are products of the same letters.
    if algebra is None or None in meanings or one.isalpha() or other.isalpha():
        return None
    return "algebra" if algebra(one, other) else None


class _Parts:
    """An answer that has parts."""

    def __init__(self, kind: str, parts: list[str], *, is_ordered: bool) -> None:
        self.kind, self.parts, self.is_ordered = kind, parts, is_ordered


def _structure(text: str) -> _Parts | None:
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        rows = [row for row in re.split(r"\\\\", matrix[2]) if row.strip()]
        cells = [[cell.strip() for cell in row.split("&")] for row in rows]
        shape = "x".join(str(len(row)) for row in cells)
        return _Parts(matrix[1] + shape, [cell for row in cells for cell in row], is_ordered=True)
    for sign in ("\\cup", "\\pm"):
        pieces = _split(text, sign)
        if sign == "\\cup" and len(pieces) > 1:
            return _Parts("union", pieces, is_ordered=False)
        if sign == "\\pm" and len(pieces) == 2 and "," not in text and "=" not in text:
            return _Parts("list", [f"{pieces[0]}{plus}{pieces[1]}" for plus in "+-"], is_ordered=False)
    if text.startswith("\\{") and text.endswith("\\}") and _matching(text, 1) == len(text) - 1:
        return _Parts("list", _split(text[2:-2], ","), is_ordered=False)
    if text[:1] in ("(", "[") and _spans(text):
        parts = _split(text[1:-1], ",")
        return _Parts(text[0] + text[-1], parts, is_ordered=True) if len(parts) > 1 else None
    parts = _split(text, ",")
    return _Parts("list", parts, is_ordered=False) if len(parts) > 1 else None


def _same_parts(one: _Parts, other: _Parts, algebra: Algebra | None, depth: int) -> bool:
    if one.kind != other.kind or len(one.parts) != len(other.parts) or len(one.parts) > MAX_PARTS:
        return False
    left, right = ([normal(part) for part in side.parts] for side in (one, other))
    if one.is_ordered:
        return all(_same(*pair, algebra, depth + 1) for pair in zip(left, right, strict=True))
    for part in left:
        twin = next((x for x in right if _same(part, x, algebra, depth + 1)), None)
        if twin is None:
            return False
        right.remove(twin)
    return True


def _matching(text: str, start: int) -> int | None:
    """Return where the bracket at *start* is closed, by a bracket of any kind: intervals mix them."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0:
            return place
    return None


def _split(text: str, separator: str) -> list[str]:
    """Return the parts of *text* between separators that stand in no bracket."""
    parts, depth, start, place = [], 0, 0, 0
    while place < len(text):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0 and text.startswith(separator, place) and not _goes_on(text, place, separator):
            parts.append(text[start:place].strip())
            start = place = place + len(separator)
        else:
            place += 1
    return [*parts, text[start:].strip()]


def _goes_on(text: str, place: int, separator: str) -> bool:
    return separator[0] == "\\" and text[place + len(separator) : place + len(separator) + 1].isalpha()
