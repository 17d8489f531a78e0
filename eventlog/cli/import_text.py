"""``evlog import text``: a text log as a run, with what was understood and what was left out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.errors import EvlogError

if TYPE_CHECKING:
    from eventlog.importers.text import Understanding

SHOWN_POINTS = 3
MAX_BYTES = 1 << 30


class NothingUnderstoodError(EvlogError, ValueError):
    """A text has no line that looks like a param, a metric or a file."""

    def __init__(self, path: Path, lines: int) -> None:
        super().__init__(path, lines)
        self.path, self.lines = path, lines

    def __str__(self) -> str:
        return (
            f"{self.path}: none of its {self.lines} lines was understood. Say how they look with --pattern, "
            r"as in --pattern 'step (?P<step>\d+).*loss (?P<loss>\S+)'"
        )


class TooLargeError(EvlogError, ValueError):
    """A text is larger than what is read at once."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        super().__init__(path, size_bytes)
        self.path, self.size_bytes = path, size_bytes

    def __str__(self) -> str:
        return f"{self.path} has {self.size_bytes} bytes; at most {MAX_BYTES} are read. Split it."


Pattern = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REGEX",
        help="How lines with metrics look: groups named key and value, step, epoch, time, or as the metric; "
        "repeatable, tried before anything else.",
    ),
]
ParamPattern = Annotated[
    list[str] | None, typer.Option(metavar="REGEX", help="The same for lines with params; repeatable.")
]
Param = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=VALUE", help="A param that the log lacks; repeatable."),
]
Tag = Annotated[list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="A tag of the run; repeatable.")]


def import_text(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The log; '-' reads standard input.")],
    project: Annotated[
        str, typer.Option(envvar="EVLOG_PROJECT", metavar="NAME", help="Project of the run.")
    ] = "default",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Id of the run; default the file's name.")
    ] = None,
    pattern: Pattern = None,
    param_pattern: ParamPattern = None,
    param: Param = None,
    tag: Tag = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is understood, write nothing.")
    ] = False,
    left_out: Annotated[
        int, typer.Option("--left-out", min=0, metavar="N", help="Show so many lines that were left out.")
    ] = 10,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Make a run of a text log: key=value, key: value, steps and epochs, JSON, tables, saved files.

    It shows what was understood, and the lines that were left out. The same import again adds nothing.
    """
    from eventlog.ids import safe_name
    from eventlog.importers.text import Reader, read_text
    from eventlog.importers.text.importing import TextImport
    from eventlog.importers.text.importing import import_text as write
    from eventlog.importers.text.values import value_of
    from eventlog.storage.layout import RunPath

    reader = Reader(_compiled(pattern, "--pattern"), _compiled(param_pattern, "--param-pattern"))
    params = {key: value_of(value) for key, value in map(_named, param or ())}
    tags = {key: value if sign else None for key, sign, value in (word.partition("=") for word in tag or ())}
    with _as_file(file) as source:
        understood = read_text(_text(source), reader)
        if not (understood.params or understood.points or understood.final or understood.files):
            raise NothingUnderstoodError(file, understood.lines)
        run_id = name or safe_name(Path(file).stem if str(file) != "-" else "stdin")
        run = RunPath(project, run_id, root / project / run_id)
        outcome = "dry run"
        if not dry_run:
            outcome = write(source, understood, run, TextImport(params=params, tags=tags))
    if as_json:
        render.write_json({"run": f"{project}/{run_id}", "outcome": outcome} | understood.to_dict())
        return
    _show(understood, left_out)
    if dry_run:
        render.write("\nNothing was written (--dry-run).")
    else:
        said = "is imported" if outcome == "imported" else "was imported before; nothing was added"
        render.write(f"\nrun {project}/{run_id} {said}. What it lacks: evlog audit {project}/{run_id}")


@contextmanager
def _as_file(file: Path) -> Iterator[Path]:
    """Yield *file*, or a temporary one with what comes from standard input."""
    if str(file) != "-":
        yield file
        return
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stdin.log"
        path.write_bytes(sys.stdin.buffer.read())
        yield path


def _text(source: Path) -> str:
    size_bytes = source.stat().st_size
    if size_bytes > MAX_BYTES:
        raise typer.BadParameter(
            f"{source} has {render.size(size_bytes)}; at most {render.size(MAX_BYTES)}. Split it."
        )
    return source.read_bytes().decode(errors="replace").lstrip("\ufeff")


def _compiled(patterns: list[str] | None, option: str) -> list[re.Pattern[str]]:
    found = []
    for text in patterns or ():
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise typer.BadParameter(
                f"{text!r} is no regular expression: {error}", param_hint=option
            ) from None
        if not pattern.groupindex:
            raise typer.BadParameter(f"{text!r} has no named group, as (?P<loss>…)", param_hint=option)
        found.append(pattern)
    return found


def _named(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise typer.BadParameter(f"{word!r} is not KEY=VALUE", param_hint="--param")
    return key, value


def _show(understood: Understanding, left_out: int) -> None:
    render.write(f"understood {understood.lines - len(understood.left_out)} of {understood.lines} lines")
    if understood.params:
        render.write("\nparams")
        rows = [(key, render.cell(value)) for key, value in understood.params.items()]
        render.write_table(("key", "value"), rows, indent=2)
    if understood.points:
        render.write("\nmetrics")
        render.write_table(("key", "points", "steps", "first values"), _metric_rows(understood), indent=2)
    if understood.final:
        render.write("\nfinal values")
        rows = [(key, render.cell(value)) for key, value in understood.final.items()]
        render.write_table(("key", "value"), rows, indent=2)
    if understood.files or understood.grids:
        render.write("\nfiles and tables")
        found = [
            (str(file.line), "checkpoint" if file.is_checkpoint else "file", file.path)
            for file in understood.files
        ]
        found += [(str(grid.line), "table", ", ".join(grid.columns)) for grid in understood.grids]
        render.write_table(("line", "kind", "what"), found, indent=2)
    if understood.left_out:
        render.write(f"\nleft out: {len(understood.left_out)} lines")
        lines = [(str(one.line), one.text[:200]) for one in understood.left_out[:left_out]]
        if lines:
            render.write_table(("line", "text"), lines, right=("line",), indent=2)


def _metric_rows(understood: Understanding) -> list[tuple[str, str, str, str]]:
    by_key: dict[str, list[tuple[int | None, float]]] = {}
    for point in understood.points:
        by_key.setdefault(point.key, []).append((point.step, point.value))
    rows = []
    for key, points in by_key.items():
        steps = [step for step, _ in points if step is not None]
        span = f"{min(steps)}..{max(steps)}" if steps else "-"
        first = ", ".join(render.number(value) for _, value in points[:SHOWN_POINTS])
        rows.append((key, str(len(points)), span, first + (", …" if len(points) > SHOWN_POINTS else "")))
    return rows
