"""A writer at odd moments: inside its own append, before its log is open, and when it may not end well."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest

from eventlog.errors import DurabilityError
from eventlog.events import Metrics, Note
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import SegmentName, log_directory
from eventlog.storage.options import WriterOptions
from eventlog.storage.writer import SegmentWriter
from tests.faults import WatchedSystem, failing
from tests.logs import MANUAL, die, names, open_buffer, read_back

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

HASTY = msgspec.structs.replace(MANUAL, close_timeout_s=0.05)
STUCK = failing("write", 1, errno.EIO, times=10**6)


class Interrupting:
    """A clock that lets something happen in the middle of an append, once, as a signal handler would."""

    def __init__(self) -> None:
        self.buffer: LogBuffer | None = None
        self.seen: list[bool] = []

    def __call__(self) -> int:
        buffer, self.buffer = self.buffer, None
        if buffer is not None:
            self.seen = [
                buffer.sync(),
                buffer.stream.append_metrics(2, b"{}"),
                buffer.append(Note(text="inside"), sync=False),
            ]
        return 1_763_700_000_000_000_000


def test_append_inside_an_append_is_kept_for_later(tmp_path: Path) -> None:
    """A signal handler that logs in the middle of a call waits for nothing, and its event comes behind."""
    clock = Interrupting()
    buffer = LogBuffer(tmp_path, run_id="run-1", project="demo", options=MANUAL, now_ns=clock)
    buffer.open()
    clock.buffer = buffer

    buffer.append(Metrics(step=1), sync=False)

    assert buffer.close()
    assert clock.seen == [False, False, True]
    events = read_back(tmp_path).events
    assert [type(event) for event in events] == [Metrics, Note]


def test_writer_without_a_log_has_nothing_to_sync(tmp_path: Path) -> None:
    """Nothing was appended, so everything is on the disk; and nothing is made for it."""
    buffer = LogBuffer(tmp_path, run_id="run-1", project="demo")

    assert buffer.sync()
    buffer.after_fork_in_child()

    assert not log_directory(tmp_path).exists()


def test_log_is_opened_once(tmp_path: Path) -> None:
    """To open it again changes nothing."""
    buffer = open_buffer(tmp_path)
    writer = buffer.writer

    buffer.open()

    assert buffer.writer == writer
    assert buffer.close()
    assert len(names(tmp_path)) == 1


def test_synced_metrics_are_on_the_disk_when_the_call_returns(tmp_path: Path) -> None:
    """The call returns when the line is in a segment, not only in the ring."""
    buffer = open_buffer(tmp_path)

    assert buffer.append_metrics_synced(7, b'{"loss":0.5}')

    assert read_back(tmp_path).steps == [7]
    die(buffer)


def test_strict_writer_without_a_place_for_its_log_says_so(tmp_path: Path) -> None:
    """A log that cannot be made is an error that names it."""
    (tmp_path / "run").write_bytes(b"a file where the run should be")

    with pytest.raises(DurabilityError, match="run"):
        open_buffer(tmp_path / "run", strict=True)


@pytest.mark.parametrize(("ring", "kept"), [("auto", "They are kept in"), ("memory", "They are lost")])
def test_end_on_a_dead_disk_says_what_becomes_of_the_events(tmp_path: Path, ring: str, kept: str) -> None:
    """What the ring's file holds can be recovered; what was in memory only cannot."""
    options = msgspec.convert(msgspec.to_builtins(HASTY) | {"ring": ring}, WriterOptions)
    buffer = open_buffer(tmp_path, options=options, system=WatchedSystem(STUCK), strict=True)
    buffer.append(Metrics(step=1), sync=False)

    with pytest.raises(DurabilityError, match=kept):
        buffer.close()


def test_end_that_cannot_tell_of_lost_events_in_the_log_tells_the_caller(tmp_path: Path) -> None:
    """Events that were dropped last have no later one to carry the note."""
    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1), sync=False)
    buffer.stream.count_dropped("metrics", "the ring was full")

    assert not buffer.close()

    assert read_back(tmp_path).steps == [1]


def test_segment_that_is_closed_is_let_go_once(tmp_path: Path) -> None:
    """By the second time its descriptor may be another file's."""
    system = WatchedSystem()
    segment = SegmentWriter(tmp_path, SegmentName("r0-A", 1), system)

    segment.abandon()
    segment.abandon()

    assert [call.name for call in system.calls].count("close") == 1
