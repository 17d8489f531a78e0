"""A short form of each row of the campaign."""

from __future__ import annotations

import pytest

from tests.torture.__main__ import play
from tests.torture.rows import MODULES


@pytest.mark.parametrize("row", MODULES, ids=MODULES.values())
def test_short_form_of_a_row_keeps_every_promise(row: int) -> None:
    """Nothing lost, nothing invented, no problem; what cannot be tried here is skipped with its reason."""
    played = play(row, "short", seed=1)

    if played.result.skipped and not played.result.cases:
        pytest.skip(played.result.skipped)
    assert played.result.problems == []
    assert not played.result.lost
    assert not played.result.invented
    assert played.result.cases > 0
