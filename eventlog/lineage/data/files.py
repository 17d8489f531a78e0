"""Rows and columns of files, as far as they are cheap to know, in the one pass that hashes them."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 1 << 18
SAMPLE_ROWS = 1000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")


class File(NamedTuple):
    """What is known of a file."""

    size_bytes: int
    sha256: str | None
    rows: int | None = None
    columns: list[dict[str, object]] | None = None


def describe_file(path: Path, *, wants_hash: bool = True) -> File:
    """Return size and hash of a file, and rows and columns of those kinds that say them cheaply.

    CSV and TSV: a row is a record after the first, which names the columns; the types are those of the first
    thousand records. JSON lines: a row is a line. Parquet, npy and npz say it themselves.

    Args:
        wants_hash: False reads only what says rows and columns at once.

    Raises:
        OSError: it cannot be read.
    """
    counter = _counter(path.suffix.lower())
    size, digest, sample = path.stat().st_size, hashlib.sha256(), b""
    if wants_hash:
        size = 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if counter is not None:
                    counter.feed(chunk)
                    sample += chunk[: SAMPLE_BYTES - len(sample)]
    sha256 = digest.hexdigest() if wants_hash else None
    rows, columns = _said(path, counter, sample, is_whole=len(sample) == size)
    return File(size, sha256, rows, columns)


class _Records:
    """Counts records that end with a newline, but not those newlines that stand in quotes."""

    def __init__(self, *, has_quotes: bool) -> None:
        self._has_quotes = has_quotes
        self._is_quoted = False
        self._ends_whole = True
        self.count = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        parts = chunk.split(b'"') if self._has_quotes else [chunk]
        for index, part in enumerate(parts):
            self._is_quoted ^= bool(index)
            if not self._is_quoted:
                self.count += part.count(b"\n")
        self._ends_whole = chunk.endswith(b"\n") and not self._is_quoted

    @property
    def total(self) -> int:
        """Return the records so far, the last one without an end among them."""
        return self.count + (not self._ends_whole)


def _counter(suffix: str) -> _Records | None:
    if suffix in _DELIMITERS:
        return _Records(has_quotes=True)
    return _Records(has_quotes=False) if suffix in _LINES else None


def _said(
    path: Path, counter: _Records | None, sample: bytes, *, is_whole: bool
) -> tuple[int | None, list[dict[str, object]] | None]:
    suffix = path.suffix.lower()
    with contextlib.suppress(Exception):  # rubbish under a good name, a package that is not there: no rows
        if suffix in _DELIMITERS and counter is not None and sample:
            return max(0, counter.total - 1), _csv_columns(sample, _DELIMITERS[suffix], is_whole=is_whole)
        if suffix in _LINES and counter is not None and sample:
            return counter.total, _json_columns(sample, is_whole=is_whole)
        if suffix == ".parquet":
            return _parquet(path)
        if suffix == ".npy":
            return _npy(path)
        if suffix == ".npz":
            return None, list(_npz(path))
    return None, None


def _csv_columns(sample: bytes, delimiter: str, *, is_whole: bool) -> list[dict[str, object]]:
    text = sample.decode("utf-8-sig", errors="replace")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    rows = rows if is_whole or len(rows) < 3 else rows[:-1]
    head, body = rows[0], rows[1 : 1 + SAMPLE_ROWS]
    return [
        {"name": name, "dtype": _type_of([row[i] for row in body if i < len(row)])}
        for i, name in enumerate(head)
    ]


def _type_of(cells: list[str]) -> str:
    """Return the narrowest type that all cells which are not empty can be read as."""
    filled = [cell for cell in cells if cell.strip()]
    if not filled:
        return "text"
    if all(cell.strip().lower() in {"true", "false"} for cell in filled):
        return "bool"
    for name, read in (("int", int), ("float", float)):
        with contextlib.suppress(ValueError):
            for cell in filled:
                read(cell)
            return name
    return "text"


def _json_columns(sample: bytes, *, is_whole: bool) -> list[dict[str, object]] | None:
    lines = sample.split(b"\n")
    lines = lines if is_whole else lines[:-1]
    kinds: dict[str, set[str]] = {}
    for line in [line for line in lines if line.strip()][:SAMPLE_ROWS]:
        row = orjson.loads(line)
        if not isinstance(row, dict):
            return None
        for name, value in row.items():
            kinds.setdefault(name, set()).update([] if value is None else [_json_type(value)])
    return [{"name": name, "dtype": "|".join(sorted(found)) or "null"} for name, found in kinds.items()]


def _json_type(value: object) -> str:
    names = {bool: "bool", int: "int", float: "float", str: "text", list: "list", dict: "struct"}
    return names.get(type(value), "any")


def _parquet(path: Path) -> tuple[int, list[dict[str, object]]]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    columns: list[dict[str, object]] = [{"name": f.name, "dtype": str(f.type)} for f in file.schema_arrow]
    return file.metadata.num_rows, columns


def _npy(path: Path) -> tuple[int | None, list[dict[str, object]]]:
    with path.open("rb") as file:
        shape, kind = _npy_header(file)
    return (shape[0] if shape else None), [{"name": path.stem, "dtype": kind, "shape": list(shape)}]


def _npz(path: Path) -> Iterator[dict[str, object]]:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                shape, kind = _npy_header(file)
            yield {"name": name.removesuffix(".npy"), "dtype": kind, "shape": list(shape)}


def _npy_header(file: Any) -> tuple[tuple[int, ...], str]:
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return tuple(map(int, shape)), str(kind)
