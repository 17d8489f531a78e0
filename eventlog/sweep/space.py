"""Params and the values that they may take."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from eventlog.errors import EvlogError

Scalar = str | int | float | bool | None
MAX_TRIALS = 1_000_000

NAME = r"[A-Za-z_][\w.-]*"


def to_text(value: object) -> str:
    """Return a value as JSON, where 1, 1.0, true and "1" are four different texts."""
    return json.dumps(value)


class SpaceError(EvlogError, ValueError):
    """A param's values make no space."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(param, reason)
        self.param, self.reason = param, reason

    def __str__(self) -> str:
        return f"The param {self.param!r}: {self.reason}."


class Choice(msgspec.Struct, frozen=True):
    """One of several values."""

    values: list[Scalar]


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers between two bounds, both included.

    Attributes:
        scale: ``log``: the logarithm is uniform; both bounds are above 0.
        steps: in a grid, so many values at equal distances on the scale.
        type: ``int`` rounds to whole numbers; default as the bounds are.
    """

    min: int | float
    max: int | float
    scale: Literal["linear", "log"] = "linear"
    steps: int | None = None
    type: Literal["int", "float"] | None = None

    @property
    def is_whole(self) -> bool:
        """Tell whether values are whole numbers."""
        return self.type == "int" or (
            self.type is None and isinstance(self.min, int) and isinstance(self.max, int)
        )

    def at(self, share: float) -> int | float:
        """Return the value that lies at *share*, in [0, 1], of the way from min to max."""
        if self.scale == "log":
            value = math.exp(math.log(self.min) + share * (math.log(self.max) - math.log(self.min)))
        else:
            value = self.min + share * (self.max - self.min)
        value = round(value) if self.is_whole else float(f"{value:.10g}")
        return min(max(value, self.min), self.max)


Space = Mapping[str, Choice | Range]


def parse_space(params: Mapping[str, object]) -> dict[str, Choice | Range]:
    """Return the space that a file describes: a list of values, a range, or one value.

    Raises:
        SpaceError: a value is none of these, or a range is empty.
    """
    if not params:
        raise SpaceError("", "there are no params. Add a table [params]")
    for name in params:
        if not re.fullmatch(NAME, name):
            raise SpaceError(name, "a name has letters, digits, '_', '-' and '.', and begins with a letter")
    return {name: _parse(name, value) for name, value in params.items()}


def _parse(name: str, value: object) -> Choice | Range:
    if isinstance(value, Mapping):
        try:
            found = msgspec.convert(value, Range)
        except msgspec.ValidationError as error:
            raise SpaceError(name, f"{error}. A range has min, max, scale, steps and type") from error
        _check(name, found)
        return found
    several = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not several:
        raise SpaceError(name, "its list of values is empty")
    values: list[Scalar] = []
    for one in several:
        if one is not None and not isinstance(one, (str, int, float, bool)):
            raise SpaceError(name, f"{one!r} is no text, number or truth value")
        values.append(one)
    return Choice(values)


def _check(name: str, found: Range) -> None:
    if not (math.isfinite(found.min) and math.isfinite(found.max) and found.min <= found.max):
        raise SpaceError(name, f"min {found.min} is not below max {found.max}")
    if found.type == "int" and not (float(found.min).is_integer() and float(found.max).is_integer()):
        raise SpaceError(name, f"whole numbers need whole bounds, not {found.min} and {found.max}")
    if found.scale == "log" and found.min <= 0:
        raise SpaceError(name, f"a log scale needs min above 0, not {found.min}")
    if found.steps is not None and not 1 <= found.steps <= MAX_TRIALS:
        raise SpaceError(name, f"steps is a whole number from 1 to {MAX_TRIALS}")


def grid(space: Space) -> list[dict[str, Scalar]]:
    """Return all combinations, each once, the last param changing fastest.

    Raises:
        SpaceError: a range without ``steps``, or too many combinations.
    """
    axes = {name: _axis(name, one) for name, one in space.items()}
    if math.prod(map(len, axes.values())) > MAX_TRIALS:
        raise SpaceError(", ".join(axes), f"they have more than {MAX_TRIALS} combinations")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _axis(name: str, one: Choice | Range) -> list[Scalar]:
    if isinstance(one, Choice):
        return list({to_text(value): value for value in one.values}.values())
    if one.steps is None and one.is_whole and one.scale == "linear":
        if one.max - one.min >= MAX_TRIALS:
            raise SpaceError(name, f"it has more than {MAX_TRIALS} values; take some of them with steps")
        return list(range(int(one.min), int(one.max) + 1))
    if one.steps is None:
        raise SpaceError(name, "a grid over a range needs steps, how many values to take of it")
    shares = [i / (one.steps - 1) for i in range(one.steps)] if one.steps > 1 else [0.5]
    return list(dict.fromkeys(one.at(share) for share in shares))


def sample(space: Space, seed: int) -> Iterator[dict[str, Scalar]]:
    """Yield random points for ever; the n-th is the same for the same space and seed."""
    for number in itertools.count():
        chance = random.Random(f"{seed} {number}")
        yield {name: _draw(one, chance) for name, one in space.items()}


def _draw(one: Choice | Range, chance: random.Random) -> Scalar:
    if isinstance(one, Choice):
        return one.values[int(chance.random() * len(one.values))]
    if one.is_whole and one.scale == "linear":
        return int(one.min) + int(chance.random() * (int(one.max) - int(one.min) + 1))
    return one.at(chance.random())
