"""A ledger whose file is there and cannot be read at all."""

from __future__ import annotations

from pathlib import Path

from eventlog.delivery.ledger import generation_after
from tests.delivery.fakes import FakeClock


def test_generation_after_a_ledger_that_nobody_can_read_is_the_time(tmp_path: Path) -> None:
    """A name that is no file tells nothing, and its generation may be any."""
    (tmp_path / "x.json").mkdir()

    assert generation_after(tmp_path / "x.json", FakeClock()) == 1000
