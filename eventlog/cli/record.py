"""``evlog log``: log from a shell script, or from whatever prints lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import msgspec
import typer

from eventlog import events as ev
from eventlog.cli import render
from eventlog.cli.find import complete_run
from eventlog.cli.options import DEFAULT_ROOT, Root
from eventlog.errors import BadValueError
from eventlog.storage.layout import RunPath, is_run
from eventlog.values import metric_number, step_number, text

if TYPE_CHECKING:
    from eventlog.tracker.recording import RunRecorder

MAX_LINE_BYTES = 1 << 20
_INT64 = 1 << 63
_LOG_WORDS = frozenset({"NaN", "Infinity", "-Infinity"})
_NON_FINITE = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})


class End(StrEnum):
    """How a run may be ended by hand."""

    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"


def log(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [KEY=VALUE]... | RUN -",
            autocompletion=complete_run,
            help="The run, made if it is not there, and what to log; '-' reads lines from standard input.",
        ),
    ],
    step: Annotated[
        int | None,
        typer.Option(metavar="N", min=-_INT64, max=_INT64 - 1, help="Step of what has no step of its own."),
    ] = None,
    params: Annotated[bool, typer.Option("--params", help="They are params, not metrics.")] = False,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Set this label; repeatable.")
    ] = None,
    note: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Add this note; repeatable.")] = None,
    end: Annotated[
        End | None, typer.Option(metavar="finished|failed|killed", help="End the run so, and make its files.")
    ] = None,
    keep_open: Annotated[bool, typer.Option("--keep-open", help="Let the run show as running.")] = False,
    project: Annotated[
        str | None,
        typer.Option(envvar="EVLOG_PROJECT", metavar="NAME", help="Project of the run; default 'default'."),
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Log metrics or params into a run.

    A line on standard input is JSON, {"loss": 0.5, "step": 3} or {"step": 3, "metrics": {"loss": 0.5}}, or
    words, loss=0.5 step=3. A line that is neither is reported with its number, the rest is kept, and the
    exit code is 1. Values that are no numbers go to the run's summary.

    Each call is a visit of its own. After it the run shows as finished, or as running with --keep-open,
    until a visit says --end. A run that another process is writing stays as it is, and so does one that only
    gets tags and notes. Inside `evlog run` RUN
    may be left out: it is that run, and ends when that command does.
    """
    if end is not None and keep_open:
        raise typer.BadParameter("--end and --keep-open exclude each other.")
    target, words = _target(words, root, project)
    said = _said(tag or [], note or [])
    if not words and not said and end is None:
        raise typer.BadParameter(
            "there is nothing to log. Add KEY=VALUE, --tag, --note, or '-' to read lines."
        )
    parser = _Parser(step, as_params=params)
    entries = parser.lines(sys.stdin.buffer) if words == ["-"] else _checked(parser.words(words))
    visit = _Visit(target, end=end, keep_open=keep_open, is_about=bool(said) and not words)
    visit.log(entries, said, as_params=params)
    if end is not None and not visit.is_joined:
        from eventlog.tracker.finishing import materialize

        materialize(visit.recorder, ("local",), strict=False)
    if visit.problems:
        raise typer.Exit(1)


def _said(tags: list[str], notes: list[str]) -> list[ev.Event]:
    """Return what is said about the run, as events."""
    named = [word.partition("=") for word in tags]
    if any(not name for name, _, _ in named):
        raise typer.BadParameter("a tag has no name. Give NAME or NAME=VALUE.", param_hint="--tag")
    labels = {text(name): text(value) if sign else None for name, sign, value in named}
    found: list[ev.Event] = [ev.Tags(data=labels)] if labels else []
    return found + [ev.Note(text=text(note)) for note in notes]


def _target(words: list[str], root: Path, project: str | None) -> tuple[RunPath, list[str]]:
    """Return the run that is meant, and the words without it."""
    from eventlog.cli.writing import run_path
    from eventlog.settings import DEFAULT_PROJECT

    project = project or DEFAULT_PROJECT
    around = os.environ.get("EVLOG_RUN_ID")
    first = words[0]
    if around and (first == "-" or "=" in first):
        return run_path(root, project, around), words
    if first == "-":
        raise typer.BadParameter("which run? Give its id before '-'.")
    path = Path(first).absolute()
    if first.startswith((os.sep, ".")) and is_run(path):
        return RunPath(path.parent.name, path.name, path), words[1:]
    before, slash, after = first.rstrip("/").partition("/")
    return run_path(root, *((before, after) if slash else (project, first))), words[1:]


class _Visit:
    """One writer's part in a run.

    Args:
        is_about: there are tags and notes only.

    Attributes:
        is_joined: the run is that of an `evlog run` around us, which will end it.
        problems: number of things that were not logged.
    """

    def __init__(self, run: RunPath, *, end: End | None, keep_open: bool, is_about: bool = False) -> None:
        from eventlog.cli.writing import begin, has_living_writer, open_recorder
        from eventlog.settings import from_environment
        from eventlog.tracker import lifecycle

        settings = from_environment()
        is_new = _make(run.path)
        self.is_joined = not is_new and settings.run_id == run.run_id and settings.project == run.project
        # A run that somebody is writing is theirs to end, unless we were told to end it; and what is only
        # said about a run does not change how it ended.
        is_theirs = (is_about and not is_new and not keep_open) or has_living_writer(run.path)
        takes_part = self.is_joined or (end is None and is_theirs)
        self.problems = 0
        self.recorder: RunRecorder = open_recorder(run, rank=settings.rank)
        self._status = str(end) if end else "running" if keep_open else "finished"
        begin(
            self.recorder,
            is_new=is_new,
            name=run.run_id,
            reason="joined" if takes_part else "resumed",
        )
        lifecycle.watch(self.recorder)

    def log(self, entries: Iterator[_Entry], said: list[ev.Event], *, as_params: bool) -> None:
        """Log what is *said* about the run, then *entries* as they come, and end this part."""
        from eventlog.tracker import lifecycle
        from eventlog.tracker.finishing import verdict

        error: BaseException | None = None
        try:
            for event in said:
                self.recorder.add(event)
            for entry in entries:
                self._report(entry, entry.problems)
                self._add(entry, as_params)
        except BaseException as raised:
            error = raised
            raise
        finally:
            lifecycle.forget(self.recorder)
            status, info = (self._status, None) if error is None else verdict(error)
            self.recorder.end(status, info)

    def _add(self, entry: _Entry, as_params: bool) -> None:
        if as_params:
            self.recorder.params(entry.values)
            return
        good: dict[object, object] = {}
        for key, value in entry.values.items():
            try:
                good[key] = _text_or_number(key, value)
            except BadValueError as error:
                self._report(entry, [str(error)])
        if good:
            self.recorder.metrics(good, entry.step)

    def _report(self, entry: _Entry, problems: list[str]) -> None:
        for problem in problems:
            self.problems += 1
            render.say(f"line {entry.line}: {problem}" if entry.line else problem)


def _make(path: Path) -> bool:
    """Make the run's directory; tell whether it was not there. Of two that try at once one is told so."""
    from eventlog.tracker.naming import wants_private

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(0o700 if wants_private(path.parent.parent) else 0o777)
    except FileExistsError:
        return False
    return True


# --- what is logged ------------------------------------------------------------------------------


class _Entry(msgspec.Struct, kw_only=True):
    """Values of one step; *line* is 0 if they come from the command line."""

    values: dict[str, object] = {}
    step: int | None = None
    line: int = 0
    problems: list[str] = []


def _checked(entry: _Entry) -> Iterator[_Entry]:
    """Yield an entry of the command line, which is refused whole if a word of it is wrong."""
    if entry.problems:
        raise typer.BadParameter(f"{'; '.join(entry.problems)}.")
    return iter([entry])


class _Parser:
    """Turns words and lines into entries; *step* is that of an entry which has none of its own."""

    def __init__(self, step: int | None, *, as_params: bool) -> None:
        self._step, self._as_params = step, as_params

    def lines(self, stream: IO[bytes]) -> Iterator[_Entry]:
        """Yield the lines of *stream* as they arrive."""
        for number in count(1):
            raw = stream.readline(MAX_LINE_BYTES)
            if not raw:
                return
            entry = self._line(raw, stream)
            entry.line = number
            yield entry

    def _line(self, raw: bytes, stream: IO[bytes]) -> _Entry:
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass  # what cannot be a line of ours is not held in memory
            return _Entry(problems=[f"it has more than {MAX_LINE_BYTES} bytes"])
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            return _Entry(problems=["it is not UTF-8"])
        return self._json(line) if line.startswith("{") else self.words(line.split())

    def _json(self, text: str) -> _Entry:
        try:
            values = dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            return _Entry(problems=[f"it is not JSON: {error}"])
        inner, problems = values.get("metrics"), []
        if isinstance(inner, dict) and not self._as_params:
            rest = sorted(set(values) - {"metrics", "step"})
            problems = [f"{key!r} stands beside 'metrics' and was not logged" for key in rest]
            values = {**inner, "step": values.get("step", inner.get("step"))}
        return self._with_step(values, problems)

    def words(self, words: list[str]) -> _Entry:
        """Return what ``key=value`` words say."""
        values: dict[str, object] = {}
        problems = []
        for word in words:
            key, equals, value = word.partition("=")
            if equals and key:
                values[key] = _value_of(value)
            else:
                problems.append(f"{word!r} is not KEY=VALUE")
        return self._with_step(values, problems)

    def _with_step(self, values: dict[str, object], problems: list[str]) -> _Entry:
        """Take the step out of metrics; a param may have that name."""
        step = self._step
        if not self._as_params:
            try:
                own = step_number(values.pop("step", None))
                step = step if own is None else own
            except BadValueError as error:
                problems = [*problems, str(error)]
        return _Entry(values=values, step=step, problems=problems)


def _text_or_number(key: str, value: object) -> object:
    """Return *value* if it can be logged; the log's own words for what is no finite number are no text.

    Raises:
        BadValueError: it is neither.
    """
    if isinstance(value, str):
        return float(value) if value in _LOG_WORDS else value
    metric_number(key, value)
    return value


def _value_of(text: str) -> object:
    """Return what a word means: a number, a truth, a JSON value, or the text itself."""
    if text.lower() in _NON_FINITE:
        return float(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text
