"""The `tensorboard` sink: a run as an event file for TensorBoard, written without TensorFlow or torch.

    <log_dir>/<project>/<run_id>/
      events.out.tfevents.<seconds>.<µs>.evlog          everything but the hparams; only appended to
      events.out.tfevents.0000000000.hparams.evlog      the params for the HParams page; replaced as they come

Delivered once: the sink's state holds the length of the event file and the checksum that stands at its end,
and the file is synced before the state is given out. On opening, what lies beyond is cut off, and the events
come again. They come in the same batches, so that the same bytes stand there again and a TensorBoard that
has the file open goes on reading. The file of hparams follows from the params alone.

TensorBoard keeps the first hparams that it finds in a run, hence a file of their own. Its name sorts first,
because TensorBoard's Python reader goes from file to file by name and then watches the last one only.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import ClassVar

import msgspec
import orjson

from eventlog import events as ev
from eventlog.errors import EvlogError, SinkRejectedError, SinkUnavailableError
from eventlog.ids import check_name
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.modes import is_private, keep_private
from eventlog.values import flatten, number_on_disk
from sinks._tfevents import wire
from sinks._tfevents.columns import float32, read_block, scalar_records
from sinks._tfevents.eventfile import EventFile, Position, make_directory, replace
from sinks._tfevents.mapping import Column, Mapper, Refused, Steps, Value

HPARAMS_FILE = "events.out.tfevents.0000000000.hparams.evlog"
MAX_HPARAMS, MAX_HPARAM_TEXT = 1000, 500
_EXACT = 1 << 53
_PART = 20_000
_SINGLY = 64
"""How many records are read one by one before a block is tried again."""
_OTHER_RANK = re.compile(r"rank[1-9]\d*/")

HParams = dict[str, bool | float | str]


class OccupiedError(EvlogError):
    """Another run of the same project and id was delivered to the same place."""

    def __init__(self, directory: Path, other: str) -> None:
        super().__init__(directory, other)
        self.directory, self.other = directory, other

    def __str__(self) -> str:
        return (
            f"{self.directory} holds another run of this project and id ({self.other}). Deliver this one "
            "elsewhere (`--option log_dir=DIRECTORY`), or remove that file if it is not needed."
        )


class TensorBoardSink:
    """Writes event files below *log_dir*, a directory for each run: ``<log_dir>/<project>/<run_id>``."""

    traits: ClassVar[Traits] = Traits(fixed_batches=True, batch_age_s=1.0)

    def __init__(self, *, log_dir: str | Path = "./runs") -> None:
        if not str(log_dir) or "://" in str(log_dir):
            raise ValueError(
                f"log_dir is {str(log_dir)!r}; it has to be a directory on this machine, such as ./runs."
            )
        self._log_dir = Path(os.path.abspath(Path(log_dir).expanduser()))  # noqa: PTH100 - also without `..`
        self._directory = Path()
        self._file: EventFile | None = None
        self._mapper = Mapper(Path(), None)
        self._hparams: HParams = {}
        self._started_us = 0
        self._is_hparams_new = False

    @property
    def destination(self) -> str:
        """Return the directory of all runs."""
        return str(self._log_dir)

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Cut the run's file back to the state; a state that is empty begins a new one.

        Raises:
            EventFileLostError: the file does not hold what the state says.
            OccupiedError: there is a file of another run.
            SinkUnavailableError: the file system refused.
        """
        state = _State.of(run)
        self._directory = self._place(run)
        if is_private(run.path):
            keep_private(self._directory)
        make_directory(self._directory)
        path = self._directory / state.file
        for other in self._directory.glob("events.out.tfevents.*.evlog"):
            if other.name not in {state.file, HPARAMS_FILE}:
                raise OccupiedError(self._directory, other.name)
        self._file = EventFile(path, Position(state.length, state.tail))
        self._started_us = state.started_us
        self._mapper = Mapper(run.path, state.started_us or None, state.steps)
        self._hparams = dict(state.hparams)
        self._is_hparams_new = True
        if not state.length:
            with contextlib.suppress(FileNotFoundError):
                (self._directory / HPARAMS_FILE).unlink()
        return None

    def write(self, batch: Batch) -> None:
        """Append the batch, whole or not at all.

        Raises:
            SinkRejectedError: names events that have no place; the others were written.
            SinkUnavailableError: the file system refused.
        """
        assert self._file is not None
        self._mapper.take(batch)
        columns, values = self._mapper.drain()
        refused, self._mapper.refused = self._mapper.refused, []
        if merge_hparams(self._hparams, batch.entries()):
            self._is_hparams_new = True
        if self._is_hparams_new and self._hparams:
            # Before the event file: TensorBoard reads what sorts first when it meets the directory.
            self._write_hparams(None)
        data = [] if self._file.position.length else [wire.framed(wire.version_event(self._started_us))]
        data += _encode(columns, values)
        self._file.append(b"".join(data))
        if refused:
            raise _rejected(refused)

    def state(self) -> dict[str, object]:
        """Return what is in the event file, which is synced."""
        assert self._file is not None
        self._file.sync()
        return {
            "file": self._file.path.name,
            "length": self._file.position.length,
            "tail": self._file.position.tail,
            "started_us": self._started_us,
            "steps": {kind: dict(tags) for kind, tags in self._mapper.steps.items() if tags},
            "hparams": dict(self._hparams),
        }

    def close(self, status: RunStatus | None) -> None:
        """Tell the HParams page how the run ended, if it has."""
        if self._file is None:
            return
        try:
            if status is not None and self._hparams:
                self._write_hparams(status)
            self._file.sync()
        finally:
            self._file.close()

    def _write_hparams(self, status: RunStatus | None) -> None:
        replace(self._directory / HPARAMS_FILE, hparams_file(self._hparams, self._started_us, status))
        self._is_hparams_new = False

    # --- reading back ------------------------------------------------------------------------------------

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield the points and values that the event files should hold, each tag in its order."""
        mapper = Mapper(None, None)
        params: HParams = {}
        for part in _parts(entries):
            for entry in part:
                mapper.take_one(entry)
            merge_hparams(params, part)
            columns, values = mapper.drain()
            for column in columns:
                yield from _points(column)
            yield from (_point(v.kind, v.tag, v.step, v.digest, v.t_us) for v in values)
        for name, given in _without_copies(params).items():
            yield Point(f"hparam {name}", None, _shown(given))

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield what the run's event files hold, their checksums checked; nothing behind a damaged record."""
        directory = self._place(run)
        for value in _read(directory / _State.of(run).file):
            content = value.content
            shown = sha256(content).hexdigest() if isinstance(content, bytes) else _shown(content)
            yield _point(value.kind, value.tag, value.step, shown, value.t_us)
        for value in _read(directory / HPARAMS_FILE):
            if value.tag == wire.START_TAG:
                found = wire.hparams_of(value.raw)
                yield from (Point(f"hparam {name}", None, _shown(given)) for name, given in found.items())

    def _place(self, run: RunInfo) -> Path:
        return self._log_dir / check_name("project", run.project) / check_name("run id", run.run_id)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What `RunInfo.state` holds.

    Attributes:
        file: name of the event file.
        started_us: when the run began; 0 if the log has lost that.
    """

    file: str
    length: int = 0
    tail: str = ""
    started_us: int = 0
    steps: Steps = {}
    hparams: HParams = {}

    @classmethod
    def of(cls, run: RunInfo) -> _State:
        if run.state:
            return msgspec.convert(run.state, cls)
        started_us = run.started.ts if run.started else 0
        seconds, rest = divmod(started_us, 1_000_000)
        # The time keeps two runs of one name apart, wherever they came from.
        return cls(file=f"events.out.tfevents.{seconds:010d}.{rest:06d}.evlog", started_us=started_us)


# --- encoding --------------------------------------------------------------------------------------------


def _encode(columns: Iterable[Column], values: Iterable[Value]) -> Iterator[bytes]:
    """Yield records; where a step comes back, behind the one that announces it."""
    for column in columns:
        tag, steps, times, numbers, goes_back = column
        rewind = wire.framed(wire.rewind_event(times[0]))
        if goes_back:
            yield rewind
        yield from scalar_records(tag, steps, times, numbers, rewind)
    for value in values:
        if value.goes_back:
            yield wire.framed(wire.rewind_event(value.t_us))
        yield wire.framed(wire.value_event(value.tag, value.value, value.step, value.t_us))


def hparams_file(hparams: HParams, started_us: int, status: RunStatus | None) -> bytes:
    """Return the whole file for the HParams page.

    TensorBoard finds the params and metrics to compare by itself, in all runs. It would take them from an
    experiment's record instead if one run had that, and then show no others.
    """
    values = [(wire.START_TAG, wire.session_start(_without_copies(hparams), started_us))]
    if status is not None and not status.is_running:
        is_success = status.status == "finished"
        ended = wire.session_end(is_success=is_success, t_us=status.ended_at or started_us)
        values.append((wire.END_TAG, ended))
    events = [wire.version_event(started_us)]
    events += [wire.value_event(tag, value, 0, started_us) for tag, value in values]
    return b"".join(map(wire.framed, events))


def merge_hparams(hparams: HParams, entries: Iterable[Entry]) -> bool:
    """Take the params among *entries* into *hparams*, the last value of each; tell whether there were any."""
    has_params = False
    for entry in entries:
        if type(entry.event) is not ev.Params:
            continue
        has_params = True
        for name, value in flatten(entry.event.data).items():
            name = entry.name(name)
            if name in hparams or len(hparams) < MAX_HPARAMS:
                hparams[name] = _hparam(value)
    return has_params


def _hparam(value: object) -> bool | float | str:
    """Return *value* as the HParams page takes it: bool, number or text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float) or (isinstance(value, int) and -_EXACT <= value <= _EXACT):
        return float(value)
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= MAX_HPARAM_TEXT else text[: MAX_HPARAM_TEXT - 1] + "…"


def _without_copies(hparams: HParams) -> HParams:
    """Return *hparams* without those of other ranks that rank 0 has with the same value."""
    return {
        name: value
        for name, value in hparams.items()
        if not (match := _OTHER_RANK.match(name)) or hparams.get(name[match.end() :]) != value
    }


# --- comparing -------------------------------------------------------------------------------------------


def _parts(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    rest = iter(entries)
    while part := list(islice(rest, _PART)):
        yield part


def _points(column: Column) -> Iterator[Point]:
    values = float32(column.values)
    for step, t_us, value in zip(column.steps, column.times, values, strict=True):
        yield _point("scalar", column.tag, step, _shown(value), t_us)


def _point(kind: str, tag: str, step: int, value: float | str, t_us: int) -> Point:
    """Return a point; without its step where that may be a number of ours.

    Such a number counts what came before, and of two processes that log at once either may come first.
    """
    is_counted = kind != "scalar" or tag.startswith("summary/") or "/summary/" in tag
    # The file holds seconds: beyond the year 2112 their last digit is not the microsecond's any more.
    return Point(f"{kind} {tag}", None if is_counted else step, value, round(t_us / 1e6 * 1e6))


def _shown(value: bool | float | str) -> float | str:
    """Return *value* so that it equals itself: NaN does not."""
    return value if isinstance(value, str) else number_on_disk(float(value))


def _read(path: Path) -> Iterator[wire.ReadValue]:
    try:
        if not path.stat().st_size:
            return
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            at = 0
            while at < len(data):
                found = read_block(data, at)
                if found is None:
                    for end, payload in islice(wire.records(data, at), _SINGLY):
                        yield from wire.read_values(payload)
                        at = end
                    continue
                at = found.end
                for step, t_us, value in zip(found.steps, found.times, found.values, strict=True):
                    yield wire.ReadValue("scalar", found.tag, step, t_us, value, b"")
    except FileNotFoundError:
        return
    except wire.DamagedRecordError:
        return  # what lies behind it will be missed in the comparison
    except OSError as error:
        raise SinkUnavailableError(f"{path} cannot be read: {error.strerror or error}.") from error


def _rejected(refused: Sequence[Refused]) -> SinkRejectedError:
    reasons = "; ".join(dict.fromkeys(event.reason for event in refused[:5]))
    events = dict.fromkeys((event.writer, event.seq) for event in refused)
    return SinkRejectedError(f"TensorBoard cannot show {len(events)} events: {reasons}.", list(events))
