"""What a repetition needs of a run's log, beyond `RunFacts`: its command, and every point of its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
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
from eventlog.values import number_in_memory

Point = tuple[int | None, float]
Process = tuple[str, int, str]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is to be repeated or compared.

    Attributes:
        command: the first ``command`` context: of what began the run, not of who joined it.
        points: by metric, in the order of the log; of rank 1 and up as ``rank<k>/key``.
        resumptions: how often another process went on with the run.
    """

    facts: RunFacts
    command: dict[str, object]
    points: dict[str, list[Point]]
    resumptions: int

    @property
    def label(self) -> str:
        """Return ``PROJECT/RUN_ID``."""
        return self.facts.label

    @property
    def cwd(self) -> str | None:
        """Return the working directory of the command, if it is known."""
        cwd = self.command.get("cwd") or self.facts.view.context.get("command", {}).get("cwd")
        return str(cwd) if cwd else None

    def context(self, kind: str) -> Mapping[str, object]:
        """Return what is known of one kind, empty if nothing is."""
        return self.facts.view.context.get(kind, {})


def read_recorded(run: Path) -> Recorded:
    """Return what the log in the directory *run* says.

    Raises:
        OSError: the log cannot be read.
    """
    facts = load(run)
    command: dict[str, object] = {}
    points: dict[str, list[Point]] = {}
    resumptions = 0
    for part in open_run(run).slices():
        for event in part.events:
            if isinstance(event, ev.Metrics):
                _add_points(points, _whole(run, event), part.rank)
            elif isinstance(event, ev.Context) and event.kind == "command" and not command:
                command = _fields(run, event)
            elif isinstance(event, ev.RunResumed) and event.reason == "resumed":
                resumptions += 1
    return Recorded(facts=facts, command=command, points=points, resumptions=resumptions)


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
    """Return the processes that wrote into *run*: host, pid, and when it started."""
    log_dir = log_directory(run)
    headers = (ends_of(segments[0].path(log_dir)).header for segments in list_segments(log_dir).values())
    return {(header.host, header.pid, header.pid_started) for header in headers if header is not None}


def begun_at(run: Path) -> int:
    """Return when the first writer of *run* began, in microseconds since the epoch; 0 if nobody did."""
    log_dir = log_directory(run)
    headers = (ends_of(segments[0].path(log_dir)).header for segments in list_segments(log_dir).values())
    return min((header.ts for header in headers if header is not None), default=0)


def runs_of_its_process(run: Path, root: Path) -> list[Path]:
    """Return the runs below *root* that share a process with *run*, itself among them, the oldest first.

    A script that starts several runs, nested or one after the other, makes all of them again.
    """
    own = processes_of(run)
    others = [one.path for one in iter_runs(root) if one.path != run and own & processes_of(one.path)]
    return sorted([run, *others], key=lambda path: (begun_at(path), str(path)))


def position_of(run: Path, siblings: Sequence[Path]) -> int:
    """Return the place of *run* among the runs of its process, from 0."""
    return list(siblings).index(run)
