"""What a writer does when the disk fails: nothing is lost that the disk, or the ring, still holds."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from pathlib import Path

import msgspec
import pytest

from eventlog.errors import DurabilityError, EvlogWarning
from eventlog.events import Dropped, Event, Metrics, Params, RunStarted, SegmentOpened
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import log_directory
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import recover_run
from eventlog.storage.system import System
from tests.faults import Call, LosingSystem, SmallDisk, WatchedSystem, failing
from tests.logs import MANUAL, ReadBack, die, headers, metrics, names, open_buffer, read_back
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

# The flusher has to look again by itself after a pause, so it gets a short interval here.
RETRYING = msgspec.structs.replace(MANUAL, write_interval_s=0.005)
SMALL_SEGMENTS = msgspec.structs.replace(RETRYING, segment_bytes=2048)
COUNT = 60


def write(run: Path, system: System, options: WriterOptions = SMALL_SEGMENTS) -> LogBuffer:
    """Append COUNT metrics, asking for the disk after every tenth, whatever comes of that."""
    buffer = open_buffer(run, options=options, system=system)
    for number, event in enumerate(metrics(COUNT)):
        buffer.append(event, sync=number % 10 == 9)
    return buffer


def losses(read: ReadBack) -> list[str]:
    """Return the findings that name lost events."""
    return [str(finding) for finding in read.findings if finding.first_seq is not None]


@pytest.mark.parametrize("at", range(1, 9))
def test_failed_sync_loses_nothing_although_the_pages_are_gone(tmp_path: Path, at: int) -> None:
    """What was not synced is written again, with the same seqs, into a new segment."""
    buffer = write(tmp_path, LosingSystem(at))

    assert buffer.close()

    read = read_back(tmp_path)
    assert read.steps == list(range(COUNT))
    assert [event.seq for event in read.events] == list(range(COUNT))
    assert not losses(read)
    assert [header.origin for header in headers(tmp_path)].count("rewrite") == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.EFBIG, errno.ESTALE])
@pytest.mark.parametrize("name", ["create", "write", "sync", "close", "sync_directory"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_failing_call_loses_nothing(tmp_path: Path, name: str, at: int, code: int) -> None:
    """Whichever call fails once, every event is in the log once, in order."""
    buffer = write(tmp_path, WatchedSystem(failing(name, at, code)))

    assert buffer.close()

    read = read_back(tmp_path)
    assert read.steps == list(range(COUNT))
    assert not losses(read)
    assert {Path(n).suffix for n in names(tmp_path)} == {".jsonl"}


def test_file_whose_sync_failed_is_never_synced_or_written_again(tmp_path: Path) -> None:
    """The next sync would succeed and prove nothing."""
    system = LosingSystem(2)
    buffer = write(tmp_path, system)
    buffer.close()

    failed_at = [i for i, call in enumerate(system.calls) if call.name == "sync"][1]
    path = system.calls[failed_at].path
    later = [call.name for call in system.calls[failed_at + 1 :] if call.path == path]
    assert later == ["close"]


@pytest.mark.parametrize("data", [{"type": "segment_opened"}, {"type": "segment_sealed"}])
def test_rewrite_keeps_events_that_resemble_frames(tmp_path: Path, data: dict[str, object]) -> None:
    """A user's own value "segment_opened" does not make an event a frame."""
    buffer = open_buffer(tmp_path, options=RETRYING, system=LosingSystem(1))
    buffer.append(Params(data=data), sync=True)

    assert buffer.close()

    (event,) = read_back(tmp_path).events
    assert isinstance(event, Params)
    assert event.data == data


def test_rewritten_segment_names_what_was_synced_before(tmp_path: Path) -> None:
    """`prev` of a rewrite vouches only for the bytes that a sync had promised."""
    buffer = open_buffer(tmp_path, options=RETRYING, system=LosingSystem(2))
    buffer.append(Metrics(step=0), sync=True)
    size = (log_directory(tmp_path) / names(tmp_path, ".jsonl")[0]).stat().st_size
    buffer.append(Metrics(step=1), sync=True)

    buffer.close()

    prev = headers(tmp_path)[1].prev
    assert prev is not None
    assert (prev.segment, prev.seq, prev.size_bytes) == (1, 1, size)


def test_full_disk_gives_up_the_reserve_and_goes_on_in_the_same_file(tmp_path: Path) -> None:
    """A short write and ENOSPC cost no event and no new segment; the reserve makes the room."""
    disk = SmallDisk(free_bytes=9000)
    options = msgspec.structs.replace(RETRYING, reserve_bytes=4096)
    buffer = write(tmp_path, disk, options)

    assert buffer.close()

    read = read_back(tmp_path)
    assert read.steps == list(range(COUNT))
    assert read.is_clean
    assert len(names(tmp_path)) == 1
    assert any(c.name == "unlink" and c.path and c.path.suffix == ".reserve" for c in disk.calls)


def test_full_disk_costs_nothing_that_the_ring_can_hold(tmp_path: Path) -> None:
    """When there is room again, everything that waited is written."""
    disk = SmallDisk(free_bytes=0)
    buffer = open_buffer(tmp_path, options=WriterOptions(ring_bytes=1 << 16), system=disk)
    for event in metrics(COUNT):
        buffer.append(event)
    wait_until(lambda: any(c.name == "write" for c in disk.calls), "the writer notices the full disk")

    disk.free_bytes = 1 << 20

    assert buffer.close()
    assert read_back(tmp_path).steps == list(range(COUNT))


class Standing(WatchedSystem):
    """A system whose clock stands until the test moves it."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


def test_write_that_fails_once_is_tried_again_before_a_waiting_call_gives_up(tmp_path: Path) -> None:
    """Else one failure would cost what a ring that is full cannot take."""
    system = Standing(failing("write", 1, errno.EFBIG))
    buffer = open_buffer(tmp_path, options=msgspec.structs.replace(MANUAL, max_block_s=0.1), system=system)
    buffer.append(Metrics(step=0), sync=False)
    chain = buffer._chain
    assert chain is not None

    tries = []
    for system.now_s in (0.0, 0.01, 0.05):
        tries.append(chain.flush(sync=False))

    assert tries == [False, False, True]
    assert buffer.close()


def test_full_disk_and_full_ring_drop_metrics_and_say_so(tmp_path: Path) -> None:
    """What could not be kept is counted in a `dropped` event, and what matters more is kept."""
    disk = SmallDisk(free_bytes=0)
    buffer = open_buffer(tmp_path, options=RETRYING, system=disk)
    returned = [buffer.append(event, sync=False) for event in metrics(2000)]
    rare = buffer.append(Params(data={"lr": 1}), sync=False)
    disk.free_bytes = 1 << 20
    wait_until(lambda: buffer.sync(), "the disk takes everything")
    buffer.append(Metrics(step=2000), sync=False)

    assert buffer.close()

    read = read_back(tmp_path)
    (note,) = [event for event in read.events if isinstance(event, Dropped)]
    assert note.counts == {"metrics": returned.count(False)}
    assert returned.count(False) > 0
    assert [s for s in read.steps if s != 2000] == [s for s, is_kept in enumerate(returned) if is_kept]
    assert rare
    assert any(isinstance(event, Params) for event in read.events)
    assert not losses(read)


def test_dead_disk_leaves_everything_in_the_ring(tmp_path: Path) -> None:
    """A log that cannot be closed is complete once the disk works and somebody recovers it."""
    broken = WatchedSystem(failing("create", 2, errno.EROFS, times=10_000))
    options = msgspec.structs.replace(RETRYING, close_timeout_s=0.2)
    buffer = open_buffer(tmp_path, options=options, system=broken)
    for event in metrics(COUNT):
        buffer.append(event)
    closed = buffer.close()

    recovered = recover_run(tmp_path)

    assert not closed
    assert [r.events for r in recovered] == [COUNT]
    assert read_back(tmp_path).steps == list(range(COUNT))


def test_disk_that_never_syncs_does_not_make_the_writer_spin(tmp_path: Path) -> None:
    """Between two tries there is a pause that grows: a second of failures makes few segments."""
    system = WatchedSystem(failing("sync", 1, times=1_000_000))
    options = msgspec.structs.replace(RETRYING, close_timeout_s=0.6)
    buffer = open_buffer(tmp_path, options=options, system=system)
    buffer.append(Metrics(step=1))

    assert not buffer.close()

    assert len(names(tmp_path, ".jsonl")) < 10


def test_failed_sync_answers_those_who_wait(tmp_path: Path) -> None:
    """A call that asked for the disk returns False when the disk fails, instead of waiting on."""
    buffer = open_buffer(tmp_path, options=RETRYING, system=WatchedSystem(failing("sync", 1)))

    assert not buffer.append(Metrics(step=1), sync=True)

    assert buffer.close()
    assert read_back(tmp_path).steps == [1]


def test_strict_writer_raises_what_others_report(tmp_path: Path) -> None:
    """With `strict`, an event that is not kept as promised is an error that names the log."""
    buffer = open_buffer(tmp_path, options=RETRYING, system=WatchedSystem(failing("sync", 1)), strict=True)

    with pytest.raises(DurabilityError, match="not on the disk yet"):
        buffer.append(RunStarted(name="a"))

    die(buffer)


def test_failing_disk_is_reported_once(tmp_path: Path) -> None:
    """Training hears of a failing disk in one warning with the way out, not in hundreds."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        buffer = write(tmp_path, WatchedSystem(failing("sync", 1, times=4)))
        buffer.close()

    texts = [str(w.message) for w in shown if issubclass(w.category, EvlogWarning)]
    about_disk = [text for text in texts if "cannot be written" in text]
    assert len(about_disk) == 1
    assert "Make room on, or mend" in about_disk[0]
    assert len(texts) <= 2


@pytest.fixture
def lines_of_a_rewrite(tmp_path: Path) -> list[bytes]:
    """Return the lines of a segment that was written again."""
    buffer = open_buffer(tmp_path, options=RETRYING, system=WatchedSystem(failing("sync", 1)))
    buffer.append(Metrics(step=1), sync=True)
    buffer.close()
    return (log_directory(tmp_path) / names(tmp_path)[1]).read_bytes().splitlines()


def test_rewritten_segment_holds_header_events_and_seal(lines_of_a_rewrite: list[bytes]) -> None:
    """A rewrite begins with its own header and repeats no frame of the segment that it replaces."""
    kinds = [line.split(b'"type":"')[1].split(b'"')[0] for line in lines_of_a_rewrite]

    assert kinds == [b"segment_opened", b"metrics", b"segment_sealed"]
    assert msgspec.json.decode(lines_of_a_rewrite[0], type=SegmentOpened).origin == "rewrite"


def test_killed_writer_with_a_failing_disk_is_recovered(tmp_path: Path) -> None:
    """Also between a failed sync and the next try, SIGKILL costs nothing."""
    system = WatchedSystem(failing("sync", 2, times=100))
    buffer = open_buffer(tmp_path, options=SMALL_SEGMENTS, system=system)
    events: list[Event] = metrics(COUNT)
    for number, event in enumerate(events):
        buffer.append(event, sync=number in {5, 20})
    die(buffer)

    recover_run(tmp_path)

    read = read_back(tmp_path)
    assert read.steps == list(range(COUNT))
    assert not losses(read)


def test_watched_system_notes_what_is_asked_of_it(tmp_path: Path) -> None:
    """The fake itself: calls are numbered and the chosen one fails."""
    seen: list[Call] = []
    system = WatchedSystem(seen.append)

    fd = system.create(tmp_path / "a.jsonl")
    system.write(fd, b"x")
    system.close(fd)

    assert [(c.name, c.number, c.is_on_segment) for c in seen] == [
        ("create", 1, True),
        ("write", 2, True),
        ("close", 3, True),
    ]


def test_rewrite_onto_memory_keeps_the_file_that_survives_a_kill(tmp_path: Path) -> None:
    """If the new ring cannot be a file, the old one stays until its events are on the disk."""
    rings: list[Call] = []

    def decide(call: Call) -> None:
        failing("sync", 2, times=100)(call)
        if call.name == "preallocate":
            rings.append(call)
            if len(rings) > 2:  # the first ring and the reserve were made; the next ring cannot be
                raise OSError(errno.ENOSPC, "no space for another ring")

    buffer = open_buffer(tmp_path, options=MANUAL, system=WatchedSystem(decide))
    for number, event in enumerate(metrics(COUNT)):
        buffer.append(event, sync=number in {5, COUNT - 1})
    assert names(tmp_path, ".ring")
    die(buffer)

    recover_run(tmp_path)

    assert read_back(tmp_path).steps == list(range(COUNT))


def test_calls_wait_once_for_a_disk_that_stands_still(tmp_path: Path) -> None:
    """When one call has waited in vain, the next ones do not wait until the disk moves."""
    options = msgspec.structs.replace(MANUAL, ring_bytes=1 << 14, max_block_s=1.0)
    buffer = open_buffer(tmp_path, options=options, system=WatchedSystem(failing("write", 1, times=10**6)))

    def fill() -> None:
        for event in metrics(2000):
            buffer.append(event, sync=False)

    job = threading.Thread(target=fill, daemon=True)
    job.start()

    wait_until(lambda: not job.is_alive(), "2000 calls on a disk that takes nothing")
    assert sum(buffer.stream.dropped.values()) > 1000


@pytest.mark.parametrize("at", [2, 5, 8])
def test_number_that_a_segment_has_in_the_ring_is_not_given_twice(tmp_path: Path, at: int) -> None:
    """The sync before a seal fails when the next header is in the ring already, which may outlive this."""
    buffer = write(tmp_path, LosingSystem(at))
    buffer.close()

    (rewrite,) = [header for header in headers(tmp_path) if header.origin == "rewrite"]

    assert rewrite.prev is not None
    assert rewrite.segment == rewrite.prev.segment + 2


class OneRing(LosingSystem):
    """A disk that loses what a sync should have kept, and has no room for a second ring's file."""

    def preallocate(self, fd: int, size_bytes: int) -> None:
        super().preallocate(fd, size_bytes)
        if [call.name for call in self.calls].count("preallocate") > 2:  # the reserve was made, too
            raise OSError(errno.ENOSPC, "no space for another ring")


@pytest.mark.parametrize("is_written", [False, True])
def test_kept_ring_gives_what_a_segment_from_memory_may_not_have(tmp_path: Path, is_written: bool) -> None:
    """What was written and not synced after a rewrite onto memory tells nothing of where the ring goes on."""
    options = msgspec.structs.replace(MANUAL, max_block_s=0.004)  # the pause after a failure is short
    buffer = open_buffer(tmp_path, options=options, system=OneRing(2))
    for number, event in enumerate(metrics(COUNT)):
        buffer.append(event, sync=number in {5, COUNT - 1})
    chain = buffer._chain
    assert chain is not None
    if is_written:
        assert chain.flush(sync=False, force=True)
    assert len(names(tmp_path, ".jsonl")) == 1 + is_written
    assert len(names(tmp_path, ".ring")) == 1
    die(buffer)
    if is_written:  # and the disk takes half of it
        path = log_directory(tmp_path) / names(tmp_path, ".jsonl")[1]
        lines = path.read_bytes().splitlines(keepends=True)
        os.truncate(path, sum(map(len, lines[: len(lines) // 2])))

    recover_run(tmp_path)

    assert read_back(tmp_path).steps == list(range(COUNT))


def test_ring_of_a_rewrite_that_has_wrapped_is_recovered(tmp_path: Path) -> None:
    """Its first bytes are gone; its own segment, a rewrite, tells where it goes on."""
    buffer = open_buffer(tmp_path, options=RETRYING, system=LosingSystem(2))
    buffer.append(Metrics(step=0), sync=True)
    buffer.append(Metrics(step=1), sync=True)
    wait_until(lambda: buffer.sync(), "the disk takes it again")
    ring = buffer.stream.ring
    assert ring is not None
    step = 2
    while buffer.stream.place().position < 3 * ring.size_bytes + 500:  # type: ignore[union-attr]
        buffer.append(Metrics(step=step), sync=step % 100 == 0)
        step += 1
    for event in metrics(20, start=step):
        buffer.append(event, sync=False)
    die(buffer)

    recover_run(tmp_path)

    read = read_back(tmp_path)
    assert read.steps == list(range(step + 20))
    assert not losses(read)
