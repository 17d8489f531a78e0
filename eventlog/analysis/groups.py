"""Runs that differ in nothing but the seed, and mean and standard deviation over them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from eventlog.errors import EvlogError

SEEDS = frozenset({"seed", "seeds", "random_seed", "rng_seed", "random_state"})
"""Last parts of the names of params that are seeds."""

_FIELDS = ("experiment", "project", "name", "status")


class UnknownParamError(EvlogError, LookupError):
    """Runs cannot be grouped by a param that none of them has."""

    def __init__(self, name: str, there: Iterable[str]) -> None:
        self.name, self.there = name, sorted(there)
        super().__init__(name, self.there)

    def __str__(self) -> str:
        has = f"There are: {', '.join(self.there[:20])}" if self.there else "They have none at all"
        return f"None of these runs has a param {self.name!r}. {has}; also {', '.join(_FIELDS)}."


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """A run with its results.

    Attributes:
        params: with dotted keys.
        seed: None if no param and no context says it.
        results: as `eventlog.analysis.facts.results` says, or a part of them.
    """

    project: str
    run_id: str
    name: str
    experiment: str | None
    status: str
    path: str
    params: dict[str, object]
    tags: dict[str, str | None]
    seed: object
    results: dict[str, float]

    @property
    def label(self) -> str:
        """Return ``PROJECT/RUN_ID``."""
        return f"{self.project}/{self.run_id}"


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Values of one metric over runs. *std* is that of a sample (n - 1); None for a single value."""

    mean: float
    std: float | None
    n: int
    min: float
    max: float
    median: float


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of *values*, shape (n,), n >= 1; NaN makes both NaN."""
    n = len(values)
    if any(value != value for value in values):
        nan = math.nan
        return Spread(mean=nan, std=nan if n > 1 else None, n=n, min=nan, max=nan, median=nan)
    low, high = min(values), max(values)
    mean = _mean(values, low, high)
    if n == 1:
        std = None
    elif not math.isfinite(low) or not math.isfinite(high):
        std = math.nan
    else:
        std = math.hypot(*(value - mean for value in values)) / math.sqrt(n - 1)
    return Spread(mean=mean, std=std, n=n, min=low, max=high, median=_median(values))


def _mean(values: Sequence[float], low: float, high: float) -> float:
    """Return the mean; that of equal values is that value, so that groups of any size can tie."""
    if low == high:
        return low
    if math.isinf(low) or math.isinf(high):
        return sum(values)
    try:
        mean = math.fsum(values) / len(values)
    except OverflowError:
        mean = math.fsum(value / len(values) for value in values)
    return min(max(mean, low), high)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else low / 2 + high / 2


def is_tie(a: float, b: float, *, within: float = 0.0) -> bool:
    """Tell whether *a* and *b* are equal but for rounding, or no further apart than *within*."""
    return a == b or math.isclose(a, b, rel_tol=1e-12, abs_tol=0.0) or abs(a - b) <= within * (1 + 1e-12)


def is_seed(key: str) -> bool:
    """Tell whether the param *key* is a seed."""
    return key.rpartition(".")[2].lower() in SEEDS


def seed_of(params: Mapping[str, object], context: object = None) -> object:
    """Return a run's seed: its param ``seed``, else another that means it, else what *context* says."""
    if "seed" in params:
        return params["seed"]
    return next((value for key, value in params.items() if is_seed(key)), context)


def varying(runs: Sequence[Scores]) -> list[str]:
    """Return the params that are not the same in all *runs*, sorted; seeds are left out."""
    keys = {key for run in runs for key in run.params if not is_seed(key)}
    return sorted(key for key in keys if len({_token(run, key) for run in runs}) > 1)


def pick_params(names: Sequence[str], runs: Sequence[Scores]) -> list[str]:
    """Return the params that *names* mean: that very key, else the only one whose last part it is.

    ``experiment``, ``project``, ``name`` and ``status`` are a run's own, where it has no such param. A name
    may be several, with commas between.

    Raises:
        UnknownParamError: no run has it.
    """
    keys = {key for run in runs for key in run.params}
    found: list[str] = []
    for name in names:
        parts = [name] if name in keys or "," not in name else [part.strip() for part in name.split(",")]
        found += [_pick_param(part, keys) for part in parts if part]
    return list(dict.fromkeys(found))


def _pick_param(name: str, keys: set[str]) -> str:
    if name in keys or name in _FIELDS:
        return name
    ends = [key for key in keys if key.endswith(f".{name}")]
    if len(ends) != 1:
        raise UnknownParamError(name, keys)
    return ends[0]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Runs with the same *values* of the params that they are grouped by."""

    values: dict[str, object]
    runs: list[Scores]

    @property
    def seeds(self) -> int:
        """Return the number of different seeds."""
        return len({json.dumps(run.seed, default=str) for run in self.runs if run.seed is not None})

    @property
    def label(self) -> str:
        """Return ``key=value, …``, or the run's name if there is nothing that they were grouped by."""
        if not self.values:
            return self.runs[0].label if len(self.runs) == 1 else "all runs"
        return ", ".join(f"{key}={text_of(value)}" for key, value in self.values.items())

    def spread(self, key: str) -> Spread | None:
        """Return the values of a result over the runs that have it; None if none has."""
        values = [run.results[key] for run in self.runs if key in run.results]
        return spread(values) if values else None


def group_runs(runs: Sequence[Scores], by: Sequence[str]) -> list[Group]:
    """Return *runs* in groups of equal values of the params *by*, in the order of their first runs."""
    found: dict[tuple[str, ...], list[Scores]] = {}
    for run in runs:
        found.setdefault(tuple(_token(run, key) for key in by), []).append(run)
    return [
        Group(values={key: _value(members[0], key) for key in by}, runs=members) for members in found.values()
    ]


def _value(run: Scores, key: str) -> object:
    return getattr(run, key) if key in _FIELDS and key not in run.params else run.params.get(key)


def _token(run: Scores, key: str) -> str:
    """Return what stands for the value of a param: 1 and 1.0 are the same, 1 and true are not."""
    value = _value(run, key)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    return "" if value is None and key not in run.params else json.dumps(value, sort_keys=True, default=str)


def text_of(value: object) -> str:
    """Return a param's value as people write it: ``5e-5``, ``adam``, ``true``; ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return _short(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _short(value: float) -> str:
    """Return the shortest text that reads back as *value*."""
    plain = repr(value)
    if not math.isfinite(value) or 1e-3 <= abs(value) < 1e6 or value == 0:
        return plain
    digits = next(d for d in range(17) if float(f"{value:.{d}e}") == value)
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    science = f"{mantissa}e{int(exponent)}"
    return min(plain, science, key=len) if "e" not in plain else science
