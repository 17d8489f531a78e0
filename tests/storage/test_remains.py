"""Rings that are not as their writer left them: damaged, cut, swapped, of another version, seen from afar."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import close_line
from eventlog.events import Metrics, RunStarted
from eventlog.storage.layout import LAST_SEGMENT, SegmentName, log_directory
from eventlog.storage.repair import recover_run
from tests.faults import WatchedSystem, failing
from tests.logs import MANUAL, die, headers, metrics, names, open_buffer, read_back
from tests.waiting import wait_until

COUNT = 20


def leave_in_ring(run: Path, *, is_started: bool = True) -> Path:
    """Leave COUNT events in the ring, behind one on the disk if *is_started*; return the ring's path."""
    buffer = open_buffer(run)
    if is_started:
        buffer.append(RunStarted(name="a"))
    for event in metrics(COUNT):
        buffer.append(event)
    die(buffer)
    return log_directory(run) / names(run, ".ring")[0]


def line_starts(data: bytes) -> list[int]:
    """Return where the lines of a ring begin that has not wrapped."""
    starts = [0]
    for line in data.rstrip(b"\0").split(b"\n")[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    return starts[:-1]


def flip(path: Path, at: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("within", [3, 50, -4, -1])
@pytest.mark.parametrize("line", [5, 12, 18])
def test_damage_in_a_ring_costs_what_it_hit_and_is_told(tmp_path: Path, line: int, within: int) -> None:
    """A flipped bit costs one event, two where it hit a newline; the rest is kept, and the loss named."""
    ring = leave_in_ring(tmp_path)
    starts = line_starts(ring.read_bytes())
    flip(ring, starts[line] + within if within > 0 else starts[line + 1] + within)

    (recovery,) = recover_run(tmp_path)

    read = read_back(tmp_path)
    # Lines 0 and 1 are the header and the event that is on the disk already.
    lost = {line - 2, line - 1} if within == -1 else {line - 2}
    assert set(range(COUNT)) - set(read.steps) == lost
    assert f"events {min(lost) + 1}-{max(lost) + 1} are lost" in recovery.problem
    assert [(f.first_seq, f.last_seq) for f in read.findings] == [(min(lost) + 1, max(lost) + 1)]


def test_ring_that_was_cut_gives_what_is_left_of_it(tmp_path: Path) -> None:
    """Positions count modulo the size that the header names, so a shorter file is read as a part of it."""
    ring = leave_in_ring(tmp_path)
    data = ring.read_bytes()
    ring.write_bytes(data[: line_starts(data)[12] + 10])

    (recovery,) = recover_run(tmp_path)

    assert read_back(tmp_path).steps == list(range(10))
    assert f"instead of {MANUAL.ring_bytes}" in recovery.problem


def test_ring_with_bytes_behind_its_end_is_read_without_them(tmp_path: Path) -> None:
    """What follows the size that the header names was put there by somebody else."""
    ring = leave_in_ring(tmp_path)
    with ring.open("ab") as file:
        file.write(b"\xff" * 5000)

    (recovery,) = recover_run(tmp_path)

    assert read_back(tmp_path).steps == list(range(COUNT))
    assert f"instead of {MANUAL.ring_bytes}" in recovery.problem


@pytest.mark.parametrize("is_started", [True, False])
def test_ring_of_another_log_is_set_aside(tmp_path: Path, is_started: bool) -> None:
    """Bytes that do not continue this log are never written into it, also where it has no segment yet."""
    ring = leave_in_ring(tmp_path / "a", is_started=is_started)
    shutil.copyfile(leave_in_ring(tmp_path / "b", is_started=is_started), ring)

    (recovery,) = recover_run(tmp_path / "a")

    assert (recovery.events, recovery.segment) == (0, None)
    assert "set aside" in recovery.problem
    assert is_started or "it is the ring of r0-" in recovery.problem
    assert read_back(tmp_path / "a").steps == []
    assert len(names(tmp_path / "a", ".ring-unusable")) == 1
    assert recover_run(tmp_path / "a") == []


def with_header(path: Path, **fields: object) -> None:
    """Change fields of the header with which a ring begins (None: leave out), and chain its lines anew."""
    data = path.read_bytes()
    first, *rest = data.rstrip(b"\0").split(b"\n")[:-1]
    header = json.loads(first[:-18] + b"}") | fields
    for name in [name for name, value in fields.items() if value is None]:
        del header[name]
    text = json.dumps(header, separators=(",", ":"))
    line, crc = close_line(text[:-1].encode(), 0)
    lines = [line]
    for old in rest:
        line, crc = close_line(old[:-18], crc)
        lines.append(line)
    path.write_bytes(b"".join(lines).ljust(len(data), b"\0"))


def test_ring_of_a_later_version_is_left_to_it(tmp_path: Path) -> None:
    """Nobody knows what another format keeps in its ring, so it stays, and whoever looks is told."""
    ring = leave_in_ring(tmp_path, is_started=False)
    with_header(ring, format=2)

    (recovery,) = recover_run(tmp_path)

    assert "later version" in recovery.problem
    assert ring.exists()
    assert names(tmp_path, ".jsonl") == []


def test_ring_of_an_earlier_version_is_recovered(tmp_path: Path) -> None:
    """A header that says nothing of the ring or of the process is enough."""
    ring = leave_in_ring(tmp_path, is_started=False)
    with_header(ring, ring=None, host=None, pid=None, pid_started="4711", software="evlog 0.0.1")

    (recovery,) = recover_run(tmp_path)

    assert (recovery.events, recovery.problem) == (COUNT, "")
    assert read_back(tmp_path).steps == list(range(COUNT))


@pytest.mark.parametrize(("segment", "is_last"), [(100_000_000_000, False), (LAST_SEGMENT, True)])
def test_recovered_segment_has_a_name_that_readers_know(tmp_path: Path, segment: int, is_last: bool) -> None:
    """A ring may name any segment; where no number is left behind it, it is set aside."""
    ring = leave_in_ring(tmp_path, is_started=False)
    with_header(ring, segment=segment)
    ring.rename(SegmentName(ring.name.partition(".")[0], segment).ring_path(log_directory(tmp_path)))

    (recovery,) = recover_run(tmp_path)

    assert ("set aside" in recovery.problem) == is_last
    assert read_back(tmp_path).steps == ([] if is_last else list(range(COUNT)))


@pytest.mark.parametrize("size", [0, -1, 1 << 50])
def test_ring_with_an_absurd_size_costs_no_memory(tmp_path: Path, size: int) -> None:
    """A number in a header is not believed: the ring is set aside."""
    ring = leave_in_ring(tmp_path, is_started=False)
    with_header(ring, ring={"kind": "file", "size_bytes": size})

    (recovery,) = recover_run(tmp_path)

    assert "set aside" in recovery.problem


def test_huge_file_in_a_rings_place_is_not_read(tmp_path: Path) -> None:
    """A file that is larger than any ring is left alone, without reading it into memory."""
    ring = leave_in_ring(tmp_path)
    os.truncate(ring, 1 << 40)

    (recovery,) = recover_run(tmp_path)

    assert "which no ring of ours has" in recovery.problem
    assert ring.exists()


def test_fallback_to_memory_happens_once_and_says_why(tmp_path: Path) -> None:
    """A ring that cannot be a file is memory from then on; each header of the log has the reason."""
    system = WatchedSystem(failing("preallocate", 1, 28))
    options = msgspec.structs.replace(MANUAL, write_interval_s=0.005, segment_bytes=2000)
    buffer = open_buffer(tmp_path, options=options, system=system)
    for number, event in enumerate(metrics(60)):
        buffer.append(event, sync=number % 10 == 0)

    assert buffer.close()

    rings = [header.ring for header in headers(tmp_path)]
    assert len(rings) > 2
    assert {(ring.kind, ring.reason) for ring in rings if ring} == {
        ("memory", "[Errno 28] No space left on device")
    }
    assert [call.path for call in system.calls if call.name == "rename"] == []


_STOPPED = """
import sys
from pathlib import Path
from eventlog.events import Metrics, RunStarted
from tests.logs import open_buffer
buffer = open_buffer(Path(sys.argv[1]))
buffer.append(RunStarted(name="a"))
for step in range(20):
    buffer.append(Metrics(step=step, data={}))
print("ready", flush=True)
sys.stdin.readline()
buffer.close()
"""


def test_stopped_writer_is_not_taken_for_dead(tmp_path: Path) -> None:
    """A process under SIGSTOP, or on a laptop that slept for a day, keeps its ring and goes on."""
    child = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{child.pid}/stat")
        wait_until(lambda: not state.exists() or b") T " in state.read_bytes(), "the process has stopped")
        for path in log_directory(tmp_path).iterdir():
            os.utime(path, (0, 0))

        recovered = recover_run(tmp_path)
        still_there = names(tmp_path, ".ring")
        child.send_signal(signal.SIGCONT)
        child.communicate(b"\n", timeout=60)

    assert recovered == []
    assert len(still_there) == 1
    assert read_back(tmp_path).steps == list(range(20))
    assert [header.origin for header in headers(tmp_path)] == ["writer"]


_FILL = """
import os, sys
from pathlib import Path
from eventlog.events import Metrics
from eventlog.storage.options import WriterOptions
from tests.logs import die, open_buffer, read_back
from eventlog.storage.repair import recover_run
root = Path(sys.argv[1])
os.system(f"mount -t tmpfs -o size=4m tmpfs {root}") == 0 or sys.exit(77)
options = WriterOptions(ring_bytes=1 << 20, write_interval_s=1000.0, sync_interval_s=1000.0)
buffer = open_buffer(root / "p" / "r", options=options)
assert buffer._chain.ring_path is not None
with (root / "full").open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)): pass
    except OSError: pass
kept = 0
while kept < 5000 and buffer.append(Metrics(step=kept, data={"x": 1.0})): kept += 1
assert kept == 5000
die(buffer)
os.unlink(root / "full")
recover_run(root / "p" / "r")
assert read_back(root / "p" / "r").steps == list(range(kept))
"""


def test_full_disk_cannot_kill_a_process_through_its_ring(tmp_path: Path) -> None:
    """The ring's pages are there before they are needed: a write to memory must not become a SIGBUS."""
    command = ["unshare", "-Urm", sys.executable, "-c", _FILL, str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("no unshare: a file system of our own cannot be mounted here")

    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)

    if done.returncode == 77:
        pytest.skip("a tmpfs cannot be mounted here")
    assert done.returncode == 0, done.stderr.decode()


def test_metrics_of_a_recovered_ring_read_like_any(tmp_path: Path) -> None:
    """The recovered segment is a segment: sealed, verified, and its events are typed."""
    leave_in_ring(tmp_path)
    recover_run(tmp_path)

    read = read_back(tmp_path)

    assert read.is_clean
    assert [event.data for event in read.events if isinstance(event, Metrics)][-1] == {"loss": COUNT - 0.5}
