"""Two runs, files or groups against each other, with gates: for CI and pull requests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from eventlog.analysis.comparison.gates import Gate, GateResult, check_gate, parse_gate, relative_to, subtract
from eventlog.analysis.directions import guess_mode, is_better
from eventlog.analysis.facts import load, results
from eventlog.analysis.groups import is_tie, spread, text_of
from eventlog.analysis.runs import find_run, root_path
from eventlog.analysis.selection import fits, is_condition, parse_condition
from eventlog.analysis.shown import Shown, figures, html_page, markdown_table, markdown_text, signed
from eventlog.errors import BadValueError, EvlogError
from eventlog.storage.layout import RunPath, iter_runs
from eventlog.values import flatten, number_in_memory


class BaselineError(EvlogError, ValueError):
    """A file that should hold the results of a run does not."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        make = f"evlog export RUN --canonical --output {self.path.name}"
        return f"{self.path}: {self.reason}. Make one with: {make}"


class NoSuchGroupError(EvlogError, LookupError):
    """No run belongs to the group."""

    def __init__(self, group: str, root: Path) -> None:
        super().__init__(group, root)
        self.group, self.root = group, root

    def __str__(self) -> str:
        return f"No run below {self.root} has {self.group}. `evlog list` shows the runs."


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two: *kind* is ``run``, ``file`` or ``group``.

    Attributes:
        status: of the run, or of those of the group that are not finished; None if all are, or nobody knows.
        runs: number of runs; of several the results are means, and the params are those that they share.
    """

    label: str
    kind: str
    runs: int
    status: str | None
    results: dict[str, float]
    params: dict[str, object]


class DiffRow(msgspec.Struct, frozen=True, kw_only=True):
    """A result in A and in B.

    Attributes:
        difference: B - A.
        relative: the same in percent of the size of A; None if A is 0.
        verdict: better, worse, equal, changed (the name does not tell what is better), missing or nan.
    """

    key: str
    a: float | None
    b: float | None
    difference: float | None
    relative: float | None
    verdict: str


class ParamRow(msgspec.Struct, frozen=True, kw_only=True):
    """A param that is not the same in A and B, as texts; ``-`` where it is missing."""

    key: str
    a: str
    b: str


class Diff(Shown, frozen=True, kw_only=True):
    """B as against A."""

    a: Side
    b: Side
    metrics: list[DiffRow]
    params: list[ParamRow]
    gates: list[GateResult]

    @property
    def passed(self) -> bool:
        """Tell whether every gate holds."""
        return all(gate.holds for gate in self.gates)

    @property
    def title(self) -> str:
        """Return what is compared with what."""
        return f"{self.b.label} compared with {self.a.label}"

    @property
    def verdict(self) -> str:
        """Return how many gates hold; nothing without gates."""
        broken = sum(not gate.holds for gate in self.gates)
        if not self.gates:
            return ""
        if len(self.gates) == 1:
            return "The gate is broken" if broken else "The gate holds"
        if not broken:
            return f"All {len(self.gates)} gates hold"
        return f"{broken} of {len(self.gates)} gates {'is' if broken == 1 else 'are'} broken"

    @property
    def warnings(self) -> list[str]:
        """Return why the results may not be whole."""
        return [
            f"{side.label} is {side.status}: its results may be partial"
            for side in (self.a, self.b)
            if side.status
        ]

    def gate_rows(self) -> list[list[str]]:
        """Return rule, result and reason of each gate."""
        return [[gate.rule, "holds" if gate.holds else "BROKEN", gate.reason] for gate in self.gates]

    def metric_rows(self) -> list[list[str]]:
        """Return name, A, B, difference, percent and verdict of each metric."""
        rows = []
        for row in self.metrics:
            has_percent = row.relative is not None and row.relative == row.relative
            percent = f"{row.relative:+.2f}%" if has_percent else ""
            rows.append([row.key, *figures([row.a, row.b]), signed(row.difference), percent, row.verdict])
        return rows

    def to_markdown(self) -> str:
        """Return a comment for a pull request, in GitHub's Markdown."""
        parts = [f"### {markdown_text(self.title)}"]
        if self.gates:
            rows = [
                [rule, "✅" if state == "holds" else "❌", f"broken: {reason}" if reason else state]
                for rule, state, reason in self.gate_rows()
            ]
            parts += [
                f"{'✅' if self.passed else '❌'} **{self.verdict}**",
                markdown_table(["gate", "", "result"], rows),
            ]
        if self.metrics:
            parts.append(markdown_table(METRIC_COLUMNS, self.metric_rows(), right=METRIC_COLUMNS[1:5]))
        if self.params:
            rows = [[row.key, row.a, row.b] for row in self.params]
            parts += ["**Params that differ**", markdown_table(PARAM_COLUMNS, rows)]
        return "\n\n".join([*parts, *map(markdown_text, self.warnings)])

    def _repr_html_(self) -> str:
        return html_page(
            self.title,
            *([("Gates", GATE_COLUMNS, self.gate_rows())] if self.gates else []),
            ("Results", METRIC_COLUMNS, self.metric_rows()),
            *(
                [("Params", PARAM_COLUMNS, [[row.key, row.a, row.b] for row in self.params])]
                if self.params
                else []
            ),
            foot=[*([self.verdict] if self.gates else []), *self.warnings],
        )


GATE_COLUMNS = ("gate", "result", "reason")
METRIC_COLUMNS = ("metric", "A", "B", "difference", "percent", "verdict")
PARAM_COLUMNS = ("param", "A", "B")


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    gates: Sequence[str] = (),
    root: str | os.PathLike[str] | None = None,
    benchmark: str | None = None,
) -> Diff:
    """Compare the results of *b* with those of *a*, and check *gates* on what changed.

    Args:
        a, b: a run (as for `compare`), a file that ``evlog export --canonical`` made, or a group of runs:
            conditions as `eventlog.analysis.selection` reads them, of whose runs the means count.
        gates: see `parse_gate`.
        benchmark: show only results of it; gates see all.

    Raises:
        RuleError: a gate cannot be read.
        RunNotFoundError, AmbiguousRunError, NoSuchGroupError, BaselineError: *a* or *b* has no results.
        AmbiguousMetricError: a gate's metric may be several.
        OSError: a log or file cannot be read.
    """
    rules = [parse_gate(gate) for gate in gates]
    where = root_path(root)
    return diff_sides(load_side(a, where), load_side(b, where), rules=rules, benchmark=benchmark)


def diff_sides(a: Side, b: Side, *, rules: Sequence[Gate] = (), benchmark: str | None = None) -> Diff:
    """Compare what was loaded already; see `diff`."""
    keys = sorted(a.results.keys() | b.results.keys())
    shown = [key for key in keys if benchmark is None or key.startswith(f"{benchmark}/")]
    params = sorted(a.params.keys() | b.params.keys())
    texts = [
        (key, *(text_of(side.params[key]) if key in side.params else "-" for side in (a, b)))
        for key in params
    ]
    return Diff(
        a=a,
        b=b,
        metrics=[_row(key, a.results.get(key), b.results.get(key)) for key in shown],
        params=[ParamRow(key=key, a=old, b=new) for key, old, new in texts if old != new],
        gates=[check_gate(rule, a.results, b.results) for rule in rules],
    )


def _row(key: str, old: float | None, new: float | None) -> DiffRow:
    if old is None or new is None:
        return DiffRow(key=key, a=old, b=new, difference=None, relative=None, verdict="missing")
    difference = subtract(new, old)
    relative = None if old == 0 and difference != 0 else relative_to(difference, old)
    return DiffRow(
        key=key, a=old, b=new, difference=difference, relative=relative, verdict=_verdict(key, old, new)
    )


def _verdict(key: str, old: float, new: float) -> str:
    if old != old or new != new:
        return "nan"
    if is_tie(old, new):
        return "equal"
    mode = guess_mode(key)
    return "changed" if mode is None else "better" if is_better(new, old, mode) else "worse"


# --- what A and B may be -----------------------------------------------------------------------------


def load_side(name: str | os.PathLike[str], root: Path) -> Side:
    """Return what *name* means: a group, a file, or a run.

    Raises:
        RunNotFoundError, AmbiguousRunError, NoSuchGroupError, BaselineError, OSError: as `diff`.
    """
    text = os.fspath(name)
    path = Path(text)
    if path.is_file():
        return _file(path)
    # An id may hold "=" and commas, so that runs come before conditions.
    is_run_id = any(text in (run.run_id, f"{run.project}/{run.run_id}") for run in iter_runs(root))
    parts = [part.strip() for part in text.split(",")]
    if not is_run_id and all(map(is_condition, parts)):
        return _group(text, parts, root)
    if not is_run_id and path.suffix == ".json":
        raise BaselineError(path, "there is no such file")
    return run_side(find_run(name, root))


def run_side(run: RunPath) -> Side:
    """Return the results of one run.

    Raises:
        OSError: its log cannot be read.
    """
    facts = load(run.path)
    status = facts.view.status
    return Side(
        label=facts.label,
        kind="run",
        runs=1,
        status=None if status == "finished" else status,
        results=results(facts),
        params=facts.view.flat_params,
    )


def _group(text: str, parts: Sequence[str], root: Path) -> Side:
    from eventlog.analysis.overview import Overview, connected

    conditions = [parse_condition(part) for part in parts]
    with connected(root) as connection:
        runs = [run for run in Overview(connection).scores() if fits(run, conditions)]
    if not runs:
        raise NoSuchGroupError(text, root)
    unfinished = [run.status for run in runs if run.status != "finished"]
    said = ", ".join(f"{unfinished.count(status)} {status}" for status in dict.fromkeys(unfinished))
    return _mean_side(
        f"{text} ({len(runs)} run{'' if len(runs) == 1 else 's'})",
        "group",
        [(run.results, run.params) for run in runs],
        status=f"in part not finished ({said})" if unfinished else None,
    )


def _mean_side(
    label: str,
    kind: str,
    runs: Sequence[tuple[Mapping[str, float], Mapping[str, object]]],
    *,
    status: str | None = None,
) -> Side:
    keys = {key for found, _ in runs for key in found}
    first = runs[0][1]
    shared = {
        key: value for key, value in first.items() if all(key in own and own[key] == value for _, own in runs)
    }
    return Side(
        label=label,
        kind=kind,
        runs=len(runs),
        status=status,
        results={key: spread([found[key] for found, _ in runs if key in found]).mean for key in keys},
        params=shared,
    )


def _file(path: Path) -> Side:
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BaselineError(path, f"it is no JSON ({error})") from error
    several = said.get("runs") if isinstance(said, dict) else said
    parts = several if isinstance(several, list) and several else [said]
    return _mean_side(str(path), "file", [_part(path, part) for part in parts])


def _part(path: Path, said: object) -> tuple[dict[str, float], dict[str, object]]:
    if not isinstance(said, dict) or not isinstance(said.get("results"), dict):
        raise BaselineError(path, 'it has no "results" with a number for each name')
    found: dict[str, float] = {}
    for key, value in said["results"].items():
        try:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise BadValueError(key, type(value).__name__, "it is no number")
            found[key] = number_in_memory(value)
        except (BadValueError, OverflowError) as error:
            raise BaselineError(path, f"the result {key!r} is {value!r}, which is no number") from error
    params = said.get("params")
    return found, flatten(params) if isinstance(params, dict) else {}
