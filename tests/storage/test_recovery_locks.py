"""Rings whose lock somebody else holds, or whose file goes away, while they are recovered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from eventlog.storage.layout import SegmentName, log_directory, parse_ring
from eventlog.storage.repair import recover_run
from eventlog.storage.system import SYSTEM
from tests.faults import WatchedSystem
from tests.logs import WRITER_A, LogMaker, leave_ring, metrics, put, read_back


class Contended(WatchedSystem):
    """A system on which somebody looks at each lock at the wrong moment, *times* times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.slept = 0

    def lock(self, path: Path) -> int | None:
        self.times -= 1
        return super().lock(path) if self.times < 0 else None

    def sleep(self, seconds: float) -> None:
        self.slept += 1


@pytest.mark.parametrize("times", [0, 1, 19])
def test_lock_that_is_held_for_a_moment_is_waited_for(tmp_path: Path, times: int) -> None:
    """Somebody who merely looks whether a writer lives does not keep its ring from being recovered."""
    leave_ring(tmp_path)
    system = Contended(times)

    (recovery,) = recover_run(tmp_path, system=system)

    assert recovery.events == 5
    assert system.slept == times


def test_lock_that_is_never_free_is_left_for_the_next_time(tmp_path: Path) -> None:
    """Nobody waits for ever."""
    ring = leave_ring(tmp_path)
    system = Contended(10**6)

    assert recover_run(tmp_path, system=system) == []
    assert system.slept == 20
    assert ring.exists()
    assert recover_run(tmp_path)[0].events == 5


def test_ring_that_was_recovered_while_its_lock_was_taken_is_let_go(tmp_path: Path) -> None:
    """The lock of a file that has no name any more proves nothing: another one was quicker."""
    leave_ring(tmp_path)
    fds: list[int] = []

    class Slow(WatchedSystem):
        def lock(self, path: Path) -> int | None:
            fd = super().lock(path)
            if not fds:
                assert fd is not None
                fds.append(fd)
                aside = path.with_suffix(".other")
                shutil.copyfile(path, aside)
                path.unlink()
                aside.rename(path)
            return fd

    assert recover_run(tmp_path, system=Slow()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])
    assert recover_run(tmp_path)[0].events == 5
    assert read_back(tmp_path).steps == list(range(5))


def test_no_ring_of_a_writer_that_holds_another_one_is_recovered(tmp_path: Path) -> None:
    """It lives; that it holds no lock on this one means that it is about to remove it."""
    ring = leave_ring(tmp_path)
    name = parse_ring(ring.name)
    assert name is not None
    other = SegmentName(name.writer, 2).ring_path(log_directory(tmp_path))
    other.touch()
    fd = SYSTEM.lock(other)
    assert fd is not None

    try:
        assert recover_run(tmp_path) == []
        assert ring.exists()
    finally:
        os.close(fd)

    assert sum(recovery.events for recovery in recover_run(tmp_path)) == 5


def test_ring_that_is_gone_before_it_is_locked_is_nobodys(tmp_path: Path) -> None:
    """Its writer, or another recovery, has removed it since it was listed."""
    ring = leave_ring(tmp_path)

    class Late(WatchedSystem):
        def lock(self, path: Path) -> int | None:
            ring.unlink(missing_ok=True)
            return super().lock(path)

    assert recover_run(tmp_path, system=Late()) == []


@pytest.mark.parametrize("suffix", ["reserve", "ring-new", "recovering"])
@pytest.mark.parametrize("has_segment", [True, False])
@pytest.mark.parametrize("is_old", [True, False])
def test_what_is_being_made_is_left_alone_for_a_while(
    tmp_path: Path, suffix: str, has_segment: bool, is_old: bool
) -> None:
    """A writer that is just opening has no ring yet; one whose log is sealed needs no reserve."""
    log_directory(tmp_path).mkdir(parents=True)
    if has_segment:
        put(tmp_path, 1, b"".join(LogMaker().segment(metrics(2))))
    leftover = log_directory(tmp_path) / f"{WRITER_A}.{suffix}"
    leftover.touch()
    if is_old:
        os.utime(leftover, (0, 0))

    assert recover_run(tmp_path) == []

    assert leftover.exists() == (not is_old and not (has_segment and suffix == "reserve"))


def test_recovered_segment_says_when_it_was_made(tmp_path: Path) -> None:
    """Its first and its last line have the time of the recovery, in microseconds."""

    class Late(WatchedSystem):
        def now_ns(self) -> int:
            return 4_000_000_000_123_456_789

    leave_ring(tmp_path)

    (recovery,) = recover_run(tmp_path, system=Late())

    assert recovery.segment is not None
    first, *_, last = recovery.segment.read_bytes().splitlines()
    assert b'"ts":4000000000123456,' in first
    assert b'"ts":4000000000123456,' in last
