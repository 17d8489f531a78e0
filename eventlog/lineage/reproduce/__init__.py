"""Repeats a run: plans it from what was recorded, carries the plan out, and compares the results."""

from __future__ import annotations

from eventlog.lineage.reproduce.errors import ReproductionError
from eventlog.lineage.reproduce.plan import Plan, Problem, make_plan
from eventlog.lineage.reproduce.recorded import Recorded, read_recorded
from eventlog.lineage.reproduce.verdict import Difference, Tolerance, Verdict, compare_results

__all__ = [
    "Difference",
    "Plan",
    "Problem",
    "Recorded",
    "ReproductionError",
    "Tolerance",
    "Verdict",
    "compare_results",
    "make_plan",
    "read_recorded",
]
