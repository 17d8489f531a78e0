"""Whether two runs have the same results: bit by bit, within tolerances, or not and where."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from eventlog.analysis.timings import is_timing
from eventlog.errors import BadValueError
from eventlog.lineage.reproduce.recorded import Point, Recorded
from eventlog.values import flatten, number_in_memory

Outcome = Literal["identical", "equal", "different", "failed", "nothing"]


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as equal, and what is compared: the table ``[reproduce]`` of ``evlog.toml``.

    Attributes:
        rtol: relative to the larger of two values.
        atol: absolute.
        metrics: only these, as patterns; empty for all. Who is named in full is never ignored.
        ignore: patterns of names that are left out, beside times and speeds.
    """

    rtol: float = 1e-6
    atol: float = 1e-12
    metrics: list[str] = msgspec.field(default_factory=list)
    ignore: list[str] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0):
            raise ValueError("rtol and atol are 0 or larger")

    def takes(self, key: str) -> bool:
        """Tell whether *key* is compared."""
        if self.metrics and not any(fnmatchcase(key, pattern) for pattern in self.metrics):
            return False
        return key in self.metrics or not is_timing(key, self.ignore)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where one result of two runs differs first; None stands for a value that one of them lacks."""

    key: str
    step: int | None
    old: float | None
    new: float | None

    def __str__(self) -> str:
        at = "" if self.step is None else f" at step {self.step}"
        return f"{self.key}{at}: {_shown(self.old)} was, {_shown(self.new)} is"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing two runs.

    Attributes:
        series: number of results that were compared.
        points: number of values that were compared.
        farthest: the pair that is farthest apart, of those within the tolerances.
        differences: where each result that differs does so first.
        is_prefix: one of the runs did not come to its end; only what both have was compared.
        ignored: results that were left out.
        notes: what else to know.
    """

    outcome: Outcome
    rtol: float
    atol: float
    series: int
    points: int
    farthest: Difference | None = None
    differences: list[Difference] = []
    is_prefix: bool = False
    ignored: list[str] = []
    notes: list[str] = []

    @property
    def is_good(self) -> bool:
        """Tell whether the results are the same, within the tolerances."""
        return self.outcome in {"identical", "equal"}

    def __str__(self) -> str:
        what = f"{self.points} values of {self.series} results"
        if self.is_prefix:
            what += ", as far as both came"
        if self.outcome == "identical":
            return f"identical ({what})"
        if self.outcome == "equal":
            return f"equal within rel={self.rtol:g}/abs={self.atol:g} ({what}; farthest: {self.farthest})"
        if self.outcome == "different":
            more = f" and {len(self.differences) - 1} more" if len(self.differences) > 1 else ""
            return f"different: {self.differences[0]}{more} ({what})"
        if self.outcome == "nothing":
            return "nothing to compare: the runs have no result in common"
        return "failed: " + "; ".join(self.notes)

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON, with non-finite numbers as they stand in logs."""
        found = msgspec.to_builtins(self)
        assert isinstance(found, dict)
        return found | {"is_good": self.is_good, "text": str(self)}


def compare_results(
    old: Recorded, new: Recorded, tolerance: Tolerance | None = None, *, notes: Sequence[str] = ()
) -> Verdict:
    """Return whether *new* has the results of *old*: every point of every metric, finals, evaluations.

    Values are the same if their bits are, or if both are NaN. Of a run that did not end well only what it
    came to is compared. Texts, times, console and load of the machine are not.
    """
    tolerance = tolerance or Tolerance()
    before, after = _series(old), _series(new)
    is_prefix = not (old.facts.view.status == new.facts.view.status == "finished")
    keys = sorted(before.keys() | after.keys())
    compared = [key for key in keys if tolerance.takes(key)]
    walk = _Walk(tolerance)
    for key in compared:
        walk.series(key, before.get(key, []), after.get(key, []), is_prefix=is_prefix)
    if walk.points == 0 and not walk.differences:
        outcome: Outcome = "nothing"
    elif walk.differences:
        outcome = "different"
    else:
        outcome = "equal" if walk.farthest else "identical"
    return Verdict(
        outcome=outcome,
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        series=walk.count,
        points=walk.points,
        farthest=walk.farthest,
        differences=walk.differences,
        is_prefix=is_prefix,
        ignored=[key for key in keys if not tolerance.takes(key)],
        notes=list(notes),
    )


def _series(run: Recorded) -> dict[str, list[Point]]:
    """Return all results of a run as points: metrics, numbers of the summary, evaluations."""
    found = {key: list(points) for key, points in run.points.items()}
    for evaluation in run.facts.evaluations:
        for name, value in evaluation.metrics.items():
            _put(found, f"{evaluation.benchmark}/{name}", evaluation.step, value)
    for key, final in flatten(run.facts.view.summary).items():
        if isinstance(final, (int, float, str)) and not isinstance(final, bool):
            _put(found, key if key not in run.points else f"{key} (final)", None, final)
    return found


def _put(found: dict[str, list[Point]], key: str, step: int | None, value: float | str) -> None:
    try:
        found.setdefault(key, []).append((step, number_in_memory(value)))
    except BadValueError:
        if not found[key]:
            del found[key]  # a text is no result


class _Walk:
    """Compares series after series and remembers what it saw."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self.count = self.points = 0
        self.farthest: Difference | None = None
        self._distance = -1.0
        self.differences: list[Difference] = []

    def series(self, key: str, old: list[Point], new: list[Point], *, is_prefix: bool) -> None:
        """Compare one result; it differs in at most one place, the first."""
        before, after = _by_step(old), _by_step(new)
        wanted = [place for place in before if place in after] if is_prefix else [*before, *after]
        self.count += bool(wanted)
        for place in dict.fromkeys(wanted):
            a, b = before.get(place), after.get(place)
            if a is None or b is None or not self._is_close(key, place[0], a, b):
                self.differences.append(Difference(key=key, step=place[0], old=a, new=b))
                return
            self.points += 1

    def _is_close(self, key: str, step: int | None, a: float, b: float) -> bool:
        if struct.pack("<d", a) == struct.pack("<d", b) or (a != a and b != b):
            return True
        if not math.isclose(a, b, rel_tol=self._tolerance.rtol, abs_tol=self._tolerance.atol):
            return False
        distance = abs(a - b) / max(abs(a), abs(b), 1e-300)
        if distance > self._distance:
            self._distance = distance
            self.farthest = Difference(key=key, step=step, old=a, new=b)
        return True


def _by_step(points: Iterable[Point]) -> dict[tuple[int | None, int], float]:
    """Return the values by step, and by how often the step came before."""
    seen: dict[int | None, int] = {}
    found: dict[tuple[int | None, int], float] = {}
    for step, value in points:
        nth = seen.get(step, 0)
        seen[step] = nth + 1
        found[step, nth] = value
    return found


def _shown(value: float | None) -> str:
    return "nothing" if value is None else repr(value)
