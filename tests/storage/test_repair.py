"""Recovery of what dead writers left in their rings."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import close_line
from eventlog.events import Metrics, Params, RunStarted, SegmentOpened
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import log_directory, parse_ring, reserve_path
from eventlog.storage.merge import RunReader
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import Recovery, is_alive, recover_run
from tests.faults import Killed, KilledAfter, WatchedSystem, failing, killed_at
from tests.logs import MANUAL, die, headers, metrics, names, open_buffer, put, read_back


def leave_in_ring(run: Path, count: int = 20) -> None:
    """Leave a log whose first event is on the disk and whose other *count* are in the ring only."""
    buffer = open_buffer(run)
    buffer.append(RunStarted(name="a"))
    for event in metrics(count):
        buffer.append(event)
    die(buffer)


def alive(run: Path, buffer: LogBuffer) -> bool:
    """Ask whether the writer of *buffer* lives."""
    reader = RunReader(run)
    list(reader.slices())
    assert buffer.writer is not None
    header: SegmentOpened | None = None
    if buffer.writer in reader.writers:
        header = reader.writers[buffer.writer].header
    return is_alive(log_directory(run), buffer.writer, header, is_sealed=False)


def test_recovery_moves_the_ring_into_a_segment(tmp_path: Path) -> None:
    """What no segment holds is written with the seqs that it has, sealed, and the ring goes."""
    leave_in_ring(tmp_path)
    before = read_back(tmp_path).steps

    (recovery,) = recover_run(tmp_path)

    read = read_back(tmp_path)
    assert before == []
    assert recovery.events == 20
    assert [event.seq for event in read.events] == list(range(21))
    assert not read.findings
    assert [header.origin for header in headers(tmp_path)] == ["writer", "recovery"]
    assert (headers(tmp_path)[1].pid, headers(tmp_path)[1].host) == (0, "")
    assert {Path(name).suffix for name in names(tmp_path)} == {".jsonl"}
    assert read.reports[-1].is_sealed


def test_recovery_does_nothing_the_second_time(tmp_path: Path) -> None:
    """A log without rings is left as it is."""
    leave_in_ring(tmp_path)
    recover_run(tmp_path)
    before = {path.name: path.read_bytes() for path in log_directory(tmp_path).iterdir()}

    assert recover_run(tmp_path) == []

    assert {path.name: path.read_bytes() for path in log_directory(tmp_path).iterdir()} == before


def test_recovery_leaves_living_writers_alone(tmp_path: Path) -> None:
    """The lock on the ring tells that its writer lives."""
    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1))

    assert recover_run(tmp_path) == []
    assert alive(tmp_path, buffer)

    assert buffer.close()
    assert read_back(tmp_path).steps == [1]


def test_writer_is_dead_when_its_lock_is_free(tmp_path: Path) -> None:
    """A ring that nobody holds belonged to a process that is gone."""
    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1))
    writer = buffer.writer
    assert writer is not None

    die(buffer)

    assert not is_alive(log_directory(tmp_path), writer, None, is_sealed=False)


def test_writer_with_a_memory_ring_is_known_by_its_process(tmp_path: Path) -> None:
    """Without a ring file, the process that the header names decides."""
    buffer = open_buffer(tmp_path, options=WriterOptions(ring="memory", ring_bytes=1 << 16))
    buffer.append(RunStarted(name="a"))

    assert alive(tmp_path, buffer)

    buffer.close()


@pytest.mark.parametrize("number", range(1, 12))
@pytest.mark.parametrize("is_after", [False, True])
def test_recovery_may_be_killed_at_any_call(tmp_path: Path, number: int, is_after: bool) -> None:
    """Whenever it ends, a reader meanwhile sees nothing wrong, and the next recovery does the rest."""
    leave_in_ring(tmp_path)
    system = KilledAfter(number) if is_after else WatchedSystem(killed_at(number))
    try:
        recover_run(tmp_path, system=system)
    except Killed:
        pass
    else:
        assert number > 8, "the recovery should have been killed"
    between = read_back(tmp_path)

    recover_run(tmp_path)

    read = read_back(tmp_path)
    assert between.steps in ([], list(range(20)))
    assert not between.findings
    assert read.steps == list(range(20))
    assert not read.findings
    assert {Path(name).suffix for name in names(tmp_path)} == {".jsonl"}


@pytest.mark.parametrize("name", ["create", "write", "sync", "close", "rename", "sync_directory", "unlink"])
def test_recovery_on_a_failing_disk_keeps_the_ring(tmp_path: Path, name: str) -> None:
    """An error is reported, nothing is lost, and the next try succeeds."""
    leave_in_ring(tmp_path)
    times = 2 if name == "sync" else 1  # the first one is made good by writing the segment's events again

    recoveries = recover_run(tmp_path, system=WatchedSystem(failing(name, 1, errno.ENOSPC, times=times)))
    again = recover_run(tmp_path)

    assert [bool(recovery.problem) for recovery in recoveries] == [True]
    assert len(again) == 1
    assert read_back(tmp_path).steps == list(range(20))


def test_two_recoverers_at_once_do_the_work_once(tmp_path: Path) -> None:
    """The lock lets one in; the other finds nothing left to do."""
    for attempt in range(20):
        run = tmp_path / str(attempt)
        leave_in_ring(run)
        barrier, done = threading.Barrier(3), list[Recovery]()

        def work(run: Path = run, barrier: threading.Barrier = barrier, done: list[Recovery] = done) -> None:
            barrier.wait()
            done += recover_run(run)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sum(recovery.events for recovery in done) == 20
        assert read_back(run).steps == list(range(20))
        assert len(names(run)) == 2


def test_recovery_of_a_ring_without_any_segment(tmp_path: Path) -> None:
    """A process that was killed before its first write left everything in the ring."""
    buffer = open_buffer(tmp_path)
    for event in metrics(5):
        buffer.append(event)
    die(buffer)
    assert names(tmp_path, ".jsonl") == []

    recover_run(tmp_path)

    assert read_back(tmp_path).steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", range(0, 400, 37))
def test_recovery_behind_a_torn_tail(tmp_path: Path, cut: int) -> None:
    """The segment stays as it is, torn line included; the ring still has that line whole."""
    buffer = open_buffer(tmp_path)
    for event in metrics(10):
        buffer.append(event)
    buffer.sync()
    for event in metrics(10, start=10):
        buffer.append(event)
    die(buffer)
    path = log_directory(tmp_path) / names(tmp_path, ".jsonl")[0]
    data = path.read_bytes()
    put(tmp_path, 1, data[: len(data) - cut], writer=path.name.split(".")[0])

    recover_run(tmp_path)

    read = read_back(tmp_path)
    assert read.steps == list(range(20))
    assert not [finding for finding in read.findings if finding.is_loss]
    assert path.read_bytes() == data[: len(data) - cut]


def test_recovery_of_a_ring_that_has_wrapped(tmp_path: Path) -> None:
    """The ring is read from where the last segment ends, modulo its size."""
    options = WriterOptions(
        write_interval_s=1000.0, sync_interval_s=1000.0, ring_bytes=1 << 14, segment_bytes=1 << 13
    )
    buffer = open_buffer(tmp_path, options=options)
    for number, event in enumerate(metrics(1000)):
        assert buffer.append(event, sync=number % 20 == 0)
    die(buffer)

    recover_run(tmp_path)

    read = read_back(tmp_path)
    assert read.steps == list(range(1000))
    assert not read.findings


def test_recovered_run_can_be_resumed(tmp_path: Path) -> None:
    """A new writer goes on beside the dead one's segments; seqs of the two do not mix."""
    leave_in_ring(tmp_path)
    recover_run(tmp_path)
    buffer = open_buffer(tmp_path, options=MANUAL)
    for event in metrics(5, start=20):
        buffer.append(event)
    buffer.close()

    assert read_back(tmp_path).steps == list(range(25))


def test_the_reserve_of_a_dead_writer_without_a_ring_goes(tmp_path: Path) -> None:
    """A writer whose ring was memory leaves no file behind once somebody has looked."""
    options = msgspec.structs.replace(MANUAL, ring="memory")
    buffer = open_buffer(tmp_path, options=options)
    buffer.append(Params(data={"a": 1}))
    assert names(tmp_path, ".reserve")
    recover_run(tmp_path)
    assert names(tmp_path, ".reserve")

    (segment,) = log_directory(tmp_path).glob("*.jsonl")
    pid = b'"pid":%d,' % os.getpid()
    line = segment.read_bytes().split(b"\n")[0]
    dead, _ = close_line(line[:-18].replace(pid, b'"pid":999999999,'), 0)
    buffer.close()
    segment.chmod(0o644)
    segment.write_bytes(dead)
    reserve_path(log_directory(tmp_path), segment.name.split(".")[0]).touch()
    recover_run(tmp_path)

    assert not names(tmp_path, ".reserve")


def test_ring_that_a_living_writer_could_not_remove_is_left_to_it(tmp_path: Path) -> None:
    """Nobody holds the lock of that one, but what it held goes on in another."""
    buffer = open_buffer(tmp_path)
    ring = log_directory(tmp_path) / names(tmp_path, ".ring")[0]
    buffer.append(RunStarted(name="a"))
    for event in metrics(20):
        buffer.append(event)
    name = parse_ring(ring.name)
    assert name is not None
    newer = name._replace(segment=name.segment + 1).ring_path(ring.parent)
    (ring.parent / "earlier").write_bytes(ring.read_bytes())
    ring.rename(newer)
    (ring.parent / "earlier").rename(ring)
    before = names(tmp_path)

    assert recover_run(tmp_path) == []

    assert names(tmp_path) == before
    die(buffer)
