"""The chain of segments when it is asked for something at the wrong moment, or its log is gone."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest

from eventlog.storage.layout import log_directory
from tests.logs import MANUAL, metrics, open_buffer, read_back


@pytest.mark.filterwarnings("ignore:the log of run", "ignore:run run-1")
def test_fault_in_the_middle_of_a_change_costs_nothing(tmp_path: Path) -> None:
    """Whoever interrupts its own thread cannot seal or move the stream; what is left is done later."""
    buffer = open_buffer(tmp_path)
    for event in metrics(5):
        buffer.append(event)
    buffer.sync()
    chain = buffer._chain
    assert chain is not None

    with buffer._io, buffer.stream.changing():
        assert not chain._may_seal(buffer.stream.place())
        assert not chain._seal("rotated")
        chain._rewrite(OSError(errno.EIO, "a sync has failed"))
    for event in metrics(5, start=5):
        buffer.append(event)

    assert buffer.close()
    read = read_back(tmp_path)
    assert read.steps == list(range(10))
    assert read.findings == []


@pytest.mark.filterwarnings("ignore:the log of run", "ignore:run run-1")
def test_log_that_somebody_moves_away_is_not_made_again(tmp_path: Path) -> None:
    """Nothing is raised into the training, and no half of a log appears in the place of the old one."""
    options = msgspec.structs.replace(MANUAL, write_interval_s=0.005, segment_bytes=1000, close_timeout_s=0.0)
    run = tmp_path / "run"
    buffer = open_buffer(run, options=options)
    for number, event in enumerate(metrics(40)):
        buffer.append(event, sync=number == 20)
    log_directory(run).rename(tmp_path / "gone")

    for number, event in enumerate(metrics(80, start=40)):
        buffer.append(event, sync=number % 40 == 0)

    assert not buffer.close()
    assert not log_directory(run).exists()
