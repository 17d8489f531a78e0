"""What becomes of the values that users log: numbers for metrics, JSON for everything else.

Nothing here raises because of a value except `BadValueError`, and that only where a value cannot be
kept at all. The outcome for each type stands in ``docs/reference/values.md``, which the tests check.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping, Set
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import cast

import msgspec

from eventlog.errors import BadValueError

MAX_DEPTH = 32
MAX_INLINE_BYTES = 4096
MAX_INLINE_ITEMS = 1000
_INT64 = 1 << 63
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number_on_disk(value: float) -> float | str:
    """Return *value*, or the string that stands for it if it is not finite."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def number_in_memory(value: object) -> float:
    """Return the float that a metric's value on disk stands for.

    Raises:
        BadValueError: another string than ``NaN``, ``Infinity`` or ``-Infinity``, or a huge int.
    """
    if isinstance(value, str):
        if value in _NON_FINITE:
            return _NON_FINITE[value]
        raise BadValueError("value", "str", f"{value!r} is not a number")
    try:
        return float(cast("float", value))
    except OverflowError:  # the format ends at 64 bits, and a file may hold anything
        raise BadValueError("value", "int", "it is larger than any float") from None


def metric_number(key: str, value: object) -> int | float | str:
    """Return *value* as it stands in a ``metrics`` event: an int of 64 bits, a float or a non-finite string.

    Takes bool (as 0 or 1), int, float, Decimal, Fraction, and whatever offers ``.item()`` for one
    element: scalars and one-element arrays of numpy, torch and jax. An int beyond 64 bits becomes the
    nearest float.

    Raises:
        BadValueError: anything else.
    """
    try:
        if isinstance(value, int):
            number = int(value)
            return number if -_INT64 <= number < _INT64 else _big_int(number)
        if isinstance(value, (float, Decimal, Fraction)):
            return _float(value)
        return metric_number(key, _item(key, value))
    except BadValueError:
        raise
    except Exception as error:  # a proxy without an object, a number that refuses to be one
        raise BadValueError(key, type(value).__name__, f"it cannot be read as a number ({error})") from error


def _big_int(number: int) -> float | str:
    try:
        return float(number)
    except OverflowError:
        return "Infinity" if number > 0 else "-Infinity"


def _float(value: float | Decimal | Fraction) -> float | str:
    try:
        return number_on_disk(float(value))
    except OverflowError:
        return "Infinity" if value > 0 else "-Infinity"
    except ValueError:
        return "NaN"  # a signalling NaN of decimal


def _item(key: str, value: object) -> int | float | Decimal:
    """Return the one number inside an array scalar."""
    kind = type(value).__name__
    item = getattr(value, "item", None)
    if value is None or isinstance(value, (str, bytes)) or not callable(item):
        raise BadValueError(key, kind, "a metric is a number")
    try:
        inner = item()
    except Exception as error:
        raise BadValueError(key, kind, f"it does not hold exactly one number ({error})") from error
    if not isinstance(inner, (int, float, Decimal)):
        raise BadValueError(key, kind, f"its element is a {type(inner).__name__}, not a real number")
    return inner


def step_number(step: object) -> int | None:
    """Return *step* as an int of 64 bits, or None for None.

    Raises:
        BadValueError: not a whole number, or out of range.
    """
    if step is None:
        return None
    number = metric_number("step", step)
    # The least step is left out: a larger int below it was rounded to it.
    if isinstance(number, float) and number.is_integer() and number > -_INT64:
        number = int(number)
    if not isinstance(number, int) or not -_INT64 <= number < _INT64:
        raise BadValueError("step", type(step).__name__, "a step is a whole number of at most 64 bits")
    return number


def text(value: str) -> str:
    """Return *value* with halves of surrogate pairs written as ``\\udc80``, for UTF-8 has none."""
    plain = str.__str__(value)  # of a subclass (numpy has one), which neither JSON library takes everywhere
    try:
        plain.encode()
    except UnicodeEncodeError:
        return plain.encode(errors="backslashreplace").decode()
    return plain


def key_text(key: object) -> str:
    """Return a mapping's key as text: a string as it is, an enum's value, anything else by ``str``."""
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, bytes):
        key = key.decode(errors="backslashreplace")
    return text(key) if isinstance(key, str) else text(_str(key))


def as_mapping(value: object) -> Mapping[object, object] | None:
    """Return the named parts of a mapping, dataclass, struct, namespace or pydantic model, else None."""
    if isinstance(value, Mapping):
        return value
    argparse = sys.modules.get("argparse")  # who has a namespace has imported it; we need not, at every start
    if argparse is not None and isinstance(value, argparse.Namespace):
        return cast("Mapping[object, object]", vars(value))
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    dump = getattr(value, "model_dump", None)  # pydantic
    if callable(dump):
        dumped = dump()
        return dumped if isinstance(dumped, Mapping) else None
    return None


def to_json(value: object, *, path: tuple[int, ...] = ()) -> object:
    """Return *value* in terms of JSON: dict, list, str, int of 64 bits, float, bool or None.

    Never raises. Cycles, and what lies deeper than `MAX_DEPTH`, become a short text in angle brackets.

    Args:
        path: identities of the containers around *value*.
    """
    if value is None or value is True or value is False:
        return value
    try:
        return _scalar_or_compound(value, path)
    except Exception as error:  # a hostile __str__, __iter__ or model_dump must not stop a training run
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _scalar_or_compound(value: object, path: tuple[int, ...]) -> object:
    if isinstance(value, Enum):
        return to_json(value.value, path=path)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int):
        number = int(value)
        return (
            number if -_INT64 <= number < _INT64 else str(number) if number.bit_length() < 4096 else "<int>"
        )
    if isinstance(value, float):
        return number_on_disk(float(value))
    return _compound(value, path)


def _compound(value: object, path: tuple[int, ...]) -> object:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes(bytes(value))
    if isinstance(value, PurePath):
        return text(str(value))
    parts = as_mapping(value)
    is_set = isinstance(value, Set)
    if parts is not None or is_set or isinstance(value, (list, tuple)):
        if id(value) in path:
            return "<cycle>"
        if len(path) >= MAX_DEPTH:
            return "<too deep>"
        inside = (*path, id(value))
        if parts is not None:
            return {key_text(k): to_json(v, path=inside) for k, v in parts.items()}
        items = [to_json(v, path=inside) for v in cast("Iterable[object]", value)]
        return sorted(items, key=_sort_key) if is_set else items
    return _array(value, path) if hasattr(value, "tolist") else _other(value)


def _bytes(value: bytes) -> str:
    if len(value) > MAX_INLINE_BYTES:
        return f"<{len(value)} bytes>"
    return "base64:" + base64.b64encode(value).decode()


def _array(value: object, path: tuple[int, ...]) -> object:
    """Return a small array as lists, a large one as its shape and type."""
    shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", "")
    if math.prod(shape) > MAX_INLINE_ITEMS:
        return f"<{type(value).__name__} shape={tuple(shape)} dtype={dtype}>"
    if id(value) in path:
        return "<cycle>"
    inner = value.tolist()  # type: ignore[attr-defined]  # the caller saw it
    if hasattr(inner, "tolist"):
        return text(_str(value))
    return to_json(inner, path=(*path, id(value)))


def _other(value: object) -> str:
    if hasattr(value, "isoformat"):
        return text(str(value.isoformat()))
    return text(_str(value))


def _str(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _sort_key(item: object) -> tuple[str, str]:
    return (type(item).__name__, f"{item:032.6f}" if isinstance(item, (int, float)) else str(item))


def flatten(data: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested params with dotted keys (``{"opt": {"lr": 1}}`` gives ``{"opt.lr": 1}``)."""
    flat: dict[str, object] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
