"""What holds for all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave lineage to the tests that ask for it: most count the events of a log."""
    monkeypatch.setenv("EVLOG_LINEAGE", "0")
