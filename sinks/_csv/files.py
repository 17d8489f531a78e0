"""The files that many runs share: each run has a part, and the files are the parts one after the other.

    <to>/.csv-parts/<project>/<run_id>.part     a line of JSON (a `Head`), then the run's rows as CSV
    <to>/.csv-parts/lock                        held by whoever puts the files together

A part and each file appear by a rename, synced before. Whoever puts a part there puts the files together from
all parts, under the lock, so the last one of several that finish at once has seen all their parts.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventlog.errors import SinkUnavailableError
from eventlog.storage.modes import close_to_others, make_directory, opener
from eventlog.storage.ring import lock_file
from sinks._csv.cells import encode

PARTS = ".csv-parts"
LOCK_TIMEOUT_S = 60.0
_COPY_BYTES = 1 << 20
_YOUNG = ".csv-young"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a part.

    Attributes:
        row: of the leaderboard.
        score: that the leaderboard is ordered by, the largest first.
        is_below: whether the run lies where runs of *to* lie: then its part goes when the run goes.
        is_private: only its owner may read the part, and the files that it is in.
    """

    project: str
    run_id: str
    started_at: int
    score: float | None
    row: list[str]
    is_below: bool = False
    is_private: bool = False


def publish(
    to: Path,
    head: Head,
    rows: Sequence[Sequence[str]],
    *,
    results: tuple[str, Sequence[str]],
    leaderboard: tuple[str, Sequence[str]],
) -> None:
    """Write the part of one run, and put both files together from all parts.

    Args:
        results, leaderboard: name and columns of each file.

    Raises:
        SinkUnavailableError: another process has held the lock for too long.
        OSError: the file system refused; the old files stand.
    """
    with locked(to / PARTS / "lock"):
        _remove_leftovers(to)
        _put_part(to / PARTS / head.project / f"{head.run_id}.part", head, rows)
        parts = sorted(_parts(to), key=lambda part: _by_start(part[1]))
        is_private = any(head.is_private for _, head in parts)
        with replaced(to / results[0], is_private=is_private) as file:
            file.write(encode([results[1]]))
            for path, _ in parts:
                _copy_rows(path, file)
        heads = sorted((head for _, head in parts), key=_by_score)
        with replaced(to / leaderboard[0], is_private=is_private) as file:
            file.write(encode([leaderboard[1], *(head.row for head in heads)]))


def _put_part(path: Path, head: Head, rows: Sequence[Sequence[str]]) -> None:
    make_directory(path.parent)
    with replaced(path, is_private=head.is_private) as file:
        file.write(msgspec.json.encode(head) + b"\n" + encode(rows))


def _remove_leftovers(to: Path) -> None:
    """Remove what killed processes have left half-written; whoever writes holds the lock."""
    for pattern in (f".*{_YOUNG}", f"{PARTS}/*/.*{_YOUNG}"):
        for path in to.glob(pattern):
            path.unlink(missing_ok=True)


def _parts(to: Path) -> Iterator[tuple[Path, Head]]:
    for path in sorted((to / PARTS).glob("*/*.part")):
        try:
            with path.open("rb") as file:
                head = msgspec.json.decode(file.readline(), type=Head)
        except msgspec.MsgspecError:
            continue  # of a later version, or damaged: `evlog sync --to csv` makes it anew
        except PermissionError:
            continue  # a private run of somebody else
        if head.is_below and not (to / head.project / head.run_id).is_dir():
            path.unlink(missing_ok=True)
            continue
        yield path, head


def _copy_rows(path: Path, file: BinaryIO) -> None:
    with path.open("rb") as part:
        part.readline()
        while data := part.read(_COPY_BYTES):
            file.write(data)


def _by_start(head: Head) -> tuple[str, int, str]:
    return head.project, head.started_at, head.run_id


def _by_score(head: Head) -> tuple[str, bool, float, str]:
    score = head.score
    return head.project, score is None, -(score or 0.0), head.run_id


@contextlib.contextmanager
def replaced(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """Yield a file that becomes *path*, synced, when the block has ended well."""
    young = path.with_name(f".{path.name}{_YOUNG}")
    try:
        with open(young, "wb", opener=opener) as file:
            if is_private:
                close_to_others(young)
            yield file
            file.flush()
            os.fsync(file.fileno())
        young.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            young.unlink()
        raise
    with contextlib.suppress(OSError):  # a file system that cannot sync directories keeps names itself
        fd = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock *path* during the block; the system releases it when the process ends.

    Raises:
        SinkUnavailableError: another process held it for `LOCK_TIMEOUT_S`.
    """
    make_directory(path.parent)
    open(path, "ab", opener=opener).close()
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while (fd := lock_file(path)) is None:
        if time.monotonic() > deadline:
            raise SinkUnavailableError(f"{path} is held by another process that writes these files.")
        time.sleep(0.005)
    try:
        yield
    finally:
        os.close(fd)
