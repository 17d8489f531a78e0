"""Comparison, statistics, plots and exports: plain functions over what logs say, which return frozen structs.

facts, timings, runs    what one run's log says, and which run a name means
overview, groups,       all runs below a root at once, those that agree on params, those that fit conditions
selection
directions, naming      what is better of a metric, and which metric a name means
rules, shown            the words of gates and decisions; numbers, Markdown and HTML for people
statistics/             tests, intervals, effect sizes and corrections for lists of numbers
chance/                 the same for runs: whether one is better by more than chance
comparison/             runs side by side, differences, gates
ranking/                leaderboards and decisions
plots/                  curves, as text and as figures
exports/                runs as documents and as tables
reports/                one page that tells of an experiment

The functions are loaded when they are first asked for. No module here has the name of one of them, or to
import the module would put it in the function's place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventlog.analysis.chance.answer import significance
    from eventlog.analysis.comparison.comparing import compare
    from eventlog.analysis.comparison.difference import diff
    from eventlog.analysis.exports.canonical import canonical, canonical_bytes
    from eventlog.analysis.exports.document import document
    from eventlog.analysis.exports.table import run_table
    from eventlog.analysis.facts import load, results
    from eventlog.analysis.plots.curves import curves
    from eventlog.analysis.ranking.board import leaderboard
    from eventlog.analysis.ranking.decision import decide
    from eventlog.analysis.totals import stats

__all__ = [
    "canonical",
    "canonical_bytes",
    "compare",
    "curves",
    "decide",
    "diff",
    "document",
    "leaderboard",
    "load",
    "results",
    "run_table",
    "significance",
    "stats",
]

_HOMES = {
    "canonical": "exports.canonical",
    "canonical_bytes": "exports.canonical",
    "compare": "comparison.comparing",
    "curves": "plots.curves",
    "decide": "ranking.decision",
    "diff": "comparison.difference",
    "document": "exports.document",
    "leaderboard": "ranking.board",
    "load": "facts",
    "results": "facts",
    "run_table": "exports.table",
    "significance": "chance.answer",
    "stats": "totals",
}
"""The module of each function."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
