"""``evlog sync`` and ``evlog sinks``: bring runs to destinations, and say which destinations there are.

What delivers is imported where it is used: 20 ms that `evlog list` and `evlog --help` have no use for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from eventlog.cli import render
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root, Runs
from eventlog.errors import EvlogError, UnknownSinkError
from eventlog.storage.layout import RunPath

if TYPE_CHECKING:
    from eventlog.sync import Outcome, Selection, SyncOptions, Target

INTERRUPTED = 130
TIMEOUT_S = 300.0  # as in `eventlog.delivery.pump`


def complete_sink(incomplete: str) -> list[str]:
    """Return the sinks whose names begin so."""
    from eventlog.plugins import sinks as installed

    return [name for name in installed() if name.startswith(incomplete)]


def sync(
    run: Runs = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="SINK", autocompletion=complete_sink, help="Where to; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="For the sink; repeatable."),
    ] = None,
    root: Root = DEFAULT_ROOT,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Runs at a time.")] = 1,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as runs grow and as others begin, until Ctrl-C.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Give a destination up after so long.")
    ] = TIMEOUT_S,
    only_finished: Annotated[bool, typer.Option("--only-finished", help="Leave running runs out.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Runs begun since: a date, a time, 36h, 7d.")
    ] = None,
    project: Annotated[list[str] | None, typer.Option(help="Runs of this project; repeatable.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Runs with this tag; repeatable.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only these metrics, as train/*; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Not these metrics; repeatable.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Give a metric another name; repeatable.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Each N-th point of a metric.")] = 1,
    max_points: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="At most N points of a metric; for ended runs.")
    ] = None,
    redact: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", help="Hide params and parts of texts that match; repeatable."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget and deliver everything anew.")] = False,
    retry_dead_letters: Annotated[
        bool, typer.Option("--retry-dead-letters", help="Try what was refused once more.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the destination back and compare it with the log.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show what was sent where, and what is left.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Deliver what a destination does not have yet.

    RUN may also be a directory of runs. May be stopped and repeated at any time: each event arrives once. A
    run that fails does not stop the others; the exit code is then 1, and the table says why. Without filters
    (--include … --redact) everything goes; a run has to be delivered with the same filters each time.
    """
    from eventlog.cli import ledgers, shaping
    from eventlog.sync import Selection, SyncOptions

    selection = Selection(
        projects=tuple(project or ()),
        tags=tuple(tag or ()),
        since_us=shaping.since_us(since),
        only_finished=only_finished,
    )
    _check_modes(follow=follow, dry_run=dry_run, verify=verify, status=status)
    if status:
        runs, failures = _selected(run, root, selection)
        ledgers.write_status(runs, to or [], failures, as_json=as_json)
        return
    if not to:
        raise typer.BadParameter(
            "say where to, as in --to local; `evlog sinks` lists them", param_hint="--to"
        )
    check_sinks(to)
    targets = shaping.targets_of(to, option or [])
    shape = shaping.shape_of(include or [], exclude or [], rename or [], every, max_points, redact or [])
    options = SyncOptions(
        shape=shape, restart=restart, retry_letters=retry_dead_letters, timeout_s=timeout, jobs=jobs
    )
    if follow:
        _follow(run, root, targets, options, selection, as_json=as_json)
        return
    runs, failures = _selected(run, root, selection)
    if verify:
        ledgers.write_proofs(runs, targets, failures, as_json=as_json)
    elif dry_run:
        ledgers.write_preview(runs, targets, options, failures, as_json=as_json)
    else:
        _deliver(runs, targets, options, failures, as_json=as_json)


def _check_modes(**modes: bool) -> None:
    """Refuse two of those that exclude each other.

    Raises:
        typer.BadParameter: naming them.
    """
    wanted = [f"--{name.replace('_', '-')}" for name, is_wanted in modes.items() if is_wanted]
    if len(wanted) > 1:
        raise typer.BadParameter(f"{' and '.join(wanted)}: choose one", param_hint=wanted[0])


def _selected(
    names: list[str] | None, root: Root, selection: Selection
) -> tuple[list[RunPath], list[Outcome]]:
    from eventlog.cli import shaping

    runs, failures = shaping.wanted_runs(names, root)
    return [run for run in runs if selection.takes(run)], failures


def check_sinks(names: Sequence[str]) -> None:
    """Refuse a name that nobody offers before anything is done.

    Raises:
        UnknownSinkError: no installed package offers it.
    """
    from eventlog.plugins import sinks as installed

    known = installed()
    for name in names:
        if name not in known:
            raise UnknownSinkError(name, list(known))


# --- once ------------------------------------------------------------------------------------------


class _Bar:
    """Shows a delivery as a bar of events; its methods are called from several threads."""

    def __init__(self, bar: render.Bar) -> None:
        self._bar = bar

    def began(self, run: RunPath, sink: str) -> None:
        self._bar.tell(f"{run.run_id} to {sink}")

    def took(self, events: int) -> None:
        self._bar.advance(events)

    def ended(self, outcome: Outcome) -> None:
        """Do nothing: the table at the end says it."""


def _deliver(
    runs: Sequence[RunPath],
    targets: Sequence[Target],
    options: SyncOptions,
    failures: Sequence[Outcome],
    *,
    as_json: bool,
) -> None:
    from eventlog.sync import sync_runs

    total = _events_waiting(runs, targets) if render.is_watched() else None
    with stopping() as stop, render.progress("delivering", total=total, has_rate=True) as bar:
        done = [*failures, *sync_runs(runs, targets, options, stop=stop, watcher=_Bar(bar))]
        is_stopped = stop.is_set()
    write_outcomes(done, as_json=as_json)
    if is_stopped:
        render.say("stopped; the same command goes on from here")
        raise typer.Exit(INTERRUPTED)
    if not all(outcome.is_good for outcome in done):
        raise typer.Exit(1)


def _events_waiting(runs: Sequence[RunPath], targets: Sequence[Target]) -> int:
    """Return how many events there are to deliver, for the bar; what cannot be told counts as nothing."""
    from eventlog.delivery.backlog import backlog
    from eventlog.delivery.ledger import ledger_path, load_ledger

    total = 0
    for target in targets:
        try:
            sink = target.make()
        except Exception:  # the delivery itself will say what is wrong with it
            continue
        for run in runs:
            try:
                ledger = load_ledger(ledger_path(run.path, target.sink, sink.destination))
                is_new = ledger is None or sink.traits.is_projection
                total += backlog(run.path, {} if is_new or ledger is None else ledger.cursors).events
            except (EvlogError, OSError, ValueError):
                continue  # likewise
    return total


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set; the second Ctrl-C ends the command at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        if stop.is_set():
            # Not an exception: threads that hang in a sink would be waited for. What was not saved is
            # repeated, as after any kill.
            os._exit(INTERRUPTED)
        stop.set()
        message = b"evlog: stopping after the batch that is under way; Ctrl-C again to stop at once\n"
        # Past the buffer, in which the interrupted code may be at this moment.
        with contextlib.suppress(OSError):
            os.write(2, message)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def write_outcomes(done: Sequence[Outcome], *, as_json: bool) -> None:
    """Write what happened to each run at each destination."""
    if as_json:
        render.write_json([msgspec.to_builtins(outcome) for outcome in done])
        return
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


# --- following -----------------------------------------------------------------------------------------


def _follow(
    names: list[str] | None,
    root: Root,
    targets: Sequence[Target],
    options: SyncOptions,
    selection: Selection,
    *,
    as_json: bool,
) -> None:
    from eventlog.cli import shaping
    from eventlog.watch import follow_runs

    if names and len(names) > 1:
        raise typer.BadParameter("--follow takes one directory of runs, or one run", param_hint="RUN")
    if options.restart or options.retry_letters:
        raise typer.BadParameter("do that once, without --follow", param_hint="--follow")
    shape = options.shape
    if shape is not None and shape.max_points is not None and not selection.only_finished:
        raise typer.BadParameter(
            "it is for runs that have ended; add --only-finished, or use --every", param_hint="--max-points"
        )
    scope = shaping.scope_of(names[0] if names else None, root, selection)
    lock, gone = threading.Lock(), threading.Event()
    with stopping() as stop:

        def report(outcome: Outcome) -> None:
            line = msgspec.json.encode(outcome).decode() if as_json else _line(outcome)
            with lock:
                try:
                    render.write(line)
                    sys.stdout.flush()  # into a pipe too: somebody waits for it
                except BrokenPipeError:
                    gone.set()  # nobody reads any more
                    stop.set()

        if not as_json:
            names_of_sinks = ", ".join(target.sink for target in targets)
            is_there = "" if scope.place.is_dir() else ", which is not there yet,"
            render.say(f"following {scope.place}{is_there} to {names_of_sinks}; Ctrl-C ends it")
        follow_runs(scope.runs, targets, options, scope.selection, stop=stop, report=report)
    if gone.is_set():
        raise BrokenPipeError


def _line(outcome: Outcome) -> str:
    what = outcome.message or f"{outcome.events} events, {outcome.status}"
    run = f"{outcome.project}/{outcome.run_id}" if outcome.project else outcome.run_id
    to = f" to {outcome.sink}" if outcome.sink else ""
    return render.printable(f"{run}{to}: {outcome.result}: {what}")


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
