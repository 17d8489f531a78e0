"""Rules for values that the table in the reference does not show; `tests/docs` runs the table itself."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import orjson
import pytest

from eventlog.codec import encode_fields
from eventlog.errors import BadValueError
from eventlog.events import Params
from eventlog.values import (
    MAX_DEPTH,
    MAX_INLINE_ITEMS,
    flatten,
    metric_number,
    number_in_memory,
    number_on_disk,
    step_number,
    to_json,
)


class HostileInt(int):
    """An int that cannot be turned into one."""

    def __int__(self) -> int:
        raise RuntimeError("no")


class Hostile:
    """An object that cannot be looked at."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Unbound:
    """A proxy without an object behind it, as some web frameworks have them."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("unbound")


class Level(IntEnum):
    """An enum of numbers."""

    HIGH = 3


def test_numbers_come_back_from_the_disk() -> None:
    """The three strings stand for the numbers that JSON lacks."""
    for value in (1.5, float("inf"), float("-inf")):
        assert number_in_memory(number_on_disk(value)) == value
    assert number_in_memory(number_on_disk(float("nan"))) != number_in_memory("NaN")


def test_other_strings_are_no_numbers() -> None:
    """Only the three strings are numbers."""
    with pytest.raises(BadValueError, match="not a number"):
        number_in_memory("inf")


def test_refused_metric_names_key_and_type() -> None:
    """The message tells which of many values it was."""
    with pytest.raises(BadValueError, match=r"'loss' was not logged.*ndarray"):
        metric_number("loss", np.zeros(3))


@pytest.mark.parametrize("make", [lambda: HostileInt(3), Unbound, Hostile])
def test_hostile_metric_is_refused_as_any_other(make: Callable[[], object]) -> None:
    """Whatever a value does when it is asked for its number, the caller sees one kind of error."""
    with pytest.raises(BadValueError):
        metric_number("loss", make())


@pytest.mark.parametrize(
    ("step", "number"), [(None, None), (3, 3), (3.0, 3), (np.int32(4), 4), (True, 1), (Level.HIGH, 3)]
)
def test_step_is_a_whole_number(step: object, number: int | None) -> None:
    """What equals a whole number is one."""
    assert step_number(step) == number


@pytest.mark.parametrize("step", [1.5, "1", float("nan"), 1 << 63, -(1 << 63) - 1, [1]])
def test_other_steps_are_refused(step: object) -> None:
    """Half steps, texts and numbers of more than 64 bits are errors."""
    with pytest.raises(BadValueError):
        step_number(step)


@pytest.mark.parametrize(
    "make", [Hostile, lambda: HostileInt(3), Unbound, lambda: [Hostile()], lambda: {"a": Unbound()}]
)
def test_hostile_value_becomes_a_text(make: Callable[[], object]) -> None:
    """A value that cannot be looked at must not stop a training run."""
    assert "RuntimeError" in orjson.dumps(to_json(make())).decode()


def test_cycle_is_cut() -> None:
    """A container inside of itself becomes a short text there."""
    cycle: list[object] = [1]
    cycle.append(cycle)

    assert to_json(cycle) == [1, "<cycle>"]


def test_cycle_through_an_array_is_cut() -> None:
    """Arrays of objects can hold themselves, too."""
    array = np.empty(1, dtype=object)
    array[0] = array

    assert len(orjson.dumps(to_json(array))) < 100


def test_depth_is_limited() -> None:
    """What lies too deep for any reader is cut, whatever the nesting."""
    value: object = 1
    for _ in range(10_000):
        value = [value]

    text = orjson.dumps(to_json(value)).decode()

    assert text.count("[") == MAX_DEPTH
    assert "<too deep>" in text


def test_large_array_is_its_shape() -> None:
    """An array that belongs into an artifact is described, not written."""
    assert to_json(np.zeros(MAX_INLINE_ITEMS + 1)) == "<ndarray shape=(1001,) dtype=float64>"


@pytest.mark.parametrize("value", [np.str_("x"), {np.str_("k"): np.str_("v")}, [np.str_("x")]])
def test_kinds_of_str_become_plain_text(value: object) -> None:
    """numpy's strings, which neither JSON library takes everywhere, can be written in an event."""
    fields = encode_fields(Params(data={"value": to_json(value)}))

    assert b"x" in fields or b'{"k":"v"}' in fields


def test_sets_have_an_order() -> None:
    """The same set gives the same bytes in every process."""
    assert to_json({"b", "a", 3, 1}) == to_json({3, "a", 1, "b"}) == [1, 3, "a", "b"]


def test_flatten_joins_keys_with_dots() -> None:
    """Nested params have one flat name each; empty ones are kept as they are."""
    assert flatten({"opt": {"lr": 1, "betas": {"b1": 2}}, "empty": {}}) == {
        "opt.lr": 1,
        "opt.betas.b1": 2,
        "empty": {},
    }
