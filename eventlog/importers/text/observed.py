"""What is seen in a text log, line by line, before anybody decides what it means."""

from __future__ import annotations

from typing import Literal

import msgspec

Value = int | float | str | bool | list[object] | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A name and its value on a line.

    Attributes:
        line: number of the line, from 1.
        wanted: what the source says that it is, if it says so.
        is_marked: the line has a step or an epoch of its own.
        step: step of the line or of the last marker before it; None before the first.
        t_us: time of the line, microseconds since the epoch; None: it has none.
    """

    key: str
    value: Value
    line: int
    wanted: Literal["param", "metric"] | None = None
    is_marked: bool = False
    step: int | None = None
    t_us: int | None = None


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """A table that is no list of steps."""

    line: int
    columns: list[str]
    rows: list[list[object]]
    step: int | None = None
    t_us: int | None = None


class SavedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the log says was written."""

    line: int
    path: str
    is_checkpoint: bool
    step: int | None = None
    t_us: int | None = None


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A line that was not understood."""

    line: int
    text: str
