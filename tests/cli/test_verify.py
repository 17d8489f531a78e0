from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventlog.storage.layout import log_directory
from tests.cli.conftest import Evlog, log_run
from tests.logs import LogMaker, die, metrics, open_buffer, put


def _segment(run: Path) -> Path:
    return next(log_directory(run).glob("*.jsonl"))


def _spoil(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_verify_of_whole_runs_finds_nothing(root: Path, evlog: Evlog) -> None:
    """What was written is there: exit code 0, every sealed segment's sha256 compared."""
    log_run(root, "one")
    log_run(root, "two")

    done = evlog("verify", "--json")

    assert done.code == 0
    checked = json.loads(done.out)
    assert [run["is_good"] for run in checked] == [True, True]
    assert [segment["sha256"] for run in checked for segment in run["segments"]] == ["ok", "ok"]


def test_verify_names_the_damaged_bytes_and_the_lost_events(root: Path, evlog: Evlog) -> None:
    """A flipped bit is found, with its place and what it cost."""
    path = _segment(log_run(root, "one", steps=10))
    lines = path.read_bytes().splitlines(keepends=True)
    start = sum(map(len, lines[:5]))
    _spoil(path, b"".join(lines[:5]) + lines[5].replace(b"loss", b"lass") + b"".join(lines[6:]))

    done = evlog("verify", "one")

    assert done.code == 1
    assert (
        f"damaged range at bytes {start} to {start + len(lines[5]) - 1}, events 4 to 4 are lost" in done.out
    )
    assert "does not have the sha256" not in done.out
    assert "do not have the sha256 of its seal" in done.out


def test_verify_compares_the_hash_also_when_every_line_verifies(root: Path, evlog: Evlog) -> None:
    """Checksums of lines do not see what is consistent in itself; the seal's sha256 does."""
    maker = LogMaker()
    other = LogMaker()
    good, bad = maker.segment(metrics(3)), other.segment(metrics(3))
    seal = good[-1].replace(b'"sha256":"', b'"sha256":"00')[:-1]
    path = put(root / "demo" / "one", 1, b"".join(bad[:-1]) + _with_crc(seal, bad[-2]))

    done = evlog("verify", "one", "--json")

    assert done.code == 1
    assert json.loads(done.out)[0]["segments"][0]["sha256"] == "differs"
    assert path.exists()


def _with_crc(line: bytes, before: bytes) -> bytes:
    from zlib import crc32

    body = line[:-18]
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body, int(before[-11:-3], 16)))


def test_torn_tail_is_told_and_is_no_damage(root: Path, evlog: Evlog) -> None:
    """The line that a killed process was writing was never whole."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    put(root / "demo" / "one", 1, b"".join(lines)[:-7])

    done = evlog("verify", "one")

    assert done.code == 0
    assert "torn tail" in done.out


def test_verify_recovers_what_a_killed_writer_left(root: Path, evlog: Evlog) -> None:
    """The ring of a dead writer becomes a part of the log, and the number of events is told."""
    run = root / "demo" / "one"
    buffer = open_buffer(run)
    for event in metrics(5):
        buffer.append(event, sync=False)
    die(buffer)

    first, second = evlog("verify", "one"), evlog("verify", "one")

    assert "5 events recovered" in first.out
    assert "recovered" not in second.out
    assert (first.code, second.code) == (0, 0)


def test_verify_of_a_missing_segment_fails(root: Path, evlog: Evlog) -> None:
    """A file that somebody deleted is missed by the one after it."""
    maker = LogMaker()
    maker.segment(metrics(3))
    put(root / "demo" / "one", 2, b"".join(maker.segment(metrics(3))))

    done = evlog("verify", "one")

    assert done.code == 1
    assert "missing events" in done.out


@pytest.mark.parametrize("size", [0, 1])
def test_verify_of_an_empty_segment_does_not_fail(root: Path, evlog: Evlog, size: int) -> None:
    """A process may be killed before its first line."""
    put(root / "demo" / "one", 1, b"{"[:size])

    assert evlog("verify", "one").code == 0
