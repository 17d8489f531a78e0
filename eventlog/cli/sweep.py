"""``evlog sweep``: a command over a space of params."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.settings import DEFAULT_PROJECT

if TYPE_CHECKING:
    from eventlog.sweep.config import SweepConfig
    from eventlog.sweep.running import Runner
    from eventlog.sweep.trials import State


def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="What to run: TOML, JSON or YAML.")],
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, metavar="N", help="So many at once; default as CONFIG says."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Run at most so many trials now.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials that failed once more.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the trials and how they stand.")] = False,
    show_output: Annotated[
        bool, typer.Option("--show-output", help="Let the commands print; it is logged anyway.")
    ] = False,
    project: Annotated[
        str, typer.Option(envvar="EVLOG_PROJECT", metavar="NAME", help="Project of the runs.")
    ] = DEFAULT_PROJECT,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Run a command over a space of params, grid or random, several at once.

    Each trial is an `evlog run` with its params, in the experiment that has the sweep's name. Called again,
    it goes on: what finished stays, what was killed or crashed is run once more as another run, what failed
    only with --retry-failed. Ctrl-C is passed on to the commands, the second one kills them. The exit code
    is 1 if a trial has failed, or is left without --limit.
    """
    from eventlog.ids import check_name
    from eventlog.sweep.config import read_config
    from eventlog.sweep.lock import only_one
    from eventlog.sweep.trials import state_of, trials

    wanted = read_config(config)
    directory = root / check_name("project", project)
    if dry_run:
        states = [state_of(trial, directory) for trial in trials(wanted)]
        _show(wanted, states, as_json=as_json)
        return
    with only_one(directory, wanted.name, _say_waiting) as lock:
        states = [state_of(trial, directory) for trial in trials(wanted)]
        left = [
            state for state in states if state.state == "left" or (retry_failed and state.state == "failed")
        ][:limit]
        _run(_runner(wanted, root, project, jobs=jobs, show_output=show_output, lock=lock), wanted, left)
        states = [state_of(state.trial, directory) for state in states]
    _show(wanted, states, as_json=as_json)
    if wanted.metric is not None and not as_json:
        _say_best(wanted, root, project)
    tried = {state.trial.number for state in left}
    expected = [state for state in states if limit is None or state.trial.number in tried]
    if any(state.state == "failed" for state in states) or any(s.state != "done" for s in expected):
        raise typer.Exit(1)


def _say_waiting() -> None:
    render.say("waiting for jobs that an earlier call has left running")


def _runner(
    config: SweepConfig, root: Path, project: str, *, jobs: int | None, show_output: bool, lock: int | None
) -> Runner:
    from eventlog.sweep.running import Runner

    return Runner(
        _command(config, root, project),
        jobs=jobs or config.jobs,
        devices=config.devices,
        shows_output=show_output,
        lock=lock,
    )


def _run(runner: Runner, config: SweepConfig, left: list[State]) -> None:
    title = f"sweep {config.name}"
    with _signals_passed_to(runner), render.progress(title, total=len(left)) as bar:
        for one in runner.run(left, lambda state: bar.tell(f"{title}: {state.next_id}")):
            bar.advance()
            if one.exit_code:
                last = one.last_words.splitlines()[-1:] or [""]
                render.say(f"{one.state.next_id} ended with {one.exit_code}: {last[0]}")


def _command(config: SweepConfig, root: Path, project: str) -> Callable[[State], list[str]]:
    from eventlog.sweep.space import to_text

    def words(state: State) -> list[str]:
        evlog = [sys.executable, "-m", "eventlog", "run", "--dir", str(root), "--project", project]
        evlog += ["--name", state.next_id, "--experiment", config.name, "--tag", f"sweep={config.name}"]
        for name, value in config.tags.items():
            evlog += ["--tag", f"{name}={value}"]
        for name, param in state.trial.params.items():
            evlog += ["--param", f"{name}={to_text(param)}"]
        return [*evlog, "--", *config.words(state.trial.params)]

    return words


@contextlib.contextmanager
def _signals_passed_to(runner: Runner) -> Iterator[None]:
    """Pass signals on to the jobs while the block runs; what is ignored (`nohup`) stays so."""

    def pass_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
        os.write(2, b"evlog: stopping; call the sweep again to go on\n")  # printing is not safe here
        runner.stop(number)

    wanted = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(config: SweepConfig, states: list[State], *, as_json: bool) -> None:
    counts = Counter(state.state for state in states)
    if as_json:
        rows = [
            {
                "number": state.trial.number,
                "run_id": state.trial.run_id,
                "state": state.state,
                "attempts": state.attempts,
                "params": state.trial.params,
            }
            for state in states
        ]
        render.write_json({"sweep": config.name, "counts": dict(counts), "trials": rows})
        return
    names = list(config.space)
    rows_of_text = [
        (
            str(state.trial.number),
            state.trial.run_id,
            state.state,
            str(state.attempts),
            *(render.cell(state.trial.params[name]) for name in names),
        )
        for state in states
    ]
    render.write_table(
        ("trial", "run", "state", "attempts", *names), rows_of_text, right=("trial", "attempts")
    )
    said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    render.write(f"\nsweep {config.name}: {len(states)} trials, {said}")


def _say_best(config: SweepConfig, root: Path, project: str) -> None:
    """Show the leaderboard of the sweep, grouped by what it varies except the seed."""
    assert config.metric is not None
    from eventlog.errors import EvlogError

    groups = [name for name in config.space if name not in {"seed", "random_seed"}]
    words = ["leaderboard", "--metric", config.metric.key, "--experiment", config.name, "--project", project]
    words += ["--mode", config.metric.mode] if config.metric.mode else []
    words += [word for name in groups for word in ("--group-by", name)]
    render.write("\n$ evlog " + " ".join(words))
    from eventlog.cli.app import app

    try:
        app([*words, "--dir", str(root)], standalone_mode=False)
    except EvlogError as error:
        render.say(str(error))


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    app.command(
        "sweep",
        epilog="\b\nExamples:\n  evlog sweep lr.toml --jobs 4\n  evlog sweep lr.toml --dry-run\n"
        "  evlog sweep lr.toml --retry-failed",
    )(sweep)
