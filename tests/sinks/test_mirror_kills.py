"""Wherever mirroring is killed, what has a final name is whole, and the next try completes it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.testing import RunWriter
from sinks._mirror.targets import DirectoryTarget
from sinks.mirror import MirrorSink
from tests.faults import Killed, KilledAfter, WatchedSystem, killed_at
from tests.logs import metrics
from tests.sinks.mirror_support import copy_now, files_of, full_run, problems_of
from tests.waiting import wait_until


def held_in(mirror: Path) -> dict[str, bytes]:
    """Return everything in a mirrored run, also evlog's own files."""
    return {p.relative_to(mirror).as_posix(): p.read_bytes() for p in mirror.rglob("*") if p.is_file()}


def watched(to: Path, system: WatchedSystem) -> MirrorSink:
    sink = MirrorSink(to=to)
    sink.target = DirectoryTarget(to, system)
    return sink


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_leaves_whole_files(tmp_path: Path, is_after: bool) -> None:
    """Killed before and after each call to the operating system, then completed."""
    run = full_run(tmp_path / "experiments")
    whole = WatchedSystem()
    copy_now(run, watched(tmp_path / "whole", whole))
    for number in range(1, len(whole.calls) + 1):
        to = tmp_path / f"mirror-{number}"
        system = KilledAfter(number) if is_after else WatchedSystem(killed_at(number))
        with contextlib.suppress(Killed):  # none after the last call, and then everything is there
            copy_now(run, watched(to, system))
        for fd in system.paths:
            close_left_open(fd, system.paths[fd])

        assert problems_of(run, held_in(to / "p" / "a")) == [], f"killed at call {number}"
        copy_now(run, MirrorSink(to=to))
        assert files_of(to / "p" / "a") == files_of(run)
        assert not list((to / "p" / "a" / ".evlog" / "mirror-young").iterdir())


def close_left_open(fd: int, path: Path) -> None:
    """Close what the kill left open, as the end of a process does, if it is still that file."""
    try:
        if Path(f"/proc/self/fd/{fd}").readlink() == path:
            os.close(fd)
    except OSError:
        pass


def test_a_kill_while_the_run_grows_leaves_a_prefix(tmp_path: Path) -> None:
    """A longer copy takes the place of a shorter one in one step."""
    run, to = tmp_path / "experiments" / "p" / "a", tmp_path / "mirror"
    writer = RunWriter(run)
    for number in range(1, 14):
        writer.write(*metrics(3, start=3 * number))
        with contextlib.suppress(Killed):
            copy_now(run, watched(to, KilledAfter(number)), status="running")

        assert problems_of(run, held_in(to / "p" / "a")) == [], f"killed at call {number}"
    writer.close()
    copy_now(run, MirrorSink(to=to))
    assert files_of(to / "p" / "a") == files_of(run)


_JOB = """
import sys
from pathlib import Path
from sinks.mirror import MirrorSink
from tests.sinks.mirror_support import copy_now

copy_now(Path(sys.argv[1]), MirrorSink(to=sys.argv[2]))
"""


def test_sigkill_leaves_whole_files(tmp_path: Path) -> None:
    """A real process, killed when it has copied so many of many files."""
    run, to = full_run(tmp_path / "experiments"), tmp_path / "mirror"
    for number in range(600):
        (run / "artifacts" / f"{number}.bin").write_bytes(os.urandom(20_000))
    for count in (1, 40, 200):
        job = subprocess.Popen([sys.executable, "-c", _JOB, str(run), str(to)], cwd=Path(__file__).parents[2])
        try:
            wait_until(lambda c=count: len(files_of(to / "p" / "a")) >= c, f"{count} files")  # type: ignore[misc]
        finally:
            job.send_signal(signal.SIGKILL)
            job.wait()

        assert problems_of(run, held_in(to / "p" / "a")) == []
    copy_now(run, MirrorSink(to=to))
    assert files_of(to / "p" / "a") == files_of(run)
