"""Each defect on the page of the track record is held by a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.torture.rows import MODULES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "track-record.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_named_test_exists(file: str, name: str) -> None:
    """Whoever runs it finds it."""
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_defect_names_what_holds_it() -> None:
    """By the name of a test or the number of a row."""
    mended = PAGE.partition("## Found and left")[0]
    rows = [line for line in mended.splitlines() if line.startswith("| ") and "| test |" not in line]
    bare = [row for row in rows if not re.search(r"`tests/[\w/]+\.py::\w+` \|$|row (\d+) \|$", row)]

    assert len(rows) > 40
    assert bare == []
    assert {int(number) for number in re.findall(r"row (\d+)", PAGE)} <= set(MODULES)
