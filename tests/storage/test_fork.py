"""A forked child is another writer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from eventlog.events import Metrics
from eventlog.storage.buffer import LogBuffer
from tests.logs import MANUAL, die, headers, metrics, names, open_buffer, read_back


def in_child(work: Callable[[], None]) -> int:
    """Run *work* in a forked child and return its exit status: 0 if it did not raise."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_child_becomes_a_writer_of_its_own(tmp_path: Path) -> None:
    """Parent and child each have a log; the child's header names the parent's writer."""
    buffer = open_buffer(tmp_path)
    for event in metrics(10):
        buffer.append(event)

    def child() -> None:
        buffer.after_fork_in_child()
        for event in metrics(10, start=100):
            assert buffer.append(event)
        assert buffer.close()

    assert in_child(child) == 0
    for event in metrics(10, start=10):
        buffer.append(event)
    assert buffer.close()

    read = read_back(tmp_path)
    assert sorted(step for step in read.steps if step is not None) == [*range(20), *range(100, 110)]
    assert read.is_clean
    assert {h.forked_from for h in headers(tmp_path)} == {None, buffer.writer}
    assert len({h.writer for h in headers(tmp_path)}) == 2


def test_child_that_never_logs_changes_nothing(tmp_path: Path) -> None:
    """A child drops what it inherited without writing: no file appears and none grows."""
    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1), sync=True)
    buffer.append(Metrics(step=2))
    before = {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}

    assert in_child(buffer.after_fork_in_child) == 0

    assert {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()} == before
    buffer.close()


def test_child_does_not_keep_the_parents_lock(tmp_path: Path) -> None:
    """When the parent dies, its children do not make it look alive."""
    from eventlog.storage.repair import recover_run

    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1))
    go_on, wait = os.pipe(), os.pipe()

    pid = os.fork()
    if pid == 0:
        buffer.after_fork_in_child()
        os.write(wait[1], b"x")
        os.read(go_on[0], 1)
        os._exit(0)
    os.read(wait[0], 1)
    die(buffer)
    recovered = recover_run(tmp_path)
    os.write(go_on[1], b"x")
    os.waitpid(pid, 0)

    assert [r.events for r in recovered] == [1]


def test_child_of_a_busy_parent_can_log(tmp_path: Path) -> None:
    """A lock that another thread held at the moment of the fork does not stop the child."""
    buffer = LogBuffer(tmp_path, run_id="run-1", project="demo", options=MANUAL)
    buffer.open()
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            buffer.stream.append_metrics(0, b"{}")

    thread = threading.Thread(target=work)
    thread.start()

    def child() -> None:
        buffer.after_fork_in_child()
        assert buffer.append(Metrics(step=7), sync=True)
        assert buffer.close()

    statuses = [in_child(child) for _ in range(10)]
    is_over.set()
    thread.join()
    buffer.close()

    assert statuses == [0] * 10
    assert read_back(tmp_path).steps.count(7) == 10


def test_child_of_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    """After the run's end a child does not begin it anew."""
    buffer = open_buffer(tmp_path)
    buffer.close()
    before = names(tmp_path)

    def child() -> None:
        buffer.after_fork_in_child()
        assert not buffer.append(Metrics(step=1))

    assert in_child(child) == 0
    assert names(tmp_path) == before


def test_child_writes_nothing_into_its_parents_ring(tmp_path: Path) -> None:
    """The quick way of a metric needs no log that is open, and parent and child share the ring's bytes."""
    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1), sync=False)
    buffer.stream.count_dropped("metrics", "the ring was full")
    ring = buffer.stream.ring
    assert ring is not None
    before = ring.mapping[:]

    def child() -> None:
        buffer.after_fork_in_child()
        assert not buffer.stream.append_metrics(2, b"{}")
        assert buffer.stream.dropped == {}

    assert in_child(child) == 0
    assert ring.mapping[:] == before
    die(buffer)
