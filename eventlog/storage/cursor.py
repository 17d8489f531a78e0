"""Places in a log, and the checkpoints in which consumers keep them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventlog.errors import CheckpointError
from eventlog.storage.system import SYSTEM, System, replace_file

NO_CRC = "00000000"


class Cursor(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A place in one writer's log, between two lines.

    Attributes:
        segment: number of the segment, from 1.
        offset: bytes from the start of the segment.
        seq: seq of the event that comes next.
        crc: crc that stands on the line before, which proves the place with one read; `NO_CRC` at 0.
    """

    segment: int
    offset: int
    seq: int
    crc: str


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a consumer has come: a cursor for each writer.

    Attributes:
        identity: what else decided what was consumed (filters, renames); another identity is another place.
    """

    cursors: dict[str, Cursor] = {}
    identity: str = ""

    def later(self, other: Checkpoint | None) -> Checkpoint:
        """Return the later of both places, writer by writer."""
        if other is None:
            return self
        cursors = dict(self.cursors)
        for writer, cursor in other.cursors.items():
            mine = cursors.get(writer)
            if mine is None or (cursor.seq, cursor.segment, cursor.offset) > (
                mine.seq,
                mine.segment,
                mine.offset,
            ):
                cursors[writer] = cursor
        return Checkpoint(cursors=cursors, identity=self.identity)


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint at *path*, or None if there is none.

    Raises:
        CheckpointError: there is a file, but it is not a checkpoint.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise CheckpointError(path, f"not a checkpoint ({error})") from error


def save_checkpoint(path: Path, checkpoint: Checkpoint, system: System = SYSTEM) -> None:
    """Keep *checkpoint* at *path*: after a crash there is the old or the new one, whole.

    Raises:
        OSError: the old one is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(checkpoint)) + b"\n", system)
