"""The file that says what to run, over which space."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from eventlog.errors import EvlogError
from eventlog.ids import check_name, safe_name
from eventlog.sweep.space import MAX_TRIALS, NAME, Choice, Range, Scalar, grid, parse_space

MAX_NAME_BYTES = 180
"""Leaves room for what the ids of the runs add."""

_PLACE = re.compile(rf"\{{({NAME})\}}")


class SweepError(EvlogError, ValueError):
    """The file of a sweep is not what it should be."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the sweep is for, to say at its end who is best."""

    key: str
    mode: Literal["max", "min"] | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    command: str | list[str]
    params: dict[str, object]
    name: str | None = None
    method: Literal["grid", "random"] = "grid"
    count: int | None = None
    seed: int = 0
    jobs: int = 1
    devices: list[int | str] = []
    tags: dict[str, str] = {}
    metric: Metric | None = None


class SweepConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep.

    Attributes:
        name: of the group: the experiment of its runs.
        command: words; ``{param}`` in them stands for its value. Without any, ``--param value`` is appended.
        count: number of trials of a random sweep.
        jobs: how many at once.
        devices: each job gets one as CUDA_VISIBLE_DEVICES; none: it is left as it is.
    """

    name: str
    command: list[str]
    space: dict[str, Choice | Range]
    method: Literal["grid", "random"]
    count: int | None
    seed: int
    jobs: int
    devices: list[str]
    tags: dict[str, str]
    metric: Metric | None

    def words(self, params: Mapping[str, Scalar]) -> list[str]:
        """Return the command of one trial."""
        if not any(_PLACE.search(word) for word in self.command):
            flags = [[f"--{name}", shown(value)] for name, value in params.items()]
            return [*self.command, *(word for pair in flags for word in pair)]
        return [_PLACE.sub(lambda m: shown(params[m[1]]), word) for word in self.command]


def shown(value: Scalar) -> str:
    """Return a value as a command line has it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def read_config(path: Path) -> SweepConfig:
    """Return the sweep that a file describes: TOML, JSON, or YAML where PyYAML is installed.

    Raises:
        SweepError: it cannot be read, or says what no sweep can be.
    """
    try:
        config = _config(path, msgspec.convert(_load(path), _File))
        _check(config)
    except SweepError:
        raise
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        raise SweepError(path, str(error)) from error
    return config


def _config(path: Path, found: _File) -> SweepConfig:
    return SweepConfig(
        name=check_name("sweep", found.name or safe_name(path.stem)),
        command=shlex.split(found.command) if isinstance(found.command, str) else found.command,
        space=parse_space(found.params),
        method=found.method,
        count=found.count,
        seed=found.seed,
        jobs=found.jobs,
        devices=[str(device) for device in found.devices],
        tags=found.tags,
        metric=found.metric,
    )


def _load(path: Path) -> object:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix in {".yaml", ".yml"}:
        try:
            import yaml
        except ImportError:
            raise SweepError(path, "YAML needs PyYAML (pip install pyyaml). TOML needs nothing") from None
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SweepError(path, str(error)) from error
    return tomllib.loads(text)


def _check(config: SweepConfig) -> None:
    if not config.command:
        raise ValueError("the command is empty")
    if len(config.name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"the name has more than {MAX_NAME_BYTES} bytes")
    places = {name for word in config.command for name in _PLACE.findall(word)}
    unknown = places - config.space.keys()
    if unknown:
        raise ValueError(f"the command has {{{min(unknown)}}}, which is no param")
    unused = config.space.keys() - places
    if places and unused:
        raise ValueError(f"the command has no {{{min(unused)}}}, so that param would change nothing")
    if config.jobs < 1:
        raise ValueError("jobs is a whole number from 1")
    if config.method == "random":
        if config.count is None or not 1 <= config.count <= MAX_TRIALS:
            raise ValueError(f"a random sweep needs count, the number of trials, 1 to {MAX_TRIALS}")
    elif config.count is not None:
        raise ValueError("a grid has no count; it tries every combination")
    else:
        grid(config.space)
