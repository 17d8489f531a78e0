"""The items of benchmarks, from a file of the user or from the Hugging Face hub.

Which items are taken: the first N in the order of the file, or, with a seed, the first N of an order that
depends on the seed and the number of rows only. So 100 samples are the first 100 of 200, on every machine.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec
import orjson

from eventlog.errors import EvlogError
from eventlog.evaluation.benchmark import BaseBenchmark, DataSource, Item

ENVIRONMENT = "EVLOG_BENCHMARKS"
"""A directory with ``<benchmark>/<split>.jsonl`` or ``<benchmark>.jsonl``."""
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


class BadDatasetError(EvlogError, ValueError):
    """A data set cannot be read."""

    def __init__(self, where: str, reason: str, line: int | None = None) -> None:
        super().__init__(where, reason, line)
        self.where, self.reason, self.line = where, reason, line

    def __str__(self) -> str:
        place = self.where if self.line is None else f"{self.where}, line {self.line}"
        return f"{place}: {self.reason}."


class DatasetNotFoundError(EvlogError, LookupError):
    """There is no data for a benchmark."""

    def __init__(self, benchmark: str, reason: str) -> None:
        super().__init__(benchmark, reason)
        self.benchmark, self.reason = benchmark, reason

    def __str__(self) -> str:
        return (
            f"{self.benchmark} has no data: {self.reason}. Give data=FILE or --data FILE (JSONL, JSON, CSV "
            f"or Parquet), or put {self.benchmark}/test.jsonl into the directory that {ENVIRONMENT} names."
        )


class HubSource(msgspec.Struct, frozen=True):
    """Where a data set lies on the Hugging Face hub.

    Attributes:
        splits: what the hub calls a split where it is not our name.
    """

    path: str
    config: str | None = None
    splits: dict[str, str] = {}


class DataBenchmark(BaseBenchmark):
    """A benchmark whose items come from a file, or from the hub if there is no file.

    Args:
        name: also the name that its data have below ``EVLOG_BENCHMARKS``.
        source: its place on the hub, if it has one.
        data: a file, or a directory with ``<split>.jsonl``; the hub is not asked then.
        hub: False never asks the hub; code of a data set is never run.
        seed: order of the items; None leaves them as they lie.
    """

    def __init__(
        self,
        name: str,
        source: HubSource | None = None,
        *,
        data: str | Path | None = None,
        hub: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(name)
        self.source, self.data, self.hub, self.seed = source, data, hub, seed

    def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
        """Return the items; at most *num_samples* of them.

        Raises:
            DatasetNotFoundError: there is neither a file nor a place on the hub that answers.
            BadDatasetError: a file cannot be read.
            MissingExtraError: the hub needs the package ``datasets``.
        """
        if num_samples is not None and num_samples < 0:
            raise BadDatasetError(self.name, f"num_samples is {num_samples}; give at least 0")
        return sample(self._rows(split), num_samples, self.seed)

    def data_source(self, split: str) -> DataSource:
        """Return the file that the items come from, or their place on the hub."""
        file = self._file(split)
        if file is not None or self.source is None:
            return DataSource(name=self.name, path=None if file is None else str(file))
        return DataSource(name=self.source.path, version=self.source.config)

    def _file(self, split: str) -> Path | None:
        if self.data is not None:
            return _file_for(Path(self.data), split)
        return _below_environment(self.name, split)

    def _rows(self, split: str) -> Sequence[Item]:
        file = self._file(split)
        if file is not None:
            return read_rows(file)
        if self.source is None or not self.hub:
            raise DatasetNotFoundError(self.name, "no file was named")
        return _from_hub(self.name, self.source, self.source.splits.get(split, split))


def sample(rows: Sequence[Item], num_samples: int | None, seed: int | None) -> Sequence[Item]:
    """Return *num_samples* of *rows*: the first, or with a seed those whose (seed, place) hash lowest."""
    count = len(rows) if num_samples is None else min(num_samples, len(rows))
    if seed is None:
        return [rows[place] for place in range(count)]
    # random.shuffle may differ between versions of Python; a hash does not.
    order = sorted(range(len(rows)), key=lambda place: hashlib.sha256(f"{seed}:{place}".encode()).digest())
    return [rows[place] for place in order[:count]]


def read_rows(path: Path) -> list[Item]:
    """Return the rows of a JSONL, JSON (a list of objects), CSV (with a header) or Parquet file.

    Raises:
        BadDatasetError: it cannot be read; tells the line where there are lines.
    """
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadDatasetError(str(path), f"its name ends in none of {', '.join(SUFFIXES)}")
    try:
        return list(reader(path))
    except FileNotFoundError as error:
        raise BadDatasetError(str(path), "there is no such file") from error
    except OSError as error:
        raise BadDatasetError(str(path), error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise BadDatasetError(str(path), f"it is not UTF-8 ({error.reason} at byte {error.start})") from error


def _jsonl(path: Path) -> Iterator[Item]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if text:
                yield _object(_parsed(text, path, number), path, number)


def _json(path: Path) -> Iterator[Item]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise BadDatasetError(str(path), f"it is not JSON ({error.msg})", error.lineno) from error
    except RecursionError as error:
        raise BadDatasetError(str(path), "it is nested too deeply") from error
    if not isinstance(rows, list):
        raise BadDatasetError(str(path), "it is not a list of objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadDatasetError(str(path), f"row {number} is no object but {type(row).__name__}")
        yield row


def _csv(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    wanted = len(reader.fieldnames or ())
                    raise BadDatasetError(str(path), f"it has not {wanted} fields", reader.line_num)
                yield row
        except csv.Error as error:
            raise BadDatasetError(str(path), f"it is not CSV ({error})", reader.line_num) from error


def _parquet(path: Path) -> Iterator[Item]:
    import duckdb

    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT * FROM read_parquet($1)", [_no_pattern(path)])
            names = [column[0] for column in rows.description]
            for row in rows.fetchall():
                yield dict(zip(names, row, strict=True))
    except duckdb.Error as error:
        raise BadDatasetError(str(path), f"it is not Parquet ({str(error).splitlines()[0]})") from error


def _no_pattern(path: Path) -> str:
    # DuckDB reads *, ? and [ in a name as a pattern.
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def _parsed(text: bytes, path: Path, line: int) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # NaN and integers beyond 64 bits, which Python's json writes.
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadDatasetError(str(path), f"it is not JSON ({error})", line) from error


def _object(row: object, path: Path, line: int) -> Item:
    if not isinstance(row, dict):
        raise BadDatasetError(str(path), f"it is no object but {type(row).__name__}", line)
    return row


def _file_for(path: Path, split: str) -> Path:
    if not path.is_dir():
        return path
    for suffix in SUFFIXES:
        if (path / f"{split}{suffix}").is_file():
            return path / f"{split}{suffix}"
    raise BadDatasetError(str(path), f"the directory has no {split}.jsonl (.json, .csv, .parquet)")


def _below_environment(name: str, split: str) -> Path | None:
    """Return the file of a benchmark below the directory in the environment, if it has one."""
    directory = os.environ.get(ENVIRONMENT)
    if not directory:
        return None
    for suffix in SUFFIXES:
        for path in (Path(directory, name, f"{split}{suffix}"), Path(directory, f"{name}{suffix}")):
            if path.is_file():
                return path
    return None


def _from_hub(benchmark: str, source: HubSource, split: str) -> Sequence[Item]:
    try:
        import datasets
    except ImportError as error:
        from eventlog.query.answer import MissingExtraError

        raise MissingExtraError(
            f"{benchmark} without data=FILE (it comes from the Hugging Face hub)", "'evlog[datasets]'"
        ) from error
    try:
        rows = datasets.load_dataset(source.path, source.config, split=split)
    except Exception as error:  # of many kinds: no network, no such split, a gated data set
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetNotFoundError(benchmark, f"{source.path} could not be loaded ({reason})") from error
    return [cast("Mapping[str, object]", row) for row in rows]
