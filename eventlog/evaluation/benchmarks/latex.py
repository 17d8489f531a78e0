r"""LaTeX as it stands in answers: the last ``\boxed{…}``, and a strict parser for arithmetic and algebra.

Nothing is ever evaluated as Python. Whatever is not in the grammar below, or is too large, is not parsed at
all:

    sum     = [sign] product {sign product}
    product = factor {("*" | "/" | \cdot | \times | \div | nothing) factor}
    factor  = base {"!"} ["^" (atom | "{" sum "}")]
    base    = number | letter ["_" …] | \pi | "(" sum ")" | "|" sum "|" | \frac{}{} | \sqrt[]{} | \sin … |
    \log_…
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NoReturn

MAX_LENGTH = 300
MAX_DEPTH = 25
MAX_BITS = 4096
"""Size of a power that is worked out: ``9**9**9**9`` is not."""

Node = tuple[object, ...]
"""``("number", Fraction)``, ``("name", str)``, or an operation: ``("add", …)``, ``("pow", a, b)``, …."""

FUNCTIONS = frozenset(
    {
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "exp",
    }
)
_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "theta",
        "lambda",
        "mu",
        "nu",
        "rho",
        "sigma",
        "tau",
        "phi",
        "varphi",
        "omega",
        "psi",
        "Delta",
        "Omega",
        "Phi",
    ]
)
_TOKEN = re.compile(
    r"\s*+(?:(?P<number>[0-9]++(?>(?:\.[0-9]++)?)|\.[0-9]++)|(?P<command>\\[A-Za-z]++)|(?P<letter>[A-Za-z])"
    r"|(?P<sign>[-+*/^_()\[\]{}|!]))"
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*+")
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}


class _NotParsedError(ValueError):
    """The text is outside the grammar."""


def last_boxed(text: str) -> str | None:
    r"""Return what the last ``\boxed{…}``, ``\fbox{…}`` or ``\boxed x`` holds; None if it is not closed."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    found = _BOX.match(text, start) if start >= 0 else None
    if found is None:
        return None
    if text[found.end() : found.end() + 1] == "{":
        end = closing_brace(text, found.end())
        return None if end is None else text[found.end() + 1 : end].strip() or None
    bare = re.match(r"[^\s$]{1,200}+", text[found.end() :])
    return bare[0].rstrip(".,;") or None if bare else None


def closing_brace(text: str, start: int) -> int | None:
    r"""Return where the brace that opens at *start* is closed; ``\{`` and ``\}`` are no braces."""
    depth = 0
    for found in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if found[0] in "{}":
            depth += 1 if found[0] == "{" else -1
            if depth == 0:
                return found.start()
    return None


def parse(text: str) -> Node | None:
    """Return what *text* means, or None if it is not in the grammar or too large."""
    if len(text) > MAX_LENGTH:
        return None
    try:
        return _Parser(_tokens(text)).whole()
    except _NotParsedError:
        return None


def rational(node: Node) -> Fraction | None:
    """Return the number that *node* is, if it needs nothing but ``+ - * /`` and whole powers."""
    kind, *parts = node
    if kind == "number":
        return parts[0] if isinstance(parts[0], Fraction) else None
    values = [rational(part) if isinstance(part, tuple) else None for part in parts]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return _operate(str(kind), known)


def _operate(kind: str, values: list[Fraction]) -> Fraction | None:
    if any(value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS for value in values):
        return None
    first, *rest = values
    if kind == "add":
        return sum(values, Fraction(0))
    if kind == "mul":
        for value in rest:
            first *= value
        return first
    if kind == "pow" and is_small_power(first, rest[0]) and not (first == 0 and rest[0] < 0):
        return first ** int(rest[0])
    return abs(first) if kind == "abs" else None


def is_small_power(base: Fraction, exponent: Fraction) -> bool:
    """Tell whether the power is a rational number of at most `MAX_BITS` bits."""
    if exponent.denominator != 1 or abs(exponent) > MAX_BITS:
        return False
    return max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) <= MAX_BITS


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place, text = 0, text.strip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise _NotParsedError(text)
        tokens.append(found[0].strip())
        place = found.end()
    return tokens


class _Parser:
    """One pass over the tokens, by recursive descent."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._open_bars = 0

    def whole(self) -> Node:
        node = self._sum()
        if self._next() is not None:
            raise _NotParsedError
        return node

    def _next(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _take(self, wanted: str | None = None) -> str:
        token = self._next()
        if token is None or (wanted is not None and token != wanted):
            raise _NotParsedError
        self._place += 1
        return token

    def _deeper(self, rule: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _NotParsedError
        node = rule()
        self._depth -= 1
        return node

    def _sum(self) -> Node:
        parts = [self._signed(self._product)]
        while self._next() in ("+", "-"):
            parts.append(self._signed(self._product))
        return parts[0] if len(parts) == 1 else ("add", *parts)

    def _signed(self, rule: Callable[[], Node]) -> Node:
        if self._next() in ("+", "-"):
            is_negative = self._take() == "-"
            node = self._deeper(lambda: self._signed(rule))
            return negative(node) if is_negative else node
        return self._deeper(rule)

    def _product(self) -> Node:
        parts = [self._factor()]
        while True:
            token = self._next()
            if token in ("*", "\\cdot", "\\times"):
                self._take()
                parts.append(self._signed(self._factor))
            elif token in ("/", "\\div"):
                self._take()
                parts.append(("pow", self._signed(self._factor), ("number", Fraction(-1))))
            elif self._begins_factor(token):
                if token is not None and token[0] in "0123456789.":
                    raise _NotParsedError  # "2 3" is no product
                parts.append(self._factor())
            else:
                return parts[0] if len(parts) == 1 else ("mul", *parts)

    def _begins_factor(self, token: str | None) -> bool:
        if token is None or (token == "|" and self._open_bars):
            return False
        return token in ("(", "[", "{", "|") or token[0] in "\\." or token.isalnum()

    def _factor(self) -> Node:
        node = self._base()
        while self._next() == "!":
            self._take()
            node = ("factorial", node)
        if self._next() == "^":
            self._take()
            node = ("pow", node, self._deeper(self._exponent))
        return node

    def _exponent(self) -> Node:
        if self._next() in ("+", "-"):
            is_negative = self._take() == "-"
            node = self._deeper(self._exponent)
            return negative(node) if is_negative else node
        return self._deeper(self._factor if self._next() != "{" else self._base)

    def _base(self) -> Node:
        token = self._take()
        if token in _CLOSING:
            return self._bracketed(token)
        if token[0] in "0123456789.":
            return self._number(token)
        if token.isalpha():
            return self._named(token)
        return self._command(token[1:]) if token[0] == "\\" else self._refuse()

    def _bracketed(self, opening: str) -> Node:
        self._open_bars += opening == "|"
        node = self._deeper(self._sum)
        self._take(_CLOSING[opening])
        self._open_bars -= opening == "|"
        return ("abs", node) if opening == "|" else node

    def _number(self, token: str) -> Node:
        value = Fraction(token)
        if self._next() == "\\frac" and value.denominator == 1:
            place = self._place
            part = rational(self._deeper(self._factor))
            if part is not None and 0 < part < 1:
                return ("number", value + part)  # a mixed number
            self._place = place
        return ("number", value)

    def _named(self, name: str) -> Node:
        if self._next() == "_":
            self._take()
            name += "_" + self._subscript()
        return ("name", name)

    def _subscript(self) -> str:
        if self._next() != "{":
            token = self._take()
            return token if token.isalnum() else self._refuse()
        self._take()
        parts = []
        while self._next() not in ("}", None):
            parts.append(self._take())
        self._take("}")
        text = "".join(parts)
        return text if text.isalnum() else self._refuse()

    def _command(self, name: str) -> Node:
        if name == "frac":
            above, below = self._group(), self._group()
            return ("mul", above, ("pow", below, ("number", Fraction(-1))))
        if name == "sqrt":
            degree: Node = ("number", Fraction(2))
            if self._next() == "[":
                self._take()
                degree = self._bracketed("[")
            return ("root", self._group(), degree)
        if name in FUNCTIONS:
            return self._function(name)
        return self._named(name) if name in _GREEK or name == "pi" else self._refuse()

    def _group(self) -> Node:
        self._take("{")
        return self._bracketed("{")

    def _function(self, name: str) -> Node:
        subscript: Node | None = None
        power: Node | None = None
        if name == "log" and self._next() == "_":
            self._take()
            subscript = self._deeper(self._base)
        if self._next() == "^":
            self._take()
            power = self._deeper(self._base)
        if power == ("number", Fraction(-1)) or self._next() == "-":
            self._refuse()
        node: Node = ("function", name, self._argument(), *([subscript] if subscript else []))
        return ("pow", node, power) if power else node

    def _argument(self) -> Node:
        """Return what a function is of: a bracket, or the number and letters that follow (``sin 2x``)."""
        if self._next() in ("(", "{", "["):
            return self._deeper(self._base)
        parts = [self._deeper(self._factor)]
        while (token := self._next()) is not None and (token.isalpha() or token == "\\pi"):
            parts.append(self._deeper(self._factor))
        return parts[0] if len(parts) == 1 else ("mul", *parts)

    def _refuse(self) -> NoReturn:
        raise _NotParsedError


def negative(node: Node) -> Node:
    """Return minus *node*."""
    return ("mul", ("number", Fraction(-1)), node)
