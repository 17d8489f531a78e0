"""What holds for every value that a user may log."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import BadValueError
from eventlog.values import metric_number, number_in_memory, to_json

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.binary(max_size=50)
    | st.decimals()
    | st.fractions()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
    | st.just(object)
    | st.just(print)
)
KEYS = st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.binary(max_size=5)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=10,
)


@given(value=ANYTHING)
def test_anything_becomes_json(value: object) -> None:
    """Nothing raises, and both JSON libraries take the result and agree on it."""
    done = to_json(value)

    assert orjson.loads(orjson.dumps(done)) == msgspec.json.decode(msgspec.json.encode(done))


@given(value=ANYTHING)
def test_json_stays_as_it_is(value: object) -> None:
    """What was turned into JSON once does not change when it is turned again."""
    done = to_json(value)

    assert orjson.dumps(to_json(done)) == orjson.dumps(done)


@given(value=st.booleans() | st.integers() | st.floats() | st.decimals(allow_nan=False) | st.fractions())
def test_metric_is_the_nearest_number(value: float | Decimal | Fraction) -> None:
    """A metric is an int of 64 bits, a finite float or one of three strings, as near as a float can be."""
    number = metric_number("k", value)

    try:
        wanted = float(value)
    except OverflowError:
        wanted = math.inf if value > 0 else -math.inf
    got = number_in_memory(number)
    assert got == wanted or (math.isnan(got) and math.isnan(wanted))
    assert not isinstance(number, bool)
    if isinstance(number, int):
        assert -(1 << 63) <= number < 1 << 63
        assert number == value
    if isinstance(number, float):
        assert math.isfinite(number)


@given(value=st.none() | st.text() | st.binary() | st.lists(st.floats()) | st.complex_numbers())
def test_what_is_no_number_is_refused_by_name(value: object) -> None:
    """There is one kind of error, and it names the key."""
    with pytest.raises(BadValueError, match="'loss' was not logged"):
        metric_number("loss", value)
