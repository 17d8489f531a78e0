"""``evlog list`` and ``evlog show``: what runs there are, and all that is known of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import all_runs, resolve_run
from eventlog.cli.options import DEFAULT_ROOT, AsJson, OneRun, Root
from eventlog.storage.layout import RunPath, list_segments, log_directory

if TYPE_CHECKING:
    from eventlog.projections import RunView

_TS = re.compile(rb'"ts":(\d{1,19})')


class Status(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    CRASHED = "crashed"


def list_runs(
    root: Root = DEFAULT_ROOT,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this project.")] = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            metavar="running|finished|failed|killed|crashed", help="Only runs that stand so; repeatable."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="Only runs with this tag; repeatable, all must fit."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many runs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    found = [run for run in all_runs(root) if project is None or run.project == project]
    unreadable: list[RunPath] = []
    views: list[tuple[RunPath, RunView]] = []
    with render.progress("reading runs", total=len(found)) as bar:
        for run, view in _outlines(sorted(found, key=_begun, reverse=True), bar, unreadable):
            if (not status or view.status in status) and all(_has_tag(view, wanted) for wanted in tag or ()):
                views.append((run, view))
            if limit is not None and len(views) == limit:
                break
    views.sort(key=lambda pair: pair[1].started_at or 0, reverse=True)
    if as_json:
        render.write_json([_outline_json(run, view) for run, view in views])
    else:
        _write_list([view for _, view in views])
    if unreadable:
        raise typer.Exit(1)


def _outlines(
    runs: Iterable[RunPath], bar: render.Bar, unreadable: list[RunPath]
) -> Iterator[tuple[RunPath, RunView]]:
    from eventlog.replay import outline

    for run in runs:
        try:
            yield run, outline(run.path)
        except OSError as error:
            render.say(f"{run.project}/{run.run_id} cannot be read: {error}")
            unreadable.append(run)
        bar.advance()


def _begun(run: RunPath) -> int:
    """Return when the first writer of *run* began, from the first line of its log, to sort by."""
    log_dir = log_directory(run.path)
    begun = []
    for segments in list_segments(log_dir).values():
        try:
            with segments[0].path(log_dir).open("rb") as file:
                found = _TS.search(file.readline(4096))
        except OSError:
            continue  # `outline` will say so
        if found:
            begun.append(int(found[1]))
    return min(begun, default=0)


def _has_tag(view: RunView, wanted: str) -> bool:
    name, has_value, value = wanted.partition("=")
    return name in view.tags and (not has_value or view.tags[name] == value)


def _write_list(views: list[RunView]) -> None:
    columns = ("run", "name", "status", "started", "duration", "events", "tags")
    rows = [
        (
            f"{view.project}/{view.run_id}",
            "" if view.name == view.run_id else view.name,
            view.status,
            render.local_time(view.started_at),
            render.duration(view.duration_s),
            str(view.events),
            _tags(view.tags),
        )
        for view in views
    ]
    render.write_table(columns, rows, right=("duration", "events"))
    damaged = [view for view in views if view.findings]
    if damaged:
        names = " ".join(f"{view.project}/{view.run_id}" for view in damaged[:5])
        render.say(f"{len(damaged)} of these runs have damage. See: evlog verify {names}")


def _tags(tags: dict[str, str | None]) -> str:
    return ", ".join(name if value is None else f"{name}={value}" for name, value in sorted(tags.items()))


def _outline_json(run: RunPath, view: RunView) -> dict[str, object]:
    from eventlog.clock import iso_utc

    ended_at = _ended_at(view)
    return {
        "project": view.project,
        "run_id": view.run_id,
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status,
        "started_at": None if view.started_at is None else iso_utc(view.started_at),
        "ended_at": None if ended_at is None else iso_utc(ended_at),
        "duration_s": view.duration_s,
        "parent_run_id": view.parent_run_id,
        "events": view.events,
        "tags": view.tags,
        "findings": view.findings,
        "path": str(run.path),
    }


def _ended_at(view: RunView) -> int | None:
    """Return the end; a run that `evlog log --keep-open` has left is not over."""
    return None if view.status == Status.RUNNING else view.ended_at


# --- show ----------------------------------------------------------------------------------------


def show(run: OneRun, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Show all that is known of a run."""
    from eventlog.replay import view as view_of

    found = resolve_run(run, root)
    with render.progress(f"reading {found.run_id}"):
        view = view_of(found.path)
    if as_json:
        render.write_json(_view_json(found, view))
        return
    _write_head(found, view)
    _write_pairs("params", view.flat_params)
    _write_metrics(view)
    _write_pairs("summary", view.summary)
    _write_artifacts(view)
    for kind, data in view.context.items():
        _write_pairs(kind, data)
    _write_error(view)
    _write_pairs("dropped", view.dropped)
    if view.findings:
        render.say(f"{view.findings} findings in the log. See: evlog verify {found.project}/{found.run_id}")


def _view_json(run: RunPath, view: RunView) -> dict[str, object]:
    import msgspec

    rest = "notes params metrics summary artifacts error exit_code signal context dropped writers"
    return _outline_json(run, view) | {
        name: msgspec.to_builtins(getattr(view, name)) for name in rest.split()
    }


def _write_head(run: RunPath, view: RunView) -> None:
    how = [f"exit code {view.exit_code}"] if view.exit_code is not None else []
    how += [view.signal] if view.signal else []
    head = {
        "run": f"{view.project}/{view.run_id}",
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status + (f" ({', '.join(how)})" if how else ""),
        "started": render.local_time(view.started_at),
        "ended": render.local_time(_ended_at(view)),
        "duration": render.duration(view.duration_s),
        "parent": view.parent_run_id,
        "tags": _tags(view.tags),
        "events": f"{view.events} (writers: {len(view.writers)})",
        "path": str(run.path),
    }
    for name, value in head.items():
        if value:
            render.write(f"{name:<11}{render.printable(value)}")
    for note in view.notes:
        for i, line in enumerate(note.splitlines()):
            render.write(f"{'' if i else 'note':<11}{render.printable(line)}")


def _write_pairs(title: str, values: dict[str, object] | dict[str, int]) -> None:
    if values:
        render.write(f"\n{render.printable(title)}")
        rows = [(key, render.cell(value)) for key, value in sorted(values.items())]
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
    render.write(f"\nerror\n  {render.printable(f'{view.error.type}: {view.error.message}')}")
    for line in view.error.traceback.splitlines():
        render.write("  " + render.printable(line))
