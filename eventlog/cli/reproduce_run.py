"""Carries out what `evlog reproduce` has planned, and leaves nothing behind when it is stopped."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

import typer

from eventlog.cli import render
from eventlog.storage.layout import RunPath

if TYPE_CHECKING:
    from eventlog.lineage.reproduce import Plan, Recorded, Tolerance, Verdict
    from eventlog.lineage.reproduce.carry import Start

_STDERR = 2
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Options(NamedTuple):
    """What the command line says of how a plan is carried out."""

    into: Path | None
    find_links: tuple[Path, ...]
    no_index: bool
    force: bool
    is_quiet: bool

    def tell(self, step: str) -> None:
        """Say what is being done."""
        if not self.is_quiet:
            render.say(step)


class Done(NamedTuple):
    """What came of it.

    Attributes:
        run: the one that was compared.
        stopped_by: the signal that ended the command through us; 0 if none did.
    """

    verdict: Verdict
    run: RunPath
    stopped_by: int


class _Stopped(BaseException):
    """A signal wants us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def carry_out(plan: Plan, recorded: Recorded, found: RunPath, tolerance: Tolerance, options: Options) -> Done:
    """Repeat the run and compare.

    Raises:
        ReproductionError: it cannot be run.
    """
    from eventlog.lineage.reproduce.carry import places_below, prepare

    _refuse(plan, options)
    for problem in plan.problems:
        options.tell(str(problem))
    try:
        with _stopped_by_signals(), _workspace(plan, options.into) as directory:
            places = places_below(directory)
            start = prepare(
                plan,
                places,
                options.tell,
                find_links=options.find_links,
                no_index=options.no_index,
                is_forced=options.force,
            )
            first, new, stopped_by = _start(plan, recorded, found, start, options)
            is_gone = options.into is None and new.path.is_relative_to(directory)
            verdict = _judge(recorded, new, tolerance, is_gone=is_gone)
            for run in dict.fromkeys([first, new]):
                _keep(plan, run, verdict)
            return Done(verdict, new, stopped_by)
    except _Stopped as stop:
        render.say(f"stopped by {signal.Signals(stop.number).name}; nothing is left behind")
        raise typer.Exit(128 + stop.number) from stop


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Have the signals that end us raise `_Stopped` here, so that what was made for us goes away."""

    def stop(number: int, _: FrameType | None) -> None:
        raise _Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays so: nohup.
    before = {number: signal.getsignal(number) for number in _ENDING}
    taken = {number: old for number, old in before.items() if old is signal.SIG_DFL}
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let the signals that end us wait until what is done here is done."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*_ENDING, signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _refuse(plan: Plan, options: Options) -> None:
    from eventlog.lineage.reproduce import ReproductionError

    stops = [p for p in plan.problems if p.is_final or (p.blocks and not options.force)]
    if stops:
        way = "" if any(p.is_final for p in stops) else "Go on all the same with --force."
        raise ReproductionError(f"{plan.label} cannot be repeated", "; ".join(map(str, stops)), way)


@contextlib.contextmanager
def _workspace(plan: Plan, into: Path | None) -> Iterator[Path]:
    """Yield a directory for worktree and environment; it goes away unless somebody named it."""
    from eventlog.lineage.reproduce import ReproductionError
    from eventlog.lineage.reproduce.carry import places_below
    from eventlog.lineage.reproduce.code import remove_worktree

    if into is not None:
        if into.exists() and any(into.iterdir()):
            raise ReproductionError("--into", f"{into} is not empty")
        into.mkdir(parents=True, exist_ok=True)
        yield into.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="evlog-reproduce-", ignore_cleanup_errors=True) as name:
        directory = Path(name).resolve()
        try:
            yield directory
        finally:
            if not plan.code.in_place:
                with _undisturbed():
                    remove_worktree(plan.code, places_below(directory).code)


def _start(
    plan: Plan, recorded: Recorded, found: RunPath, start: Start, options: Options
) -> tuple[RunPath, RunPath, int]:
    """Run the command as `evlog run` does.

    Returns:
        The run of the command, the one to be compared, and the signal that ended us.
    """
    from eventlog.lineage.reproduce import ReproductionError, carry
    from eventlog.lineage.reproduce.recorded import run_begun_by

    root = found.path.parents[1]
    project = plan.siblings[0].partition("/")[0]
    roots = carry.roots_of(plan, root, start)
    before = carry.known_runs(roots)
    writers = carry.writers_of(found.path)
    options.tell(f"running {render.printable(shlex.join(start.argv))}")
    process, stopped_by = _run(plan, root, project, start, is_quiet=options.is_quiet)
    if carry.writers_of(found.path) != writers and plan.status != "running":
        raise ReproductionError(
            "run", f"the command wrote into {plan.label} itself, whose name it has in its code"
        )
    made = carry.known_runs(roots) - before
    # Not by its name: of two that are begun at once one gets another.
    first = run_begun_by(process.pid, [run for run in made if run.name.startswith(plan.new_run_id)])
    if first is None:
        raise ReproductionError("run", f"it could not be logged (exit code {process.returncode})")
    new = carry.find_repeated(plan, recorded, first, made)
    return _run_path(first), _run_path(new), stopped_by


def _run_path(run: Path) -> RunPath:
    return RunPath(run.parent.name, run.name, run)


def _run(
    plan: Plan, root: Path, project: str, start: Start, *, is_quiet: bool
) -> tuple[subprocess.Popen[bytes], int]:
    """Return the process that ran the command, and the signal that ended us meanwhile."""
    command = [sys.executable, "-P", "-m", "eventlog", "run", "--dir", str(root), "--name", plan.new_run_id]
    command += ["--project", project, "--tag", f"reproduces={plan.label}", "--", *start.argv]
    environment = {k: v for k, v in start.environment.items() if k not in ("EVLOG_RUN_ID", "EVLOG_DISABLED")}
    # What we print for programs stays free of what the command prints.
    process = subprocess.Popen(command, cwd=start.cwd, env=environment, stdout=_STDERR if is_quiet else None)
    stopped_by = 0
    while True:
        try:
            process.wait()
        except KeyboardInterrupt:
            stopped_by = signal.SIGINT  # the terminal gave it to the command too, whose end we wait for
        except _Stopped as stop:
            stopped_by = stop.number
            process.send_signal(stop.number)
        else:
            return process, stopped_by


def _judge(recorded: Recorded, new: RunPath, tolerance: Tolerance, *, is_gone: bool) -> Verdict:
    """Compare; *is_gone* says that the new run goes away with its worktree."""
    import msgspec

    from eventlog.lineage.reproduce import compare_results, read_recorded
    from eventlog.lineage.reproduce.carry import data_notes
    from eventlog.lineage.reproduce.plan import ended

    repeated = read_recorded(new.path)
    notes = data_notes(recorded, repeated)
    if is_gone:
        notes.append("its code logs into the worktree, which goes away; --into DIR keeps it")
    verdict = compare_results(recorded, repeated, tolerance, notes=notes)
    status = repeated.facts.view.status
    if status != "finished" and recorded.facts.view.status == "finished":
        how = repeated.facts.view.error
        why = f"the new run {ended(status)}" + (f" ({how.message})" if how else "")
        verdict = msgspec.structs.replace(verdict, outcome="failed", notes=[why, *verdict.notes])
    return verdict


def _keep(plan: Plan, new: RunPath, verdict: Verdict) -> None:
    """Log the verdict into the new run."""
    from eventlog import events as ev
    from eventlog.cli.writing import begin, open_recorder

    recorder = open_recorder(new)
    begin(recorder, is_new=False, name=new.run_id, reason="joined")
    recorder.add(ev.Tags(data={"reproduces": plan.label, "reproduction": verdict.outcome}))
    recorder.add(ev.Note(text=f"reproduces {plan.label}: {verdict}"))
    recorder.end("finished", None)  # of this part: the run stands as it stood
