"""Names and values as people print them: ``Val Loss: 73.1%``, ``lr=1e-3``, ``[64, 64]``, ``0.93 ± 0.02``."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from eventlog.importers.text.observed import Value

MAX_LITERAL = 1 << 16

NUMBER = (
    r"[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*(?:[eE][+-]?\d+)?"
    r"|\.\d+(?:[eE][+-]?\d+)?|nan|inf(?:inity)?)"
)
_UNITS = {
    "%": "",
    "s": "_s",
    "sec": "_s",
    "secs": "_s",
    "seconds": "_s",
    "ms": "_ms",
    "us": "_us",
    "min": "_min",
    "h": "_h",
    "s/it": "_s_per_it",
    "s/step": "_s_per_step",
    "ms/step": "_ms_per_step",
    "s/epoch": "_s_per_epoch",
    "it/s": "_it_per_s",
    "kb": "_kb",
    "mb": "_mb",
    "gb": "_gb",
    "mib": "_mib",
    "gib": "_gib",
}
_QUANTITY = re.compile(rf"({NUMBER})\s?(%|[A-Za-z]+(?:/[A-Za-z]+)?)?", re.IGNORECASE)
_WITH_STD = re.compile(rf"({NUMBER})\s*(?:±|\+/-|\+-)\s*({NUMBER})", re.IGNORECASE)
_PAIR = re.compile(
    r"""(?P<words>(?<![\w./@-])[^\W\d][\w./@-]{0,99}+(?:[ ][^\W\d][\w./@-]{0,99}+){0,3})  # val loss
        [ \t]{0,40}[:=][ \t]{0,40}
        (?P<value>"[^"]*"|'[^']*'|\[[^\]]*\]|\([^()]*\)|(?![^\W\d][\w./@-]{0,99}+=)[^\s,;|()\[\]{}]+(?:,\d{3})*)""",
    re.VERBOSE,
)
_UNIT_BEHIND = re.compile(r"[ ]?(ms/step|s/step|s/epoch|s/it|it/s|ms|sec|seconds|s|%|MB|GB|MiB|GiB)(?![\w/])")
_BARE_PAIR = re.compile(
    rf"(?<![\w./@-])([^\W\d][\w./@-]{{0,99}}+(?:[ ][^\W\d][\w./@-]{{0,99}}+){{0,3}})"
    rf"[ ]+({NUMBER})(?![\w./%:])",
    re.IGNORECASE,
)
_MAX_CELL = 200
_CELL = re.compile(
    r"\s*(?P<name>[^\W\d][\w./@-]*(?: [\w./@()-]+){0,5})(?P<sign>:\s+|\s+=\s+)"
    rf"(?P<value>{NUMBER} ?[a-z%/]*)\s*",
    re.IGNORECASE,
)
_SPLIT = re.compile(
    r"[\s|]*[\[(]?(train(?:ing)?|test|val|valid(?:ation)?|eval(?:uation)?|dev)"
    r"(?:[ ](?:set|results?|stats|metrics))?[\])]?\s*[:|](?=\s)",
    re.IGNORECASE,
)
_PERCENT_BEHIND = re.compile(r"\s*\(\s*[\d.]+\s?%\s*\)")
_RATIO = re.compile(r"(\d{1,15})/(\d{1,15})")
_STD_BEHIND = re.compile(rf"[ ]*(?:±|\+/-)[ ]*({NUMBER})", re.IGNORECASE)
_WORDS_OF_QUALIFIERS = (
    "train training val valid validation test eval evaluation dev best final last mean avg "
    "average running total learning batch weight weighted macro micro top min max num number "
    "hidden grad gradient early warmup global local error exact partial format data dataset "
    "model random"
)
_QUALIFIERS = frozenset(_WORDS_OF_QUALIFIERS.split())
_UNCLEAR_ALONE = frozenset({"size", "rate", "length", "count", "scale", "ratio", "dim"})
_TRUTH = {"true": True, "false": False}
_NOTHING = frozenset({"none", "null", "n/a", "-"})


class Pair(NamedTuple):
    """A name with its value, and where they stand in the line."""

    key: str
    value: Value
    start: int
    end: int


def name_of(words: str) -> str:
    """Return printed *words* as a name: the last one, with what qualifies it before it, in lower case."""
    parts = words.split() or [""]
    kept = [parts[-1]]
    for word in reversed(parts[:-1]):
        if word.lower() not in _QUALIFIERS and kept[0].lower() not in _UNCLEAR_ALONE:
            break
        kept.insert(0, word)
    return "_".join(kept).lower().strip("-./")


def number_of(text: str) -> tuple[int | float, str] | None:
    """Return a printed number and what its unit adds to the name; None for anything else.

    A percentage becomes a share: ``73.1%`` is 0.731.
    """
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        return None
    digits, unit = found[1].replace(",", ""), (found[2] or "").lower()
    if unit not in _UNITS and unit:
        return None
    number = int(digits) if re.fullmatch(r"[+-]?\d{1,18}", digits) else float(digits)
    if unit == "%" and math.isfinite(number):
        return float(Decimal(digits) / 100), ""
    return number, _UNITS.get(unit, "")


def value_of(text: str) -> Value:
    """Return what *text* stands for: a number, a truth value, a list, None or the text itself."""
    stripped = text.strip().rstrip(".") if not text.strip().endswith("..") else text.strip()
    number = number_of(text) or number_of(stripped)
    if number is not None and not number[1]:
        return number[0]
    lower = stripped.lower()
    if lower in _TRUTH:
        return _TRUTH[lower]
    if lower in _NOTHING:
        return None
    if stripped[:1] in "[(\"'" and len(stripped) <= MAX_LITERAL:
        literal = literal_of(stripped)
        if isinstance(literal, (list, tuple)):
            return list(literal)
        if isinstance(literal, str):
            return literal
    return stripped


def literal_of(text: str) -> object:
    """Return what JSON or a Python literal says; the text itself if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text


def pairs(line: str) -> Iterator[Pair]:
    """Yield ``key=value`` and ``key: value`` of *line*, from left to right."""
    for found in _PAIR.finditer(line):
        raw = found["value"]
        if raw.startswith("//") or "/" in found["words"][:1]:
            continue  # the scheme of an address
        yield from _with_unit(name_of(found["words"]), raw, line, found.start(), found.end())


def split_of(line: str) -> tuple[str, str]:
    """Return what names on a line such as ``Test set: loss 0.5`` begin with, and the line without that."""
    found = _SPLIT.match(line)
    return (found[1].lower() + "_", line[found.end() :]) if found else ("", line)


def whole_cells(line: str) -> list[Pair]:
    """Return the pairs that stand alone between bars or tabs, where all words are the name."""
    found = []
    for cell in re.finditer(r"[^|\t]+", line):
        pair = _CELL.fullmatch(cell[0]) if len(cell[0]) <= _MAX_CELL else None
        if pair is None or (pair["sign"].strip() == ":" and cell[0] == line):
            continue
        number = number_of(pair["value"])
        if number is not None:
            name = re.sub(r"[^\w/@.]+", "_", pair["name"]).strip("_").lower()
            found.append(Pair(name + number[1], number[0], cell.start(), cell.end()))
    return found


def _with_unit(key: str, raw: str, line: str, start: int, end: int) -> Iterator[Pair]:
    unit = _UNIT_BEHIND.match(line, end)
    number = number_of(raw + unit[1]) if unit else None
    if unit and number is not None:
        yield Pair(key + number[1], number[0], start, unit.end())
        return
    ratio = _RATIO.fullmatch(raw)
    if ratio and int(ratio[2]) and _PERCENT_BEHIND.match(line, end):
        yield Pair(key, int(ratio[1]) / int(ratio[2]), start, line.index(")", end) + 1)
        return
    number = number_of(raw.rstrip("."))
    if number is None:
        yield Pair(key, value_of(raw), start, end)
        return
    yield Pair(key + number[1], number[0], start, end)
    std = _STD_BEHIND.match(line, end)
    spread = number_of(std[1]) if std else None
    if std and spread is not None:
        yield Pair(f"{key}_std", spread[0], end, std.end())


def bare_pairs(line: str) -> Iterator[Pair]:
    """Yield ``loss 0.53`` and the like; only for lines that are known to report a step."""
    for found in _BARE_PAIR.finditer(line):
        number = number_of(found[2])
        if number is not None:
            yield Pair(name_of(found[1]), number[0], found.start(), found.end())
