"""The hash of a table: what counts for it, and what does not."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog import EvlogWarning, Tracker
from eventlog.lineage.data.hashes import ColumnHash, table_hash
from tests.lineage.tables import logged_as, sha_of, table, tracker

__all__ = ["tracker"]


@pytest.mark.parametrize(
    "same",
    [
        lambda: pa.table(table()),
        lambda: pa.concat_tables([pa.table(table())[:1], pa.table(table())[1:]]),
        lambda: pa.table(table()).cast(
            pa.schema(
                [
                    ("id", pa.int8()),
                    ("score", pa.float32()),
                    ("text", pa.large_string()),
                    ("good", pa.bool_()),
                ]
            )
        ),
        lambda: pd.DataFrame(table()).convert_dtypes(),
        lambda: pd.DataFrame(table()).astype({"text": object}),
        lambda: pd.DataFrame(table(), index=[9, 8, 7]),
        lambda: datasets.Dataset.from_dict(table()),
        lambda: datasets.Dataset.from_dict(table()).select([2, 1, 0]).select([2, 1, 0]),
    ],
    ids=["arrow", "chunks", "widths", "nullable", "objects", "index", "datasets", "picked"],
)
def test_the_same_table_has_the_same_hash_in_every_library(same: Any) -> None:
    """Library, chunks, the width of numbers and the index do not count."""
    assert sha_of(same()) == sha_of(pd.DataFrame(table()))


@pytest.mark.parametrize(
    "other",
    [
        lambda frame: frame.iloc[::-1],
        lambda frame: frame[["score", "id", "text", "good"]],
        lambda frame: frame.rename(columns={"id": "key"}),
        lambda frame: frame.assign(id=[1, 2, 4]),
        lambda frame: frame.assign(text=["a", "", "ü\n"]),
        lambda frame: frame.assign(text=["a\n", None, "ü"]),
        lambda frame: frame.assign(id=frame["id"].astype(float)),
        lambda frame: frame.iloc[:2],
    ],
    ids=["rows", "columns", "name", "number", "missing", "border", "kind", "fewer"],
)
def test_another_table_has_another_hash(other: Any) -> None:
    """Order, names, values, missing ones and kinds count."""
    frame = pd.DataFrame(table())

    assert sha_of(other(frame)) not in {sha_of(frame), None}


def test_a_tables_hash_is_that_of_the_recipe() -> None:
    """Whoever follows the description with other tools comes to the same."""
    score = hashlib.sha256(struct.pack("<3d", 0.5, float("nan"), float("inf"))).hexdigest()
    number = hashlib.sha256(struct.pack("<3q", 1, 0, 3) + struct.pack("<q", 1)).hexdigest()
    word = hashlib.sha256(b"sa\xffn" + "sü\n".encode() + b"\xff").hexdigest()
    good = hashlib.sha256(bytes([1, 0, 1])).hexdigest()
    columns = [
        ["id", "int", number],
        ["score", "float", score],
        ["text", "any", word],
        ["good", "bool", good],
    ]
    lines = "".join(json.dumps(c, separators=(",", ":")) + "\n" for c in columns)

    whole = hashlib.sha256(f"evlog-table-1\n3\n{lines}".encode()).hexdigest()

    assert sha_of(pa.table({**table(), "id": [1, None, 3]})) == whole


VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary() | st.booleans()
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


@given(values=st.lists(NESTED, max_size=8), cuts=st.lists(st.integers(0, 8), max_size=3))
def test_a_columns_hash_does_not_depend_on_its_parts(values: list[Any], cuts: list[int]) -> None:
    """However a column is cut, its hash is the same."""
    whole, parted = ColumnHash("any"), ColumnHash("any")
    whole.feed(values)
    begin = 0
    for end in [*sorted(min(cut, len(values)) for cut in cuts), len(values)]:
        parted.feed(values[begin:end])
        begin = end

    assert parted.digest() == whole.digest()


@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=9), cut=st.integers(0, 9))
def test_a_column_of_numbers_knows_which_are_missing(values: list[int | None], cut: int) -> None:
    """A missing number is not the number 0, wherever the column is cut."""
    column, whole, filled = ColumnHash("int"), ColumnHash("int"), ColumnHash("int")
    column.feed(values[:cut])
    column.feed(values[cut:])
    whole.feed(values)
    filled.feed([value or 0 for value in values])

    assert column.digest() == whole.digest()
    assert (column.digest() == filled.digest()) == (None not in values)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(values=st.lists(NESTED, max_size=3), others=st.lists(NESTED, max_size=3))
def test_columns_that_differ_have_different_hashes(values: list[Any], others: list[Any]) -> None:
    """No value reads as another, or as two."""
    one, two = ColumnHash("any"), ColumnHash("any")
    one.feed(values)
    two.feed(others)

    assert (one.digest() == two.digest()) == (repr(plain(values)) == repr(plain(others)))


def plain(value: Any) -> Any:
    """Return *value* so that what means the same reads the same: NaN is missing, names have no order."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(value[name]) for name in sorted(value)}
    return None if value != value else value


def test_times_and_lists_in_cells_are_hashed() -> None:
    """Dates, durations, decimals, lists and arrays have a hash, the same in pandas and Arrow."""
    times = pd.DataFrame(
        {"t": pd.to_datetime(["2024-01-01", None]), "d": pd.to_timedelta([1, 2], "s"), "l": [[1, 2], [3]]}
    )

    assert sha_of(times) == sha_of(pa.Table.from_pandas(times)) is not None
    assert sha_of(times) != sha_of(times.assign(t=pd.to_datetime(["2024-01-02", None])))


def test_a_cell_without_a_content_costs_the_hash_only(tracker: Tracker) -> None:
    """An object of any kind cannot be hashed by what it holds; that is said, and the rest is logged."""
    with pytest.warns(EvlogWarning, match="has no hash"):
        event = logged_as(tracker, "odd", frame=pd.DataFrame({"a": [object()]}))

    assert (event.rows, event.sha256) == (1, None)


def test_a_data_set_of_hugging_face_has_its_fingerprint(tracker: Tracker) -> None:
    """Its own name for the content stands beside the hash."""
    data = datasets.Dataset.from_dict(table())

    assert logged_as(tracker, "d", frame=data).data["fingerprint"] == data._fingerprint


@pytest.mark.parametrize(
    "frame", [[1, 2], "x", datasets.DatasetDict({"train": datasets.Dataset.from_dict({})})]
)
def test_what_is_no_table_is_refused_with_a_way_out(tracker: Tracker, frame: object) -> None:
    """The training goes on; the data set is logged by its name."""
    with pytest.warns(EvlogWarning, match=r"array=|Log each of them"):
        event = logged_as(tracker, "odd", frame=frame)

    assert (event.name, event.rows, event.sha256) == ("odd", None, None)


def test_an_empty_table_has_a_hash() -> None:
    """No rows, no columns: both are contents like others."""
    assert sha_of(pd.DataFrame()) == table_hash(0, [])
    assert sha_of(pa.table({"a": pa.array([], pa.int64())})) == sha_of(pd.DataFrame({"a": np.array([], int)}))
