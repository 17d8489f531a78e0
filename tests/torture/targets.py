"""What is fed with fuzzed bytes: everything that reads a log, a ring or a checkpoint.

A target makes an input from a generator, and takes it. It returns the outcome as a short text, so that
different ones can be counted, and raises what nobody documented, or `OffenceError` when nothing was raised
and something is wrong nevertheless.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args
from zlib import crc32

import msgspec

from eventlog.codec import decode, decode_lines, seq_of, stored_crc, verifies
from eventlog.errors import CheckpointError, CorruptSegmentError
from eventlog.projections import RunFold
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.ends import ends_of, last_lines
from eventlog.storage.layout import SegmentName, list_segments
from eventlog.storage.merge import RunReader
from eventlog.storage.reader import Policy
from eventlog.storage.repair import recover_run
from tests.logs import WRITER_A, LogMaker, metrics, read_back
from tests.torture import mutants
from tests.torture.memory import MemoryFiles, Piece

RUN = Path("/no/such/place/project/run")
SECRET = "/no/such/place/secret"
MARK = b"\n--- ring ---\n"
POLICIES: tuple[Policy, ...] = get_args(Policy)


class OffenceError(Exception):
    """Something is wrong that raised nothing."""


class Target(NamedTuple):
    """What is fed.

    Attributes:
        make: an input from a generator.
        take: the outcome of an input.
        share: how many of a million inputs it gets.
    """

    name: str
    make: Callable[[random.Random], bytes]
    take: Callable[[bytes], str]
    share: int


def _outcome(*parts: object) -> str:
    return " ".join(str(part) for part in parts)


# --- lines ----------------------------------------------------------------------------------


def take_line(data: bytes) -> str:
    """Decode a line in every way there is."""
    lines = data.split(b"\n")
    found: list[str] = []
    for call, documented in ((seq_of, ValueError), (decode, msgspec.MsgspecError)):
        try:
            found.append(type(call(lines[0])).__name__)
        except documented as error:
            found.append(str(error)[:30])
    crc = stored_crc(lines[0])
    if crc is not None and verifies(lines[0], 0) and crc != crc32(lines[0][:-18]):
        raise OffenceError("it verifies and does not carry its crc")
    events = decode_lines(lines)
    if len(events) != len(lines):
        raise OffenceError(f"{len(lines)} lines are {len(events)} events")
    return _outcome(*found, crc is None)


# --- segments -------------------------------------------------------------------------------


def _name(segment: int, suffix: str = "jsonl") -> str:
    return f"{WRITER_A}.{segment:06d}.{suffix}"


_PATH = f"{RUN}/log/{_name(1)}"
_SECOND = f"{RUN}/log/{_name(2)}"
_FOLLOWING = b"".join(LogMaker().segment(metrics(2), is_sealed=False))


def _files(data: bytes) -> MemoryFiles:
    files = {
        _PATH: Piece(0, data),
        _SECOND: Piece(0, _FOLLOWING),
        SECRET: Piece(0, b"secret"),
        f"{RUN}/artifacts/payload.json": Piece(0, b'{"type":"note","text":"x"}'),
    }
    return MemoryFiles(files)


def take_segment(data: bytes) -> str:
    """Read a run whose first segment this is, fold what is read, and look at its ends."""
    system = _files(data)
    policy = POLICIES[crc32(data) % 3]
    reader = RunReader(RUN, policy=policy, waits_on_nul=bool(len(data) % 2), system=system)
    fold, count = RunFold("project", "run"), 0
    try:
        for part in reader.slices():
            fold.apply_slice(part.writer, part.rank, part.events)
            count += len(part.events)
            assert part.cursor.seq >= 0
    except CorruptSegmentError:
        return _outcome(policy, "refused")
    fold.view(set())
    one = reader.writers[WRITER_A]
    states = [str(report.state) for report in one.reports(is_alive=bool(count % 2))]
    if count > data.count(b"\n") + 3:
        raise OffenceError(f"{count} events of {data.count(10)} lines")
    ends_of(Path(_PATH), system)
    last_lines(Path(_PATH), system)
    _check_opened(system)
    return _outcome(policy, *states, min(count, 3), len(one.findings))


def _check_opened(system: MemoryFiles) -> None:
    for name in system.opened:
        if not os.path.normpath(name).startswith(f"{RUN}{os.sep}"):
            raise OffenceError(f"{name} was opened, outside of the run")


# --- checkpoints ----------------------------------------------------------------------------

_WHOLE = b"".join(LogMaker().segment(metrics(6), is_sealed=False))
_LINES = _WHOLE.splitlines(keepends=True)


def make_checkpoint(generator: random.Random) -> bytes:
    """Return a checkpoint that may stand anywhere, or is none."""
    line = generator.randrange(1, len(_LINES))
    fields: mutants.Fields = [
        (b'"segment"', b"%d" % generator.choice((1, 1, 1, 2, 3))),
        (b'"offset"', b"%d" % (sum(map(len, _LINES[:line])) + generator.choice((0, 0, 0, 1, -1, 500)))),
        (b'"seq"', b"%d" % (line - 1)),
        (b'"crc"', b'"%b"' % _LINES[line - 1][-11:-3]),
    ]
    if generator.random() < 0.7:
        fields = mutants.fields_mutant(fields, generator)
    data = b'{"cursors":{"%b":%b}}}' % (WRITER_A.encode(), mutants.joined(fields))
    return mutants.bytes_mutant(data, generator) if generator.random() < 0.1 else data


def take_checkpoint(data: bytes) -> str:
    """Read on from a checkpoint; what is read is always a part of what lies there."""
    try:
        checkpoint = msgspec.json.decode(data, type=Checkpoint)
    except (ValueError, RecursionError) as error:
        return str(error)[:30]
    system = _files(_WHOLE)
    reader = RunReader(RUN, start=checkpoint.later(Checkpoint()), system=system)
    seqs = [event.seq for part in reader.slices() for event in part.events]
    if seqs != sorted(set(seqs)) or not set(seqs) <= set(range(8)):
        raise OffenceError(f"read {seqs}")
    states = [str(report.state) for one in reader.writers.values() for report in one.reports(is_alive=False)]
    _check_opened(system)
    return _outcome(len(seqs), *states)


def make_ledger(generator: random.Random) -> bytes:
    """Return a ledger with weird values."""
    cursors = make_checkpoint(generator)
    fields: mutants.Fields = [
        (b'"sink"', b'"files"'), (b'"destination"', b'"d"'), (b'"generation"', b"3"),
        (b'"cursors"', cursors[cursors.find(b":") + 1 : -1]), (b'"state"', b'{"a":[1]}'),
        (b'"life"', b'{"ended":{}}'), (b'"is_begun"', b"true"), (b'"plan"', b'{"parts":[["w",1]]}'),
        (b'"events"', b"7"), (b'"closed"', b'{"status":"finished"}'), (b'"sizes"', b'{"a.jsonl":9}'),
    ]  # fmt: skip
    if generator.random() < 0.8:
        fields = mutants.fields_mutant(fields, generator)
    data = mutants.joined(fields) + b"}\n"
    return mutants.bytes_mutant(data, generator) if generator.random() < 0.3 else data


def take_ledger(data: bytes) -> str:
    """Load a ledger, or say what the next generation is where it cannot be read."""
    from eventlog.delivery.ledger import generation_after, load_ledger

    path = scratch() / "ledger.json"
    path.write_bytes(data)
    generation = generation_after(path)
    try:
        ledger = load_ledger(path)
    except CheckpointError as error:
        if generation < 1:
            raise OffenceError(f"generation {generation} comes after {data!r}") from error
        return _outcome("refused", str(error.__cause__)[:30])
    assert ledger is not None
    return _outcome(len(ledger.checkpoint.cursors), ledger.plan is not None, ledger.closed is not None)


# --- rings ----------------------------------------------------------------------------------


def make_ring(generator: random.Random) -> bytes:
    """Return a segment and the ring of its writer, who died; both as they should be, or not."""
    stream = mutants.log(generator, damage=0.0) if generator.random() < 0.7 else _WHOLE
    size = generator.choice((512, 4096, 4096, 8192))
    lines = stream.splitlines(keepends=True)
    written = b"".join(lines[: generator.randrange(len(lines) + 1)])
    if generator.random() < 0.3:
        written = written[: generator.randrange(len(written) + 1)]
    ring = bytearray(size)
    for at in range(0, len(stream), size):
        part = stream[at : at + size]
        ring[: len(part)] = part
    kind = generator.random()
    if kind < 0.3:
        ring = bytearray(mutants.bytes_mutant(bytes(ring), generator))
    elif kind < 0.35:
        ring = bytearray(generator.randbytes(generator.randrange(600)))
    if generator.random() < 0.2:
        written = mutants.bytes_mutant(written, generator)
    return written + MARK + bytes(ring)


def take_ring(data: bytes) -> str:
    """Recover; nothing that could be read before is lost, and the next time there is nothing to do."""
    written, _, ring = data.partition(MARK)
    run = scratch() / "run"
    log_dir = run / "log"
    log_dir.mkdir(parents=True)
    try:
        if written:
            (log_dir / _name(1)).write_bytes(written)
        (log_dir / _name(1, "ring")).write_bytes(ring)
        before = {event.seq for event in read_back(run).events}
        done = recover_run(run)
        after = [event.seq for event in read_back(run).events]
        if not before <= set(after):
            raise OffenceError(f"lost {sorted(before - set(after))[:5]} by recovery")
        for one in done:
            if one.segment is not None and not _is_listed(one.segment):
                raise OffenceError(f"{one.segment.name} is no name that a reader knows")
        # A ring that only a later version, or its own host, can recover stays and is named each time.
        if any(one.events or not one.problem for one in recover_run(run)):
            raise OffenceError("there is something to be done again")
        return _outcome(*(bool(one.problem) for one in done), min(len(after) - len(before), 3))
    finally:
        shutil.rmtree(run)


def _is_listed(segment: Path) -> bool:
    names: list[SegmentName] = list_segments(segment.parent).get(WRITER_A, [])
    return any(name.path(segment.parent) == segment for name in names)


# --- where files are needed -----------------------------------------------------------------

_scratch: list[Path] = []


def scratch() -> Path:
    """Return a directory for the files of an input; see `scratching`."""
    if not _scratch:
        raise RuntimeError("only inside of scratching()")
    return _scratch[-1]


def memory_directory() -> tempfile.TemporaryDirectory[str]:
    """Make a directory, in memory where there is such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="evlog-fuzz-", dir=place)


@contextlib.contextmanager
def scratching(inside: Path | None = None) -> Iterator[None]:
    """Give `scratch` a directory: *inside* another one, whose maker removes it, or one of its own."""
    with memory_directory() if inside is None else contextlib.nullcontext(inside) as directory:
        _scratch.append(Path(directory))
        try:
            yield
        finally:
            _scratch.pop()


STORAGE = (
    Target("line", mutants.line, take_line, 480_000),
    Target("segment", mutants.log, take_segment, 250_000),
    Target("checkpoint", make_checkpoint, take_checkpoint, 130_000),
    Target("ledger", make_ledger, take_ledger, 50_000),
    Target("ring", make_ring, take_ring, 20_000),
)
