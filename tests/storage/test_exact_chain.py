"""What a chain of segments writes and says, exactly: times, places, pauses, and when it seals."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import decode, encode_fields
from eventlog.errors import EvlogWarning
from eventlog.events import Metrics, Note, SegmentOpened, SegmentSealed
from eventlog.storage.chain import Chain
from eventlog.storage.layout import log_directory
from eventlog.storage.options import Identity
from eventlog.storage.stream import Stream
from tests.faults import Call, WatchedSystem, failing
from tests.logs import MANUAL, WRITER_A, headers, names, read_back

NOW_NS = 1_763_700_000_123_456_789


class Standing(WatchedSystem):
    """A system whose clocks stand until the test moves them."""

    now_s = 0.0

    def now_ns(self) -> int:
        return NOW_NS

    def monotonic_s(self) -> float:
        return self.now_s


def open_chain(run: Path, system: WatchedSystem, **changes: object) -> tuple[Chain, Stream]:
    """Return a chain without a flusher: the test plays it. *changes* are those of the options."""
    options = msgspec.structs.replace(MANUAL, **changes)
    log_directory(run).mkdir()
    stream = Stream(system.now_ns)
    identity = Identity(run_id="run-1", project="demo", writer=WRITER_A)
    with stream.changing():
        return Chain(run, identity, options, stream, system), stream


def append(stream: Stream, step: int, size_bytes: int = 0) -> None:
    """Append a metric of about *size_bytes*."""
    name = "x" * size_bytes
    assert stream.append(encode_fields(Metrics(step=step, data={name: 0.5})), "note", max_block_s=0)


def test_header_and_seal_have_their_time_in_microseconds(tmp_path: Path) -> None:
    """What is less than a microsecond is left out; events and frames of one moment have one time."""
    chain, stream = open_chain(tmp_path, Standing())
    append(stream, 0)

    assert chain.close("ended")

    (name,) = names(tmp_path)
    header, event, seal = map(decode, (log_directory(tmp_path) / name).read_bytes().splitlines())
    assert isinstance(header, SegmentOpened)
    assert isinstance(seal, SegmentSealed)
    assert [header.ts, event.ts, seal.ts] == [1_763_700_000_123_456] * 3
    assert seal.reason == "ended"


def test_log_says_that_a_ring_without_a_file_was_asked_for(tmp_path: Path) -> None:
    """However the text came about: an option may be computed, or come from the environment."""
    chain, _ = open_chain(tmp_path, Standing(), ring="".join(["mem", "ory"]))

    assert chain.close("ended")

    (header,) = headers(tmp_path)
    assert header.ring is not None
    assert (header.ring.kind, header.ring.reason) == ("memory", "asked for")


@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
def test_pause_between_two_tries_doubles_up_to_five_seconds(tmp_path: Path) -> None:
    """A disk that takes nothing is asked ever less often, and never less often than that."""
    tried_at: list[float] = []

    def decide(call: Call) -> None:
        if call.name == "create" and call.is_on_segment:
            tried_at.append(system.now_s * 16)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    system = Standing(decide)
    chain, stream = open_chain(tmp_path, system, max_block_s=0.25)
    append(stream, 0)

    for sixteenths in range(300):
        system.now_s = sixteenths / 16
        assert not chain.flush(sync=False)
    chain.abandon()

    assert tried_at == [0, 1, 3, 7, 15, 31, 63, 127, 207, 287]


@pytest.mark.parametrize(("ring_bytes", "kept"), [(1 << 20, "1 MiB"), (3 << 20, "3 MiB")])
def test_warning_tells_how_much_is_kept(tmp_path: Path, ring_bytes: int, kept: str) -> None:
    """As many MiB as the ring has: whoever reads it knows how long training can go on without a loss."""
    system = Standing(failing("create", 1, errno.ENOSPC, times=9))
    chain, stream = open_chain(tmp_path, system, ring_bytes=ring_bytes, ring="memory")
    append(stream, 0)

    with pytest.warns(EvlogWarning, match=f"Up to {kept} of events are kept and training goes on"):
        chain.flush(sync=False)
    chain.abandon()


@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
@pytest.mark.parametrize("waiting", [7, 40])
def test_rewrite_begins_at_the_first_whole_ring_beyond_all_that_was_there(
    tmp_path: Path, waiting: int
) -> None:
    """Positions of a writer's stream never go back, and a header lies at a ring's first byte."""
    size = 1 << 16
    chain, stream = open_chain(tmp_path, Standing(failing("sync", 2)), ring_bytes=size)
    for step in range(55):
        append(stream, step, 1000)
    assert chain.flush(sync=True)
    synced = chain.synced
    for step in range(55, 55 + waiting):
        append(stream, step, 1000)

    assert not chain.flush(sync=True)
    assert chain.flush(sync=True, force=True)
    assert chain.close("ended")

    first, again = headers(tmp_path)
    assert (first.stream_offset, again.stream_offset) == (0, 2 * size)
    assert again.origin == "rewrite"
    assert again.prev is not None
    assert (again.prev.segment, again.prev.seq, again.prev.size_bytes) == (1, 55, synced.position)
    read = read_back(tmp_path)
    assert read.steps == list(range(55 + waiting))
    assert [event.seq for event in read.events] == read.steps


@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
def test_rewrite_of_what_was_never_synced_follows_nothing(tmp_path: Path) -> None:
    """Nothing of the segment that was given up is known to be on the disk, so nothing is referred to."""
    chain, stream = open_chain(tmp_path, Standing(failing("sync", 1)))
    append(stream, 0)

    assert not chain.flush(sync=True)
    assert chain.flush(sync=True, force=True)
    assert chain.close("ended")

    first, again = headers(tmp_path)
    assert (first.prev, again.prev) == (None, None)
    assert (first.origin, again.origin) == ("writer", "rewrite")
    assert read_back(tmp_path).steps == [0]


@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
@pytest.mark.parametrize(("waiting", "is_woken"), [(7, False), (40, True)])
def test_flusher_is_woken_after_a_rewrite_when_a_quarter_waits(
    tmp_path: Path, waiting: int, is_woken: bool
) -> None:
    """Of the new ring: before, a call need not wake it."""
    chain, stream = open_chain(tmp_path, Standing(failing("sync", 1)), ring_bytes=1 << 16)
    for step in range(waiting):
        append(stream, step, 1000)
    assert not chain.flush(sync=True)
    stream.wake.wait(0)

    append(stream, waiting)

    assert stream.wake.wait(0) is is_woken
    chain.abandon()


class BusyCallers(Standing):
    """A system on which callers go on while it writes; it notes the types of the lines of each write."""

    on_write: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[str, ...]] = []

    def write(self, fd: int, data: bytes) -> int:
        self.writes.append(tuple(re.findall(r'"type":"(\w+)"', data.decode())))
        on_write, self.on_write = self.on_write, lambda: None
        on_write()
        return super().write(fd, data)


@pytest.mark.parametrize(
    ("first_bytes", "more_bytes", "second"),
    [
        (4000, 4000, [("note", "segment_sealed")]),
        (4000, 40_000, [("note",), ("segment_sealed",)]),
        (8000, 40_000, [("note", "segment_sealed")]),
    ],
)
def test_segment_is_sealed_when_little_waits(
    tmp_path: Path, first_bytes: int, more_bytes: int, second: list[tuple[str, ...]]
) -> None:
    """Callers wait while the seal is made of what waits: much is written before, little goes with it.

    A segment that has grown to twice its size is sealed whatever waits: callers may never do less.
    """
    system = BusyCallers()
    chain, stream = open_chain(tmp_path, system, ring_bytes=1 << 17, segment_bytes=4000)
    stream.append(encode_fields(Note(text="a" * first_bytes)), "note", max_block_s=0)

    def append_more() -> None:
        stream.append(encode_fields(Note(text="b" * more_bytes)), "note", max_block_s=0)

    system.on_write = append_more
    assert chain.flush(sync=False)

    assert system.writes == [("segment_opened", "note"), *second, ("segment_opened",)]
    assert chain.close("ended")
    read = read_back(tmp_path)
    assert read.is_clean
    assert [len(event.text) for event in read.events if isinstance(event, Note)] == [first_bytes, more_bytes]


def test_segment_ends_behind_its_seal_however_much_is_written_before(tmp_path: Path) -> None:
    """More than one write holds: the next segment begins when all of it is there."""
    system = BusyCallers()
    chain, stream = open_chain(tmp_path, system, ring_bytes=8 << 20, segment_bytes=4000)
    append(stream, 0, 8000)

    def append_more() -> None:
        for step in (1, 2, 3):
            append(stream, step, 500_000)

    system.on_write = append_more
    assert chain.flush(sync=False)
    append(stream, 4)
    assert chain.close("ended")

    assert len(headers(tmp_path)) == 2
    read = read_back(tmp_path)
    assert read.is_clean
    assert read.steps == [0, 1, 2, 3, 4]


def test_segment_without_room_for_its_seal_is_not_closed(tmp_path: Path) -> None:
    """Until a sync gives the ring's room back."""
    chain, stream = open_chain(tmp_path, Standing(), ring="memory", ring_bytes=1 << 14)
    while stream.append(encode_fields(Note(text="n")), "note", max_block_s=0) is not None:
        pass

    is_closed = [chain.close("ended"), chain.flush(sync=True), chain.close("ended")]

    assert is_closed == [False, True, True]
    assert read_back(tmp_path).is_clean


def test_run_that_somebody_has_removed_is_not_made_again(tmp_path: Path) -> None:
    """From the second segment on its directory has been there; making another would hide the loss."""
    begun: list[Call] = []

    def decide(call: Call) -> None:
        if call.name == "create" and call.is_on_segment:
            begun.append(call)
            if len(begun) == 2:
                shutil.rmtree(log_directory(tmp_path))

    chain, stream = open_chain(tmp_path, Standing(decide), ring="memory", segment_bytes=1000)
    append(stream, 0, 2000)

    with pytest.warns(EvlogWarning, match="No such file or directory"):
        chain.flush(sync=False)
    chain.abandon()

    assert not log_directory(tmp_path).exists()


def test_what_is_synced_is_not_synced_again(tmp_path: Path) -> None:
    """A sync that has nothing to sync costs no call."""
    system = Standing()
    chain, stream = open_chain(tmp_path, system)
    append(stream, 0)

    assert [chain.flush(sync=True) for _ in range(3)] == [True, True, True]

    assert [call.name for call in system.calls if call.is_on_segment].count("sync") == 1
    assert chain.close("ended")
