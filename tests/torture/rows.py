"""What a row is, and which rows there are."""

from __future__ import annotations

import importlib
from typing import Literal, Protocol

import msgspec

Form = Literal["short", "long"]

MODULES = {
    1: "kills",
    2: "power_cuts",
    3: "writeback",
    4: "damage",
    5: "full_disks",
    6: "processes",
    7: "fuzzing",
    8: "crowds",
    9: "golden",
    10: "coverage",
}
"""The module of each row below this package."""


class Result(msgspec.Struct, kw_only=True):
    """What a row came to.

    Attributes:
        cases: how often something was done to evlog.
        counts: what was counted besides, by name: events, kills, inputs, ….
        lost: events that were promised and are not there; None where a row is not about events.
        invented: events that are there and were never logged.
        problems: everything that should not be, each with the seed or command that shows it again.
        skipped: why nothing, or not all, could be tried here.
    """

    cases: int = 0
    counts: dict[str, int] = {}
    lost: int | None = 0
    invented: int | None = 0
    problems: list[str] = []
    skipped: str | None = None

    @property
    def is_good(self) -> bool:
        """Tell whether every promise was kept."""
        return not (self.lost or self.invented or self.problems)


class Row(Protocol):
    """A module that plays a row."""

    TITLE: str
    PROMISE: str

    def play(self, form: Form, seed: int) -> Result:
        """Play the row and return what it came to. The same seed plays the same."""


def load_row(number: int) -> Row:
    """Return the module of a row."""
    return importlib.import_module(f"tests.torture.{MODULES[number]}")
