"""What goes between a query and its sandbox: a length, and as many bytes of msgpack."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

MAX_FRAME_BYTES = 64 << 20
"""A longer message is an error: of rows that are too large, or of a child that is not ours any more."""
LENGTH = struct.Struct(">I")


class Setup(msgspec.Struct, kw_only=True):
    """How to make the jail.

    Attributes:
        readable: the only directories that may be read.
        statements: SQL that makes the tables.
        memory_bytes: for DuckDB; the whole process may take a little more.
        cpu_s: processor seconds after which the system ends the process.
    """

    readable: list[str]
    statements: list[str]
    memory_bytes: int
    cpu_s: int
    uses_landlock: bool = True


class Question(msgspec.Struct, kw_only=True):
    """SQL from somebody who is not trusted."""

    sql: str
    parameters: dict[str, Any] = {}


class Ready(msgspec.Struct, kw_only=True, tag="ready"):
    """The jail is closed; *walls* says what it is made of."""

    walls: list[str]


class Head(msgspec.Struct, kw_only=True, tag="head"):
    """The columns of the answer, and their types."""

    columns: list[str]
    types: list[str]


class Body(msgspec.Struct, kw_only=True, tag="body"):
    """Rows."""

    rows: list[list[Any]]


class End(msgspec.Struct, kw_only=True, tag="end"):
    """There is nothing more; *error* says what went wrong."""

    error: str | None = None


Message = Ready | Head | Body | End
