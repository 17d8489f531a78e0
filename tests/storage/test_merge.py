"""Reading a run on: which files are looked for, and how far."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.codec import body_of, close_line
from eventlog.events import UnknownEvent
from eventlog.storage.merge import RunReader
from tests.logs import WRITER_A, WRITER_B, LogMaker, metrics, put


def known(reader: RunReader) -> list[tuple[str, int]]:
    """Return writer and seq of what is new in the files that are known."""
    return [(part.writer, event.seq) for part in reader.slices(relist=False) for event in part.events]


def test_new_files_are_seen_by_who_looks_for_them(tmp_path: Path) -> None:
    """Who knows that there are none reads on in those that are known, and misses nothing later."""
    maker, other = LogMaker(WRITER_A), LogMaker(WRITER_B)
    put(tmp_path, 1, b"".join(maker.segment(metrics(2))))
    reader = RunReader(tmp_path)
    first = known(reader)
    put(tmp_path, 2, b"".join(maker.segment(metrics(2))))
    put(tmp_path, 1, b"".join(other.segment(metrics(1))), writer=WRITER_B)

    unseen = known(reader)
    seen = [(part.writer, event.seq) for part in reader.slices() for event in part.events]

    assert first == [(WRITER_A, 0), (WRITER_A, 1)]
    assert unseen == []
    assert sorted(seen) == [(WRITER_A, 2), (WRITER_A, 3), (WRITER_B, 0)]


@pytest.mark.parametrize("step", range(1, 9))
def test_events_are_taken_in_any_order_that_is_asked_for(tmp_path: Path, step: int) -> None:
    """Each part goes on where the one before of its writer ended, also across segments."""
    for writer in (WRITER_A, WRITER_B):
        maker = LogMaker(writer)
        for number in (1, 2, 3):
            put(tmp_path, number, b"".join(maker.segment(metrics(4))), writer=writer)
    ends = [*range(step, 12, step), 12, 99]
    parts = [(writer, end) for end in ends for writer in (WRITER_B, WRITER_A)]
    expected = [
        (writer, seq)
        for begin, end in zip([0, *ends], ends, strict=False)
        for writer in (WRITER_B, WRITER_A)
        for seq in range(begin, min(end, 12))
    ]

    slices = list(RunReader(tmp_path).take(parts))

    assert [(part.writer, event.seq) for part in slices for event in part.events] == expected
    assert all(part.cursor.seq == part.events[-1].seq + 1 for part in slices)
    assert {part.rank for part in slices} == {0, 1}


def test_event_of_a_later_version_is_passed_on(tmp_path: Path) -> None:
    """Nothing is known of it, not even whether its fields lie elsewhere."""
    (header,) = LogMaker().segment([], is_sealed=False)
    line, _ = close_line(body_of(b'{"type":"telepathy"}', 0, 5), int(header[-11:-3], 16))
    put(tmp_path, 1, header + line)

    (part,) = RunReader(tmp_path).slices()

    assert part.events == [UnknownEvent(seq=0, ts=5, type="telepathy", raw=line[:-1])]
