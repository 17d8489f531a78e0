"""What storage may expect of a `System`: the real one and the simulated one keep the same rules."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.storage.layout import reserve_path
from eventlog.storage.reserve import Reserve
from eventlog.storage.system import SYSTEM, System, write_all
from tests.simos.disk import Disk
from tests.simos.system import SimSystem


@pytest.fixture(params=["real", "simulated"])
def system(request: pytest.FixtureRequest) -> System:
    """Return the operating system, or one that the tests put in its place."""
    return SYSTEM if request.param == "real" else SimSystem(Disk())


@pytest.fixture
def directory(system: System, tmp_path: Path) -> Path:
    """Return an empty directory of *system*."""
    if system is SYSTEM:
        return tmp_path
    system.make_directory(Path("/somewhere"))
    return Path("/somewhere")


def put(system: System, path: Path, data: bytes = b"abc") -> None:
    """Make a file."""
    fd = system.create(path)
    write_all(system, fd, data)
    system.close(fd)


def content(system: System, path: Path) -> bytes:
    """Return what the file at *path* holds."""
    fd = system.open(path)
    try:
        return system.read(fd, 100, 0)
    finally:
        system.close(fd)


def test_file_is_made_once(system: System, directory: Path) -> None:
    """Neither a segment nor a ring takes a name that is there: its content would be mixed with another's."""
    put(system, directory / "a")

    for make in (lambda: system.create(directory / "a"), lambda: system.map(directory / "a", 4096)):
        with pytest.raises(FileExistsError):
            make()

    assert content(system, directory / "a") == b"abc"


def test_link_replaces_nothing(system: System, directory: Path) -> None:
    """Of two who link to one name the first has it: leases rest on that."""
    put(system, directory / "a")
    put(system, directory / "b", b"other")

    with pytest.raises(FileExistsError):
        system.link(directory / "b", directory / "a")
    system.link(directory / "b", directory / "c")

    assert [content(system, directory / name) for name in "abc"] == [b"abc", b"other", b"other"]


def test_rename_replaces(system: System, directory: Path) -> None:
    """A checkpoint takes the place of the one before in one step."""
    put(system, directory / "a")
    put(system, directory / "b", b"new")

    system.rename(directory / "b", directory / "a")

    assert system.list_directory(directory) == ["a"]
    assert content(system, directory / "a") == b"new"


def test_names_that_are_not_there(system: System, directory: Path) -> None:
    """Removing one is no error, asking for it is."""
    system.unlink(directory / "a")

    for ask in (system.open, system.stat, system.lock, system.is_locked, system.list_directory):
        with pytest.raises(FileNotFoundError):
            ask(directory / "a")


def test_directory_tells_whether_it_is_new(system: System, directory: Path) -> None:
    """Who made it has to make its name durable; a file in its place is an error."""
    put(system, directory / "a")

    assert [system.make_directory(directory / "d") for _ in range(2)] == [True, False]
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        system.make_directory(directory / "a")
    with pytest.raises(FileNotFoundError):
        system.make_directory(directory / "e" / "f")


def test_lock_has_one_holder_until_it_is_closed(system: System, directory: Path) -> None:
    """Also within one process, and whoever merely looks takes nothing."""
    path = directory / "a"
    put(system, path)
    assert not system.is_locked(path)

    fd = system.lock(path)

    assert fd is not None
    assert system.is_locked(path)
    assert system.lock(path) is None
    system.close(fd)
    assert not system.is_locked(path)


def test_lock_knows_whether_its_file_still_has_the_name(system: System, directory: Path) -> None:
    """A ring may be removed, and another be made, between the look at its name and its lock."""
    path = directory / "a"
    put(system, path)
    fd = system.lock(path)
    assert fd is not None
    assert system.is_at(fd, path)

    put(system, directory / "b")
    system.rename(directory / "b", path)

    assert not system.is_at(fd, path)
    system.unlink(path)
    assert not system.is_at(fd, path)
    system.close(fd)


def test_memory_is_the_content_of_its_file(system: System, directory: Path) -> None:
    """What a process puts into its ring is what others read, at once, and after its end."""
    memory = system.map(directory / "a", 4096)

    memory[10:13] = b"abc"

    assert content(system, directory / "a")[:14] == bytes(10) + b"abc\0"
    assert system.stat(directory / "a").size_bytes == 4096
    memory.close()
    assert content(system, directory / "a")[10:13] == b"abc"


def test_file_is_read_beyond_its_end(system: System, directory: Path) -> None:
    """There is nothing; that is how a reader knows."""
    put(system, directory / "a")
    fd = system.open(directory / "a")

    assert [system.read(fd, 100, offset) for offset in (0, 2, 3, 1000)] == [b"abc", b"c", b"", b""]
    system.close(fd)


# --- the real one only -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
def test_failed_sync_is_told(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file and of a directory: the log must not take it for done."""

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(os, "fdatasync", fail)
    fd = SYSTEM.create(tmp_path / "a")

    syncs: list[Callable[[], None]] = [lambda: SYSTEM.sync(fd), lambda: SYSTEM.sync_directory(tmp_path)]
    for sync in syncs:
        with pytest.raises(OSError) as told:  # noqa: PT011 - the code tells
            sync()
        assert told.value.errno == code
    SYSTEM.close(fd)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_directory_that_cannot_be_synced_is_no_failure(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems keep their names by themselves, and say that they know no such call."""
    asked = []

    def fail(fd: int) -> None:
        asked.append(fd)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)

    SYSTEM.sync_directory(tmp_path)

    assert len(asked) == 1


def test_room_that_is_set_aside_is_taken(tmp_path: Path) -> None:
    """A ring without its blocks would end the job with SIGBUS on a full disk, a reserve would be none."""
    size = 1 << 16
    SYSTEM.map(tmp_path / "ring", size).close()
    Reserve(tmp_path, "w", size, SYSTEM).make()

    for path in (tmp_path / "ring", reserve_path(tmp_path, "w")):
        assert path.stat().st_blocks * 512 >= size


def test_descriptors_are_not_inherited(tmp_path: Path) -> None:
    """A program that the job starts must not keep its lock alive."""
    put(SYSTEM, tmp_path / "a")
    fds = [SYSTEM.create(tmp_path / "b"), SYSTEM.open(tmp_path / "a"), SYSTEM.lock(tmp_path / "a")]

    for fd in fds:
        assert fd is not None
        assert not os.get_inheritable(fd)
        SYSTEM.close(fd)
