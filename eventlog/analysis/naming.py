"""Which metric somebody means, and which one to take where nobody says."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

from eventlog.errors import EvlogError

_SHOWN = 20


class UnknownMetricError(EvlogError, LookupError):
    """No run in question has a metric of this name."""

    def __init__(self, name: str, there: Iterable[str]) -> None:
        self.name, self.there = name, sorted(there)
        super().__init__(name, self.there)

    def __str__(self) -> str:
        near = difflib.get_close_matches(self.name, self.there, n=3)
        hint = f" Near: {', '.join(near)}." if near else ""
        return f"None of these runs has a metric {self.name!r}.{hint} {_list(self.there)}"


class AmbiguousMetricError(EvlogError, LookupError):
    """The end of a name fits several metrics."""

    def __init__(self, name: str, matches: Iterable[str]) -> None:
        self.name, self.matches = name, sorted(matches)
        super().__init__(name, self.matches)

    def __str__(self) -> str:
        return f"{self.name!r} may be any of {', '.join(self.matches[:_SHOWN])}. Give the whole name."


class NoMetricError(EvlogError, LookupError):
    """Nobody said which metric counts, and the runs do not tell."""

    def __init__(self, there: Iterable[str], benchmark: str | None = None) -> None:
        self.there, self.benchmark = sorted(there), benchmark
        super().__init__(self.there, benchmark)

    def __str__(self) -> str:
        if not self.there:
            what = f"results of the benchmark {self.benchmark!r}" if self.benchmark else "metrics"
            return f"None of these runs has {what}. `evlog show RUN` shows what a run has."
        return f"Which metric counts? Name one with --metric. {_list(self.there)}"


def pick_metric(name: str, keys: Collection[str], *, benchmark: str | None = None) -> str:
    """Return the key that *name* means: that very key, else the only one that ends so.

    Ends are tried in this order: the last part after ``/`` or ``.`` (``accuracy`` for ``val/accuracy``), then
    the last words (``accuracy`` for ``val_accuracy``).

    Args:
        benchmark: only results of it.

    Raises:
        UnknownMetricError: it means none.
        AmbiguousMetricError: it may mean several.
    """
    if benchmark is not None:
        keys = [key for key in keys if key.startswith(f"{benchmark}/")]
        if f"{benchmark}/{name}" in keys:
            return f"{benchmark}/{name}"
    if name in keys:
        return name
    for ends in ((f"/{name}", f".{name}"), (f"_{name}", f"-{name}")):
        found = [key for key in keys if key.endswith(ends)]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousMetricError(name, found)
    raise UnknownMetricError(name, keys)


def default_metric(results: Collection[Mapping[str, float]], *, benchmark: str | None = None) -> str:
    """Return the metric that counts where nobody says: the only accuracy, else the only one that all have.

    Args:
        results: of each run; those without any are passed over.
        benchmark: only results of it.

    Raises:
        NoMetricError: that is none, or several.
    """
    prefix = "" if benchmark is None else f"{benchmark}/"
    of_runs = [{key for key in one if key.startswith(prefix)} for one in results]
    of_runs = [keys for keys in of_runs if keys]
    keys = set[str]().union(*of_runs)
    try:
        return pick_metric("accuracy", keys, benchmark=benchmark)
    except (UnknownMetricError, AmbiguousMetricError):
        pass
    common = set.intersection(*of_runs) if of_runs else set()
    for candidates in (common, keys):
        if len(candidates) == 1:
            return next(iter(candidates))
    raise NoMetricError(keys, benchmark)


def _list(names: list[str]) -> str:
    if not names:
        return "They have none at all."
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"There are: {', '.join(names[:_SHOWN])}{more}."
