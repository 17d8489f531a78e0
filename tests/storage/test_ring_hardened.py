"""The ring against real processes: many that recover at once, some that die of it, writers that sleep.

Damage, versions and full disks are in `test_remains`, every call of a recovery in `tests.simos`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventlog import replay
from eventlog.events import RunStarted
from eventlog.storage.layout import log_directory
from eventlog.storage.repair import recover_run
from eventlog.storage.ring import Ring
from eventlog.storage.system import RealSystem
from tests.logs import MANUAL, die, metrics, names, open_buffer, read_back
from tests.waiting import wait_until

COUNT, RECOVERERS = 20, 24
SMALL = msgspec.structs.replace(MANUAL, ring_bytes=1 << 13)


def leave_in_ring(run: Path, *, start: int = 0) -> Path:
    """Leave one event on the disk and COUNT in the ring only; return the ring's path."""
    buffer = open_buffer(run, options=SMALL)
    buffer.append(RunStarted(name="a"))
    for event in metrics(COUNT, start=start):
        buffer.append(event)
    die(buffer)
    return log_directory(run) / names(run, ".ring")[-1]


def fork(work: Callable[[], int], gate: int) -> int:
    """Start *work* in a child once *gate* gives it a byte; return its pid."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.read(gate, 1)
            code = work()
        finally:
            os._exit(code)
    return pid


@pytest.mark.parametrize("killed", [0, RECOVERERS // 2])
def test_dozens_of_processes_recover_once(tmp_path: Path, killed: int) -> None:
    """However many try at once, and whichever of them die of it, the work is done once and is whole."""
    for attempt in range(6):
        run, chance = tmp_path / str(attempt), random.Random(attempt)
        leave_in_ring(run)
        gate, start = os.pipe()

        def work(run: Path = run) -> int:
            return sum(recovery.events for recovery in recover_run(run))

        pids = [fork(work, gate) for _ in range(RECOVERERS)]
        os.write(start, b"x" * RECOVERERS)
        for pid in chance.sample(pids, killed):
            os.kill(pid, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        os.close(gate)
        os.close(start)
        recover_run(run)

        done = [code for code in codes if code not in (0, -signal.SIGKILL)]
        assert done == [COUNT] or (killed and not done), f"attempt {attempt}: {codes}"
        read = read_back(run)
        assert (read.steps, read.findings) == (list(range(COUNT)), []), f"attempt {attempt}"
        assert {Path(name).suffix for name in names(run)} == {".jsonl"}


def test_every_page_of_a_new_ring_has_its_place_on_the_disk(tmp_path: Path) -> None:
    """A ring is never sparse: a write to a page without a block would be a SIGBUS on a full disk."""
    size = 1 << 20

    ring = Ring.in_file(tmp_path / "a.ring", size)

    blocks = (tmp_path / "a.ring").stat().st_blocks
    ring.remove()
    assert blocks * 512 >= size


def test_ring_is_read_the_same_with_holes_in_it(tmp_path: Path) -> None:
    """A copy of a run may be sparse where the ring was zero."""
    ring = leave_in_ring(tmp_path / "a")
    data = ring.read_bytes()
    used = len(data.rstrip(b"\0"))
    with ring.open("r+b") as file:
        file.truncate(used)
        file.truncate(len(data))

    (recovery,) = recover_run(tmp_path / "a")

    assert (recovery.events, recovery.problem) == (COUNT, "")


def test_ring_that_was_cut_to_any_length_gives_what_is_left(tmp_path: Path) -> None:
    """Of each length, the whole lines are kept, in order, and the rest is told."""
    original = tmp_path / "original"
    size = len(leave_in_ring(original).read_bytes().rstrip(b"\0"))
    kept = -1

    for length in range(0, size, 17):
        run = tmp_path / str(length)
        shutil.copytree(original, run)
        (ring,) = log_directory(run).glob("*.ring")
        os.truncate(ring, length)
        (recovery,) = recover_run(run)
        steps = read_back(run).steps
        assert steps == list(range(len(steps))), f"length {length}"
        assert len(steps) >= kept, f"length {length}"
        assert recovery.problem, f"length {length}"
        kept = len(steps)

    assert kept == COUNT - 1


def test_rings_of_one_run_that_changed_places_are_set_aside(tmp_path: Path) -> None:
    """Two writers of the same run: neither gets the other one's events."""
    first = leave_in_ring(tmp_path)
    second = leave_in_ring(tmp_path, start=1000)
    if first == second:
        first = log_directory(tmp_path) / names(tmp_path, ".ring")[0]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)

    recoveries = recover_run(tmp_path)

    assert [recovery.events for recovery in recoveries] == [0, 0]
    assert all("set aside" in recovery.problem for recovery in recoveries)
    assert read_back(tmp_path).steps == []


_WRITER = """
import sys
from pathlib import Path
import msgspec
from eventlog.events import Metrics, RunStarted
from tests.logs import MANUAL, open_buffer
options = msgspec.structs.replace(MANUAL, ring=sys.argv[2])
buffer = open_buffer(Path(sys.argv[1]), options=options)
buffer.append(RunStarted(name="a"))
for step in range(20):
    buffer.append(Metrics(step=step, data={}))
print("ready", flush=True)
sys.stdin.readline()
buffer.close()
"""


@pytest.mark.parametrize("kind", ["auto", "memory"])
def test_stopped_writer_is_shown_as_running(tmp_path: Path, kind: str) -> None:
    """Under SIGSTOP, with files that nobody has touched for years, a run is neither over nor crashed."""
    run = tmp_path / "p" / "r"
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(run), kind],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    with child:
        try:
            assert child.stdout.readline() == b"ready\n"
            child.send_signal(signal.SIGSTOP)
            state = Path(f"/proc/{child.pid}/stat")
            wait_until(lambda: not state.exists() or b") T " in state.read_bytes(), "it has stopped")
            for path in log_directory(run).iterdir():
                os.utime(path, (0, 0))
            seen = replay.is_running(run), replay.view(run).status, recover_run(run)
        finally:
            child.send_signal(signal.SIGCONT)
            child.communicate(b"\n", timeout=60)

    assert seen == (True, "running", [])
    assert read_back(run).steps == list(range(20))


class Suspended(RealSystem):
    """A machine whose wall clock jumps while its other clock, which does not count sleep, stands still."""

    jump_s = 0.0

    def now_ns(self) -> int:
        return super().now_ns() + int(self.jump_s * 1e9)


@pytest.mark.parametrize("jump_s", [86_400.0 * 30, -86_400.0 * 30])
@pytest.mark.parametrize("kind", ["auto", "memory"])
def test_writer_of_a_machine_that_slept_goes_on(tmp_path: Path, kind: str, jump_s: float) -> None:
    """A clock that jumps by a month, either way, makes nobody look dead and breaks nothing."""
    system = Suspended()
    options = msgspec.structs.replace(SMALL, ring=kind)
    buffer = open_buffer(tmp_path, options=options, system=system)
    for event in metrics(COUNT):
        buffer.append(event)
    buffer.sync()
    system.jump_s = jump_s

    recovered = recover_run(tmp_path, system=system)
    for event in metrics(COUNT, start=COUNT):
        buffer.append(event)

    assert recovered == []
    assert buffer.close()
    assert read_back(tmp_path).steps == list(range(2 * COUNT))
