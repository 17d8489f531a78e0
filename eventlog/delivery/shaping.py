"""Which events and metrics go to a destination: a shape, and what applies it.

A shape is a value: the same shape makes the same events of the same log, however often delivery is killed
and goes on. What it has to count is counted by writer and kept with the checkpoint, because each writer's
events always come in the same order and the interleaving of writers does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec

from eventlog import events as ev
from eventlog.delivery.hiding import Hider, compiled
from eventlog.errors import BadShapeError
from eventlog.events import AnyEvent

Numbers = dict[str, int | float | str]


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which metrics go to a destination, under which names, how many points, and which texts are hidden.

    Metrics are the names that are logged over steps: those of metrics, of histograms, and those that a
    checkpoint repeats. The results of evaluations and samples, summaries and the load of the machine have
    names of their own and pass as they are.

    Attributes:
        include, exclude: patterns for metric names as a shell has them (``train/*``); excluded ones go last.
        rename: old name to new name of metrics, after include and exclude.
        every: of each metric of each writer, take the first of so many points. Not of histograms.
        max_points: at most so many points of each metric of each writer, evenly over the run, the last of
            those that *every* leaves among them; only for runs that have ended. Not of histograms.
        redact: regular expressions for what is hidden; `eventlog.delivery.hiding` says where.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    every: int = 1
    max_points: int | None = None
    redact: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.every < 1:
            raise BadShapeError(f"--every {self.every}: give a number of points, 1 or more")
        if self.max_points is not None and self.max_points < 2:
            raise BadShapeError(f"--max-points {self.max_points}: give 2 or more")
        compiled(self.redact)
        targets = list(self.rename.values())
        for new in targets:
            if targets.count(new) > 1:
                raise BadShapeError(f"--rename gives two metrics the name {new!r}: they would be mixed")

    @property
    def is_plain(self) -> bool:
        """Tell whether everything passes as it is."""
        return self == Shape()

    def __str__(self) -> str:
        options = [f"--include {p}" for p in self.include] + [f"--exclude {p}" for p in self.exclude]
        options += [f"--rename {old}={new}" for old, new in self.rename.items()]
        options += [f"--every {self.every}"] if self.every > 1 else []
        options += [f"--max-points {self.max_points}"] if self.max_points else []
        options += [f"--redact {pattern}" for pattern in self.redact]
        return " ".join(options) or "everything"


class Counts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far shaping has counted: points so far, and points in all, of writer and metric."""

    seen: dict[str, dict[str, int]] = {}
    totals: dict[str, dict[str, int]] = {}

    def copy(self) -> Counts:
        """Return one that can be counted on without changing this one."""
        return Counts(seen={w: dict(k) for w, k in self.seen.items()}, totals=self.totals)


class Shaper:
    """Applies a shape to a run's events, in their order."""

    def __init__(self, shape: Shape, counts: Counts | None = None) -> None:
        self.shape = shape
        self.counts = counts or Counts()
        self._hider = Hider(shape.redact) if shape.redact else None
        self._name = lru_cache(maxsize=100_000)(self._new_name)

    def count(self, writer: str, events: Sequence[AnyEvent]) -> None:
        """Take notice of what there is in all, before anything of *writer* is shaped by ``max_points``."""
        totals = self.counts.totals.setdefault(writer, {})
        for event in events:
            if isinstance(event, ev.Metrics):
                for key in event.data:
                    totals[key] = totals.get(key, 0) + 1

    def apply(self, writer: str, events: Sequence[AnyEvent]) -> list[AnyEvent]:
        """Return what passes of consecutive events of one writer."""
        if self.shape.is_plain:
            return list(events)
        shaped = (self._one(writer, event) for event in events)
        return [event for event in shaped if event is not None]

    def _one(self, writer: str, event: AnyEvent) -> AnyEvent | None:
        if isinstance(event, ev.Metrics):
            data = self._metrics(writer, event.data)
            return msgspec.structs.replace(event, data=data) if data else None
        if isinstance(event, ev.Histogram):
            name = self._name(event.key)
            return None if name is None else _named(event, name)
        if isinstance(event, ev.Checkpoint) and event.metrics:
            event = msgspec.structs.replace(event, metrics=self._names(event.metrics))
        return self._hider.hide(event) if self._hider else event

    def _names(self, data: Numbers) -> Numbers:
        named = ((self._name(key), value) for key, value in data.items())
        return {name: value for name, value in named if name is not None}

    def _metrics(self, writer: str, data: Numbers) -> Numbers:
        if not self._thins:
            return self._names(data)
        seen = self.counts.seen.setdefault(writer, {})
        kept: Numbers = {}
        for key, value in data.items():
            name = self._name(key)
            if name is not None and self._is_kept(writer, key, seen):
                kept[name] = value
        return kept

    @property
    def _thins(self) -> bool:
        return self.shape.every > 1 or self.shape.max_points is not None

    def _is_kept(self, writer: str, key: str, seen: dict[str, int]) -> bool:
        at = seen.get(key, 0)
        seen[key] = at + 1
        if at % self.shape.every:
            return False
        limit = self.shape.max_points
        if limit is None:
            return True
        if writer not in self.counts.totals:
            raise BadShapeError(
                "another process has joined the run, and --max-points needs to know all of its points. "
                "Deliver it when it has ended, or use --every"
            )
        # Of those that --every leaves, each stride-th and the last one.
        total = math.ceil(self.counts.totals[writer].get(key, 0) / self.shape.every)
        at //= self.shape.every
        stride = max(1, math.ceil((total - 1) / (limit - 1)))
        return at % stride == 0 or at == total - 1

    def _new_name(self, key: str) -> str | None:
        """Return what a metric is called at the destination, or None if it does not go there."""
        shape = self.shape
        if shape.include and not any(fnmatchcase(key, pattern) for pattern in shape.include):
            return None
        if any(fnmatchcase(key, pattern) for pattern in shape.exclude):
            return None
        if key in shape.rename.values() and key not in shape.rename:
            raise BadShapeError(
                f"--rename gives a metric the name {key!r}, which another metric of the run has. "
                "Choose another name, or leave that one out with --exclude"
            )
        return shape.rename.get(key, key)


def _named(event: ev.Histogram, name: str) -> ev.Histogram:
    return event if name == event.key else msgspec.structs.replace(event, key=name)
