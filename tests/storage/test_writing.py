"""What a writer leaves on a disk that works."""

from __future__ import annotations

import errno
import hashlib
import json
import stat
import threading
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import verifies
from eventlog.events import (
    ALWAYS_SYNCED,
    Artifact,
    Checkpoint,
    Event,
    Metrics,
    Note,
    Params,
    RunEnded,
    RunResumed,
    RunStarted,
)
from eventlog.storage.buffer import LineTooLongError, LogBuffer
from eventlog.storage.layout import SegmentName, log_directory
from eventlog.storage.options import WriterOptions
from eventlog.storage.writer import SegmentWriter
from tests.faults import WatchedSystem
from tests.logs import MANUAL, die, headers, metrics, names, open_buffer, put, read_back
from tests.waiting import wait_until

ROTATING = WriterOptions(ring_bytes=1 << 16, segment_bytes=4096, reserve_bytes=4096)
SYNCED_EVENTS: list[Event] = [
    RunStarted(name="a"),
    RunResumed(),
    RunEnded(status="finished"),
    Params(data={"lr": 1}),
    Artifact(name="a", path="artifacts/a"),
    Checkpoint(path="model.pt"),
]


def write_rotating(run: Path, count: int = 1000) -> None:
    """Write *count* metrics into many small segments."""
    buffer = open_buffer(run, options=ROTATING)
    for number, event in enumerate(metrics(count)):
        assert buffer.append(event, sync=number % 50 == 49)
    assert buffer.close()


def test_log_returns_what_was_appended_in_order(tmp_path: Path) -> None:
    """Across many segments and turns of the ring, every event comes back once, in order."""
    write_rotating(tmp_path, 3000)

    read = read_back(tmp_path)

    assert read.steps == list(range(3000))
    assert [event.seq for event in read.events] == list(range(3000))
    assert read.is_clean


def test_log_of_a_finished_writer_is_segments_only(tmp_path: Path) -> None:
    """Ring and reserve are gone when the log is closed."""
    write_rotating(tmp_path)

    assert {Path(name).suffix for name in names(tmp_path)} == {".jsonl"}


def test_segments_are_rotated_and_name_the_one_before(tmp_path: Path) -> None:
    """`prev` gives the number, the next seq, the last crc and the size of the segment before."""
    write_rotating(tmp_path)

    paths = [log_directory(tmp_path) / name for name in names(tmp_path)]
    found = headers(tmp_path)
    assert len(found) > 5
    assert found[0].prev is None
    for before, header in zip(paths, found[1:], strict=False):
        data = before.read_bytes()
        assert header.prev is not None
        assert header.prev.segment == header.segment - 1
        assert header.prev.size_bytes == len(data)
        assert header.prev.crc.encode() == data[-11:-3]
        assert header.prev.seq == header.seq == json.loads(data.splitlines()[-1])["seq"]


def test_segments_continue_one_stream(tmp_path: Path) -> None:
    """`stream_offset` is the number of bytes in the segments before."""
    write_rotating(tmp_path)

    sizes = [(log_directory(tmp_path) / name).stat().st_size for name in names(tmp_path)]
    assert [header.stream_offset for header in headers(tmp_path)] == [
        sum(sizes[:i]) for i in range(len(sizes))
    ]


def test_seal_holds_the_hash_of_all_bytes_before_it(tmp_path: Path) -> None:
    """`head -c <size_bytes> | sha256sum` checks a segment without this software."""
    write_rotating(tmp_path)

    for name in names(tmp_path):
        data = (log_directory(tmp_path) / name).read_bytes()
        lines = data.splitlines()
        seal = json.loads(lines[-1])
        assert seal["type"] == "segment_sealed"
        assert seal["sha256"] == hashlib.sha256(data[: seal["size_bytes"]]).hexdigest()
        assert data[seal["size_bytes"] :] == lines[-1] + b"\n"
        assert seal["events"] == len(lines) - 2


def test_seal_says_why_the_segment_ended(tmp_path: Path) -> None:
    """All segments but the last were rotated; the last has the reason of the close."""
    buffer = open_buffer(tmp_path, options=ROTATING)
    for number, event in enumerate(metrics(200)):
        buffer.append(event, sync=number % 50 == 49)

    buffer.close("killed")

    seals = [json.loads((log_directory(tmp_path) / n).read_bytes().splitlines()[-1]) for n in names(tmp_path)]
    assert [seal["reason"] for seal in seals] == ["rotated"] * (len(seals) - 1) + ["killed"]


@pytest.mark.parametrize("reason", ["rotated", "ended", ""])
def test_closed_log_ends_with_a_seal_whatever_its_end_is_called(tmp_path: Path, reason: str) -> None:
    """The reason is the user's word for it; nothing depends on it."""
    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1))

    assert buffer.close(reason)

    (report,) = read_back(tmp_path).reports
    assert report.is_sealed


def test_sealed_segments_are_read_only(tmp_path: Path) -> None:
    """Nobody has the permission to write to a sealed segment."""
    write_rotating(tmp_path)

    writable = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    assert not any(path.stat().st_mode & writable for path in log_directory(tmp_path).iterdir())


def test_frames_carry_the_seq_of_the_next_event(tmp_path: Path) -> None:
    """Headers and seals are not events: they take no number."""
    write_rotating(tmp_path, 200)

    expected = 0
    for name in names(tmp_path):
        for line in (log_directory(tmp_path) / name).read_bytes().splitlines():
            fields = json.loads(line)
            assert fields["seq"] == expected
            expected += not fields["type"].startswith("segment_")


def test_lines_chain_their_checksums_from_zero_in_each_segment(tmp_path: Path) -> None:
    """The seed of a line is the crc stored on the line before, 0 for a header."""
    write_rotating(tmp_path, 200)

    for name in names(tmp_path):
        seed = 0
        for line in (log_directory(tmp_path) / name).read_bytes().splitlines():
            assert verifies(line, seed)
            seed = int(line[-10:-2], 16)


def test_segment_file_is_never_opened_twice(tmp_path: Path) -> None:
    """A name that is taken is an error: opening it again could lose what it holds."""
    put(tmp_path, 1, b"precious", writer="r0-01KAHCZG000000000000000A00")

    with pytest.raises(FileExistsError):
        SegmentWriter(log_directory(tmp_path), SegmentName("r0-01KAHCZG000000000000000A00", 1))


@pytest.mark.parametrize("event", SYNCED_EVENTS, ids=lambda event: type(event).__name__)
def test_rare_events_are_on_the_disk_when_the_call_returns(tmp_path: Path, event: Event) -> None:
    """What matters most is written and synced before the call returns, whatever the durability."""
    system = WatchedSystem()
    buffer = open_buffer(tmp_path, system=system)

    assert buffer.append(event)

    names_called = [call.name for call in system.calls if call.is_on_segment]
    assert names_called[-2:] == ["write", "sync"]
    assert len(read_back(tmp_path).events) == 1
    die(buffer)


def test_rare_events_are_the_ones_listed() -> None:
    """The list of always-synced kinds and the test above name the same kinds."""
    assert {type(event) for event in SYNCED_EVENTS} == set(ALWAYS_SYNCED)


def test_buffered_event_waits_in_the_ring(tmp_path: Path) -> None:
    """A metric asks nothing of the disk."""
    system = WatchedSystem()
    buffer = open_buffer(tmp_path, system=system)

    buffer.append(Metrics(step=1))

    assert not [call for call in system.calls if call.is_on_segment]
    die(buffer)


def test_synced_mode_puts_every_event_on_the_disk(tmp_path: Path) -> None:
    """With `durability="synced"` a returned call is written and synced, and the header says so."""
    system = WatchedSystem()
    buffer = open_buffer(
        tmp_path, options=msgspec.structs.replace(MANUAL, durability="synced"), system=system
    )

    for step in range(3):
        assert buffer.append(Metrics(step=step))
        assert [c.name for c in system.calls if c.is_on_segment][-2:] == ["write", "sync"]
        assert read_back(tmp_path).steps == list(range(step + 1))

    assert headers(tmp_path)[0].durability == "synced"
    die(buffer)


def test_synced_calls_of_many_threads_share_syncs(tmp_path: Path) -> None:
    """Threads that wait together are served together, and all of them get what they asked for."""
    system = WatchedSystem()
    buffer = open_buffer(
        tmp_path, options=msgspec.structs.replace(MANUAL, durability="synced"), system=system
    )
    results: list[bool] = []

    def work() -> None:
        results.extend(buffer.append(Metrics(step=step)) for step in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [True] * 160
    assert len(read_back(tmp_path).events) == 160
    assert sum(call.name == "sync" for call in system.calls) <= 160
    die(buffer)


def test_flusher_writes_without_being_asked(tmp_path: Path) -> None:
    """Within the interval, an event is in the segment although nobody waits for it."""
    buffer = open_buffer(tmp_path, options=WriterOptions(write_interval_s=0.001, ring_bytes=1 << 16))
    buffer.append(Metrics(step=7))

    wait_until(lambda: read_back(tmp_path).steps == [7], "the event is in the segment")

    assert buffer.close()


def test_threads_append_without_losing_or_mixing_lines(tmp_path: Path) -> None:
    """Every line of every thread comes back whole, each thread's in order."""
    buffer = open_buffer(tmp_path, options=WriterOptions(ring_bytes=1 << 20, max_block_s=20.0))

    def work(thread: int) -> None:
        for step in range(500):
            assert buffer.append(Metrics(step=step, data={"thread": thread}))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    buffer.close()

    read = read_back(tmp_path)
    for thread_number in range(4):
        mine = [e.step for e in read.events if isinstance(e, Metrics) and e.data["thread"] == thread_number]
        assert mine == list(range(500))
    assert read.is_clean


def test_event_over_the_line_limit_is_refused(tmp_path: Path) -> None:
    """A payload that does not fit is the caller's to put into a file; nothing of it is written."""
    buffer = open_buffer(tmp_path)

    with pytest.raises(LineTooLongError):
        buffer.append(Note(text="x" * buffer.max_line_bytes))

    buffer.close()
    assert read_back(tmp_path).events == []


def test_close_twice_does_nothing_the_second_time(tmp_path: Path) -> None:
    """The log is as it was."""
    buffer = open_buffer(tmp_path)
    buffer.append(Metrics(step=1))
    assert buffer.close()
    before = names(tmp_path)

    assert buffer.close()

    assert names(tmp_path) == before


def test_writer_that_never_appends_leaves_no_trace(tmp_path: Path) -> None:
    """The log is opened at the first append."""
    buffer = LogBuffer(tmp_path / "run", run_id="run-1", project="demo")

    assert buffer.close()

    assert not (tmp_path / "run").exists()


def test_header_says_where_unsynced_events_lie(tmp_path: Path) -> None:
    """A reader can tell from the header whether a SIGKILL may cost events."""
    asked = open_buffer(tmp_path / "a", options=msgspec.structs.replace(MANUAL, ring="memory"))
    asked.close()
    cannot = WatchedSystem(decide=_no_preallocation)
    forced = open_buffer(tmp_path / "b", system=cannot)
    forced.close()

    rings = [headers(tmp_path / "a")[0].ring, headers(tmp_path / "b")[0].ring]
    assert [ring.kind for ring in rings if ring] == ["memory", "memory"]
    reasons = [ring.reason or "" for ring in rings if ring]
    assert reasons[0] == "asked for"
    assert "No space" in reasons[1]


def _no_preallocation(call: object) -> None:
    if getattr(call, "name", "") == "preallocate":
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_call_that_comes_after_the_end_is_refused(tmp_path: Path) -> None:
    """The ring is gone then; the fast way notices instead of meeting it."""
    buffer = open_buffer(tmp_path, options=WriterOptions())
    buffer.append(Note(text="begin"))
    buffer.close()

    assert buffer.stream.append_metrics(1, b'{"x":1}') is False
    assert buffer.append(Note(text="late")) is False


def test_flusher_syncs_without_being_asked(tmp_path: Path) -> None:
    """Within the interval, an event is on the disk although nobody waits for it."""
    system = WatchedSystem()
    options = WriterOptions(write_interval_s=0.001, sync_interval_s=0.01, ring_bytes=1 << 16)
    buffer = open_buffer(tmp_path, options=options, system=system)
    buffer.append(Metrics(step=7), sync=False)

    wait_until(
        lambda: any(call.name == "sync" and call.is_on_segment for call in system.calls),
        "the event is on the disk",
    )

    assert buffer.close()
