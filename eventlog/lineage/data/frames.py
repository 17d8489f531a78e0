"""Reads tables of pandas, polars, Arrow and Hugging Face's datasets column by column, in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from eventlog.lineage.data.hashes import ColumnHash, Kind, table_hash

ROWS_AT_ONCE = 1 << 16


class Described(NamedTuple):
    """What is known of a table.

    Attributes:
        columns: name and type of each, as the library calls it.
        problem: why there is no hash, if there is none.
    """

    rows: int
    columns: list[dict[str, object]]
    sha256: str | None
    problem: str | None = None


class _Table(NamedTuple):
    """A table of any library: names and types of its columns, and its parts, a sequence for each column."""

    rows: int
    columns: list[tuple[str, str, Kind]]
    parts: Iterator[list[Sequence[object]]]


def describe_frame(frame: object, *, wants_hash: bool = True) -> Described:
    """Return rows, columns and hash of a table.

    Raises:
        TypeError: it is no table.
    """
    table = _table(frame)
    columns: list[dict[str, object]] = [{"name": name, "dtype": kind} for name, kind, _ in table.columns]
    if not wants_hash:
        return Described(table.rows, columns, None)
    hashes = [ColumnHash(kind) for _, _, kind in table.columns]
    try:
        for part in table.parts:
            for column, values in zip(hashes, part, strict=True):
                column.feed(values)
    except (TypeError, ValueError, OverflowError) as error:
        return Described(table.rows, columns, None, f"{error}")
    named = zip(table.columns, hashes, strict=True)
    whole = table_hash(table.rows, [(name, kind, one.digest()) for (name, _, kind), one in named])
    return Described(table.rows, columns, whole)


def fingerprint(frame: object) -> str | None:
    """Return the fingerprint that Hugging Face's datasets gives its data sets, if it is one."""
    found = getattr(frame, "_fingerprint", None)
    return found if isinstance(found, str) else None


def _table(frame: Any) -> _Table:
    where = type(frame).__module__.partition(".")[0]
    if where == "pandas" and hasattr(frame, "itertuples"):
        return _of_pandas(frame)
    if where == "pandas" and hasattr(frame, "to_frame"):
        return _of_pandas(frame.to_frame())
    if where == "polars" and hasattr(frame, "collect") and not hasattr(frame, "height"):
        frame = frame.collect()
    if where == "polars" and hasattr(frame, "height"):
        return _of_polars(frame)
    if where == "pyarrow" and hasattr(frame, "schema"):
        return _of_arrow(frame.schema, frame.num_rows, _arrow_parts(frame))
    if where == "datasets" and hasattr(frame, "with_format") and hasattr(frame, "num_rows"):
        if isinstance(frame.num_rows, dict):
            raise TypeError("it holds several splits. Log each of them: log_dataset(…, frame=data['train'])")
        arrow = frame.with_format("arrow")
        parts = (part for batch in arrow.iter(ROWS_AT_ONCE) for part in _arrow_parts(batch))
        return _of_arrow(frame.features.arrow_schema, frame.num_rows, parts)
    raise TypeError(
        f"a {type(frame).__name__} is no table of pandas, polars, pyarrow or datasets; arrays go to array="
    )


def _of_pandas(frame: Any) -> _Table:
    columns = [
        (str(name), str(kind), _pandas_kind(kind))
        for name, kind in zip(frame.columns, frame.dtypes, strict=True)
    ]

    def parts() -> Iterator[list[Sequence[object]]]:
        for start in range(0, len(frame), ROWS_AT_ONCE):
            part = frame.iloc[start : start + ROWS_AT_ONCE]
            yield [_of_series(part.iloc[:, i], kind) for i, (_, _, kind) in enumerate(columns)]

    return _Table(len(frame), columns, parts())


def _pandas_kind(dtype: Any) -> Kind:
    # The types of pandas and of Arrow inside of it name their kind as NumPy's do.
    kind = getattr(dtype, "kind", "O")
    name = str(dtype).lower()
    if name.startswith(("datetime", "timedelta", "period", "category", "sparse", "timestamp", "duration")):
        return "any"
    if kind == "i" or kind == "u":
        return "uint64" if name.startswith("uint64") else "int"
    return "float" if kind == "f" else "bool" if kind == "b" else "any"


def _of_series(series: Any, kind: Kind) -> Any:
    is_plain = kind != "any" and type(series.dtype).__module__.partition(".")[0] == "numpy"
    return series.to_numpy() if is_plain else series.tolist()


def _of_polars(frame: Any) -> _Table:
    columns = [(str(name), str(kind), _kind_of_name(str(kind))) for name, kind in frame.schema.items()]

    def parts() -> Iterator[list[Sequence[object]]]:
        for start in range(0, frame.height, ROWS_AT_ONCE):
            part = frame.slice(start, ROWS_AT_ONCE)
            yield [part.get_column(name).to_list() for name, _, _ in columns]

    return _Table(frame.height, columns, parts())


def _of_arrow(schema: Any, rows: int, parts: Iterator[list[Sequence[object]]]) -> _Table:
    return _Table(rows, [(f.name, str(f.type), _kind_of_name(str(f.type))) for f in schema], parts)


def _arrow_parts(table: Any) -> Iterator[list[Sequence[object]]]:
    batches = [table] if not hasattr(table, "to_batches") else table.to_batches(max_chunksize=ROWS_AT_ONCE)
    for batch in batches:
        yield [_of_arrow_column(column) for column in batch.columns]


def _of_arrow_column(column: Any) -> Any:
    is_number = _kind_of_name(str(column.type)) != "any"
    return (
        column.to_numpy(zero_copy_only=False) if is_number and not column.null_count else column.to_pylist()
    )


def _kind_of_name(name: str) -> Kind:
    """Return the kind of a type of polars or Arrow: both name what is a number alike, but for the case."""
    name = name.lower()
    if name == "uint64":
        return "uint64"
    if name in {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"}:
        return "int"
    if name in {"halffloat", "float", "double", "float16", "float32", "float64"}:
        return "float"
    return "bool" if name in {"bool", "boolean"} else "any"
