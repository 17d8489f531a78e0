"""What nobody expects in a log: pipes, folders, links, files larger than memory, names by the thousand."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.storage.files import LARGEST_WHOLE_BYTES, read_file
from eventlog.storage.layout import SegmentName, is_run, iter_runs, log_directory, parse_ring, parse_segment
from eventlog.storage.repair import recover_run
from tests.logs import WRITER_A, LogMaker, metrics, put, read_back

KINDS: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir,
    "pipe": os.mkfifo,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "device without end": lambda path: _make_device(path),
}
_READ = """
import sys
from pathlib import Path
from tests.logs import read_back
try:
    read_back(Path(sys.argv[1]))
except OSError:
    sys.exit(3)
"""
_RECOVER = """
import sys
from pathlib import Path
from eventlog.storage.repair import recover_run
for path in Path(sys.argv[1]).glob("log/*.jsonl"):
    assert path.is_file()
(one,) = recover_run(Path(sys.argv[1]))
assert not one.events, one
"""


def _make_device(path: Path) -> None:
    """Make another name for /dev/zero."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, Path("/dev/zero").stat().st_rdev)
    except PermissionError:
        pytest.skip("only root may make devices")


def _python(code: str, run: Path) -> int:
    """Return how a child ends that must not wait for anything for ever."""
    command = [sys.executable, "-c", code, str(run)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60, check=False).returncode


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_an_error_and_no_hang(kind: str, tmp_path: Path) -> None:
    """Who reads a run with such a thing in a segment's place is told; a pipe is not waited for."""
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(3))))
    KINDS[kind](SegmentName(WRITER_A, 2).path(log_directory(tmp_path)))

    assert _python(_READ, tmp_path) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_no_ring(kind: str, tmp_path: Path) -> None:
    """Recovery names it and leaves it alone."""
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(3))))
    KINDS[kind](SegmentName(WRITER_A, 1).ring_path(log_directory(tmp_path)))

    assert _python(_RECOVER, tmp_path) == 0


@pytest.mark.parametrize("number", ["000001", "999999", "1000000", "100000000000", "9" * 18])
def test_segment_may_have_any_number(number: str) -> None:
    """At least six digits; more only where the number has more."""
    name = parse_segment(f"{WRITER_A}.{number}.jsonl")

    assert name == SegmentName(WRITER_A, int(number))
    assert name.path(Path()).name == f"{WRITER_A}.{number}.jsonl"
    assert parse_ring(f"{WRITER_A}.{number}.ring") == name


@pytest.mark.parametrize("number", ["1", "0000001", "9" * 19, "00001a", "٠٠٠٠٠١", "-00001"])
def test_number_has_one_name(number: str) -> None:
    """A second name for a number would be looked for under the first."""
    assert parse_segment(f"{WRITER_A}.{number}.jsonl") is None


def test_two_names_of_one_number_are_one_segment(tmp_path: Path) -> None:
    """What somebody copied beside the log is no part of it."""
    data = b"".join(LogMaker().segment(metrics(3)))
    path = put(tmp_path, 1, data)
    path.with_name(f"{WRITER_A}.0000001.jsonl").write_bytes(data)

    read = read_back(tmp_path)

    assert read.is_clean
    assert read.steps == [0, 1, 2]


def test_run_that_may_not_be_entered_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's private run does not end a list of all runs: whoever reads it will name it."""
    for run in ("a", "b"):
        log_directory(tmp_path / "project" / run).mkdir(parents=True)
    lstat = Path.lstat

    def refused(path: Path) -> os.stat_result:
        if path == log_directory(tmp_path / "project" / "a"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return lstat(path)

    # Root may enter everything, and tests are run by root too.
    monkeypatch.setattr(Path, "lstat", refused)

    assert is_run(tmp_path / "project" / "a")
    assert [run.run_id for run in iter_runs(tmp_path)] == ["a", "b"]


def test_checkpoint_larger_than_any_is_an_error(tmp_path: Path) -> None:
    """It is not read into memory as a whole."""
    path = tmp_path / "ledger.json"
    path.touch()
    os.truncate(path, 1 << 40)

    with pytest.raises(OSError, match="too large"):
        read_file(path)
    assert len(read_file(path, at_most=10)) == 10
    os.truncate(path, LARGEST_WHOLE_BYTES)
    assert len(read_file(path)) == LARGEST_WHOLE_BYTES


@pytest.mark.parametrize("size_bytes", [1 << 30, 300 << 20])
def test_ring_without_data_costs_no_memory(size_bytes: int, tmp_path: Path) -> None:
    """A ring is read in pieces, however large it says that it is."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    put(tmp_path, 1, b"".join(lines))
    ring = SegmentName(WRITER_A, 1).ring_path(log_directory(tmp_path))
    ring.write_bytes(b"".join(lines))
    os.truncate(ring, size_bytes)

    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({400 << 20},) * 2)\n"
    code += _RECOVER.replace("not one.events", "not one.problem")

    assert _python(code, tmp_path) == 0
    assert recover_run(tmp_path) == []
    assert read_back(tmp_path).steps == [0, 1, 2]


def test_long_line_is_passed_over_in_pieces(tmp_path: Path) -> None:
    """Gigabytes without a newline are looked at once; the line behind them is read."""
    lines = LogMaker().segment(metrics(4), is_sealed=False)
    path = put(tmp_path, 1, b"".join(lines[:3]))
    os.truncate(path, 600 << 20)
    with path.open("ab") as file:
        # What ends the long line carries the crc on which the next one builds.
        file.write(lines[3][-19:] + lines[4])

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 3]
    assert [(f.problem, f.first_seq, f.last_seq) for f in read.findings] == [("damaged range", 2, 2)]


def test_many_torn_segments_are_reported_once_each(tmp_path: Path) -> None:
    """The time for it grows as their number does."""
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(2), is_sealed=False)))
    for number in range(2, 3000):
        put(tmp_path, number, b"x")

    read = read_back(tmp_path)

    assert (len(read.reports), len(read.findings)) == (2999, 2998)
    assert read.steps == [0, 1]
