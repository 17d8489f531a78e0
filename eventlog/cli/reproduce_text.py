"""What `evlog reproduce` prints: a plan, what is missing, a verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from eventlog.cli import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventlog.lineage.missing import Gap
    from eventlog.lineage.reproduce import Plan, Verdict
    from eventlog.storage.layout import RunPath


def write_plan(plan: Plan, as_json: bool) -> None:
    """Say whether a run can be repeated, what is taken from where, what stands in the way, what to type."""
    from eventlog.lineage.reproduce.steps import steps, summary

    if as_json:
        render.write_json(plan.to_dict() | {"steps": steps(plan)})
        return
    render.write(render.printable(_headline(plan)))
    for what, whence in summary(plan):
        render.write(f"  {what:<12} {render.printable(whence)}")
    for problem in sorted(plan.problems, key=lambda one: (not one.is_final, not one.blocks)):
        level = "stops" if problem.is_final else "stops, unless --force" if problem.blocks else "note"
        render.write(render.printable(f"{level}: {problem}"))
    if plan.is_possible:
        render.write("by hand:")
        for line in steps(plan):
            render.write(f"  {render.printable(line)}")


def _headline(plan: Plan) -> str:
    if not plan.is_possible:
        return f"{plan.label} cannot be repeated"
    force = "" if plan.is_ready else " --force"
    only = "can be repeated" if plan.is_ready else "can be repeated, but not as it was"
    return f"{plan.label} {only}: add --execute{force}"


def write_gaps(gaps: Sequence[Gap], proposed: Mapping[str, object] | None) -> None:
    """Say what a repetition would have to guess, and *proposed*, the record as it should be."""
    if not gaps:
        render.write("nothing is missing")
        return
    rows = [(gap.kind, gap.field, gap.reason, gap.mend) for gap in gaps]
    render.write_table(("kind", "what", "why", "what belongs there"), rows)
    if proposed is not None:
        render.write("\nThe record as it should be:")
        render.write(json.dumps(render.plain(proposed), ensure_ascii=False, indent=2))


def write_verdict(plan: Plan, verdict: Verdict, new: RunPath) -> None:
    """Say what came of comparing the runs."""
    render.write(f"{render.printable(plan.label)} -> {render.printable(f'{new.project}/{new.run_id}')}")
    render.write(render.printable(str(verdict)))
    for note in verdict.notes[verdict.outcome == "failed" :]:  # the first one is why it failed
        render.write(render.printable(f"note: {note}"))
    if len(verdict.differences) > 1:
        rows = [
            (one.key, "-" if one.step is None else str(one.step), *map(_value, (one.old, one.new)))
            for one in verdict.differences
        ]
        render.write_table(("result", "first step", "was", "is"), rows, right=("first step", "was", "is"))
    if verdict.ignored:
        render.write(render.printable(f"not compared: {', '.join(verdict.ignored)}"))


def _value(value: float | None) -> str:
    return "-" if value is None else repr(value)
