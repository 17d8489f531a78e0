r"""Hashes of tables and arrays that depend on what they hold, and on nothing else.

Neither the library and its version, nor how it cuts columns into chunks, nor the width of a number counts;
the order of rows and columns does. The recipe, for whoever wants to compute it with other tools:

- An array is SHA-256 over ``evlog-array-1\n``, the name of its type (``float32``), ``\n``, its shape
  (``2,3``), ``\n``, and its elements in C order, little endian.
- A table is SHA-256 over ``evlog-table-1\n``, the number of rows, ``\n``, and for each column, in order, the
  JSON array ``[name, kind, hash of the column]`` without spaces and ``\n``. The kind is ``int``, ``uint64``,
  ``float``, ``bool`` or ``any``.
- The hash of a column is SHA-256 over its values, followed by the numbers of the rows (from 0, 64 bits,
  little endian) whose value is missing:

  - ``int``, ``uint64``: 64 bits, little endian; ``bool``: one byte, 0 or 1; what is missing is 0;
  - ``float``: IEEE 754 of 64 bits, little endian; what is missing is the NaN ``0x7ff8000000000000``, as
    every NaN is, and its row is not named;
  - ``any``: as `_tagged` says; what is missing is ``n``, and its row is not named.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, cast

import orjson

Kind = Literal["int", "uint64", "float", "bool", "any"]
BLOCK_BYTES = 16 << 20
_NAN = struct.unpack("<d", bytes.fromhex("000000000000f87f"))[0]


class ColumnHash:
    """The hash of one column, fed with consecutive values in parts of any size."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._values, self._missing = hashlib.sha256(), array("q")
        self.rows = 0

    def feed(self, values: Sequence[object]) -> None:
        """Take more values; missing ones are None, NaN, or what pandas has for it.

        Raises:
            TypeError: a value that cannot be hashed by what it holds.
        """
        if self._kind == "any":
            for value in values:
                self._values.update(_tagged(value))
        else:
            whole = _plain_bytes(self._kind, values)
            self._values.update(self._one_by_one(values) if whole is None else whole)
        self.rows += len(values)

    def _one_by_one(self, values: Sequence[object]) -> bytes:
        is_gone = [_is_missing(value) for value in values]
        if self._kind == "float":
            numbers = array(
                "d",
                (_NAN if gone else float(cast("float", v)) for v, gone in zip(values, is_gone, strict=True)),
            )
            return _little(numbers)
        self._missing.extend(self.rows + row for row, gone in enumerate(is_gone) if gone)
        wholes = (0 if gone else int(cast("int", v)) for v, gone in zip(values, is_gone, strict=True))
        if self._kind == "bool":
            return bytes(wholes)
        return _little(array("q" if self._kind == "int" else "Q", wholes))

    def digest(self) -> str:
        """Return the hash of all values so far."""
        done = self._values.copy()
        done.update(_little(self._missing))
        return done.hexdigest()


def table_hash(rows: int, columns: Iterable[tuple[str, Kind, str]]) -> str:
    """Return the hash of a table from those of its columns."""
    done = hashlib.sha256(f"evlog-table-1\n{rows}\n".encode())
    for column in columns:
        done.update(orjson.dumps(list(column)) + b"\n")
    return done.hexdigest()


def array_hash(values: Any, name: str) -> str:
    """Return the hash of a NumPy array of any shape, in blocks of bounded size; *name* is that of its type.

    Raises:
        TypeError: its elements are objects.
    """
    import numpy

    kind = values.dtype
    if kind.hasobject:
        raise TypeError(f"an array of {kind} has no bytes of its own")
    shape = ",".join(map(str, values.shape))
    done = hashlib.sha256(f"evlog-array-1\n{name}\n{shape}\n".encode())
    for block in _blocks(values):
        done.update(numpy.ascontiguousarray(block, dtype=kind.newbyteorder("<")).tobytes())
    return done.hexdigest()


def _blocks(values: Any) -> Iterable[Any]:
    """Cut an array along its first axis, so that a copy of a part is all that has to be in memory."""
    if values.ndim == 0 or values.nbytes <= BLOCK_BYTES:
        yield values
        return
    step = BLOCK_BYTES * len(values) // values.nbytes
    for start in range(0, len(values), max(1, step)):
        if step:
            yield values[start : start + step]
        else:
            yield from _blocks(values[start])


def _plain_bytes(kind: Kind, values: Any) -> bytes | None:
    """Return the bytes of a NumPy array at once, or None for other sequences."""
    given = getattr(values, "dtype", None)
    if getattr(given, "kind", "O") not in "iufb" or not hasattr(values, "tobytes"):
        return None
    import numpy

    if kind == "float":
        numbers = values.astype("<f8")
        numbers[numpy.isnan(numbers)] = _NAN
        return bytes(numbers.tobytes())
    return bytes(values.astype({"int": "<i8", "uint64": "<u8", "bool": "u1"}[kind]).tobytes())


def _little(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _is_missing(value: object) -> bool:
    # NaN, pandas' NaT and NA: none is equal to itself, and of NA one cannot even ask.
    if value is None or type(value).__name__ == "NAType":
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return False


def _tagged(value: object) -> bytes:
    """Return a value as bytes that no other value has.

    Text is ``s``, UTF-8 and the byte 0xff; bytes are ``b``, their length in decimals, ``:`` and they. A whole
    number is ``i``, its decimals and ``;``; another one ``f``, the shortest decimals that mean it, and ``;``.
    True and false are ``T`` and ``F``. A date, a time or both is ``t``, ISO 8601 and ``;``, a duration ``d``,
    its nanoseconds and ``;``. A list is ``[``, its elements and ``]``; a struct is ``{``, each name as text
    with its value, by name, and ``}``.
    """
    if isinstance(value, str):
        return b"s" + str.__str__(value).encode("utf-8", "surrogatepass") + b"\xff"
    if value is None or isinstance(value, bool):
        return b"n" if value is None else b"T" if value else b"F"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b"b%d:%b" % (len(value), bytes(value))
    if isinstance(value, int):
        return b"i%d;" % value
    if isinstance(value, Mapping):
        parts = (_tagged(str(name)) + _tagged(value[name]) for name in sorted(value))
        return b"{" + b"".join(parts) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b"".join(map(_tagged, value)) + b"]"
    return _tagged_number(value)


def _tagged_number(value: object) -> bytes:
    if callable(getattr(value, "tolist", None)) and not hasattr(value, "isoformat"):
        return _tagged(cast("Any", value).tolist())  # an array in a cell, a scalar of NumPy
    if _is_missing(value):
        return b"n"
    if isinstance(value, float):
        return b"f%b;" % (repr(float(value)).encode())
    if isinstance(value, Decimal):
        return b"f%b;" % str(value).encode()
    if isinstance(value, timedelta):
        rest = getattr(value, "nanoseconds", 0)
        whole = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
        return b"d%d;" % (whole * 1000 + rest)
    if isinstance(value, (date, datetime, time)):
        return b"t%b;" % value.isoformat().encode()
    raise TypeError(f"a {type(value).__name__} cannot be hashed by what it holds")
