"""The ends of a segment, without what lies between."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.codec import MAX_LINE_BYTES
from eventlog.events import Note
from eventlog.storage.ends import ends_of, last_line
from tests.logs import WRITER_A, LogMaker, metrics, put


@pytest.mark.parametrize(
    "size", [0, 10, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 300_000, MAX_LINE_BYTES - 1]
)
@pytest.mark.parametrize("tail", [0, 1, 20_000, 600_000])
@pytest.mark.parametrize("before", [0, 1, 50_000])
def test_last_line_is_found_whatever_its_length(tmp_path: Path, size: int, tail: int, before: int) -> None:
    """However long it is, and whatever incomplete line follows."""
    path = tmp_path / "x"
    path.write_bytes(b"a\n" * before + b"x" * size + b"\n" + b"t" * tail)

    assert last_line(path) == b"x" * size


@pytest.mark.parametrize("data", [b"", b"torn", b"t" * 100_000, b"\0" * 5000])
def test_last_line_of_a_file_without_lines_is_empty(tmp_path: Path, data: bytes) -> None:
    """There is none."""
    path = tmp_path / "x"
    path.write_bytes(data)

    assert last_line(path) == b""
    assert last_line(tmp_path / "nowhere") == b""


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize("count", [0, 3, 5000])
def test_ends_tell_header_and_seal(tmp_path: Path, is_sealed: bool, count: int) -> None:
    """Also of a segment that holds nothing but these."""
    path = put(tmp_path, 1, b"".join(LogMaker().segment(metrics(count), is_sealed=is_sealed)))

    ends = ends_of(path)

    assert ends.header is not None
    assert ends.header.writer == WRITER_A
    assert ends.is_sealed is is_sealed


def test_ends_do_not_take_a_text_for_a_seal(tmp_path: Path) -> None:
    """What a user wrote into a note is no frame."""
    note = Note(text='","type":"segment_sealed"')
    path = put(tmp_path, 1, b"".join(LogMaker().segment([note], is_sealed=False)))

    assert not ends_of(path).is_sealed


@pytest.mark.parametrize("data", [b"", b'{"seq":0,"ts":1,"ty', b"garbage\n", b"\0" * 100])
def test_ends_of_a_file_without_header(tmp_path: Path, data: bytes) -> None:
    """Nobody can say who writes there."""
    path = tmp_path / "x"
    path.write_bytes(data)

    assert ends_of(path) == (None, False)
    assert ends_of(tmp_path / "nowhere") == (None, False)
