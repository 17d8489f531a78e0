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
        return self is _PLAIN or self == _PLAIN

    def __str__(self) -> str:
        options = [f"--include {p}" for p in self.include] + [f"--exclude {p}" for p in self.exclude]
        options += [f"--rename {old}={new}" for old, new in self.rename.items()]
        options += [f"--every {self.every}"] if self.every > 1 else []
        options += [f"--max-points {self.max_points}"] if self.max_points else []
        options += [f"--redact {pattern}" for pattern in self.redact]
        return " ".join(options) or "everything"


_PLAIN = Shape()


class Counts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far shaping has counted: points so far, and points in all, of writer and metric."""

    seen: dict[str, dict[str, int]] = {}
    totals: dict[str, dict[str, int]] = {}

    def copy(self) -> Counts:
        """Return one that can be counted on without changing this one."""
        return Counts(seen={w: dict(k) for w, k in self.seen.items()}, totals=self.totals)


class Shaper:
    """Applies a shape to a run's events, in their order.

    Attributes:
        is_plain: everything passes as it is.
    """

    def __init__(self, shape: Shape, counts: Counts | None = None) -> None:
        self.shape, self.is_plain = shape, shape.is_plain
        self.counts = counts or Counts()
        self._hider = Hider(shape.redact) if shape.redact else None
        self._names = _Names(shape)
        self._thins = shape.every > 1 or shape.max_points is not None
        self._touches_metrics = self._thins or bool(shape.include or shape.exclude or shape.rename)

    def count(self, writer: str, events: Sequence[AnyEvent]) -> None:
        """Take notice of what there is in all, before anything of *writer* is shaped by ``max_points``."""
        totals = self.counts.totals.setdefault(writer, {})
        for event in events:
            if isinstance(event, ev.Metrics):
                for key in event.data:
                    totals[key] = totals.get(key, 0) + 1

    def apply(self, writer: str, events: Sequence[AnyEvent]) -> list[AnyEvent]:
        """Return what passes of consecutive events of one writer."""
        if self.is_plain:
            return list(events)
        one = self._one
        return [shaped for event in events if (shaped := one(writer, event)) is not None]

    def _one(self, writer: str, event: AnyEvent) -> AnyEvent | None:
        if type(event) is ev.Metrics:
            return self._metrics(writer, event) if self._touches_metrics else event
        if isinstance(event, ev.Histogram):
            name = self._names[event.key]
            return None if name is None else _named(event, name)
        if isinstance(event, ev.Checkpoint) and event.metrics:
            named = ((self._names[key], value) for key, value in event.metrics.items())
            metrics = {name: value for name, value in named if name is not None}
            event = msgspec.structs.replace(event, metrics=metrics)
        return self._hider.hide(event) if self._hider else event

    def _metrics(self, writer: str, event: ev.Metrics) -> ev.Metrics | None:
        seen = self.counts.seen.setdefault(writer, {}) if self._thins else None
        kept: Numbers = {}
        is_same = True
        for key, value in event.data.items():
            name = self._names[key]
            if name is None or (seen is not None and not self._is_kept(writer, key, seen)):
                is_same = False
            else:
                is_same = is_same and name == key
                kept[name] = value
        if is_same:
            return event  # a new one costs more than all of the above
        return msgspec.structs.replace(event, data=kept) if kept else None

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
        total, stride = self._stride(self.counts.totals[writer].get(key, 0), limit)
        at //= self.shape.every
        return at % stride == 0 or at == total - 1

    @lru_cache(maxsize=1000)  # noqa: B019 - it lives as long as its delivery
    def _stride(self, points: int, limit: int) -> tuple[int, int]:
        """Return how many points --every leaves, and how far those lie apart that --max-points takes."""
        total = math.ceil(points / self.shape.every)
        return total, max(1, math.ceil((total - 1) / (limit - 1)))


class _Names(dict[str, str | None]):
    """What each metric is called at the destination, None for one that does not go there."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        self._taken = set(shape.rename.values())

    def __missing__(self, key: str) -> str | None:
        name = self[key] = self._new_name(key)
        return name

    def _new_name(self, key: str) -> str | None:
        shape = self._shape
        if shape.include and not any(fnmatchcase(key, pattern) for pattern in shape.include):
            return None
        if any(fnmatchcase(key, pattern) for pattern in shape.exclude):
            return None
        if key in self._taken and key not in shape.rename:
            raise BadShapeError(
                f"--rename gives a metric the name {key!r}, which another metric of the run has. "
                "Choose another name, or leave that one out with --exclude"
            )
        return shape.rename.get(key, key)


def _named(event: ev.Histogram, name: str) -> ev.Histogram:
    return event if name == event.key else msgspec.structs.replace(event, key=name)
