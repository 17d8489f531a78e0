"""The page of features: no row without a way to do it, and a test that drives it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "seeds.md"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "| feature |" not in line
    ]


def test_no_row_is_empty() -> None:
    """Every feature has a command or call, and a test."""
    assert len(rows()) > 100
    for row in rows():
        assert len(row) == 3, row
        assert all(row), row


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row[0])[:50])
def test_the_test_of_a_row_is_there(row: list[str]) -> None:
    """A test that was renamed is renamed here too."""
    file, _, name = row[2].strip(" |").strip("`").partition("::")
    path = ROOT / "tests" / file

    tree = ast.parse(path.read_text())

    names = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert name in names
