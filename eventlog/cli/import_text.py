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
    from eventlog.lineage.audit_lines import Line

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
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Experiment that the run belongs to.")
    ] = None,
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

    It shows what was understood, the lines that were left out, and what the run lacks to be trusted: seed,
    data, code, environment, names. Add it with --param and --tag. The same import again adds nothing.
    """
    from eventlog.cli.writing import key_and_value, run_path
    from eventlog.ids import safe_name
    from eventlog.importers.text import Reader, read_text
    from eventlog.importers.text.importing import TextImport
    from eventlog.importers.text.importing import import_text as write
    from eventlog.importers.text.values import value_of

    reader = Reader(_compiled(pattern, "--pattern"), _compiled(param_pattern, "--param-pattern"))
    given = (key_and_value(word, "--param") for word in param or ())
    params = {key: value_of(value) for key, value in given}
    tags = {key: value if sign else None for key, sign, value in (word.partition("=") for word in tag or ())}
    options = TextImport(params=params, tags=tags, experiment=experiment)
    with _as_file(file) as source:
        understood = read_text(_text(source), reader)
        if not (understood.params or understood.points or understood.final or understood.files):
            raise NothingUnderstoodError(file, understood.lines)
        run_id = name or safe_name(Path(file).stem if str(file) != "-" else "stdin")
        with _where(root, dry_run=dry_run) as below:
            run = run_path(below, project, run_id)
            outcome: str = write(source, understood, run, options)
            lacks = _lacks(run.path, root)
    if as_json:
        said = {"run": f"{project}/{run_id}", "outcome": "dry run" if dry_run else outcome}
        render.write_json(said | understood.to_dict() | {"lacks": [line.to_dict() for line in lacks]})
        return
    _show(understood, left_out)
    if lacks:
        render.write("\nlacks")
        rows = [(line.level, line.check, line.text) for line in lacks]
        render.write_table(("level", "check", "what"), rows, indent=2)
    if dry_run:
        render.write("\nNothing was written (--dry-run).")
    else:
        said_of = "is imported" if outcome == "imported" else "was imported before; nothing was added"
        render.write(
            f"\nrun {project}/{run_id} {said_of}. How to mend what it lacks: evlog audit {project}/{run_id}"
        )


@contextmanager
def _where(root: Path, *, dry_run: bool) -> Iterator[Path]:
    """Yield where the run goes: *root*, or for a dry run a directory that goes again."""
    if not dry_run:
        yield root
        return
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def _lacks(run: Path, root: Path) -> list[Line]:
    """Return what `evlog audit` finds wrong with *run*."""
    from eventlog.analysis.facts import load
    from eventlog.configuration import read_table
    from eventlog.lineage.audit import audit
    from eventlog.lineage.audit_lines import AuditRules
    from eventlog.lineage.naming import NamingRules

    rules, naming = read_table("audit", AuditRules, root=root), read_table("naming", NamingRules, root=root)
    (report,) = audit([load(run)], rules, naming).runs
    return [line for line in report.lines if line.level != "pass"]


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
    from eventlog.importers.text.decoding import decode

    return decode(source.read_bytes())


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
