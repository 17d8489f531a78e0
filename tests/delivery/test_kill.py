"""Real processes that deliver, killed with SIGKILL at random moments."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.delivery.pump import deliver_run
from eventlog.sink import Batch, RunInfo, RunStatus, Traits
from tests.delivery.fakes import all_entries, no_locks, put_odd_log
from tests.logs import LogMaker, metrics, put

FORK = multiprocessing.get_context("fork")
ROUNDS = 40


class FileSink:
    """Appends a line for each event to a file, which it first cuts back to the size in its state."""

    traits = Traits(batch_events=60)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.destination = str(path)
        self._size = 0

    def open(self, run: RunInfo) -> None:
        size = run.state.get("size", 0)
        assert isinstance(size, int)
        self._size = size
        with self.path.open("ab") as file:
            assert file.tell() >= size, "rows are lost that were saved"
            file.truncate(size)

    def write(self, batch: Batch) -> None:
        with self.path.open("ab", buffering=0) as file:
            for entry in batch.entries():
                self._size += file.write(b"%s %d\n" % (entry.writer.encode(), entry.event.seq))

    def close(self, status: RunStatus | None) -> None:
        pass

    def state(self) -> dict[str, object]:
        return {"size": self._size}


class NumberedSink(FileSink):
    """Numbers its rows, and skips those that are there; they have to be the same."""

    traits = Traits(batch_events=60, fixed_batches=True)

    def open(self, run: RunInfo) -> None:
        size = run.state.get("size", 0)
        assert isinstance(size, int)
        self._size = size
        self.path.touch()

    def write(self, batch: Batch) -> None:
        data = self.path.read_bytes()
        with self.path.open("ab", buffering=0) as file:
            for entry in batch.entries():
                row = b"%s %d\n" % (entry.writer.encode(), entry.event.seq)
                there = data[self._size : self._size + len(row)]
                # A kill can cut a row: it is written whole, for this file is only as good as a file.
                assert row.startswith(there), (row, there)
                self._size += len(row)
                if len(there) < len(row):
                    file.write(row[len(there) :])


def work(run: Path, make: Callable[[Path], FileSink], path: Path) -> None:
    """Deliver in a process of its own."""
    deliver_run(run, make(path), "file", timeout_s=0.0)
    os._exit(0)


@pytest.mark.parametrize("make", [FileSink, NumberedSink])
def test_delivery_survives_real_kills(tmp_path: Path, make: Callable[[Path], FileSink]) -> None:
    """A process is killed, another goes on, again and again while the log grows: each event once."""
    run, path, chance = tmp_path / "p" / "run", tmp_path / "rows", random.Random(7)
    put_odd_log(run)
    log = LogMaker("r2-01KAHCZG000000000000000D00")
    kills = 0
    for number in range(1, ROUNDS + 1):
        put(run, number, b"".join(log.segment(metrics(chance.randrange(300)))), writer=log.writer)
        process = FORK.Process(target=work, args=(run, make, path))
        process.start()
        process.join(chance.uniform(0.0, 0.03))
        assert process.pid is not None
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)

    deliver_run(run, make(path), "file", timeout_s=0.0)

    rows: dict[str, list[int]] = {}
    for line in path.read_text().splitlines():
        writer, seq = line.split()
        rows.setdefault(writer, []).append(int(seq))
    wanted: dict[str, list[int]] = {}
    for entry in all_entries(run):
        wanted.setdefault(entry.writer, []).append(entry.event.seq)
    assert rows == wanted
    assert kills > ROUNDS // 4
    assert list(no_locks(run)) == []
