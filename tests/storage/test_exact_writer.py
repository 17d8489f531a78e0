"""What one segment's writer promises exactly: its counts, its digest, its descriptor and its salt."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import msgspec
import pytest

from eventlog.events import SegmentOpened
from eventlog.storage.layout import SegmentName
from eventlog.storage.writer import SegmentWriter, header_fields
from tests.faults import SmallDisk, WatchedSystem
from tests.logs import WRITER_A

NAME = SegmentName(WRITER_A, 1)


class Renumbered(WatchedSystem):
    """A system that hands out its one file under a number of the test's choice.

    Attributes:
        closed: the numbers that were closed.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.closed: list[int] = []
        self._number, self._fd = number, -1

    def create(self, path: Path) -> int:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        return self._number

    def close(self, fd: int) -> None:
        # Only the first time: what else has the number in this process stays open.
        real, self._fd = self._fd, -1
        self.closed.append(fd)
        if real >= 0:
            os.close(real)


@pytest.mark.parametrize("free_bytes", [5, 7, 50])
def test_digest_counts_only_what_the_disk_took(tmp_path: Path, free_bytes: int) -> None:
    """When a full disk takes a part of what is written, the seal is made over that part and what follows."""
    segment = SegmentWriter(tmp_path, NAME, SmallDisk(free_bytes))
    data = bytes(range(100))

    taken = segment.write(data)

    assert taken == segment.size_bytes == free_bytes
    assert segment.path.read_bytes() == data[:free_bytes]
    assert segment.sha256_with(b"rest") == hashlib.sha256(data[:free_bytes] + b"rest").hexdigest()
    segment.abandon()


def test_segment_that_is_finished_has_no_descriptor_left_to_let_go_of(tmp_path: Path) -> None:
    """Its number may be another file's by then; standard input and output are nobody's to close."""
    system = Renumbered(77)
    segment = SegmentWriter(tmp_path, NAME, system)

    segment.finish()
    segment.abandon()

    assert system.closed == [77]


@pytest.mark.parametrize("number", [0, 1])
def test_segment_lets_go_of_whatever_descriptor_it_got(tmp_path: Path, number: int) -> None:
    """In a process that began without standard input, the first file that it opens gets the number 0."""
    system = Renumbered(number)
    segment = SegmentWriter(tmp_path, NAME, system)

    segment.abandon()

    assert system.closed == [number]


def test_salt_is_eight_random_digits() -> None:
    """As the format says; no two segments begin alike, not even two of the same name."""
    salts = {_header().salt for _ in range(8)}

    assert len(salts) == 8
    assert all(re.fullmatch("[0-9a-f]{8}", salt) for salt in salts)


def _header() -> SegmentOpened:
    fields = header_fields(
        NAME,
        run_id="run-1",
        project="demo",
        rank=0,
        stream_offset=0,
        prev=None,
        origin="writer",
        durability="buffered",
        ring=None,
        process=None,
        forked_from=None,
    )
    return msgspec.json.decode(b'{"seq":0,"ts":0,' + fields[1:], type=SegmentOpened)
