"""Copies of logged files, and payloads too large for a line."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import encode_fields
from eventlog.errors import BadValueError
from eventlog.events import Note, PayloadRef, Table
from eventlog.storage.artifacts import describe, load_payload, spill, store
from tests.faults import WatchedSystem, failing
from tests.logs import LogMaker, put, read_back


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with two files, one of them below a directory of its own."""
    directory = tmp_path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "b.txt").write_bytes(b"bee")
    (directory / "sub" / "a.txt").write_bytes(b"ay")
    return directory


def test_file_is_copied_and_hashed(tmp_path: Path, source: Path) -> None:
    """The copy has the bytes, the size and the hash that the event will name."""
    stored = store(tmp_path / "run", source / "b.txt", "plots/b.txt", 1)

    assert stored.path == "artifacts/plots/b.txt"
    assert (tmp_path / "run" / stored.path).read_bytes() == b"bee"
    assert (stored.size_bytes, stored.sha256) == (3, hashlib.sha256(b"bee").hexdigest())


def test_directory_is_copied_with_a_hash_of_its_listing(tmp_path: Path, source: Path) -> None:
    """A directory's hash is that of its sorted lines `<sha256>  <path>`, as sha256sum prints them."""
    stored = store(tmp_path / "run", source, "data", 1)

    listing = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in (("b.txt", b"bee"), ("sub/a.txt", b"ay"))
    )
    assert stored.sha256 == hashlib.sha256(listing.encode()).hexdigest()
    assert [entry.path for entry in stored.files] == ["b.txt", "sub/a.txt"]
    assert (tmp_path / "run" / stored.path / "sub" / "a.txt").read_bytes() == b"ay"


def test_reference_has_the_hash_of_a_copy(tmp_path: Path, source: Path) -> None:
    """By reference nothing is copied; size and hash are the same."""
    copied, referred = store(tmp_path / "run", source, "data", 1), describe(source)

    assert (referred.size_bytes, referred.sha256, referred.files) == (
        copied.size_bytes,
        copied.sha256,
        copied.files,
    )
    assert referred.path == str(source)


def test_later_version_lies_beside_the_first(tmp_path: Path, source: Path) -> None:
    """Version 2 of `b.txt` is `b.v2.txt`; the first is left alone."""
    store(tmp_path / "run", source / "b.txt", "b.txt", 1)
    (source / "b.txt").write_bytes(b"bumble")

    second = store(tmp_path / "run", source / "b.txt", "b.txt", 2)

    assert second.path == "artifacts/b.v2.txt"
    assert (tmp_path / "run" / "artifacts" / "b.txt").read_bytes() == b"bee"


@pytest.mark.parametrize("is_directory", [False, True])
def test_name_that_is_taken_is_never_replaced(tmp_path: Path, source: Path, is_directory: bool) -> None:
    """Two ranks that log the same name get a file each."""
    what = source if is_directory else source / "b.txt"
    first = store(tmp_path / "run", what, "x", 1)
    second = store(tmp_path / "run", what, "x", 1)

    assert first.path != second.path
    assert (tmp_path / "run" / first.path).exists()
    assert (tmp_path / "run" / second.path).exists()


def test_link_that_leads_out_of_a_directory_is_skipped(tmp_path: Path, source: Path) -> None:
    """What lies outside of the directory was not asked for; the event says what was left out."""
    (tmp_path / "secret").write_text("secret")
    (source / "out").symlink_to(tmp_path / "secret")
    (source / "up").symlink_to(tmp_path)
    (source / "in").symlink_to(source / "b.txt")

    stored = store(tmp_path / "run", source, "data", 1)

    assert sorted(stored.skipped) == ["out", "up"]
    assert [entry.path for entry in stored.files] == ["b.txt", "in", "sub/a.txt"]


def test_pipe_is_refused_without_waiting(tmp_path: Path, source: Path) -> None:
    """Reading a FIFO could wait for ever: it is no artifact, alone or in a directory."""
    os.mkfifo(source / "pipe")

    with pytest.raises(BadValueError, match="neither a file nor a directory"):
        store(tmp_path / "run", source / "pipe", "pipe", 1)

    assert store(tmp_path / "run", source, "data", 1).skipped == ["pipe"]


@pytest.mark.parametrize("is_directory", [False, True])
@pytest.mark.parametrize("name", ["create", "write", "sync"])
def test_copy_that_fails_leaves_nothing_behind(
    tmp_path: Path, source: Path, name: str, is_directory: bool
) -> None:
    """A file is whole under its name or not there."""
    what = source if is_directory else source / "b.txt"

    with pytest.raises(OSError, match="No space"):
        store(tmp_path / "run", what, "x", 1, WatchedSystem(failing(name, 1, errno.ENOSPC)))

    assert list((tmp_path / "run" / "artifacts").iterdir()) == []


def test_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The caller decides what a missing file means."""
    with pytest.raises(FileNotFoundError):
        store(tmp_path / "run", tmp_path / "none", "none", 1)


def test_payload_comes_back_as_it_was_spilled(tmp_path: Path) -> None:
    """The reference names path, size and hash; the same payload is written once."""
    first = spill(tmp_path, "table", b'{"rows":[]}')
    second = spill(tmp_path, "table", b'{"rows":[]}')

    assert first == second
    assert first.path.startswith("artifacts/payloads/table-")
    assert load_payload(tmp_path, first) == b'{"rows":[]}'
    assert len(list((tmp_path / "artifacts" / "payloads").iterdir())) == 1


def test_payload_that_was_changed_is_refused(tmp_path: Path) -> None:
    """A payload is part of the log: its hash has to fit."""
    reference = spill(tmp_path, "table", b'{"rows":[]}')
    (tmp_path / reference.path).write_bytes(b'{"rows":[1]}')

    with pytest.raises(BadValueError, match="changed"):
        load_payload(tmp_path, reference)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a\0b"])
def test_payload_outside_of_the_run_is_refused(tmp_path: Path, path: str) -> None:
    """A log from somebody else cannot make a reader open any file that it likes, nor stop it."""
    (tmp_path / "secret").write_bytes(b"{}")
    reference = spill(tmp_path / "run", "table", b"{}")

    with pytest.raises(BadValueError, match="outside"):
        load_payload(tmp_path / "run", msgspec.structs.replace(reference, path=path))


def test_event_comes_back_with_its_payload(tmp_path: Path) -> None:
    """A reader puts the fields that lie in a file back into their event."""
    table = Table(key="t", columns=["a"], rows=[[1], [2]])
    reference = spill(tmp_path, "table", encode_fields(table))
    put(tmp_path, 1, b"".join(LogMaker().segment([Table(key="t", payload=reference)])))

    (event,) = read_back(tmp_path).events

    assert isinstance(event, Table)
    assert (event.seq, event.columns, event.rows) == (0, ["a"], [[1], [2]])


@pytest.mark.parametrize("path", ["artifacts/payloads/none.json", "a\0b", ""])
def test_event_whose_payload_is_lost_is_reported(tmp_path: Path, path: str) -> None:
    """The event stays, without what lay in the file, and the reader says so."""
    reference = PayloadRef(path=path, size_bytes=2, sha256="0" * 64)
    put(tmp_path, 1, b"".join(LogMaker().segment([Note(payload=reference)])))

    read = read_back(tmp_path)

    assert [event.seq for event in read.events] == [0]
    assert not read.is_clean
