"""``evlog sync`` and ``evlog sinks``: bring runs to destinations, and say which destinations there are."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from eventlog.cli import render
from eventlog.cli.find import resolve_run, resolve_runs
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root, Runs
from eventlog.errors import EvlogError, UnknownSinkError
from eventlog.storage.layout import RunPath


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one run at one sink; *result* is ``delivered`` or ``failed``."""

    project: str
    run_id: str
    sink: str
    result: str
    events: int
    status: str
    message: str


def complete_sink(incomplete: str) -> list[str]:
    """Return the sinks whose names begin so."""
    from eventlog.plugins import sinks as installed

    return [name for name in installed() if name.startswith(incomplete)]


def sync(
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="SINK", autocompletion=complete_sink, help="Where to; repeatable."),
    ],
    run: Runs = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Deliver what a destination does not have yet.

    May be stopped and repeated at any time. A run that fails does not stop the others; the exit code is
    then 1, and the table says why.
    """
    check_sinks(to)
    runs, done = _resolved(run, root)
    with render.progress("delivering", total=len(runs) * len(to)) as bar:
        for found in runs:
            for name in to:
                bar.tell(f"{found.run_id} to {name}")
                done.append(deliver_run(found, name))
                bar.advance()
    if as_json:
        render.write_json([msgspec.to_builtins(delivery) for delivery in done])
    else:
        _write(done)
    if any(delivery.result == "failed" for delivery in done):
        raise typer.Exit(1)


def check_sinks(names: list[str]) -> None:
    """Refuse a name that nobody offers before anything is done.

    Raises:
        UnknownSinkError: no installed package offers it.
    """
    from eventlog.plugins import sinks as installed

    known = installed()
    for name in names:
        if name not in known:
            raise UnknownSinkError(name, list(known))


def _resolved(names: list[str] | None, root: Root) -> tuple[list[RunPath], list[Delivery]]:
    """Return the runs, and a failure for each name that is none."""
    if not names:
        return resolve_runs(None, root), []
    runs: dict[RunPath, None] = {}
    failures = []
    for name in names:
        try:
            runs.setdefault(resolve_run(name, root))
        except EvlogError as error:
            failures.append(_failure("", name, "", str(error)))
    return list(runs), failures


def deliver_run(run: RunPath, sink_name: str) -> Delivery:
    """Deliver one run; never raises because of the run or the sink."""
    from eventlog.plugins import load_sink
    from eventlog.sync import sync_run

    try:
        result = sync_run(run.path, load_sink(sink_name), sink_name)
    except ImportError as error:
        message = f"{error}. Install it: pip install 'evlog[{sink_name}]'"
        return _failure(run.project, run.run_id, sink_name, message)
    except Exception as error:  # sinks are anybody's code; the table shows what they raised
        return _failure(run.project, run.run_id, sink_name, f"{type(error).__name__}: {error}")
    return Delivery(
        project=run.project,
        run_id=run.run_id,
        sink=sink_name,
        result="delivered",
        events=result.delivered,
        status=result.status,
        message=f"{result.findings} findings in the log: evlog verify" if result.findings else "",
    )


def _failure(project: str, run_id: str, sink: str, message: str) -> Delivery:
    return Delivery(
        project=project, run_id=run_id, sink=sink, result="failed", events=0, status="", message=message
    )


def _write(done: list[Delivery]) -> None:
    render.write_table(
        ("run", "sink", "result", "events", "status", "message"),
        [
            (
                f"{one.project}/{one.run_id}" if one.project else one.run_id,
                one.sink,
                one.result,
                str(one.events),
                one.status,
                one.message,
            )
            for one in done
        ],
        right=("events",),
    )


def sinks(as_json: AsJson = False) -> None:
    """List the installed sinks, without loading them."""
    from eventlog.plugins import sinks as installed

    found = [
        {
            "name": name,
            "distribution": point.dist.name if point.dist else None,
            "version": point.dist.version if point.dist else None,
            "object": point.value,
        }
        for name, point in installed().items()
    ]
    if as_json:
        render.write_json(found)
    else:
        columns = ("name", "distribution", "version", "object")
        render.write_table(columns, [[one[column] or "-" for column in columns] for one in found])
