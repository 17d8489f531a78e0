"""What a repetition needs of a run's log, beyond `RunFacts`: its command, and every point of its metrics."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from eventlog import events as ev
from eventlog.analysis.facts import RunFacts, load
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.replay import open_run
from eventlog.storage.artifacts import resolve
from eventlog.storage.ends import ends_of
from eventlog.storage.layout import iter_runs, list_segments, log_directory
from eventlog.storage.system import host_name
from eventlog.values import number_in_memory

Point = tuple[int | None, float]
Process = tuple[str, int, str]

_RANK = re.compile(r"rank(\d+)/", re.ASCII)
_RESULTS = (ev.Metrics, ev.Summary, ev.Evaluation, ev.Sample, ev.Checkpoint)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is to be repeated or compared.

    Attributes:
        command: that of what began the run, not of who joined it or went on with it.
        contexts: what is known of its origin by kind, as it was when it began.
        later: the contexts of each process that went on with the run and logged results.
        points: by metric, in the order of the log; of rank 1 and up as ``rank<k>/key``.
    """

    facts: RunFacts
    command: dict[str, object]
    contexts: dict[str, dict[str, object]]
    later: list[dict[str, dict[str, object]]]
    points: dict[str, list[Point]]

    @property
    def label(self) -> str:
        """Return ``PROJECT/RUN_ID``."""
        return self.facts.label

    @property
    def cwd(self) -> str | None:
        """Return the working directory of the command, if it is known."""
        cwd = self.command.get("cwd")
        return str(cwd) if cwd else None

    @property
    def ranks(self) -> int:
        """Return how many processes logged metrics at the same time, as far as their names say."""
        found = (_RANK.match(name) for name in self.points)
        return 1 + max((int(rank[1]) for rank in found if rank), default=0)

    def context(self, kind: str) -> Mapping[str, object]:
        """Return what is known of one kind, empty if nothing is."""
        return self.contexts.get(kind, {})


def read_recorded(run: Path) -> Recorded:
    """Return what the log in the directory *run* says.

    Raises:
        OSError: the log cannot be read.
    """
    facts, origin = load(run), _Origin()
    points: dict[str, list[Point]] = {}
    for part in open_run(run).slices():
        for event in part.events:
            if isinstance(event, ev.Metrics):
                _add_points(points, _whole(run, event), part.rank)
            if isinstance(event, ev.Context):
                origin.take(part.writer, event.kind, _fields(run, event))
            else:
                origin.look(part.writer, event)
    return Recorded(
        facts=facts,
        command=origin.contexts.get("command", {}),
        contexts=origin.contexts,
        later=[origin.of_later[writer] for writer in origin.of_later if writer in origin.workers],
        points=points,
    )


class _Origin:
    """Folds contexts; who goes on with a run adds what nobody said before, and changes nothing."""

    def __init__(self) -> None:
        self.contexts: dict[str, dict[str, object]] = {}
        self.of_later: dict[str, dict[str, dict[str, object]]] = {}
        self.workers: set[str] = set()
        self._first: set[str] = set()
        self._said_by: dict[str, str] = {}

    def look(self, writer: str, event: AnyEvent) -> None:
        """Take note of who goes on with the run, and who does more than to write on it."""
        if isinstance(event, ev.RunResumed) and event.reason == "resumed":
            self.of_later.setdefault(writer, {})
        elif isinstance(event, _RESULTS):
            self.workers.add(writer)
        if not self.of_later:
            self._first.add(writer)

    def take(self, writer: str, kind: str, data: dict[str, object]) -> None:
        """Take one context."""
        if writer in self.of_later:
            self.of_later[writer].setdefault(kind, {}).update(data)
        is_first = writer in self._first or not self.of_later
        if self._said_by.setdefault(kind, writer) == writer or (is_first and kind != "command"):
            self.contexts.setdefault(kind, {}).update(data)


def _whole(run: Path, event: ev.Event) -> AnyEvent:
    with contextlib.suppress(OSError, BadValueError, msgspec.MsgspecError):
        return resolve(run, event)
    return event  # a payload that is gone costs its fields; `evlog verify` reports it


def _fields(run: Path, event: ev.Context) -> dict[str, object]:
    whole = _whole(run, event)
    return dict(whole.data) if isinstance(whole, ev.Context) else {}


def _add_points(points: dict[str, list[Point]], event: AnyEvent, rank: int) -> None:
    if not isinstance(event, ev.Metrics):
        return
    for key, value in event.data.items():
        with contextlib.suppress(BadValueError):
            name = f"rank{rank}/{key}" if rank else key
            points.setdefault(name, []).append((event.step, number_in_memory(value)))


# --- the other runs of a process -----------------------------------------------------------------


def processes_of(run: Path) -> set[Process]:
    """Return the processes that wrote into *run*: host, pid, and when it started.

    A run that only others may read has none that are known here.
    """
    log_dir = log_directory(run)
    try:
        headers = [ends_of(segments[0].path(log_dir)).header for segments in list_segments(log_dir).values()]
    except PermissionError:
        return set()
    return {(header.host, header.pid, header.pid_started) for header in headers if header is not None}


def begun_at(run: Path) -> int:
    """Return when the first writer of *run* began, in microseconds since the epoch; 0 if nobody did."""
    log_dir = log_directory(run)
    headers = (ends_of(segments[0].path(log_dir)).header for segments in list_segments(log_dir).values())
    return min((header.ts for header in headers if header is not None), default=0)


def run_begun_by(pid: int, runs: Iterable[Path]) -> Path | None:
    """Return the last of *runs* that process *pid* of this machine wrote into."""
    host = host_name()
    mine = [run for run in runs if any((one[0], one[1]) == (host, pid) for one in processes_of(run))]
    return max(mine, key=begun_at, default=None)


def runs_of_its_process(run: Path, root: Path) -> list[Path]:
    """Return the runs below *root* that share a process with *run*, itself among them, the oldest first.

    A script that starts several runs, nested or one after the other, makes all of them again.
    """
    own = processes_of(run)
    others = [one.path for one in iter_runs(root) if one.path != run and own & processes_of(one.path)]
    return sorted([run, *others], key=lambda path: (begun_at(path), str(path)))
