"""The names that people know, all of them the same `Tracker` with other sinks attached."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import orjson

from eventlog.errors import TrackerStateError, UnknownSinkError, warn_once
from eventlog.plugins import sinks, takes_option
from eventlog.tracker.config import TrackingConfig
from eventlog.tracker.core import Tracker

_CONFIG = {field.name for field in msgspec.structs.fields(TrackingConfig)}
_TRACKER = {
    "output_dir",
    "durability",
    "rank",
    "strict",
    "resume",
    "writer",
    "sink_options",
    "sync_timeout_s",
    "lineage",
    "system",
    "system_interval_s",
    "console",
    "private",
    "redact",
}
_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}


def create_tracker(backend: str | Sequence[str] = "local", **options: object) -> Tracker:
    """Return a tracker whose runs go to *backend* (one name or several).

    ``local`` and ``console`` get a run at its end. All others get it while it goes on, from a process of
    their own; a backend whose package is not installed costs a warning, and its runs are kept as ``local``
    would keep them, for ``evlog sync`` later.

    Args:
        options: those of `TrackingConfig` (``project=…``, ``tags=…``), of `Tracker` (``output_dir=…``), and
            of the backends (``entity=…``, ``mode=…``, ``tracking_uri=…``, ``log_dir=…``).

    Raises:
        UnknownSinkError: no installed package offers such a backend.
        TypeError: an option that none of them has, or a value that cannot go to another process.
    """
    names = [backend] if isinstance(backend, str) else list(backend)
    for name in names:
        # `local` is always there; looking the others up takes milliseconds.
        if name != "local" and name not in sinks():
            raise UnknownSinkError(name, list(sinks()))
    return Tracker(_usable(names), _config(options), **_rest(names, options))  # type: ignore[arg-type]


def _config(options: Mapping[str, object]) -> TrackingConfig:
    config = options.get("config")
    shared = {name: value for name, value in options.items() if name in _CONFIG}
    if isinstance(config, TrackingConfig):
        return msgspec.structs.replace(config, **shared)
    return TrackingConfig(**shared)  # type: ignore[arg-type]


def _rest(names: Sequence[str], options: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of `Tracker`, with what is left over given to the sinks that know it."""
    rest = {name: value for name, value in options.items() if name in _TRACKER}
    left = {name: value for name, value in options.items() if name not in _CONFIG | _TRACKER | {"config"}}
    given = rest.get("sink_options")
    by_sink: dict[str, dict[str, object]] = (
        {name: dict(own) for name, own in given.items()} if isinstance(given, Mapping) else {}
    )
    for name in names if left else ():
        for option in left:
            if _takes(name, option):
                by_sink.setdefault(name, {})[option] = left[option]
    unknown = left.keys() - {option for own in by_sink.values() for option in own}
    if unknown:
        raise TypeError(f"{min(unknown)!r} is no option of the tracker or of {', '.join(names)}")
    rest["sink_options"] = {name: _for_another_process(name, own) for name, own in by_sink.items()}
    return rest


def _takes(name: str, option: str) -> bool:
    """Tell whether a sink has an option; of one that cannot be loaded here the sidecar will tell more."""
    try:
        return takes_option(name, option)
    except ImportError:
        return True


def _for_another_process(name: str, options: Mapping[str, object]) -> dict[str, object]:
    plain = {key: os.fspath(v) if isinstance(v, os.PathLike) else v for key, v in options.items()}
    try:
        return dict(orjson.loads(orjson.dumps(plain)))
    except (orjson.JSONEncodeError, TypeError) as error:
        raise TypeError(f"the options of {name!r} go to another process as JSON: {error}") from error


def _usable(names: Iterable[str]) -> list[str]:
    """Return *names* with ``local`` in the place of what is not installed."""
    usable = []
    for name in names:
        package = _PACKAGES.get(name)
        if package is None or _is_installed(package):
            usable.append(name)
            continue
        warn_once(
            f"package {package}",
            f"{package} is not installed: runs are logged here, and nothing goes to {name} now. "
            f"Later: pip install 'evlog[{name}]', then evlog sync RUN --to {name}",
        )
        usable.append("local")
    return list(dict.fromkeys(usable))


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    try:
        spec = find_spec(package)
    except ValueError:
        return True  # something was put in its place by hand
    # A directory of this name in the working directory, as W&B makes one, is a package without a loader.
    return spec is not None and spec.origin is not None


class _Named(Tracker):
    """A tracker with one backend; takes the options that `create_tracker` takes for it."""

    _backend = "local"

    def __init__(self, config: TrackingConfig | None = None, **options: object) -> None:
        shared = {**options, **({"config": config} if config else {})}
        names = [self._backend]
        super().__init__(_usable(names), _config(shared), **_rest(names, shared))  # type: ignore[arg-type]


class WandBTracker(_Named):
    """A tracker whose runs go to Weights & Biases, as ``create_tracker("wandb")``.

    Options of its own: those of `sinks.wandb.WandBSink`, such as ``entity`` and ``mode``.
    """

    _backend = "wandb"


class MLflowTracker(_Named):
    """A tracker whose runs go to MLflow, as ``create_tracker("mlflow")``.

    Options of its own: those of `sinks.mlflow.MLflowSink`, such as ``tracking_uri``.
    """

    _backend = "mlflow"


class TensorBoardTracker(_Named):
    """A tracker whose runs go to TensorBoard, as ``create_tracker("tensorboard")``.

    Options of its own: those of `sinks.tensorboard.TensorBoardSink`, such as ``log_dir``.
    """

    _backend = "tensorboard"


class LocalFileTracker(_Named):
    """A tracker with JSON files beside the log, as ``create_tracker("local")``."""

    def __init__(
        self, output_dir: str | Path | None = None, config: TrackingConfig | None = None, **options: object
    ) -> None:
        super().__init__(config, output_dir=output_dir, **options)


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
            sink_options={name: own for one in trackers for name, own in one.sink_options.items()},
            sync_timeout_s=max(one.sync_timeout_s for one in trackers),
            lineage=first.lineage,
            system=first.system,
            system_interval_s=first.system_interval_s,
            console=first.console,
            private=first.private,
            redact=first.redact,
        )
