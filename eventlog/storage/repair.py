"""Moves what a dead writer left in its ring into the log.

Recovery is safe when several processes try at once (the ring's lock lets one in), when it is killed at
any point (the new segment appears by a rename, the ring goes last) and when it is repeated. It only adds
a segment; what lies in the log stays as it is, torn tails included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from eventlog.codec import body_of, close_line, encode_fields, seq_of
from eventlog.events import SegmentSealed
from eventlog.storage.circle import RingFile
from eventlog.storage.files import directories_above, opened, sync_above
from eventlog.storage.frames import seq_if_any
from eventlog.storage.layout import (
    SegmentName,
    is_network_file_system,
    list_names,
    list_rings,
    list_segments,
    log_directory,
)
from eventlog.storage.liveness import SILENCE_S as SILENCE_S
from eventlog.storage.liveness import is_alive as is_alive
from eventlog.storage.liveness import is_locked, is_running, may_live, silence_s
from eventlog.storage.remains import LARGEST_RING_BYTES, NotOursError, Remains, below_which, suffix_of
from eventlog.storage.ring import YOUNG_SUFFIX
from eventlog.storage.segment import SegmentReader
from eventlog.storage.system import SYSTEM, System, write_all
from eventlog.storage.writer import header_fields

UNUSABLE_SUFFIX = ".ring-unusable"
_RECOVERING_SUFFIX = ".recovering"
_RESERVE = "reserve"


class Recovery(NamedTuple):
    """What was done about one ring."""

    writer: str
    events: int
    segment: Path | None
    problem: str = ""


def recover_run(run: Path, *, system: System = SYSTEM) -> list[Recovery]:
    """Bring what dead writers of *run* left in their rings into the log; do nothing for living ones.

    Never raises because of the disk: what could not be done stands in `Recovery.problem`, and the ring
    stays for the next try.
    """
    log_dir = log_directory(run)
    done = []
    for writer, rings in list_rings(log_dir, system).items():
        for name in rings:
            try:
                recovery = _recover_ring(log_dir, name, rings, system)
            except OSError as error:
                recovery = Recovery(writer, 0, None, f"{name.ring_path(log_dir)}: {error.strerror or error}")
            if recovery is not None:
                done.append(recovery)
    _remove_leftovers(log_dir, system)
    return done


def _recover_ring(
    log_dir: Path, name: SegmentName, rings: list[SegmentName], system: System
) -> Recovery | None:
    path = name.ring_path(log_dir)
    others = [other.ring_path(log_dir) for other in rings if other != name]
    if any(is_locked(other, system) for other in others):
        return None  # the writer lives; it could not remove this one, or is about to
    try:
        fd = _lock_dead(path, system)
    except FileNotFoundError:
        return None
    if fd is None:
        return None
    try:
        return _recover_locked(log_dir, name, below_which(name, rings), fd, system)
    finally:
        system.close(fd)


def _recover_locked(log_dir: Path, name: SegmentName, below: int, fd: int, system: System) -> Recovery | None:
    path, writer = name.ring_path(log_dir), name.writer
    size = system.stat(path).size_bytes
    if size > LARGEST_RING_BYTES:
        return Recovery(writer, 0, None, f"{path}: it has {size} bytes, which no ring of ours has")
    remains = Remains(log_dir, name, below, system)
    if is_network_file_system(log_dir, system) and is_running(remains.header, system) is not False:
        return _leave_to_its_host(log_dir, name, remains, system)
    # What the writer had written and not synced is in the cache only; without the ring it would stay there.
    forgotten = _sync_segments(log_dir, remains.unsure, system)
    if forgotten:
        remains = Remains(log_dir, name, below, system)  # as they are now: some of it may read as zeros
    try:
        held = remains.held_by(RingFile(fd, size, system))
    except NotOursError as error:
        aside = path.with_suffix(UNUSABLE_SUFFIX)
        system.rename(path, aside)
        return Recovery(writer, 0, None, f"{path} does not belong to this log ({error}); it was set aside")
    if remains.is_of_later_version:
        return Recovery(writer, 0, None, f"{path}: {held.problem}. Recover it with that version")
    # Of a segment that was given up the kernel has told the writer, and now tells us nothing.
    # Without any header nothing says what run its lines are of: they stay where they are.
    doubtful = sorted({*forgotten, *remains.given_up}) if remains.any_header else []
    lines = _lines_of(log_dir, doubtful, system, below_seq=remains.next_seq) + held.lines
    sync_above([log_dir, *directories_above(log_dir.parent)], system)
    segment = _write_recovered(log_dir, remains, lines, system) if lines else None
    # The ring goes last: until the new segment is durable it is the only copy, and without it nobody
    # would come back for the rest.
    for leftover in _leftovers_of(log_dir, writer, system):
        system.unlink(leftover)
    system.unlink(path)
    return Recovery(writer, len(lines), segment, f"{path}: {held.problem}" if held.problem else "")


def _sync_segments(log_dir: Path, names: Iterable[SegmentName], system: System) -> list[SegmentName]:
    """Put what the cache holds of the segments on the disk; return those of which that failed.

    A second sync would succeed and prove nothing, so they have to be written again.
    """
    forgotten = []
    for name in names:
        with opened(name.path(log_dir), system) as fd:
            try:
                system.sync(fd)
            except OSError:
                forgotten.append(name)
    return forgotten


def _lines_of(log_dir: Path, names: Iterable[SegmentName], system: System, *, below_seq: int) -> list[bytes]:
    """Return the events that segments hold below *below_seq*, each once."""
    lines: list[bytes] = []
    end_seq = 0
    for name in names:
        for block in SegmentReader(name.path(log_dir), name, system=system).read():
            part = block.after(end_seq).before(below_seq)
            end_seq = part.end_seq if part.lines else end_seq
            lines += [line for line in part.lines if seq_if_any(line) is not None]
    return lines


def _leave_to_its_host(log_dir: Path, name: SegmentName, remains: Remains, system: System) -> Recovery | None:
    """Do nothing about a ring whose writer may live on another host, where its lock is."""
    if may_live(log_dir, name.writer, remains.header, system):
        return None
    host = remains.header.host if remains.header else "the host that wrote it"
    what = f"it can be recovered on {host}, or in a copy of the run on a local disk"
    return Recovery(name.writer, 0, None, f"{name.ring_path(log_dir)}: {what}")


def _lock_dead(path: Path, system: System) -> int | None:
    """Return a descriptor that holds the lock of a dead writer's ring, None if it lives or is gone."""
    for _ in range(20):
        fd = system.lock(path)
        if fd is not None:
            if system.is_at(fd, path):
                return fd
            system.close(fd)
            return None
        # A writer's lock stays; somebody who merely looks holds it for a moment.
        system.sleep(0.001)
        if is_locked(path, system):
            return None
    return None


def _write_recovered(log_dir: Path, remains: Remains, lines: list[bytes], system: System) -> Path:
    """Write *lines* as a sealed segment of their writer, with the seqs that they have."""
    # A ring that came back empty after a power cut has none of its own.
    header = remains.header or remains.any_header
    assert header is not None  # those of the ring have one, and others are not taken without
    name = SegmentName(remains.ring.writer, remains.last_segment + 1)
    first, end, now = seq_of(lines[0]), seq_of(lines[-1]) + 1, system.now_ns() // 1000
    fields = header_fields(
        name,
        run_id=header.run_id,
        project=header.project,
        rank=header.rank,
        stream_offset=0,
        prev=remains.prev,
        origin="recovery",
        durability=header.durability,
        ring=None,
        process=None,
        forked_from=header.forked_from,
    )
    line, crc = close_line(body_of(fields, first, now), 0)
    parts = [line]
    for old in lines:
        line, crc = close_line(suffix_of(old), crc)
        parts.append(line)
    data = b"".join(parts)
    seal = SegmentSealed(
        events=len(lines), size_bytes=len(data), sha256=sha256(data).hexdigest(), reason="recovered"
    )
    line, _ = close_line(body_of(encode_fields(seal), end, now), crc)
    path = name.path(log_dir)
    _put(path, data + line, system)
    return path


def _put(path: Path, data: bytes, system: System) -> None:
    young = path.with_suffix(_RECOVERING_SUFFIX)
    system.unlink(young)  # of a recovery that was killed; we hold the lock
    fd = system.create(young)
    try:
        write_all(system, fd, data)
        system.sync(fd)
    finally:
        system.close(fd)
    with contextlib.suppress(OSError):
        system.make_read_only(young)
    system.rename(young, path)
    system.sync_directory(path.parent)


# --- what is of no use any more --------------------------------------------------------------------


def _leftovers_of(log_dir: Path, writer: str, system: System) -> list[Path]:
    return [log_dir / name for name in list_names(log_dir, system) if _is_leftover(name, writer)]


def _is_leftover(name: str, writer: str) -> bool:
    kind = name.rpartition(".")[2]
    return name.startswith(f"{writer}.") and f".{kind}" in {f".{_RESERVE}", YOUNG_SUFFIX, _RECOVERING_SUFFIX}


def _remove_leftovers(log_dir: Path, system: System) -> None:
    """Remove what dead writers without a ring have left: reserves, and files that were being made."""
    names = list_names(log_dir, system)
    writers = {name.partition(".")[0] for name in names if _is_leftover(name, name.partition(".")[0])}
    if not writers:
        return
    rings = list_rings(log_dir, system)
    for writer in writers - rings.keys():
        leftovers = [log_dir / name for name in names if _is_leftover(name, writer)]
        with contextlib.suppress(OSError):
            if _is_gone(log_dir, writer, leftovers, system):
                for path in leftovers:
                    system.unlink(path)


def _is_gone(log_dir: Path, writer: str, leftovers: Iterable[Path], system: System) -> bool:
    """Tell whether *writer*, which has no ring, is dead; one that is just opening has nothing else yet."""
    segments = list_segments(log_dir, system).get(writer, [])
    if not segments or any(path.suffix != f".{_RESERVE}" for path in leftovers):
        is_silent = all(silence_s(path, system) > SILENCE_S for path in leftovers)
        if not segments or not is_silent:
            return is_silent
    newest = segments[-1]
    reader = SegmentReader(newest.path(log_dir), newest, system=system)
    for _block in reader.read():
        pass
    is_sealed = reader.seal is not None
    return not is_alive(log_dir, writer, reader.header, is_sealed=is_sealed, system=system)
