"""``evlog run``: run any command as a run."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from eventlog import events as ev
from eventlog.cli import render
from eventlog.cli.deliver import check_sinks, complete_sink
from eventlog.cli.options import DEFAULT_ROOT, Root
from eventlog.storage.layout import RunPath

SYNC_TIMEOUT_S = 30.0

if TYPE_CHECKING:
    from eventlog.cli.plain_child import Outcome
    from eventlog.tracker.recording import RunRecorder


Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SINK",
        autocompletion=complete_sink,
        help="Where the run goes when it has ended; repeatable, default local.",
    ),
]
TrackProject = Annotated[
    str | None,
    typer.Option(
        "--track-project",
        "--project",
        envvar="EVLOG_PROJECT",
        metavar="NAME",
        help="Project; default 'default'.",
    ),
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Name and id of the run; default the time.")]
Experiment = Annotated[str | None, typer.Option(metavar="NAME", help="Experiment that the run belongs to.")]
RunTags = Annotated[
    list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Label of the run; repeatable.")
]
RunParams = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=VALUE", help="A param: a JSON scalar, or else text; repeatable."),
]
Console = Annotated[
    bool,
    typer.Option(
        "--console/--no-console",
        help="Log what the command prints. Without, it has the terminal for itself.",
    ),
]


Private = Annotated[
    bool | None,
    typer.Option(
        "--private/--no-private",
        help="Let nobody else read the run; default as EVLOG_PRIVATE or evlog.toml says.",
        show_default=False,
    ),
]


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARG]...", help="What to run.")],
    track: Track = None,
    project: TrackProject = None,
    name: Name = None,
    experiment: Experiment = None,
    tag: RunTags = None,
    param: RunParams = None,
    console: Console = True,
    private: Private = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Run a command as a run: its output, its end, and what it logs.

    A tracker that the command creates takes part in this run. Output is passed on unchanged; signals are
    passed on to the command. The exit code is that of the command, 128+n if signal n ended it, 127 if
    there is no such command. When the log cannot be written, the command runs all the same.
    """
    run_command = _child().run_command
    from eventlog.settings import DEFAULT_PROJECT

    sinks = track or ["local"]
    check_sinks(sinks)
    about = _About(experiment, dict(map(_tag, tag or [])), dict(map(_param, param or [])))
    recorder = _start(root, project or DEFAULT_PROJECT, name, about, command, private=private)
    environment = dict(os.environ)
    if console:
        # Into a pipe Python prints in blocks, which would come late, or never after a kill.
        environment.setdefault("PYTHONUNBUFFERED", "1")
    if recorder is not None:
        environment |= {
            "EVLOG_DIR": str(root.absolute()),
            "EVLOG_PROJECT": recorder.project,
            "EVLOG_RUN_ID": recorder.run_id,
            **_begin_beside(recorder, root, command, console=console),
        }
    with _ended_anyway(recorder):
        outcome = run_command(command, environment, recorder if console else None)
        if recorder is not None:
            _finish(recorder, outcome, command, sinks)
    raise typer.Exit(outcome.shell_code)


def _child() -> ModuleType:
    """Return the module that runs commands on this platform."""
    return import_module("eventlog.cli.child" if sys.platform == "linux" else "eventlog.cli.plain_child")


class _About(NamedTuple):
    """What is said of the run on the command line."""

    experiment: str | None
    tags: dict[str, str | None]
    params: dict[str, object]


def _start(
    root: Path, project: str, name: str | None, about: _About, command: list[str], *, private: bool | None
) -> RunRecorder | None:
    """Return the recorder of a new run, or None if none can be made."""
    from eventlog.cli.writing import begin, open_recorder
    from eventlog.settings import from_environment
    from eventlog.storage.options import WriterOptions
    from eventlog.tracker.naming import default_run_id, place_run, wants_private

    settings = from_environment()
    if settings.is_disabled:
        return None
    wanted = name or default_run_id()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says is for those who call it; ours follows
            placed = place_run(
                root,
                project,
                wanted,
                resume=False,
                joins=False,
                rank=settings.rank,
                private=wants_private(root, private),
            )
    except OSError as error:
        render.say(f"this run cannot be logged: {error}. The command runs without a log.")
        return None
    run = RunPath(project, placed.path.name, placed.path)
    if name and run.run_id != name:
        render.say(f"run {name!r} exists; this run is {run.run_id!r}")
    _child().block_signals()  # before the first thread starts, for threads inherit it
    # A command that prints faster than the disk writes has to wait, as it would for a slow terminal.
    recorder = open_recorder(run, rank=settings.rank, options=WriterOptions(max_block_s=5.0))
    begin(
        recorder,
        is_new=placed.is_new,
        name=wanted,
        reason="joined",
        parent=settings.run_id,
        experiment=about.experiment,
        tags=about.tags,
        params=about.params,
        argv=command,
    )
    return recorder


def _begin_beside(recorder: RunRecorder, root: Path, command: list[str], *, console: bool) -> dict[str, str]:
    """Begin to capture where the run comes from and to measure it; return what tells a tracker inside so."""
    from eventlog.lineage.load.sampler import MEASURED_BY, is_wanted
    from eventlog.lineage.origin import origin_of_command
    from eventlog.lineage.running import LOGGED_BY, Options, begin
    from eventlog.settings import from_environment
    from eventlog.storage.system import host_name

    settings = from_environment()
    options = Options(
        lineage=settings.lineage, rank=recorder.buffer.rank, root=root.absolute(), command=command
    )
    recorder.running = begin(recorder, options)
    here = f"{host_name()}/{recorder.run_id}"
    told = {LOGGED_BY: here} if console else {}
    if is_wanted(None, recorder.run_id, os.environ):
        told[MEASURED_BY] = here
    if settings.lineage is not False:
        told["EVLOG_LINEAGE_PYTHON"] = origin_of_command(command).interpreter or ""
    return told


def _tag(word: str) -> tuple[str, str | None]:
    name, has_value, value = word.partition("=")
    return name, value if has_value else None


def _param(word: str) -> tuple[str, object]:
    import json

    from eventlog.cli.writing import key_and_value

    key, value = key_and_value(word, "--param")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return key, value
    return key, value if isinstance(found, (dict, list)) else found


@contextlib.contextmanager
def _ended_anyway(recorder: RunRecorder | None) -> Iterator[None]:
    """See to it that the run has an end also when we have an error; a second end does nothing."""
    from eventlog.tracker.finishing import verdict

    try:
        yield
    except BaseException as error:
        if recorder is not None:
            recorder.end(*verdict(error))
        raise


def _finish(recorder: RunRecorder, outcome: Outcome, command: list[str], sinks: list[str]) -> None:
    error = None
    if outcome.status != "finished":
        how = outcome.signal or f"exit code {outcome.exit_code}"
        # The end of what it wrote to stderr: of most programs, in any language, that is the traceback.
        error = ev.ErrorInfo(
            type="CommandFailed", message=f"{Path(command[0]).name}: {how}", traceback=outcome.last_words
        )
    recorder.end(outcome.status, error, outcome.signal, outcome.exit_code)
    run = RunPath(recorder.project, recorder.run_id, recorder.path)
    if recorder.buffer.rank == 0:
        from eventlog.sync import SyncOptions, Target, deliver_one

        for name in sinks:
            options = SyncOptions(timeout_s=SYNC_TIMEOUT_S)
            delivery = deliver_one(run, Target(sink=name), options, stop=threading.Event())
            if not delivery.is_good:
                render.say(
                    f"run {run.run_id} is logged, but not yet in {name!r}: {delivery.message}. "
                    f"Deliver it with: evlog sync {run.path} --to {name}"
                )
    if sys.stderr.isatty():
        render.say(f"run {run.project}/{run.run_id} {outcome.status}")
