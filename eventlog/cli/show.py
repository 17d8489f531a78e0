"""``evlog show``: all that is known of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventlog.analysis.runs import find_run
from eventlog.cli import render
from eventlog.cli.options import DEFAULT_ROOT, AsJson, OneRun, Root
from eventlog.cli.runs import ended_at, outline_json, tags_text
from eventlog.errors import BadValueError
from eventlog.values import number_in_memory

if TYPE_CHECKING:
    from eventlog.analysis.facts import RunFacts
    from eventlog.projections import RunView
    from eventlog.storage.layout import RunPath


def show(run: OneRun, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Show all that is known of a run."""
    from eventlog.analysis.facts import load

    found = find_run(run, root)
    with render.progress(f"reading {found.run_id}"):
        facts = load(found.path)
    view = facts.view
    if as_json:
        render.write_json(_facts_json(found, facts))
        return
    _write_head(found, view)
    _write_pairs("params", view.flat_params)
    _write_metrics(view)
    _write_pairs("summary", view.summary)
    _write_evaluations(facts)
    _write_datasets(facts)
    _write_checkpoints(facts)
    _write_artifacts(view)
    for kind, data in view.context.items():
        _write_pairs(kind, _in_short(data))
    _write_error(view)
    _write_pairs("dropped", view.dropped)
    if view.findings:
        render.say(f"{view.findings} findings in the log. See: evlog verify {found.project}/{found.run_id}")


def _facts_json(run: RunPath, facts: RunFacts) -> dict[str, object]:
    import msgspec

    view = facts.view
    lists = {name: msgspec.to_builtins(getattr(facts, name)) for name in _LISTS}
    rest = "notes params metrics summary artifacts error exit_code signal context dropped writers"
    of_view = {name: msgspec.to_builtins(getattr(view, name)) for name in rest.split()}
    return outline_json(run, view) | of_view | lists


_LISTS = ("evaluations", "datasets", "checkpoints")


def _write_head(run: RunPath, view: RunView) -> None:
    how = [f"exit code {view.exit_code}"] if view.exit_code is not None else []
    how += [view.signal] if view.signal else []
    head = {
        "run": f"{view.project}/{view.run_id}",
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status + (f" ({', '.join(how)})" if how else ""),
        "started": render.local_time(view.started_at),
        "ended": render.local_time(ended_at(view)),
        "duration": render.duration(view.duration_s),
        "parent": view.parent_run_id,
        "tags": tags_text(view.tags),
        "events": f"{view.events} (writers: {len(view.writers)})",
        "path": str(run.path),
    }
    for name, value in head.items():
        if value:
            render.write(f"{name:<11}{render.printable(render.shortened(value))}")
    for note in view.notes:
        for i, line in enumerate(note.splitlines()):
            render.write(f"{'' if i else 'note':<11}{render.printable(render.shortened(line))}")


def _write_pairs(title: str, values: dict[str, object] | dict[str, int]) -> None:
    if values:
        render.write(f"\n{render.printable(title)}")
        rows = [
            (render.shortened(key), render.shortened(render.cell(value)))
            for key, value in sorted(values.items())
        ]
        render.write_table(("key", "value"), rows, indent=2)


def _write_metrics(view: RunView) -> None:
    if not view.metrics:
        return
    render.write("\nmetrics")
    columns = ("key", "last", "min", "max", "mean", "count", "steps")
    rows = [
        (
            key,
            *(render.number(value) for value in (stats.last, stats.min, stats.max, stats.mean)),
            str(stats.count),
            "-" if stats.first_step is None else f"{stats.first_step}..{stats.last_step}",
        )
        for key, stats in sorted(view.metrics.items())
    ]
    render.write_table(columns, rows, right=columns[1:], indent=2)


def _in_short(data: dict[str, object]) -> dict[str, object]:
    """Return *data* with a count in the place of what would fill screens: packages, variables."""
    return {
        key: f"{len(value)} (--json shows them)"
        if isinstance(value, (dict, list)) and len(value) > 20
        else value
        for key, value in data.items()
    }


def _write_evaluations(facts: RunFacts) -> None:
    rows = [
        (one.benchmark, _step(one.step), name, _number(value))
        for one in facts.evaluations
        for name, value in one.metrics.items()
    ]
    if rows:
        render.write("\nevaluations")
        render.write_table(("benchmark", "step", "metric", "value"), rows, right=("step", "value"), indent=2)


def _write_datasets(facts: RunFacts) -> None:
    if facts.datasets:
        render.write("\ndatasets")
        rows = [
            (
                one.name,
                one.version or "",
                one.split or "",
                "" if one.rows is None else str(one.rows),
                one.sha256 or "",
            )
            for one in facts.datasets
        ]
        render.write_table(("name", "version", "split", "rows", "sha256"), rows, right=("rows",), indent=2)


def _write_checkpoints(facts: RunFacts) -> None:
    if facts.checkpoints:
        render.write("\ncheckpoints")
        rows = [(_step(one.step), render.size(one.size_bytes), one.path) for one in facts.checkpoints]
        render.write_table(("step", "size", "path"), rows, right=("step", "size"), indent=2)


def _number(value: int | float | str) -> str:
    try:
        return render.number(number_in_memory(value))
    except BadValueError:
        return str(value)  # a text that no writer of ours puts there


def _step(step: int | None) -> str:
    return "-" if step is None else str(step)


def _write_artifacts(view: RunView) -> None:
    if not view.artifacts:
        return
    render.write("\nartifacts")
    render.write_table(
        ("name", "version", "type", "size", "path", "sha256"),
        [
            (
                artifact.name,
                str(artifact.version),
                artifact.artifact_type or "",
                render.size(artifact.size_bytes),
                artifact.path,
                artifact.sha256 or "",
            )
            for artifact in view.artifacts
        ],
        right=("version", "size"),
        indent=2,
    )


def _write_error(view: RunView) -> None:
    if view.error is None:
        return
    what = render.shortened(f"{view.error.type}: {view.error.message}")
    render.write(f"\nerror\n  {render.printable(what)}")
    for line in view.error.traceback.splitlines():
        render.write("  " + render.printable(line))
