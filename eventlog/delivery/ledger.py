"""The ledger of one run at one destination: what was delivered, where to, and what went wrong.

One small JSON file, ``<run>/.evlog/sinks/<sink>[-<destination>].json``, replaced as a whole (temporary file,
fsync, rename, fsync of the directory): after a crash there is the old one or the new one. What belongs
together is in it together: cursors, the sink's own state, what shaping has counted, and the batch that was
begun.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.delivery.shaping import Counts, Shape
from eventlog.errors import BadShapeError, CheckpointError, ShapeChangedError
from eventlog.projections import RunLife
from eventlog.sink import RunStatus, Sink
from eventlog.storage.cursor import Checkpoint, Cursor
from eventlog.storage.files import directories_above, make_directories, read_file, sync_above
from eventlog.storage.layout import STATE_DIRECTORY, list_names
from eventlog.storage.system import SYSTEM, System, replace_file

DIRECTORY = "sinks"


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch that was begun, for a sink that wants it again as it was.

    Attributes:
        parts: writer, and the seq before which its part ends, in the order of the batch.
        letters: writer and seq of dead letters that are tried again.
    """

    parts: list[tuple[str, int]] = []
    letters: list[tuple[str, int]] = []


class Ledger(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of one run at one destination. Times are microseconds since the epoch.

    Attributes:
        generation: how often everything was delivered anew.
        cursors: the place after what was delivered, for each writer.
        state: of the sink, as of the same moment.
        is_begun: whether something may have been sent; from then on the shape stays.
        plan: a batch that was begun after it, if the sink asks for such.
        retried: dead letters that were delivered since, and are to be forgotten.
        events: delivered in this generation, before shaping.
        last_ts: time of the newest delivered event.
        delivered_at: when something was delivered last.
        closed: what the destination was told of the run's end.
        sizes: bytes of each file of the log when it was closed, so that a run without news costs one look.
        last_error, failed_at: of the last try, if it failed.
        dead_letters: events that the destination refused.
    """

    sink: str
    destination: str = ""
    shape: Shape = Shape()
    generation: int = 0
    cursors: dict[str, Cursor] = {}
    state: dict[str, object] = {}
    counts: Counts | None = None
    life: RunLife = msgspec.field(default_factory=RunLife)
    is_begun: bool = False
    plan: Plan | None = None
    retried: list[tuple[str, int]] = []
    events: int = 0
    last_ts: int | None = None
    delivered_at: int | None = None
    closed: RunStatus | None = None
    sizes: dict[str, int] = {}
    last_error: str | None = None
    failed_at: int | None = None
    dead_letters: int = 0

    @property
    def checkpoint(self) -> Checkpoint:
        """Return the place after what was delivered."""
        return Checkpoint(cursors=self.cursors)

    def begin_anew(self, shape: Shape, *, generation: int) -> None:
        """Forget what was delivered."""
        self.shape, self.generation = shape, generation
        self.cursors, self.state, self.counts, self.plan = {}, {}, None, None
        self.is_begun, self.retried = False, []
        self.life, self.events, self.last_ts = RunLife(), 0, None
        self.closed, self.sizes, self.dead_letters = None, {}, 0


def ledger_path(run: Path, sink_name: str, destination: str) -> Path:
    """Return where the ledger lies; the run's own directory, the empty destination, needs no ending."""
    ending = f"-{sha256(destination.encode()).hexdigest()[:8]}" if destination else ""
    return run / STATE_DIRECTORY / DIRECTORY / f"{sink_name}{ending}.json"


def load_ledger(path: Path, system: System = SYSTEM) -> Ledger | None:
    """Return the ledger at *path*, or None if there is none.

    Raises:
        CheckpointError: there is a file, but it is no ledger.
    """
    try:
        return msgspec.json.decode(read_file(path, system), type=Ledger)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CheckpointError(path, f"it does not say how far delivery came ({error})") from error


def generation_after(path: Path, clock: Clock = SYSTEM_CLOCK, system: System = SYSTEM) -> int:
    """Return a generation that none was before whose ledger, at *path*, cannot be read any more.

    If the file does not even tell the last one, it is the time in seconds: with a smaller number a sink
    could find what an earlier generation left, and take it for its own.
    """
    try:
        data = read_file(path, system)
    except OSError:
        data = b""
    found = re.search(rb'"generation":(\d{1,12})[,}]', data)
    if found:
        return int(found[1]) + 1
    # Fields that have their default are left out, so a whole beginning without one means 0.
    is_first = data.startswith(b'{"sink":') and b'"cursors":' in data
    return 1 if is_first else clock.now_us() // 1_000_000


def save_ledger(path: Path, ledger: Ledger, system: System = SYSTEM) -> None:
    """Keep *ledger* at *path*: after a crash there is the old or the new one, whole.

    Raises:
        OSError: one of the two is there, whole.
    """
    try:
        system.stat(path)
    except FileNotFoundError:
        # The first one is on the disk when all names that lead to it are. Before it has its own: who finds
        # it need not do this again.
        above = make_directories(path.parent, system)
        sync_above(dict.fromkeys([*above, *directories_above(path.parent.parent)]), system)
    replace_file(path, msgspec.json.encode(ledger) + b"\n", system)


def open_ledger(
    path: Path, sink: Sink, sink_name: str, shape: Shape | None, *, run_id: str, system: System = SYSTEM
) -> Ledger:
    """Return the ledger at *path*, or a new one, for a delivery in *shape*; None as it was before.

    Raises:
        BadShapeError: the sink takes no shape.
        ShapeChangedError: the run went there in another shape.
        CheckpointError: the ledger cannot be read.
    """
    _check_shape(sink, sink_name, shape)
    ledger = load_ledger(path, system)
    if ledger is None:
        return Ledger(sink=sink_name, destination=sink.destination, shape=shape or Shape())
    if shape is not None and shape != ledger.shape:
        if (ledger.is_begun or ledger.cursors) and not sink.traits.is_projection:
            raise ShapeChangedError(run_id, sink_name, str(ledger.shape), str(shape))
        ledger.shape = shape
    return ledger


def restart_ledger(
    path: Path,
    sink: Sink,
    sink_name: str,
    shape: Shape | None,
    *,
    clock: Clock = SYSTEM_CLOCK,
    system: System = SYSTEM,
) -> None:
    """Forget what was delivered, also if the ledger cannot be read; everything goes if *shape* is None."""
    _check_shape(sink, sink_name, shape)
    try:
        old = load_ledger(path, system)
        generation = old.generation + 1 if old else 0
    except CheckpointError:
        generation = generation_after(path, clock, system)
    anew = Ledger(sink=sink_name, destination=sink.destination, shape=shape or Shape(), generation=generation)
    save_ledger(path, anew, system)


def _check_shape(sink: Sink, sink_name: str, shape: Shape | None) -> None:
    if shape is not None and not (shape.is_plain or sink.traits.takes_shape):
        raise BadShapeError(f"{sink_name} copies the log as it is: {shape} cannot be had there")


def remove_leftovers(path: Path, system: System = SYSTEM) -> None:
    """Remove what a killed process left while it replaced *path* or a file that belongs to it."""
    for name in list_names(path.parent, system):
        if name.startswith(f".{path.stem}.") and name.endswith(".tmp"):
            # One that cannot be removed hurts nobody.
            with contextlib.suppress(OSError):
                system.unlink(path.parent / name)


def iter_ledgers(run: Path, system: System = SYSTEM) -> Iterator[Path]:
    """Yield the ledgers of *run*, sorted by name."""
    directory = run / STATE_DIRECTORY / DIRECTORY
    for name in list_names(directory, system):
        if name.endswith(".json") and not name.startswith("."):
            yield directory / name
