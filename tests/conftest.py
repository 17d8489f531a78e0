"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventlog.lineage import running


@pytest.fixture(autouse=True)
def no_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave lineage to the tests that ask for it: most count the events of a log."""
    monkeypatch.setenv("EVLOG_LINEAGE", "0")


@pytest.fixture(autouse=True)
def nothing_beside_runs_is_left() -> Iterator[None]:
    """A test that leaves a run open does not give its sampler, console or seeds to the next one."""
    yield
    running.forget_all()
