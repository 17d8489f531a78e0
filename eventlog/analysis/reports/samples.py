"""Results of benchmarks over the places of a report, and a few samples that are wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from eventlog.analysis.groups import Scores, Spread, spread, text_of
from eventlog.analysis.reports.model import Benchmark, Standing, WrongSample
from eventlog.analysis.reports.reading import Below

_CORRECTNESS = ("correct", "is_correct", "accuracy", "acc", "exact_match", "em")
_MOST_METRICS = 8
_MOST_CHARACTERS = 400


def benchmarks(
    below: Below,
    standings: Sequence[Standing],
    runs: Mapping[str, Scores],
    *,
    most: int,
    most_rows: int,
    most_samples: int,
) -> tuple[list[Benchmark], int]:
    """Return what was evaluated, by name, and how much more; of the best run, some wrong samples."""
    metrics: dict[str, list[str]] = {}
    for name, key in below.ask(_METRICS):
        metrics.setdefault(str(name), []).append(str(key))
    having: dict[str, set[str]] = {}
    for name, project, run_id in below.ask(_HAVING):
        having.setdefault(str(name), set()).add(f"{project}/{run_id}")
    found = []
    names = sorted(metrics.keys() | having.keys())
    for name in names[:most]:
        one = _table(name, sorted(metrics.get(name, [])), standings, runs, most_rows)
        ordered = [run for standing in standings for run in standing.members]
        best = next((run for run in [*ordered, *runs] if run in having.get(name, ())), None)
        found.append(one if best is None else _with_samples(below, one, best, most_samples))
    return found, max(0, len(names) - most)


def _table(
    name: str, metrics: list[str], standings: Sequence[Standing], runs: Mapping[str, Scores], most: int
) -> Benchmark:
    rows = []
    for standing in standings:
        own = [runs[run].results for run in standing.members if run in runs]
        cells: list[Spread | None] = []
        for metric in metrics[:_MOST_METRICS]:
            values = [one[f"{name}/{metric}"] for one in own if f"{name}/{metric}" in one]
            cells.append(spread(values) if values else None)
        if any(cell is not None for cell in cells):
            rows.append((standing.label, cells))
    return Benchmark(
        name=name, metrics=metrics[:_MOST_METRICS], rows=rows[:most], left_out=max(0, len(rows) - most)
    )


def _with_samples(below: Below, one: Benchmark, run: str, most: int) -> Benchmark:
    """Return *one* with the samples of *run*, if anything says which of them are wrong."""
    rows = list(below.ask(_COUNT, [run], benchmark=one.name))
    total = sum(int(str(count)) for _, count in rows)
    wrong = sum(int(str(count)) for is_wrong, count in rows if is_wrong)
    shown = [
        WrongSample(
            index=int(str(index)),
            input=_text(sample),
            target=_text(target),
            prediction=_text(prediction, is_prediction=True),
        )
        for index, sample, target, prediction in below.ask(_WRONG, [run], benchmark=one.name, most=most)
    ]
    return Benchmark(
        name=one.name,
        metrics=one.metrics,
        rows=one.rows,
        left_out=one.left_out,
        run=run,
        samples=total,
        wrong=wrong,
        shown=shown,
    )


def _text(stored: object, *, is_prediction: bool = False) -> str:
    """Return JSON as people read it, cut; of what `eventlog.evaluation` logged, the answer alone."""
    if stored is None:
        return ""
    try:
        value = json.loads(str(stored))
    except ValueError:
        value = str(stored)
    if is_prediction and isinstance(value, dict) and "item" in value:
        value = f"error: {value['error']}" if value.get("error") else value.get("answer", value.get("output"))
    text = "" if value is None else text_of(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


_METRICS = """
    SELECT DISTINCT benchmark, unnest(map_keys(metrics)) AS key
    FROM evaluations SEMI JOIN selected USING (project, run_id) ORDER BY ALL
"""
_HAVING = """
    SELECT DISTINCT benchmark, project, run_id FROM samples SEMI JOIN selected USING (project, run_id)
    ORDER BY ALL
"""
_IS_WRONG = f"coalesce({', '.join(f'metrics[{name!r}]' for name in _CORRECTNESS)}) < 1"
_LAST = """
    samples SEMI JOIN selected USING (project, run_id) WHERE benchmark = $benchmark
    QUALIFY row_number() OVER (PARTITION BY "index" ORDER BY ts DESC, writer DESC, seq DESC) = 1
"""
"""Of one index the last sample counts."""
_COUNT = f"""
    SELECT coalesce({_IS_WRONG}, false) AS wrong, count(*) FROM (SELECT * FROM {_LAST}) GROUP BY wrong
"""
_WRONG = f"""
    SELECT "index", input, target, prediction FROM (SELECT * FROM {_LAST}) WHERE {_IS_WRONG}
    ORDER BY "index" LIMIT $most
"""
