"""The table of the campaign stands on the page as it is on record."""

from __future__ import annotations

import re

from tests.torture.__main__ import PAGE, read_record, table
from tests.torture.rows import MODULES


def test_page_shows_what_is_on_record() -> None:
    """Nobody mends a figure by hand."""
    shown = re.search(r"<!-- torture -->\n(.*?)<!-- /torture -->", PAGE.read_text(), re.DOTALL)

    assert shown is not None
    assert shown[1] == table()


def test_record_holds_the_long_form_of_every_row() -> None:
    """What the page says was played can be played, and nothing is left out."""
    record = read_record()

    assert set(record) == set(MODULES)
    assert {one.form for one in record.values()} <= {"long"}


def test_record_leaves_out_nothing_but_a_build_of_python() -> None:
    """A row that was played where something is missing is not the row that was promised."""
    left_out = {row: one.result.skipped for row, one in read_record().items() if one.result.skipped}

    assert set(left_out) <= {6}
    assert all(re.fullmatch("no free-threaded build: [^;]*", reason) for reason in left_out.values())
