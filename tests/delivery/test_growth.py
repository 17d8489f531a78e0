"""Looking at a log costs little and misses nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.delivery import growth
from eventlog.delivery.growth import RELIST_S, RELIST_UNSETTLED_S, Growth
from eventlog.storage.layout import log_directory
from tests.logs import WRITER_A, WRITER_B, LogMaker, metrics, put


@pytest.fixture
def run(tmp_path: Path) -> Path:
    put(tmp_path / "run", 1, b"".join(LogMaker().segment(metrics(1), is_sealed=False)))
    return tmp_path / "run"


def newest(run: Path) -> Path:
    return log_directory(run) / f"{WRITER_A}.000001.jsonl"


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"{}\n")


def freeze_directory(run: Path) -> None:
    """Give the directory the time that it had: two changes in one tick of the file system's clock."""
    os.utime(log_directory(run), (1_000_000_000, 1_000_000_000))


def test_the_first_look_finds_what_is_there(run: Path) -> None:
    """And the second one nothing new."""
    looks = Growth(run)

    assert [looks.look(100.0), looks.look(100.1)] == [True, False]


def test_a_log_that_is_not_there_yet_has_nothing_new(tmp_path: Path) -> None:
    """Nor is it gone, for it never was; when it comes it is found."""
    looks = Growth(tmp_path / "run")
    before = looks.look(100.0)
    was_gone = looks.is_gone
    put(tmp_path / "run", 1, b"x")

    assert (before, was_gone, looks.look(100.1)) == (False, False, True)


def test_each_append_is_found_by_its_size(run: Path) -> None:
    """Also several within one tick of every clock."""
    looks = Growth(run)
    looks.look(100.0)
    seen = []
    for _ in range(5):
        append(newest(run))
        os.utime(newest(run), (1, 1))
        seen += [looks.look(100.0), looks.look(100.0)]

    assert seen == [True, False] * 5


def test_a_new_file_within_the_same_tick_is_found_soon(run: Path) -> None:
    """A directory that changed a moment ago is listed once more."""
    freeze_directory(run)
    looks = Growth(run)
    looks.look(100.0)
    put(run, 1, b"x", writer=WRITER_B)
    freeze_directory(run)

    assert looks.look(100.0 + RELIST_UNSETTLED_S)


def test_a_new_file_behind_a_clock_that_stands_is_found_later(run: Path) -> None:
    """Every directory is listed again after a while, whatever its time says."""
    freeze_directory(run)
    looks = Growth(run)
    for now in (100.0, 101.0, 102.0, 103.0, 104.0):
        looks.look(now)
    put(run, 1, b"x", writer=WRITER_B)
    freeze_directory(run)

    assert looks.look(104.0 + RELIST_S)


def test_on_a_network_every_look_lists(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There times come late, and sizes too."""
    monkeypatch.setattr(growth, "is_network_file_system", lambda _: True)
    looks = Growth(run)
    for now in (100.0, 103.0, 104.0):
        freeze_directory(run)
        looks.look(now)
    put(run, 1, b"x", writer=WRITER_B)
    freeze_directory(run)

    assert looks.look(104.1)


def test_a_log_that_was_deleted_is_gone_until_it_is_there_again(run: Path) -> None:
    """The same bytes in a new directory are something new, whatever the clock says."""
    freeze_directory(run)
    looks = Growth(run)
    looks.look(100.0)
    data = newest(run).read_bytes()
    shutil.rmtree(run)
    gone = [looks.look(100.1), looks.is_gone]
    put(run, 1, data)
    freeze_directory(run)

    assert gone == [False, True]
    assert (looks.look(100.2), looks.is_gone) == (True, False)


def test_a_file_in_the_place_of_the_log_is_no_log(run: Path) -> None:
    """It does not stop whoever looks."""
    looks = Growth(run)
    looks.look(100.0)
    shutil.rmtree(run)
    run.write_text("what?")

    assert (looks.look(100.1), looks.is_gone) == (False, True)


def test_rings_and_reserves_are_not_looked_at(run: Path) -> None:
    """What lies in a ring comes into a segment."""
    looks = Growth(run)
    looks.look(100.0)
    (log_directory(run) / f"{WRITER_A}.000001.ring").write_bytes(b"x" * 4096)

    assert not looks.look(100.1)


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(st.sampled_from(["append", "segment", "writer", "nothing"]), max_size=12))
def test_every_change_is_found_at_the_next_look_after_a_while(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Whatever happens, in whatever order, with a clock of the directory that stands still."""
    run = tmp_path_factory.mktemp("growth") / "run"
    put(run, 1, b"x")
    looks, now = Growth(run), 100.0
    looks.look(now)
    files = [newest(run)]
    wanted, seen = [], []
    for number, step in enumerate(steps, 2):
        if step == "append":
            append(files[-1])
        elif step == "segment":
            files.append(put(run, number, b"y"))
        elif step == "writer":
            put(run, 1, b"z", writer=f"r{number}-01KAHCZG000000000000000A00")
        freeze_directory(run)
        now += RELIST_S + 1
        wanted.append(step != "nothing")
        seen.append(looks.look(now))

    assert seen == wanted
