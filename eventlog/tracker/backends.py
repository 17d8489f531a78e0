"""The names that people know, all of them the same `Tracker` with other sinks attached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from eventlog.errors import TrackerStateError, UnknownSinkError
from eventlog.plugins import sinks
from eventlog.tracker.config import TrackingConfig
from eventlog.tracker.core import Tracker

_CONFIG = {field.name for field in msgspec.structs.fields(TrackingConfig)}


def create_tracker(backend: str | Sequence[str] = "local", **options: object) -> Tracker:
    """Return a tracker whose runs go to *backend* (one name or several) at their end.

    Args:
        options: those of `TrackingConfig` (``project=…``, ``tags=…``) and of `Tracker` (``output_dir=…``).

    Raises:
        UnknownSinkError: no installed package offers such a backend.
        TypeError: an option that neither of them has.
    """
    names = [backend] if isinstance(backend, str) else list(backend)
    for name in names:
        # `local` is always there; looking the others up takes milliseconds.
        if name != "local" and name not in sinks():
            raise UnknownSinkError(name, list(sinks()))
    return Tracker(names, *_split(options), **_rest(options))  # type: ignore[arg-type]


def _split(options: dict[str, object]) -> tuple[TrackingConfig]:
    config = options.get("config")
    shared = {name: value for name, value in options.items() if name in _CONFIG}
    if isinstance(config, TrackingConfig):
        return (msgspec.structs.replace(config, **shared),)
    return (TrackingConfig(**shared),)  # type: ignore[arg-type]


def _rest(options: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name not in _CONFIG and name != "config"}


class LocalFileTracker(Tracker):
    """A tracker with JSON files beside the log, as ``create_tracker("local")``."""

    def __init__(
        self, output_dir: str | Path | None = None, config: TrackingConfig | None = None, **options: object
    ) -> None:
        shared = _split({**options, **({"config": config} if config else {})})
        super().__init__(("local",), *shared, output_dir=output_dir, **_rest(options))  # type: ignore[arg-type]


class MultiTracker(Tracker):
    """A tracker that does for all its *trackers* what each would do: one log, all their sinks.

    Root, project and the other settings are those of the first one, unless *config* gives others.
    """

    def __init__(self, trackers: Sequence[Tracker], config: TrackingConfig | None = None) -> None:
        if not trackers:
            raise TrackerStateError("MultiTracker needs at least one tracker")
        first = trackers[0]
        names = dict.fromkeys(name for tracker in trackers for name in tracker.backends)
        super().__init__(
            tuple(names),
            config or first.config,
            output_dir=first.root,
            rank=first.rank,
            strict=first.strict,
            resume=first.resume,
            writer=first._options,
        )
