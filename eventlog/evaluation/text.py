"""Reading what models write: signs in their many forms, hidden thinking, numbers.

Outputs may be a megabyte of anything, so everything here takes time in proportion to the length: the
patterns have possessive quantifiers (``++``), which never try a second way.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_DIGITS = 400
"""Longer numbers are no answers, and turning them into integers takes quadratic time."""

_SIGNS = {
    **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"),
    **dict.fromkeys("\uff0c\u066c", ","),
    **dict.fromkeys("\uff0e\u066b", "."),
    **dict.fromkeys("\u2018\u2019\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
    "\u2044": "/",
    "\u2215": "/",
    "\uff0f": "/",
    "\uff1a": ":",
    "\uff1d": "=",
    "\uff03": "#",
    "\uff04": "$",
    "\uff05": "%",
    "\ufe6a": "%",
    "\uff0b": "+",
    "\uff08": "(",
    "\uff09": ")",
    "\uff3b": "[",
    "\uff3d": "]",
    "\uff5b": "{",
    "\uff5d": "}",
    "\u3002": ".",
}
_SPACES = "\u00a0\u2007\u2009\u200a\u202f\u205f\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2008\u3000"
_NOTHING = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202c"
_HALVES = {one: unicodedata.normalize("NFKC", one).replace("\u2044", "/") for one in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
# Digits of other scripts and wide letters; not superscripts, which would turn x² into x2.
_WIDE = {chr(code): chr(code - 0xFEE0) for code in (*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_TABLE = str.maketrans({**_WIDE, **_SIGNS, **dict.fromkeys(_NOTHING, "")})
_NARROW_GROUPS = re.compile(rf"(?<=[0-9])[{_SPACES}'](?=[0-9]{{3}}(?![0-9]))")
_ANY_SPACE = str.maketrans(dict.fromkeys(_SPACES, " "))
_MIXED = re.compile(rf"([0-9]?)([{''.join(_HALVES)}])")

# The sign is one only where no operand stands before it, for "5-7" is a range, and no space behind it, for
# "- 5 apples" is an item of a list. (?>…), for a possessive group goes wrong before Python 3.11.5.
_NUMBER = re.compile(
    r"(?>(?P<sign>(?<==[ ])-[ ]|(?<![\w)\]}.])[-+])?)"
    r"(?>(?:[$€£¥]\s?+(?P<inner>-)?)?)"
    r"(?P<number>[0-9]++(?>(?:,[0-9]{2,3}(?![0-9]))*)(?>(?:\.[0-9]++)?)|\.[0-9]++)"
    r"(?>(?:(?P<power>[eE][-+]?+[0-9]{1,3}+(?![\w.]))"
    r"|(?:[ ]?+[x*×][ ]?+10\^\{?+(?P<ten>-?+[0-9]{1,3}+)\}?+)"
    r"|[ ]?+/[ ]?+(?P<under>[0-9]++)(?![0-9/.])"
    r"|[ ](?P<over>[0-9]{1,4}+)/(?P<below>[0-9]{1,4}+)(?![0-9/.]))?)"
    r"(?>(?:[ ]?+(?P<scale>thousand|million|billion|trillion)\b)?)",
    re.IGNORECASE,
)
_SPACED = re.compile(r"^[-+]?[ ]?[$€£¥]?[0-9]{1,3}(?:[ ][0-9]{3})+(?![0-9])|^[-+][ ](?=[0-9$.])")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def plain(text: str) -> str:
    """Return *text* with one form of each sign: ASCII digits, ``-``, ``$``, quotes, spaces.

    ``1 000`` and ``1'000`` with a narrow or no-break space or an apostrophe become ``1000``; ``1½`` becomes
    ``1 1/2``.
    """
    if not text.isascii():
        text = text.translate(_TABLE)
        text = "".join(map(_ascii_digit, text)) if _has_foreign_digit(text) else text
        text = _MIXED.sub(
            lambda found: f"{found[1]} {_HALVES[found[2]]}" if found[1] else _HALVES[found[2]], text
        )
    text = _NARROW_GROUPS.sub("", text)
    return text if text.isascii() else text.translate(_ANY_SPACE)


def _has_foreign_digit(text: str) -> bool:
    return any(one > "\x7f" and one.isdecimal() for one in set(text))


def _ascii_digit(one: str) -> str:
    return str(unicodedata.decimal(one)) if one > "\x7f" and one.isdecimal() else one


def after_thinking(text: str) -> str:
    """Return what stands after the last ``</think>``; nothing if the text breaks off within ``<think>``."""
    before, closing, rest = text.rpartition("</think>")
    if closing:
        return rest
    return "" if before == "" and text.lstrip().startswith("<think>") else text


def own_turn(text: str) -> str:
    """Return *text* up to where the model begins to ask itself the next question."""
    found = _NEXT_QUESTION.search(text, pos=len(text) - len(text.lstrip()) + 1)
    return text[: found.start()] if found else text


_NEXT_QUESTION = re.compile(r"\n[ ]{0,8}(?:Question|Problem|Q)[ ]?[0-9]{0,4}[:.]\s")


def numbers(text: str) -> list[Fraction]:
    """Return all numbers in *text*, which is `plain`, in their order."""
    return [value for value in map(_value, _NUMBER.finditer(text)) if value is not None]


def first_number(text: str) -> Fraction | None:
    """Return the first number in *text*, which is `plain`."""
    return next((value for value in map(_value, _NUMBER.finditer(text)) if value is not None), None)


def last_number(text: str) -> Fraction | None:
    """Return the last number in *text*, which is `plain`."""
    matches = list(_NUMBER.finditer(text))
    return next((value for value in map(_value, reversed(matches)) if value is not None), None)


def as_number(value: object) -> Fraction | None:
    """Return the number that *value* is, whole: ``$1,000.0``, ``50%``, ``-3/4``, 12, ``5 apples``; else None.

    Units after the number are let pass if they hold no digits. Booleans are no numbers.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Fraction)):
        return Fraction(value)
    if isinstance(value, float):
        return as_number(repr(value))
    if not isinstance(value, str) or len(value) > MAX_DIGITS:
        return None
    text = plain(value).strip().strip("*_`").removeprefix("\\").strip()
    text = _SPACED.sub(lambda match: match[0].replace(" ", ""), text)
    found = _NUMBER.match(text)
    if found is None or any(character.isdigit() for character in text[found.end() :]):
        return None
    return _value(found)


def number_text(value: Fraction) -> str:
    """Return *value* as decimals if they end within 12 places, else as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**12
    if scaled.denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(scaled.numerator)).rjust(13, "0")
    return ("-" if value < 0 else "") + f"{digits[:-12]}.{digits[-12:]}".rstrip("0")


def _value(found: re.Match[str]) -> Fraction | None:
    """Return the number that a match of `_NUMBER` stands for; None if it divides by zero or is too long."""
    if found.end() - found.start() > MAX_DIGITS:
        return None
    value = Fraction(found["number"].replace(",", ""))
    if found["power"]:
        value *= Fraction(10) ** int(found["power"][1:])
    elif found["ten"]:
        value *= Fraction(10) ** int(found["ten"])
    elif found["under"]:
        if int(found["under"]) == 0:
            return None
        value /= int(found["under"])
    elif found["over"] and int(found["below"]):
        value += Fraction(int(found["over"]), int(found["below"]))
    if found["scale"]:
        value *= _SCALES[found["scale"].lower()]
    is_negative = (found["sign"] or "").startswith("-") != bool(found["inner"])
    return -value if is_negative else value
