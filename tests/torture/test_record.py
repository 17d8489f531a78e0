"""What is put on record, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture import __main__ as campaign
from tests.torture.__main__ import Played, keep, read_record
from tests.torture.rows import Result


def played(cases: int, *, skipped: str | None = None, problems: list[str] | None = None) -> Played:
    result = Result(cases=cases, skipped=skipped, problems=problems or [])
    return Played(
        row=2,
        title="power cuts",
        promise="what was synced is read back",
        form="long",
        seed=1,
        seconds=1.0,
        machine="",
        code="abc",
        day="2026-01-01",
        result=result,
    )


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "RECORD", tmp_path / "torture.json")


@pytest.mark.parametrize(
    "second",
    [
        played(30, problems=["one was lost"]),
        played(20),
        played(30, skipped="no free-threaded build"),
    ],
    ids=["one with problems", "one that is shorter", "one that leaves out what never counted"],
)
def test_a_row_that_is_played_again_takes_the_place(second: Played) -> None:
    assert keep(played(30))
    assert keep(second)

    assert read_record() == {2: second}


def test_a_row_that_could_not_try_what_is_on_record_is_not_kept() -> None:
    """Without the tools of XFS a third of row 2 is skipped: the table would say less, unseen."""
    whole = played(30)
    assert keep(whole)

    assert not keep(played(20, skipped="XFS: mkfs.xfs is not installed"))
    assert read_record() == {2: whole}


def test_a_row_that_found_something_is_kept_whatever_it_left_out() -> None:
    found = played(20, skipped="XFS: mkfs.xfs is not installed", problems=["one was lost"])
    assert keep(played(30))
    assert keep(found)

    assert read_record() == {2: found}


def test_a_first_row_is_kept_as_it_is() -> None:
    assert keep(played(20, skipped="XFS: mkfs.xfs is not installed"))
