from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from eventlog.lake.delta import Change, Live, New, Table
from eventlog.lake.errors import ConflictError
from eventlog.lake.log import Transactions
from eventlog.lake.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a lake with an empty table of tags."""
    place = Place(str(tmp_path / "lake"))
    place.prepare()
    Table.make(place, "tags")
    return place


def opened(place: Place) -> Table:
    """Return the table of tags as it is now."""
    found = Table.open(place, "tags")
    assert found is not None
    return found


def test_versions_are_those_that_delta_tells(place: Place) -> None:
    """Before and after a checkpoint, and however it is read on, each application is where Delta has it."""
    table, reading = opened(place), Transactions(place, "tags")
    for number in range(30):
        app = f"evlog/{number % 7}/run/writer"
        table.commit([], [], [Change(app, table.versions.get(app), number)])
        if number in {9, 20}:
            DeltaTable(place.uri("tags")).create_checkpoint()
        reading.at(number // 2)

    delta = DeltaTable(place.uri("tags"))
    expected = {app: delta.transaction_version(app) for app in table.versions}

    assert expected == {f"evlog/{n % 7}/run/writer": n for n in range(23, 30)}
    assert dict(table.versions) == expected
    assert dict(opened(place).versions) == expected
    assert reading.at(delta.version()) == expected


def test_versions_are_read_where_old_commits_were_removed(place: Place) -> None:
    """Delta removes commits that a checkpoint has taken in; what they said is not forgotten."""
    table = opened(place)
    for number in range(5):
        table.commit([], [], [Change("evlog/a/b/c", number or None, number + 1)])
    DeltaTable(place.uri("tags")).create_checkpoint()
    for name in range(4):
        place.delete([f"tags/_delta_log/{name:020d}.json"])

    assert dict(opened(place).versions) == {"evlog/a/b/c": 5}


def test_of_two_commits_of_one_application_one_fails(place: Place) -> None:
    """Two that began at the same version cannot both happen: this is what everything rests on."""
    first, second = opened(place), opened(place)
    first.commit([], [], [Change("evlog/a/b/c", None, 3)])

    with pytest.raises(CommitFailedError):
        second._try([], [], [Change("evlog/a/b/c", None, 3)], is_tidying=False)


def test_a_commit_that_builds_on_the_past_is_refused(place: Place) -> None:
    """Whoever saw an older version looks again instead of committing."""
    first, second = opened(place), opened(place)
    first.commit([], [], [Change("evlog/a/b/c", None, 3)])

    with pytest.raises(ConflictError):
        second.commit([], [], [Change("evlog/a/b/c", None, 5)])

    assert dict(opened(place).versions) == {"evlog/a/b/c": 3}


def test_a_commit_beside_another_goes_through(place: Place) -> None:
    """Publishers of different runs do not wait for each other."""
    first, second = opened(place), opened(place)
    first.commit([], [], [Change("evlog/a/b/c", None, 3)])

    second.commit([], [], [Change("evlog/a/b/d", None, 5)])

    assert dict(opened(place).versions) == {"evlog/a/b/c": 3, "evlog/a/b/d": 5}


def test_a_file_that_is_gone_is_not_removed_twice(place: Place) -> None:
    """Delta would take such a commit, and with it the rows that were to replace the file a second time."""
    new = New("project=p/part-x.parquet", "p", 10, 1, '{"numRecords": 1}')
    table = opened(place)
    table.commit([new], [], [Change("a", None, 1)])
    (live,) = table.files.values()
    table.commit([], [live], [Change("rewrite", None, 1)])

    with pytest.raises(ConflictError):
        table.commit([], [live], [Change("rewrite", 1, 2)])

    assert live == Live("project=p/part-x.parquet", "p", 10, 1, None, None)


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store took it and the answer was an error: the next look finds it there."""
    table, original = opened(place), Table._try

    def lossy(self: Table, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(Table, "_try", lossy)
    new = New("project=p/part-x.parquet", "p", 10, 1, '{"numRecords": 1}')

    table.commit([new], [], [Change("a", None, 1)])

    assert list(table.files) == [new.name]
    assert DeltaTable(place.uri("tags")).version() == 1
