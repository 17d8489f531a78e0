"""Recovery when a sync fails, a disk fails, or others are there: exactly what is done, and what is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import decode
from eventlog.events import Metrics, SegmentSealed
from eventlog.storage.layout import SegmentName, log_directory, parse_ring
from eventlog.storage.processes import Process
from eventlog.storage.repair import UNUSABLE_SUFFIX, Recovery, recover_run
from eventlog.storage.ring import YOUNG_SUFFIX
from eventlog.storage.system import SYSTEM
from tests.faults import WatchedSystem
from tests.logs import (
    MANUAL,
    WRITER_A,
    LogMaker,
    die,
    leave_ring,
    metrics,
    names,
    open_buffer,
    put,
    read_back,
)


def put_both(run: Path, *, in_segment: int, in_ring: int) -> Path:
    """Put a segment with some events, and a ring that holds as many more; return the segment's path."""
    lines = LogMaker().segment(metrics(in_segment + in_ring), is_sealed=False)
    path = put(run, 1, b"".join(lines[: in_segment + 1]))
    ring = SegmentName(WRITER_A, 1).ring_path(log_directory(run))
    ring.write_bytes(b"".join(lines).ljust(1 << 14, b"\0"))
    return path


class Forgetful(WatchedSystem):
    """A disk on which the first sync fails, and from then on *path* reads as NUL from *keeps* on."""

    def __init__(self, path: Path, keeps: int) -> None:
        super().__init__()
        self.path, self.keeps = path, keeps

    def sync(self, fd: int) -> None:
        self.begin("sync", None)
        if self.calls[-1].of_name == 1:
            data = self.path.read_bytes()
            self.path.write_bytes(data[: self.keeps].ljust(len(data), b"\0"))
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("kept_lines", [1, 3, 4])
def test_segment_whose_sync_fails_is_written_again(tmp_path: Path, kept_lines: int) -> None:
    """All of its events, read from it or from the ring: nobody knows which of them are on the disk."""
    path = put_both(tmp_path, in_segment=3, in_ring=2)
    keeps = sum(len(line) + 1 for line in path.read_bytes().split(b"\n")[:kept_lines])

    (recovery,) = recover_run(tmp_path, system=Forgetful(path, keeps))

    assert recovery == Recovery(WRITER_A, 5, SegmentName(WRITER_A, 2).path(path.parent), "")
    assert read_back(tmp_path).steps == [0, 1, 2, 3, 4]
    path.unlink()
    assert read_back(tmp_path).steps == [0, 1, 2, 3, 4]


def test_segment_whose_sync_succeeds_is_not_written_again(tmp_path: Path) -> None:
    """Only what the ring holds beyond it is; the seal counts that, and has the seq that comes after it."""
    path = put_both(tmp_path, in_segment=3, in_ring=2)

    (recovery,) = recover_run(tmp_path)

    assert recovery == Recovery(WRITER_A, 2, SegmentName(WRITER_A, 2).path(path.parent), "")
    assert recovery.segment is not None
    opened, *events, seal = [decode(line) for line in recovery.segment.read_bytes().splitlines()]
    assert isinstance(seal, SegmentSealed)
    assert (opened.seq, [event.seq for event in events], seal.seq) == (3, [3, 4], 5)
    assert (seal.events, seal.reason) == (2, "recovered")


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(errno.ENOSPC, "No space"), "No space"), (OSError("it is broken"), "it is broken")],
)
def test_error_is_told_with_the_ring_that_stays(tmp_path: Path, error: OSError, told: str) -> None:
    """No event was recovered; what the system says, or the error itself, stands behind the ring's path."""
    ring = leave_ring(tmp_path)

    class Failing(WatchedSystem):
        def create(self, path: Path) -> int:
            raise error

    name = parse_ring(ring.name)
    assert name is not None
    assert recover_run(tmp_path, system=Failing()) == [Recovery(name.writer, 0, None, f"{ring}: {told}")]
    assert ring.exists()


class Shared(WatchedSystem):
    """A network file system, on which *answer* is told of each process."""

    def __init__(self, answer: bool | None) -> None:
        super().__init__()
        self.answer = answer

    def file_system(self, path: Path) -> str:
        return "nfs4"

    def is_running(self, process: Process) -> bool | None:
        return self.answer


@pytest.mark.parametrize(("answer", "events"), [(True, None), (None, None), (False, 5)])
def test_ring_between_hosts_is_recovered_only_if_its_process_is_gone(
    tmp_path: Path, answer: bool | None, events: int | None
) -> None:
    """There a lock proves nothing: who runs, or cannot be asked and wrote a moment ago, keeps its ring."""
    ring = _leave_known_ring(tmp_path)

    done = recover_run(tmp_path, system=Shared(answer))

    assert [one.events for one in done] == ([] if events is None else [events])
    assert ring.exists() == (events is None)


def _leave_known_ring(run: Path) -> Path:
    """Leave five events in a ring behind a segment that names its process."""
    buffer = open_buffer(run)
    buffer.append(Metrics(step=99), sync=True)
    for event in metrics(5):
        buffer.append(event)
    die(buffer)
    assert len(names(run, ".jsonl")) == 1
    return log_directory(run) / names(run, ".ring")[0]


@pytest.mark.parametrize("held", [1, 3])
def test_no_ring_of_a_living_writer_is_recovered_whichever_it_holds(tmp_path: Path, held: int) -> None:
    """Earlier or later than the one that is free: the writer lives, and knows what it does."""
    log_dir = log_directory(tmp_path)
    log_dir.mkdir(parents=True)
    rings = {number: SegmentName(WRITER_A, number).ring_path(log_dir) for number in (1, 2, 3)}
    for ring in rings.values():
        ring.write_bytes(bytes(1 << 14))
    fd = SYSTEM.lock(rings[held])
    assert fd is not None

    try:
        assert recover_run(tmp_path) == []
    finally:
        os.close(fd)

    assert names(tmp_path) == [ring.name for ring in rings.values()]


def test_reserve_of_a_living_writer_stays_when_it_has_sealed_segments(tmp_path: Path) -> None:
    """Its newest segment tells that it lives; those before it are sealed, as any that was rotated."""
    options = msgspec.structs.replace(MANUAL, ring="memory", segment_bytes=2000)
    buffer = open_buffer(tmp_path, options=options)
    for event in metrics(60):
        assert buffer.append(event, sync=True)
    before = names(tmp_path)
    assert len(names(tmp_path, ".jsonl")) > 1

    assert recover_run(tmp_path) == []

    assert names(tmp_path) == before
    assert len(names(tmp_path, ".reserve")) == 1
    assert buffer.close()


def test_what_a_dead_writer_was_making_goes_before_its_ring(tmp_path: Path) -> None:
    """The ring goes last: who is killed in between finds it, and comes back for the rest."""
    ring = leave_ring(tmp_path)
    writer = ring.name.partition(".")[0]
    others = [
        ring.with_name(f"{writer}.{end}") for end in ("000002.recovering", f"000009{YOUNG_SUFFIX}", "reserve")
    ]
    for path in others:
        path.touch()
    aside = ring.with_name(f"{writer}.000007{UNUSABLE_SUFFIX}")
    aside.touch()
    system = WatchedSystem()

    (recovery,) = recover_run(tmp_path, system=system)

    assert (recovery.events, recovery.problem) == (5, "")
    gone = [call.path for call in system.calls if call.name == "unlink"]
    # The first is what a killed recovery left where the new segment is made.
    assert gone == [others[0].with_name(f"{writer}.000002.recovering"), *sorted(others[1:]), ring]
    assert names(tmp_path) == [f"{writer}.000002.jsonl", aside.name]
