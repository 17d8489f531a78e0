"""Hypothesis strategies for events, built from the structs themselves: a new event type is in at once."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from eventlog.events import KNOWN, Event, Metrics, Note, Params

INT64 = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
# The texts that stand for numbers on disk.
NUMBER = INT64 | FINITE | st.sampled_from(["NaN", "Infinity", "-Infinity"])


def _of_type(hint: Any) -> st.SearchStrategy[Any]:
    plain = {int: INT64, float: FINITE, str: TEXT, bool: st.booleans(), object: JSON, type(None): st.none()}
    if hint in plain:
        return plain[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if set(arguments) == {int, float, str}:
        return NUMBER
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([_of_type(argument) for argument in arguments])
    if origin is list:
        return st.lists(_of_type(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_of_type(arguments[0]), _of_type(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return struct(hint)
    raise AssertionError(f"no strategy for {hint}: add one")


def struct(kind: type[msgspec.Struct], *, without: frozenset[str] = frozenset()) -> st.SearchStrategy[Any]:
    """Return a strategy for structs of *kind*, every field drawn but seq, ts and those in *without*."""
    hints = get_type_hints(kind)
    drawn = [name for name in kind.__struct_fields__ if name not in {"seq", "ts"} | without]
    fields = {name: _of_type(hints[name]) for name in drawn}
    return st.builds(kind, **fields)


def any_event() -> st.SearchStrategy[Event]:
    """Return a strategy for events of every known type, without seq and time."""
    return st.one_of([struct(kind) for kind in KNOWN])


def run_events(*, max_size: int = 8) -> st.SearchStrategy[list[Event]]:
    """Return a strategy for short logs: few types, but lines of many lengths and contents."""
    kinds: list[type[Event]] = [Metrics, Note, Params]
    inline = [struct(kind, without=frozenset({"payload"})) for kind in kinds]
    return st.lists(st.one_of(inline), min_size=1, max_size=max_size)
