"""What a reader says of whole, growing, torn, damaged and cut logs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eventlog.codec import encode_line
from eventlog.errors import CorruptSegmentError
from eventlog.events import Event, Metrics, Note, SegmentOpened
from eventlog.storage.block import Problem
from eventlog.storage.cursor import Checkpoint, Cursor
from eventlog.storage.layout import log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.reader import WriterReader
from tests.logs import START_TS, WRITER_A, WRITER_B, LogMaker, metrics, put, read_back


def put_segments(run: Path, *, count: int = 3, events: int = 4) -> list[list[bytes]]:
    """Put *count* sealed segments with *events* metrics each; return their lines."""
    maker = LogMaker()
    segments = [maker.segment(metrics(events, start=i * events)) for i in range(count)]
    for number, lines in enumerate(segments, 1):
        put(run, number, b"".join(lines))
    return segments


def flip(data: bytes, at: int, mask: int = 1) -> bytes:
    """Return *data* with the bits of *mask* turned over in byte *at*."""
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


# --- states ----------------------------------------------------------------------------------------


def test_whole_log_is_complete(tmp_path: Path) -> None:
    """Sealed segments that fit together: nothing to report."""
    put_segments(tmp_path)

    read = read_back(tmp_path)

    assert read.steps == list(range(12))
    assert [report.state for report in read.reports] == ["complete"] * 3
    assert read.is_clean


def test_unsealed_log_is_growing_while_its_writer_lives(tmp_path: Path) -> None:
    """Half a line at the end of a living writer's log is a line that is being written."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    put(tmp_path, 1, b"".join(lines)[:-10])
    reader = RunReader(tmp_path)

    events = [event for part in reader.slices() for event in part.events]

    (report,) = reader.writers[WRITER_A].reports(is_alive=True)
    assert (len(events), report.state, report.findings) == (2, "growing", [])


def test_half_a_line_of_a_dead_writer_is_a_torn_tail(tmp_path: Path) -> None:
    """A torn tail is no loss: that line never was whole. Its place is reported."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    data = b"".join(lines)
    put(tmp_path, 1, data[:-10])

    read = read_back(tmp_path)

    (finding,) = read.findings
    assert (finding.problem, finding.start, finding.end) == (
        Problem.TORN,
        len(data) - len(lines[-1]),
        len(data) - 10,
    )
    assert not finding.is_loss
    assert read.reports[0].state == "torn tail"


def test_zeros_at_the_end_are_a_torn_tail(tmp_path: Path) -> None:
    """A power cut on ext4 leaves NUL bytes where pages were not written."""
    data = b"".join(LogMaker().segment(metrics(5), is_sealed=False))
    put(tmp_path, 1, data[:-150] + bytes(150))

    read = read_back(tmp_path)

    assert read.reports[0].state == "torn tail"
    assert read.steps == [0, 1, 2]


def test_damaged_range_is_skipped_and_named(tmp_path: Path) -> None:
    """One bad line costs one event, and the finding says which bytes and which seq."""
    segments = put_segments(tmp_path)
    data = b"".join(segments[1])
    start = len(segments[1][0]) + len(segments[1][1])
    put(tmp_path, 2, flip(data, start + 30))

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    (finding,) = read.findings
    assert finding.problem is Problem.DAMAGED
    assert (finding.segment, finding.start, finding.end) == (2, start, start + len(segments[1][2]))
    assert (finding.first_seq, finding.last_seq) == (5, 5)
    assert [report.state for report in read.reports] == ["complete", "damaged range", "complete"]


def test_segment_that_is_not_there_is_missing_events(tmp_path: Path) -> None:
    """The next header's `prev` tells that a segment was there, and the seqs what it held."""
    put_segments(tmp_path)
    next(log_directory(tmp_path).glob("*.000002.jsonl")).unlink()

    read = read_back(tmp_path)

    (finding,) = read.findings
    assert (finding.problem, finding.first_seq, finding.last_seq) == (Problem.MISSING, 4, 7)
    assert read.steps == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize("lines_left", [1, 2, 3, 4])
def test_segment_cut_at_the_end_of_a_line_is_cut(tmp_path: Path, lines_left: int) -> None:
    """No line's checksum can see this; the next segment's `prev` does."""
    segments = put_segments(tmp_path)
    put(tmp_path, 2, b"".join(segments[1][:lines_left]))

    read = read_back(tmp_path)

    (finding,) = read.findings
    assert (finding.problem, finding.first_seq, finding.last_seq) == (Problem.CUT, 4 + lines_left - 1, 7)


def test_segment_of_a_newer_format_is_said_to_be_newer(tmp_path: Path) -> None:
    """Events of a later version may mean what this one cannot know: the state says so."""
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(2), format=99)))

    read = read_back(tmp_path)

    assert read.reports[0].state == "newer format"
    assert "99" in read.findings[0].detail


def test_lines_after_a_seal_are_damage(tmp_path: Path) -> None:
    """A seal is the last line for ever; whatever follows was not written by its writer."""
    lines = LogMaker().segment(metrics(2))
    put(tmp_path, 1, b"".join(lines) + lines[1])

    read = read_back(tmp_path)

    assert read.steps == [0, 1]
    assert read.reports[0].state == "damaged range"


def test_seal_that_counts_other_bytes_is_cut(tmp_path: Path) -> None:
    """A good line that was taken out together with its trace in the chain still misses in the seal."""
    maker, shorter = LogMaker(), LogMaker()
    whole, part = maker.segment(metrics(4)), shorter.segment(metrics(3), is_sealed=False)
    seal = msgspec.json.decode(whole[-1])
    body = whole[-1][:-19]
    assert seal["events"] == 4
    from eventlog.codec import close_line

    forged, _ = close_line(body, int(part[-1][-11:-3], 16))
    put(tmp_path, 1, b"".join(part) + forged)

    read = read_back(tmp_path)

    assert read.reports[0].state == "cut"


def test_log_without_checksums_is_read_and_marked(tmp_path: Path) -> None:
    """A writer in another language may leave crc out: its lines are read, marked as unverified."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    put(tmp_path, 1, b"".join(line[:-19] + b"}\n" for line in lines))

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2]
    assert [(r.state, r.is_verified) for r in read.reports] == [("complete", False)]


@pytest.mark.parametrize("offset", range(1, 19))
def test_broken_checksum_of_a_header_is_not_taken_for_none(tmp_path: Path, offset: int) -> None:
    """A flipped bit in the header's crc must not turn the checks of the whole segment off."""
    lines = LogMaker().segment(metrics(3))
    data = b"".join(lines)
    put(tmp_path, 1, flip(data.replace(b'"step":1,', b'"step":7,'), len(lines[0]) - 1 - offset))

    read = read_back(tmp_path)

    assert read.steps in ([0, 2], [2])
    assert read.reports[0].state == "damaged range"


def test_repeated_events_are_yielded_once(tmp_path: Path) -> None:
    """A rewritten segment repeats what the abandoned one may hold: (writer, seq) decides."""
    whole = LogMaker().segment(metrics(4), is_sealed=False)
    put(tmp_path, 1, b"".join(whole))
    header = msgspec.json.decode(whole[0], type=SegmentOpened)
    line, crc = encode_line(
        msgspec.structs.replace(header, segment=2, salt="00000002", origin="rewrite"),
        seq=2,
        ts=START_TS,
        seed=0,
    )
    lines = [line]
    for seq, event in enumerate(metrics(4, start=2), 2):
        line, crc = encode_line(event, seq=seq, ts=START_TS, seed=crc)
        lines.append(line)
    put(tmp_path, 2, b"".join(lines))

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2, 3, 4, 5]


def test_overlong_line_is_skipped_without_the_rest(tmp_path: Path) -> None:
    """A line that no writer writes is damage; what follows it is read on."""
    lines = LogMaker().segment(metrics(4), is_sealed=False)
    put(tmp_path, 1, b"".join(lines[:3]) + b"x" * (6 << 20) + b"\n" + b"".join(lines[3:]))

    read = read_back(tmp_path)

    assert read.reports[0].state == "damaged range"
    assert read.steps[:2] == [0, 1]
    assert set(read.steps) <= {0, 1, 2, 3}


# --- policies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "steps"), [("prefix", [0, 1, 2, 3, 4]), ("salvage", [0, 1, 2, 3, 4, 6, 7])]
)
def test_policy_decides_what_follows_damage(tmp_path: Path, policy: str, steps: list[int]) -> None:
    """`prefix` ends the writer at its first damage, `salvage` goes on behind it."""
    segments = put_segments(tmp_path, count=2)
    at = sum(map(len, segments[1][:2])) + 30
    put(tmp_path, 2, flip(b"".join(segments[1]), at))

    read = read_back(tmp_path, policy=policy)  # type: ignore[arg-type]  # parametrized

    assert read.steps == steps


def test_strict_policy_raises_at_damage(tmp_path: Path) -> None:
    """`strict` names the file and the byte and says what to do."""
    segments = put_segments(tmp_path, count=2)
    at = sum(map(len, segments[1][:2]))
    path = put(tmp_path, 2, flip(b"".join(segments[1]), at + 30))

    with pytest.raises(CorruptSegmentError, match="evlog verify") as raised:
        read_back(tmp_path, policy="strict")

    assert (raised.value.path, raised.value.offset) == (path, at)


@pytest.mark.parametrize("policy", ["strict", "prefix", "salvage"])
def test_policies_agree_on_a_whole_log(tmp_path: Path, policy: str) -> None:
    """Without damage there is nothing to decide."""
    put_segments(tmp_path)

    assert read_back(tmp_path, policy=policy).steps == list(range(12))  # type: ignore[arg-type]


# --- growing logs, cursors and checkpoints -----------------------------------------------------------------


def test_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    """However the file grows, byte by byte, each event is yielded once, when its line is whole."""
    maker = LogMaker()
    data = b"".join(maker.segment(metrics(6)))
    path = put(tmp_path, 1, b"")
    reader, seen = RunReader(tmp_path), []

    for size in range(0, len(data) + 1, 7):
        path.write_bytes(data[:size])
        seen += [event for part in reader.slices() for event in part.events]
    path.write_bytes(data)
    seen += [event for part in reader.slices() for event in part.events]

    assert seen == maker.events
    assert reader.findings == []


def test_reader_waits_at_bytes_that_have_not_arrived(tmp_path: Path) -> None:
    """On a network file system NUL bytes may be pages that are under way: look again later."""
    data = b"".join(LogMaker().segment(metrics(4)))
    path = put(tmp_path, 1, data[:400] + bytes(len(data) - 400))
    reader = RunReader(tmp_path, waits_on_nul=True)

    early = [event for part in reader.slices() for event in part.events]
    path.write_bytes(data)
    late = [event for part in reader.slices() for event in part.events]

    assert [event.seq for event in early + late] == [0, 1, 2, 3]
    assert reader.findings == []


def test_cursor_continues_after_any_event(tmp_path: Path) -> None:
    """Starting from the cursor after event k yields the events from k + 1 on, without findings."""
    put_segments(tmp_path)
    cursors = [
        block.cursor_after(i)
        for part in RunReader(tmp_path).slices()
        for block in [part.block]
        for i in range(1, len(block.lines) + 1)
    ]

    for cursor in cursors:
        reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: cursor}))
        rest = [event.seq for part in reader.slices() for event in part.events]
        assert rest == list(range(cursor.seq, 12))
        assert reader.findings == []


def test_cursor_that_its_crc_does_not_prove_is_reported(tmp_path: Path) -> None:
    """If other bytes stand where a consumer has read, it is told, and goes on by seq."""
    put_segments(tmp_path, count=1)
    cursor = next(RunReader(tmp_path).slices()).block.cursor_after(2)
    wrong = msgspec.structs.replace(cursor, crc="00000001")

    reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: wrong}))
    rest = [event.seq for part in reader.slices() for event in part.events]

    assert rest == [2, 3]
    assert [finding.problem for finding in reader.findings] == [Problem.CUT]


def test_cursor_beyond_the_end_of_a_segment_is_reported(tmp_path: Path) -> None:
    """A log that is shorter than what was read from it was cut: nothing else can see that."""
    (lines,) = put_segments(tmp_path, count=1)
    cursor = next(RunReader(tmp_path).slices()).block.cursor_after(4)
    put(tmp_path, 1, b"".join(lines[:3]))

    reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: cursor}))
    rest = [event for part in reader.slices() for event in part.events]

    assert rest == []
    assert [finding.problem for finding in reader.findings] == [Problem.CUT]


def test_cursor_at_the_beginning_yields_everything(tmp_path: Path) -> None:
    """Offset 0 needs no proof."""
    put_segments(tmp_path)
    start = Checkpoint(cursors={WRITER_A: Cursor(segment=1, offset=0, seq=0, crc="00000000")})

    reader = RunReader(tmp_path, start=start)

    assert sum(len(part.events) for part in reader.slices()) == 12
    assert reader.findings == []


# --- merge -------------------------------------------------------------------------------------------------


def at_times(times: list[int]) -> list[Event]:
    """Return notes with the given times."""
    return [Note(ts=START_TS + t, text=str(t)) for t in times]


def test_merge_orders_by_time_then_writer(tmp_path: Path) -> None:
    """Events of one time come in the order of the writers' ids."""
    put(tmp_path, 1, b"".join(LogMaker(WRITER_B).segment(at_times([1, 5, 6]))), writer=WRITER_B)
    put(tmp_path, 1, b"".join(LogMaker(WRITER_A).segment(at_times([2, 5, 9]))), writer=WRITER_A)

    parts = list(RunReader(tmp_path).slices())

    order = [(event.ts - START_TS, part.rank) for part in parts for event in part.events]
    assert order == [(1, 1), (2, 0), (5, 0), (5, 1), (6, 1), (9, 0)]


def test_merge_keeps_each_writers_order_when_its_clock_goes_back(tmp_path: Path) -> None:
    """Within a writer the seq decides, whatever the clock did."""
    put(tmp_path, 1, b"".join(LogMaker(WRITER_A).segment(at_times([9, 1, 2]))), writer=WRITER_A)
    put(tmp_path, 1, b"".join(LogMaker(WRITER_B).segment(at_times([5, 6, 7]))), writer=WRITER_B)

    events = read_back(tmp_path).events

    mine = [event for event in events if isinstance(event, Note) and event.text in {"9", "1", "2"}]
    assert [event.seq for event in mine] == [0, 1, 2]


def test_slices_carry_the_cursor_after_them(tmp_path: Path) -> None:
    """A consumer that saves the cursors of what it took starts again exactly behind it."""
    for writer, times in ((WRITER_A, [1, 3, 5, 7]), (WRITER_B, [2, 4, 6])):
        put(tmp_path, 1, b"".join(LogMaker(writer).segment(at_times(times))), writer=writer)
    whole = [event for part in RunReader(tmp_path).slices() for event in part.events]

    parts, cursors, taken = RunReader(tmp_path).slices(), {}, []
    for _ in range(3):
        part = next(parts)
        cursors[part.writer] = part.cursor
        taken += part.events
    rest = RunReader(tmp_path, start=Checkpoint(cursors=cursors)).slices()

    assert taken + [event for part in rest for event in part.events] == whole


def test_reader_of_nothing_yields_nothing(tmp_path: Path) -> None:
    """A run without a log is empty, not an error."""
    assert read_back(tmp_path).events == []


def test_reader_passes_over_names_that_are_not_segments(tmp_path: Path) -> None:
    """Only `<writer>.<segment>.jsonl` belongs to the log."""
    put_segments(tmp_path, count=1)
    for name in ("notes.txt", f"{WRITER_A}.1.jsonl", f"{WRITER_A}.000002.jsonl.bak", ".hidden.jsonl"):
        (log_directory(tmp_path) / name).write_text("not a log")

    read = read_back(tmp_path)

    assert read.is_clean
    assert [type(event) for event in read.events] == [Metrics] * 4


def test_a_cursor_in_a_segment_that_is_gone_is_reported(tmp_path: Path) -> None:
    """What a checkpoint says was read, and is not there any more, is a finding and no silence."""
    cursor = Cursor(segment=2, offset=100, seq=7, crc="00000000")
    reader = WriterReader(tmp_path, WRITER_A, start=cursor)

    assert list(reader.blocks()) == []
    assert list(reader.blocks()) == []
    assert [(finding.problem, finding.segment) for finding in reader.findings] == [(Problem.CUT, 2)]


def test_metrics_in_a_payload_file_are_read_back(tmp_path: Path) -> None:
    """A block of nothing but metrics may hold one that was too large for its line."""
    from eventlog.tracker import Tracker

    tracker = Tracker([], output_dir=tmp_path)
    tracker.start_run("large")
    run = tracker.run_dir
    assert run is not None
    for step in range(3):
        tracker.log_metrics({"small": 1.0}, step=step)
    tracker.log_event(Metrics(step=3, data={f"metric-{i:0100d}": float(i) for i in range(12_000)}))
    tracker.end_run()

    sizes = [len(e.data) for part in RunReader(run).slices() for e in part.events if isinstance(e, Metrics)]

    assert sizes == [1, 1, 1, 12_000]
