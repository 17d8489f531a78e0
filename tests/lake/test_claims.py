from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from eventlog.ids import new_ulid
from eventlog.lake import claims
from eventlog.lake.claims import Claim
from eventlog.lake.delta import Table
from eventlog.lake.errors import LakeError
from eventlog.lake.place import Place
from eventlog.lake.tables import file_name
from eventlog.lake.tidy import vacuum
from eventlog.storage.system import host_name


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a lake with one table."""
    place = Place(str(tmp_path / "lake"))
    place.prepare()
    Table.make(place, "tags")
    return place


def left_by(
    place: Place, owner: str, holder: dict[str, object] | None, *, age: timedelta = timedelta(0)
) -> Path:
    """Put a file that no commit names, and the claim of who wrote it; return the file's path."""
    assert place.directory is not None
    name = file_name("tags", "demo", owner, 1)
    place.write(name, b"rows")
    if holder is not None:
        claim = f"{claims.DIRECTORY}/{owner}.json"
        place.write(claim, msgspec.json.encode(holder))
        then = (datetime.now(UTC) - age).timestamp()
        os.utime(place.directory / claim, (then, then))
    return place.directory / name


HERE = {"host": host_name(), "machine": claims._machine(), "pid_started": "0"}
ELSEWHERE = {"host": "elsewhere", "machine": "other boot", "pid": 1, "pid_started": "0"}


@pytest.mark.parametrize(
    ("holder", "age", "is_kept"),
    [
        (None, timedelta(0), False),
        ({**HERE, "pid": 4_000_000}, timedelta(0), False),
        ({**HERE, "pid": os.getpid()}, timedelta(0), False),
        (ELSEWHERE, timedelta(minutes=30), True),
        (ELSEWHERE, timedelta(hours=2), False),
    ],
    ids=["nobody", "a process that is gone", "another of the same id", "a host", "a host that is silent"],
)
def test_what_nobody_will_commit_is_removed(
    place: Place, holder: dict[str, object] | None, age: timedelta, is_kept: bool
) -> None:
    """A file that no commit names goes when its writer is gone, and not before."""
    path = left_by(place, new_ulid(), holder, age=age)
    table = Table.make(place, "tags")

    with Claim(place) as claim:
        vacuum(table, claim, timedelta(0))

    assert path.exists() == is_kept


def test_files_of_a_publisher_at_work_stay(place: Place) -> None:
    """Whoever publishes beside us has files that it will commit."""
    table = Table.make(place, "tags")
    with Claim(place) as other, Claim(place) as claim:
        path = left_by(place, other.owner, None)

        vacuum(table, claim, timedelta(0))
        is_there = path.exists()

    assert is_there


def test_files_of_others_are_never_touched(place: Place) -> None:
    """What another program has put there is its own affair."""
    place.write("tags/project=demo/part-00000-abc.snappy.parquet", b"rows")

    with Claim(place) as claim:
        removed = vacuum(Table.make(place, "tags"), claim, timedelta(0))

    assert removed == 0


def test_a_claim_ends_with_its_block(place: Place) -> None:
    """Nothing is left of a publisher that is done."""
    with Claim(place):
        during = [entry.name for entry in place.list(claims.DIRECTORY)]

    assert len(during) == 1
    assert list(place.list(claims.DIRECTORY)) == []


def test_who_slept_for_minutes_does_not_commit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may have taken it for gone and removed its files."""
    with Claim(place) as claim:
        monkeypatch.setattr(claims, "FRESH_S", -1.0)

        with pytest.raises(LakeError, match="slept"):
            claim.check()
