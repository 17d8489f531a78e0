"""What a judge's text says: a score on a scale, or which of two answers is better. Nothing is guessed.

Read, in this order: a JSON object, ``[[4]]``, ``Score: 4`` (the last one), or a text that is only the number.
A text that says two things in the same way, or a score outside the scale, says nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from eventlog.evaluation.text import after_thinking, plain

MAX_READ = 20_000
"""Characters from the end of a judge's text that are read."""
_MAX_OBJECTS = 100
_SCORE_KEYS = ("score", "rating", "grade", "overall", "overall_score")
_WINNER_KEYS = ("winner", "verdict", "better", "choice", "preference", "preferred")
_REASON_KEYS = ("reason", "reasoning", "explanation", "rationale")
_FIGURE = (
    r"(?P<value>-?[0-9]{1,6}(?:\.[0-9]{1,6})?)(?:\s*(?:/|out of)\s*(?P<top>[0-9]{1,6}(?:\.[0-9]+)?))?"
    r"(?![0-9]|\.[0-9]|\s*[-/][0-9])"
)
_SCORES = (
    re.compile(rf"\[\[\s*{_FIGURE}\s*\]\]"),
    re.compile(
        rf"\b(?:score|rating|grade)(?:\s+(?:is|of))?[\s*_`\"']{{0,6}}[:=]?[\s*_`\"'\[(]{{0,6}}{_FIGURE}",
        re.IGNORECASE,
    ),
)
_ONLY = re.compile(rf"[\s*_`\"'(\[]{{0,8}}{_FIGURE}[\s*_`\"')\].]*$")
_SIDE = (
    r"(?P<side>tie\b|draw\b|neither\b|both\b|(?i:equal)\b"
    r"|(?:(?i:answer|assistant|response|option|model)\s+)?[ABC](?![\w']))"
)
_WINNERS = (
    re.compile(r"\[\[\s*(?P<side>[ABCabc]|[Tt]ie)\s*\]\]"),
    re.compile(
        r"\b(?i:winner|verdict|better answer|preferred answer|preference)(?i:\s+is)?"
        rf"[\s*_`]{{0,6}}[:=]?[\s*_`\"'\[(]{{0,6}}{_SIDE}"
    ),
)
_ONLY_SIDE = re.compile(rf"[\s*_`\"'(\[]{{0,8}}{_SIDE}[\s*_`\"')\].]*$", re.IGNORECASE)
_TIES = frozenset({"tie", "draw", "c", "equal", "neither", "both", "same"})


def score_in(text: str, low: float, high: float) -> float | None:
    """Return the score that a judge's *text* gives, or None if it gives none in *low* … *high*."""
    read = _readable(text)
    for found in _objects(read):
        value = _of_keys(found, _SCORE_KEYS)
        if value is not None:
            number = _as_score(value)
            return number if number is not None and low <= number <= high else None
    for pattern in _SCORES:
        stated = list(pattern.finditer(read))
        if stated:
            return _in_scale(stated[-1], low, high)
    only = _ONLY.match(read)
    return _in_scale(only, low, high) if only else None


def winner_in(text: str) -> str | None:
    """Return ``A``, ``B`` or ``tie`` as a judge's *text* says, or None if it does not say."""
    read = _readable(text)
    for found in _objects(read):
        value = _of_keys(found, _WINNER_KEYS)
        if value is not None:
            return _side(str(value))
    for pattern in _WINNERS:
        sides = {_side(match["side"]) for match in pattern.finditer(read)}
        if sides:
            return sides.pop() if len(sides) == 1 else None
    only = _ONLY_SIDE.match(read)
    return _side(only["side"]) if only else None


def reason_in(text: str) -> str:
    """Return the judge's reason if it stands in a JSON object, else the whole text."""
    for found in _objects(_readable(text)):
        value = _of_keys(found, _REASON_KEYS)
        if isinstance(value, str):
            return value
    return text.strip()


def _readable(text: str) -> str:
    return plain(after_thinking(text)[-MAX_READ:]).strip()


def _objects(text: str) -> list[Mapping[str, object]]:
    """Return the JSON objects in *text* that stand in no other, the last first."""
    decoder, found, place = json.JSONDecoder(), [], text.find("{")
    for _ in range(_MAX_OBJECTS):
        if place < 0:
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found.append(value)
        place = text.find("{", end)
    return [value for value in reversed(found) if isinstance(value, dict)]


def _of_keys(found: Mapping[str, object], keys: tuple[str, ...]) -> object:
    lowered = {str(key).lower(): value for key, value in found.items()}
    return next((lowered[key] for key in keys if lowered.get(key) is not None), None)


def _as_score(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _in_scale(found: re.Match[str], low: float, high: float) -> float | None:
    # "4/5" on a scale to 10 is another scale than was asked for.
    if found["top"] is not None and float(found["top"]) != high:
        return None
    value = float(found["value"])
    return value if low <= value <= high else None


def _side(text: str) -> str | None:
    side = text.strip().lower().split(" ")[-1].strip("[]().*\"'")
    if side in _TIES:
        return "tie"
    return side.upper() if side in ("a", "b") else None
