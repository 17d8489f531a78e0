"""Checkpoints: what consumers save."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from eventlog.errors import CheckpointError
from eventlog.storage.cursor import Checkpoint, Cursor, load_checkpoint, save_checkpoint
from tests.faults import Killed, WatchedSystem, failing, killed_at
from tests.logs import WRITER_A, WRITER_B


def cursor(seq: int, segment: int = 1) -> Cursor:
    """Return a cursor before event *seq*."""
    return Cursor(segment=segment, offset=seq * 100, seq=seq, crc="0000abcd")


OLD = Checkpoint(cursors={WRITER_A: cursor(1)}, identity="a")
NEW = Checkpoint(cursors={WRITER_A: cursor(9), WRITER_B: cursor(3)}, identity="a")


def test_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    """Saving and loading changes nothing."""
    save_checkpoint(tmp_path / "x" / "local.json", NEW)

    assert load_checkpoint(tmp_path / "x" / "local.json") == NEW


def test_checkpoint_that_is_not_there_is_none(tmp_path: Path) -> None:
    """Nobody has consumed anything yet."""
    assert load_checkpoint(tmp_path / "local.json") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"cursors":{"a":{}}}', b"\0" * 50])
def test_checkpoint_that_cannot_be_read_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    """A broken checkpoint is an error with the way out, never a silent new beginning."""
    (tmp_path / "local.json").write_bytes(data)

    with pytest.raises(CheckpointError, match="Delete it"):
        load_checkpoint(tmp_path / "local.json")


@pytest.mark.parametrize("number", range(1, 7))
def test_checkpoint_is_old_or_new_when_the_process_is_killed(tmp_path: Path, number: int) -> None:
    """Whichever call was the last, the file is whole."""
    path = tmp_path / "local.json"
    save_checkpoint(path, OLD)

    with pytest.raises(Killed):
        save_checkpoint(path, NEW, WatchedSystem(killed_at(number)))

    assert load_checkpoint(path) in (OLD, NEW)


@pytest.mark.parametrize("name", ["create", "write", "sync", "close", "rename"])
def test_checkpoint_that_cannot_be_saved_leaves_the_old_one(tmp_path: Path, name: str) -> None:
    """An error leaves the old content and no other file."""
    path = tmp_path / "local.json"
    save_checkpoint(path, OLD)

    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, NEW, WatchedSystem(failing(name, 1, errno.ENOSPC)))

    assert load_checkpoint(path) == OLD
    assert [found.name for found in tmp_path.iterdir()] == ["local.json"]


def test_later_of_two_checkpoints_is_taken_writer_by_writer() -> None:
    """Each writer's later cursor counts; a writer that one of them lacks is kept."""
    mine = Checkpoint(cursors={WRITER_A: cursor(5)})
    other = Checkpoint(cursors={WRITER_A: cursor(3), WRITER_B: cursor(7)})

    assert mine.later(other).cursors == {WRITER_A: cursor(5), WRITER_B: cursor(7)}
    assert other.later(mine).cursors == {WRITER_A: cursor(5), WRITER_B: cursor(7)}
    assert mine.later(None) == mine
