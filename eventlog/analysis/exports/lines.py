"""JSON that is laid out for `diff`: sorted keys, and a line for each value, point and sample.

Numbers are written in the shortest form that reads back the same, so that equal values give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import orjson

_DEEPEST = 3
_AT_ONCE = 10_000
"""Items of a list that are put together before they are handed on."""


class Written:
    """A list whose items are made when it is written, and not held."""

    def __init__(self, items: Callable[[], Iterable[object]]) -> None:
        self.items = items


def json_lines(value: object) -> Iterator[bytes]:
    """Yield *value* as JSON in pieces: objects are laid out to a depth of three, lists to their items."""
    yield from _pieces(value, 0, b"")
    yield b"\n"


def json_lines_of_several(values: Iterable[object]) -> Iterator[bytes]:
    """Yield a list of *values*, each as `json_lines` writes it."""
    before = b"[\n  "
    for value in values:
        yield before
        yield from _pieces(value, 0, b"  ")
        before = b",\n  "
    yield b"[]\n" if before[:1] == b"[" else b"\n]\n"


def _pieces(value: object, depth: int, outer: bytes) -> Iterator[bytes]:
    inner = outer + b"  "
    if isinstance(value, Mapping) and value and depth < _DEEPEST:
        before = b"{\n" + inner
        for key, item in sorted(value.items()):
            yield before + orjson.dumps(key) + b": "
            yield from _pieces(item, depth + 1, inner)
            before = b",\n" + inner
        yield b"\n" + outer + b"}"
    elif isinstance(value, (list, Written)) and depth < _DEEPEST:
        yield from _items(value if isinstance(value, list) else value.items(), outer, inner)
    else:
        yield _line(value)


def _items(items: Iterable[object], outer: bytes, inner: bytes) -> Iterator[bytes]:
    before, lines = b"[\n" + inner, list[bytes]()
    for item in items:
        lines.append(_line(item))
        if len(lines) == _AT_ONCE:
            yield before + (b",\n" + inner).join(lines)
            before = b",\n" + inner
            lines.clear()
    if lines:
        yield before + (b",\n" + inner).join(lines)
    elif before[:1] == b"[":
        yield b"[]"
        return
    yield b"\n" + outer + b"]"


def _line(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    except TypeError:  # an int of more than 64 bits, which a log may hold
        import json

        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str
        ).encode()
