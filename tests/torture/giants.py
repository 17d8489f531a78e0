"""Inputs of many megabytes, and files that are larger than memory: they cost bounded time and memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from eventlog.codec import close_line
from eventlog.storage.ends import ends_of, last_line
from eventlog.storage.layout import log_directory
from eventlog.storage.repair import recover_run
from tests.logs import WRITER_A, LogMaker, metrics, put, read_back
from tests.torture.targets import OffenceError, scratch, take_line, take_segment

MIB = 1 << 20
_BEHIND = 3
"""Events behind the giant, which have to be read whatever lies before them."""


def _segment(giant: bytes, *, is_chained: bool) -> bytes:
    """Return a segment in which *giant* stands before its last events."""
    lines = LogMaker().segment(metrics(2 + _BEHIND), is_sealed=False)
    crc = int(lines[2][-11:-3], 16)
    whole, crc = close_line(giant, crc) if is_chained else (giant + b"\n", crc)
    rest = []
    for line in lines[3:]:
        made, crc = close_line(line[:-19], crc)
        rest.append(made)
    return b"".join((*lines[:3], whole, *rest))


def _read_segment(giant: bytes, *, is_chained: bool) -> None:
    data = _segment(giant, is_chained=is_chained)
    run = scratch() / "run"
    path = put(run, 1, data)
    try:
        found = read_back(run)
        steps = [step for step in found.steps if step is not None]
        # The line behind one that was too long to be held confirms only the one after it.
        if not set(range(3, 2 + _BEHIND)) <= set(steps) or not {0, 1} <= set(steps):
            raise OffenceError(f"read the steps {steps}")
        ends_of(path)
        last_line(path)
    finally:
        shutil.rmtree(run)
    take_segment(data)


def _deep(opening: bytes, closing: bytes, depth: int) -> bytes:
    fields = b'{"seq":2,"ts":1,"type":"params","data":{"a":'
    return fields + opening * depth + closing * depth + b"}"


def _sparse(run: Path, suffix: str, size_bytes: int) -> None:
    """Read and recover a run in which a file says that it is very large, and takes no room."""
    log_dir = log_directory(run)
    put(run, 1, b"".join(LogMaker().segment(metrics(3), is_sealed=False)))
    path = log_dir / f"{WRITER_A}.{1 if suffix == 'ring' else 2:06d}.{suffix}"
    try:
        with path.open("wb") as file:
            file.truncate(size_bytes)
        recover_run(run)
        if read_back(run).steps != [0, 1, 2]:
            raise OffenceError("what lies beside it is not read")
    finally:
        shutil.rmtree(run)


def _large_payload(size_bytes: int) -> None:
    """Read an event that names a payload of that size."""
    run = scratch() / "run"
    event = b'{"seq":0,"ts":1,"type":"note","payload":{"path":"artifacts/p","size_bytes":%d,"sha256":"0"}'
    event %= size_bytes
    header = LogMaker().segment([], is_sealed=False)[0]
    put(run, 1, header + close_line(event, int(header[-11:-3], 16))[0])
    (run / "artifacts").mkdir()
    with (run / "artifacts" / "p").open("wb") as file:
        file.truncate(size_bytes)
    try:
        if len(read_back(run).events) != 1:
            raise OffenceError("the event is gone")
    finally:
        shutil.rmtree(run)


def _crcs() -> None:
    """Decode lines that are nothing but suffixes."""
    take_line((b',"crc":"%08x"}' % crc32(b"")) * 100_000)


def giants(*, is_long: bool) -> dict[str, Callable[[], None]]:
    """Return what is tried, by name."""
    size = 10 * MIB
    bodies = {
        "a line of 10 MB": b'{"seq":2,"ts":1,"type":"note","text":"' + b"x" * size + b'"',
        "10 MB of one key": b'{"seq":2,"ts":1,"type":"note","' + b"k" * size + b'":1',
        "a million keys": b'{"seq":2,"ts":1,"type":"metrics","data":{'
        + b",".join(b'"k%d":1' % n for n in range(1_000_000))
        + b"}",
        "5 million brackets": _deep(b"[", b"]", 5 * MIB // 2),
        "objects in objects": _deep(b'{"a":', b"}", MIB // 2)[:-1] + b"1}",
        "a number of 10 MB": b'{"seq":2,"ts":1,"type":"params","data":{"a":' + b"9" * size + b"}",
        "10 MB of NUL": bytes(size),
        "10 MB of escapes": b'{"seq":2,"ts":1,"type":"note","text":"' + b"\\u0000" * (size // 6) + b'"',
    }
    if not is_long:
        bodies = {name: body[: MIB + MIB // 4] for name, body in bodies.items()}
    tried: dict[str, Callable[[], None]] = {}
    for name, body in bodies.items():
        for is_chained in (False, True):

            def read(body: bytes = body, is_chained: bool = is_chained) -> None:
                _read_segment(body, is_chained=is_chained)

            tried[f"{name}, {'with its' if is_chained else 'without a'} crc"] = read
    tried["a file of newlines"] = lambda: _newlines(4 * MIB if is_long else MIB // 4)
    tried["100,000 suffixes"] = _crcs
    sparse = 10 << 30 if is_long else 256 << 20
    tried["a segment of gigabytes without data"] = lambda: _sparse(scratch() / "run", "jsonl", sparse)
    tried["a ring of gigabytes"] = lambda: _sparse(scratch() / "run", "ring", sparse)
    tried["a payload of gigabytes"] = lambda: _large_payload(sparse)
    return tried


def _newlines(size: int) -> None:
    run = scratch() / "run"
    put(run, 1, b"".join(LogMaker().segment(metrics(2), is_sealed=False)) + b"\n" * size)
    try:
        if (
            read_back(run).steps != [0, 1]
            or not ends_of(log_directory(run) / f"{WRITER_A}.000001.jsonl").header
        ):
            raise OffenceError("what lies before it is not read")
    finally:
        shutil.rmtree(run)
