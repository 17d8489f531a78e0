"""The file systems that the campaign breaks: had in a process apart, and never left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.torture.devices import ORDERED, ApartError, Disk, all_apart, apart, disk, small_tmpfs, why_not
from tests.waiting import wait_until


def _fail() -> None:
    raise FileNotFoundError(2, "not there", "x")


def _divide() -> float:
    return 1 / 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _pid() -> int:
    return os.getpid()


needs_namespaces = pytest.mark.skipif(
    not Path("/proc/self/ns/mnt").exists() or not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="a mount namespace without a user namespace needs root",
)


@needs_namespaces
def test_apart_hands_back_what_the_work_returned_raised_or_died_of() -> None:
    """Errors of the system stay what they are; anything else comes with its traceback."""
    assert apart(_pid) != os.getpid()
    assert len(set(all_apart([_pid, _pid]))) == 2

    with pytest.raises(FileNotFoundError):
        apart(_fail)
    with pytest.raises(ApartError, match="ZeroDivisionError"):
        apart(_divide)
    with pytest.raises(ApartError, match="died: -9"):
        apart(_die)


def _fill_memory() -> str:
    with small_tmpfs(1 << 16) as path:
        try:
            (path / "x").write_bytes(bytes(1 << 20))
        except OSError as error:
            return os.strerror(error.errno or 0)
    return "all of it was written"


def test_small_memory_is_full_without_root() -> None:
    """A user namespace is enough, where the kernel allows one."""
    try:
        said = apart(_fill_memory, as_root_of_its_own=True)
    except OSError as error:
        pytest.skip(f"no user namespaces here: {error}")

    assert said == "No space left on device"


def _device_of(mounted: Disk) -> Path:
    return Path(f"/sys/block/loop{mounted.number}/loop/backing_file")


def _mount_and_die(said: Path) -> None:
    with disk(ORDERED) as mounted:
        said.write_text(f"{mounted.number} {_device_of(mounted).read_text()}")
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process_leaves_no_device(tmp_path: Path) -> None:
    """SIGKILL runs no cleaning up; the kernel detaches the device with its last user."""
    reason = why_not(ORDERED)
    if reason is not None:
        pytest.skip(reason)

    with pytest.raises(ApartError, match="died"):
        apart(lambda: _mount_and_die(tmp_path / "said"))

    number, _, file = (tmp_path / "said").read_text().partition(" ")
    backing = Path(f"/sys/block/loop{number}/loop/backing_file")
    # The number may be another one's by now; the file cannot.
    wait_until(lambda: not backing.exists() or backing.read_text() != file, "the device is free")


def _write_and_cut() -> tuple[bool, bool]:
    with disk(ORDERED) as mounted:
        fd = os.open(mounted.path / "synced", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"x" * 10_000)
        os.fsync(fd)
        (mounted.path / "written").write_bytes(b"x" * 10_000)
        mounted.cut_power()
        os.close(fd)
        mounted.unmount()
        mounted.mount()
        synced = (mounted.path / "synced").read_bytes() == b"x" * 10_000
        return synced, (mounted.path / "written").exists()


def test_power_cut_keeps_what_was_synced_and_loses_the_rest() -> None:
    """The cut is one: otherwise nothing that is tried with it would mean anything."""
    reason = why_not(ORDERED)
    if reason is not None:
        pytest.skip(reason)

    assert apart(_write_and_cut) == (True, False)
