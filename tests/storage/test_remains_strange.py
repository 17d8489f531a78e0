"""Rings that begin with something else than a header of ours, or go on with somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from eventlog.codec import body_of, close_line, encode_fields
from eventlog.events import Event, Metrics, Note
from eventlog.storage.layout import SegmentName, log_directory
from eventlog.storage.repair import recover_run
from tests.logs import WRITER_A, WRITER_B, LogMaker, metrics, names, put, read_back

RING_BYTES = 1 << 14


def put_ring(run: Path, lines: Sequence[bytes]) -> Path:
    """Put a ring of the first segment that holds *lines*."""
    log_directory(run).mkdir(parents=True, exist_ok=True)
    path = SegmentName(WRITER_A, 1).ring_path(log_directory(run))
    path.write_bytes(b"".join(lines).ljust(RING_BYTES, b"\0"))
    return path


def chained(events: Sequence[Event | bytes], *, seq: int = 0, seed: int = 0) -> list[bytes]:
    """Return lines of *events*, or of fields as they are, that are chained to each other."""
    lines = []
    for event in events:
        fields = event if isinstance(event, bytes) else encode_fields(event)
        line, seed = close_line(body_of(fields, seq, 5), seed)
        lines.append(line)
        seq += 1
    return lines


@pytest.mark.parametrize("first", [Note(text="a"), b'{"type":"segment_opened","shape":"unknown"}'])
def test_whole_line_that_is_no_header_is_of_a_later_version(tmp_path: Path, first: Event | bytes) -> None:
    """Somebody knows what such a ring holds; it stays for him, and whoever looks is told."""
    ring = put_ring(tmp_path, chained([first, *metrics(3)]))

    (recovery,) = recover_run(tmp_path)

    assert (recovery.events, recovery.segment) == (0, None)
    assert "later version" in recovery.problem
    assert ring.exists()
    assert names(tmp_path, ".jsonl") == []


def test_ring_whose_first_line_is_damaged_is_set_aside(tmp_path: Path) -> None:
    """Without any header nothing says whose events these are."""
    (first, *rest) = LogMaker().segment(metrics(3), is_sealed=False)
    put_ring(tmp_path, [first.replace(b"demo", b"dome"), *rest])

    (recovery,) = recover_run(tmp_path)

    assert recovery.events == 0
    assert "its first line is damaged" in recovery.problem
    assert len(names(tmp_path, ".ring-unusable")) == 1


def test_walk_ends_where_another_writers_header_stands(tmp_path: Path) -> None:
    """What is chained to our lines and says that it is somebody else's is not taken for ours."""
    ours = LogMaker().segment(metrics(3), is_sealed=False)
    header = LogMaker(WRITER_B).segment([], is_sealed=False)[0]
    seed, fields = int(ours[-1][-11:-3], 16), b'{"type":' + header.partition(b'"type":')[2][:-19] + b"}"
    theirs = chained([fields], seq=3, seed=seed)
    theirs += chained(metrics(2, start=70), seq=3, seed=int(theirs[0][-11:-3], 16))
    put_ring(tmp_path, [*ours, *theirs])

    (recovery,) = recover_run(tmp_path)

    assert recovery.events == 3
    assert read_back(tmp_path).steps == [0, 1, 2]


def test_ring_of_zeros_behind_a_segment_is_empty(tmp_path: Path) -> None:
    """After a power cut it has its size and none of its data: it goes, and nothing is said to be lost."""
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(3), is_sealed=False)))
    put_ring(tmp_path, [])

    (recovery,) = recover_run(tmp_path)

    assert (recovery.problem, names(tmp_path, ".ring")) == ("", [])
    assert read_back(tmp_path).steps == [0, 1, 2]


def test_lines_of_an_earlier_lap_are_not_taken(tmp_path: Path) -> None:
    """Behind the newest line the ring holds what it held before; its seqs are lower, though it is chained."""
    events = [Metrics(step=step, data={"loss": step + 0.5}) for step in range(6)]
    lines = LogMaker().segment(events, is_sealed=False)
    put(tmp_path, 1, b"".join(lines[:2]))
    old = chained([events[0]], seq=0, seed=int(lines[4][-11:-3], 16))
    path = put_ring(tmp_path, [*lines[:5], *old])

    (recovery,) = recover_run(tmp_path)

    assert recovery.events == 3
    assert read_back(tmp_path).steps == [0, 1, 2, 3]
    assert not path.exists()
