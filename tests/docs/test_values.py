"""The table of values: each row is executed."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import re
import uuid
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pytest

from eventlog.errors import BadValueError
from eventlog.values import metric_number, to_json

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "values.md").read_text("utf-8")
ROWS = [
    tuple(cell.strip().strip("`") for cell in line.strip("|").split(" | "))
    for line in PAGE.splitlines()
    if line.startswith("| `")
]


class Color(enum.Enum):
    """An enum whose values are texts."""

    RED = "red"


@dataclasses.dataclass
class Config:
    """A dataclass."""

    lr: float = 0.1


class Options(msgspec.Struct):
    """A msgspec struct."""

    seed: int = 3


class Model:
    """What looks like a pydantic model."""

    def model_dump(self) -> dict[str, object]:
        """Return the fields."""
        return {"depth": 2}


class Broken:
    """An object whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


NAMES = {
    "Broken": Broken,
    "Color": Color,
    "Config": Config,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "Model": Model,
    "Namespace": argparse.Namespace,
    "Options": Options,
    "Path": pathlib.PurePosixPath,
    "UUID": uuid.UUID,
    "datetime": datetime.datetime,
    "np": np,
}


def evaluate(expression: str) -> object:
    """Return the value of an expression from our own page."""
    return eval(expression, dict(NAMES))


@pytest.mark.parametrize(("expression", "as_metric"), [row[:2] for row in ROWS])
def test_metric_is_what_the_table_says(expression: str, as_metric: str) -> None:
    """The second column is the JSON of a metric, or that it is refused."""
    value = evaluate(expression)

    if as_metric == "refused":
        with pytest.raises(BadValueError, match="'k' was not logged"):
            metric_number("k", value)
    else:
        assert orjson.dumps(metric_number("k", value)).decode() == as_metric


@pytest.mark.parametrize(("expression", "as_json"), [(row[0], row[2]) for row in ROWS])
def test_json_is_what_the_table_says(expression: str, as_json: str) -> None:
    """The third column is the JSON of a param, a summary value or a cell."""
    assert orjson.dumps(to_json(evaluate(expression))).decode() == json_text(as_json)


def json_text(cell: str) -> str:
    """Return the cell as orjson spells it."""
    assert re.match(r'[\[{"\d\-ntf]', cell)
    return orjson.dumps(json.loads(cell)).decode()


def test_table_has_rows_for_the_common_types() -> None:
    """An empty table would pass every test."""
    text = " ".join(row[0] for row in ROWS)

    assert len(ROWS) > 40
    assert all(name in text for name in [*NAMES, "True", "None", "set", "b'"])
