"""The words that gates and decisions are written in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from eventlog.errors import EvlogError

Operator = Literal[">=", "<=", ">", "<", "=="]
OPERATORS: tuple[str, ...] = (">=", "<=", "==", ">", "<", "=", "~")
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_ROUNDING = 1e-12


class RuleError(EvlogError, ValueError):
    """A rule that cannot be read.

    Attributes:
        at: number of the character, from 0, where it stops making sense.
    """

    def __init__(self, rule: str, at: int, reason: str) -> None:
        super().__init__(rule, at, reason)
        self.rule, self.at, self.reason = rule, at, reason

    def __str__(self) -> str:
        rest = self.rule[self.at :].strip()
        where = f"at {rest[:30]!r} (character {self.at + 1})" if rest else "at its end"
        return f"The rule {self.rule!r} cannot be read {where}: {self.reason}."


def unquoted(text: str) -> str:
    """Return what stands between quotes; a backslash keeps the character after it."""
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[:1] in {'"', "'"} else text


def holds(value: float, operator: str, number: float, *, size: float = 0.0) -> bool:
    """Tell whether ``value operator number``; NaN never does.

    Args:
        size: of the numbers that *value* was computed from: what only rounding them decides counts as equal.
    """
    room = _ROUNDING * max(abs(value), abs(number), abs(size)) if abs(value) != float("inf") else 0.0
    room = room if room < float("inf") else 0.0
    tests: dict[str, Callable[[], bool]] = {
        ">=": lambda: value >= number - room,
        "<=": lambda: value <= number + room,
        ">": lambda: value > number + room,
        "<": lambda: value < number - room,
        "==": lambda: value == number or abs(value - number) <= room,
    }
    return tests["==" if operator == "=" else operator]()


class Token(msgspec.Struct, frozen=True):
    """A piece of a rule: *kind* is word, quoted, number, operator, percent or separator."""

    kind: str
    text: str
    at: int

    @property
    def keyword(self) -> str:
        """Return a word in lower case; nothing for all else, so that what is quoted is never a keyword."""
        return self.text.lower() if self.kind == "word" else ""


_TOKEN = re.compile(
    rf"(?s:(?P<quoted>{QUOTED}))|(?P<operator>>=|<=|==|=|>|<)|(?P<separator>[,;:])|(?P<percent>%)"
    rf"|(?P<number>{NUMBER})(?![^\s,;:<>=%])|(?P<word>[^\s,;<>=%\"':]+(?::[^\s,;<>=%\"':]+)*)"
)


def tokens(rule: str) -> list[Token]:
    """Return the pieces of *rule*.

    Raises:
        RuleError: a quote that does not end.
    """
    found, at = [], 0
    while at < len(rule):
        if rule[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(rule, at)
        if match is None:
            raise RuleError(rule, at, "a quote does not end" if rule[at] in "\"'" else "no name begins so")
        kind = str(match.lastgroup)
        found.append(Token(kind, match[0], at))
        at = match.end()
    return found
