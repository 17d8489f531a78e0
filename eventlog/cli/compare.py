"""``evlog compare`` and ``evlog diff``: runs side by side, and a gate for CI."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.analysis.runs import find_run
from eventlog.cli import render
from eventlog.cli.find import complete_run
from eventlog.cli.leaderboard import Benchmark, Metric, WhichMode
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from eventlog.analysis.comparison.compared import Comparison, Section
    from eventlog.analysis.comparison.difference import Diff

WIDTH = 80
MAX_CELL = 60
MAX_ROWS = 40
"""Rows of a table of differences that are shown without --all: a new environment has hundreds."""
MAX_LABELS = 5
_FIRST_WIDTH = {True: 25, False: 30}
_RUN_WIDTH = 16
_AFTER_NUMBER = 6


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN...", autocompletion=complete_run, help="The runs.")
    ],
    metric: Metric = None,
    mode: WhichMode = None,
    benchmark: Benchmark = None,
    with_all: Annotated[bool, typer.Option("--all", help="Show what is equal, too.")] = False,
    ascii_only: Annotated[
        bool, typer.Option("--ascii", help="Mark the best with * instead of a star.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables of Markdown.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show runs side by side: params, lineage and results that differ, and who wins.

    The winner is the run with the best value of --metric, by default of the only accuracy, else of the only
    result that all have.
    """
    from eventlog.analysis.comparison.compared import STAR
    from eventlog.analysis.comparison.comparing import compare_facts
    from eventlog.analysis.facts import load

    found = list(dict.fromkeys(find_run(name, root) for name in runs))
    if len(found) < 2:
        raise typer.BadParameter("a comparison needs two different runs or more.", param_hint="RUN")
    with render.progress("reading runs", total=len(found)) as bar:
        facts = []
        for run in found:
            facts.append(load(run.path))
            bar.advance()
    comparison = compare_facts(
        facts, metric=metric, mode=None if mode is None else mode.value, benchmark=benchmark
    )
    star = "*" if ascii_only or not _can_print(STAR) else STAR
    if as_json:
        render.write_json(comparison.to_dict())
    elif markdown:
        render.write(comparison.to_markdown(with_equal=with_all, star=star))
    else:
        _write(comparison, star, with_all=with_all)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _write(comparison: Comparison, star: str, *, with_all: bool) -> None:
    sections = comparison.sections(with_equal=with_all)
    tables = [_table(section, comparison.labels, star, with_all=with_all) for section in sections]
    width = max((_width(line) for table in tables for line in table), default=0)
    is_wide = sys.stdout.isatty() and width > shutil.get_terminal_size().columns
    render.write("=" * WIDTH)
    render.write(comparison.title)
    render.write("=" * WIDTH)
    if is_wide:
        _write_records(comparison, sections, star)
    else:
        for section, table in zip(sections, tables, strict=True):
            render.write(f"\n{render.printable(section.heading)}:")
            for line in table:
                render.write(line)
    render.write("")
    for line in [*_said(comparison, with_all=with_all), *comparison.foot]:
        render.write(render.printable(line))
    render.write("=" * WIDTH)


def _said(comparison: Comparison, *, with_all: bool) -> list[str]:
    """Return what the tables leave out."""
    lines = []
    if comparison.equal_params and not with_all:
        what = "parameter is" if comparison.equal_params == 1 else "parameters are"
        lines.append(f"{comparison.equal_params} {what} equal (--all shows all)")
    if comparison.lineage and not any(row.differs for row in comparison.lineage):
        lines.append("Lineage is equal as far as it was recorded")
    by_lack: dict[str, list[str]] = {}
    for label, kinds in comparison.unrecorded.items():
        if kinds and comparison.lineage:
            by_lack.setdefault(", ".join(kinds), []).append(label)
    lines += [f"Not recorded of {_few(labels)}: {kinds}" for kinds, labels in by_lack.items()]
    return [*lines, ""] if lines else []


def _few(labels: list[str]) -> str:
    more = f" and {len(labels) - MAX_LABELS} more" if len(labels) > MAX_LABELS else ""
    return ", ".join(labels[:MAX_LABELS]) + more


def _table(section: Section, labels: list[str], star: str, *, with_all: bool) -> list[str]:
    """Return the lines of a table: names to the left, numbers to the right with room for the mark."""
    rows = section.rows if with_all or section.is_numbers else section.rows[:MAX_ROWS]
    keys = [render.printable(key) for key, _, _ in rows]
    cells = [[render.printable(cell) for cell in _shortened(row)] for _, row, _ in rows]
    first = max([_FIRST_WIDTH[section.is_numbers], *map(_width, keys)])
    room = _AFTER_NUMBER if section.is_numbers else 0
    widths = [
        max([_RUN_WIDTH, _width(render.printable(label)), *(_width(row[i]) + room for row in cells)])
        for i, label in enumerate(labels)
    ]
    lines = [_line([section.first, *map(render.printable, labels)], [first, *widths])]
    lines.append(" ".join("-" * width for width in [first, *widths]))
    for key, row, (_, _, best) in zip(keys, cells, rows, strict=True):
        if section.is_numbers:
            row = [
                " " * (width - room - _width(cell)) + cell + (f" {star}" if is_best else "")
                for cell, width, is_best in zip(row, widths, best, strict=True)
            ]
        lines.append(_line([key, *row], [first, *widths]))
    if len(rows) < len(section.rows):
        lines.append(f"… and {len(section.rows) - len(rows)} more (--all shows all)")
    return lines


def _line(cells: list[str], widths: list[int]) -> str:
    return " ".join(
        cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)
    ).rstrip()


def _shortened(cells: list[str]) -> list[str]:
    """Return long texts cut to where they begin to differ."""
    if all(len(cell) <= MAX_CELL for cell in cells):
        return cells
    long = [cell for cell in cells if len(cell) > MAX_CELL]
    same = next((i for i, column in enumerate(zip(*cells, strict=False)) if len(set(column)) > 1), 0)
    begin = max(0, same - MAX_CELL // 2) if len(long) == len(cells) else 0
    return [_cut(cell, begin) for cell in cells]


def _cut(cell: str, begin: int) -> str:
    if len(cell) <= MAX_CELL:
        return cell
    part = cell[begin : begin + MAX_CELL]
    return f"{'…' if begin else ''}{part}{'…' if begin + MAX_CELL < len(cell) else ''}"


def _width(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    return (
        len(text)
        if text.isascii()
        else sum(
            0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
            for c in text
        )
    )


def _write_records(comparison: Comparison, sections: list[Section], star: str) -> None:
    """Write a block for each run, for screens that are too narrow for a column each."""
    width = max(
        (_width(render.printable(key)) for section in sections for key, _, _ in section.rows), default=0
    )
    for i, label in enumerate(comparison.labels):
        render.write(f"\n--- {render.printable(label)}")
        for section in sections:
            render.write(f"{render.printable(section.heading)}:")
            for key, cells, best in section.rows:
                cell = render.printable(cells[i]) + (f" {star}" if best[i] else "")
                render.write("  " + _line([render.printable(key), cell], [width, 0]))


# --- diff ----------------------------------------------------------------------------------------


def diff(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            autocompletion=complete_run,
            help="What was: a run, a file of evlog export --canonical, or conditions between commas "
            "(experiment=NAME, tag:NAME, PARAM=VALUE): then means count.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", autocompletion=complete_run, help="What is now.")],
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            "-g",
            metavar="RULE",
            help="What must hold for B - A, as 'val_acc>=-0.01'; repeatable. Exit code 1 if one is broken.",
        ),
    ] = None,
    benchmark: Benchmark = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a pull request.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write Markdown there (JSON with --json), too."),
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show what changed from A to B, and check gates.

    A rule is METRIC OPERATOR NUMBER and speaks of B - A; with % behind the number, of that in percent of A;
    with METRIC.value, of B alone. Operators are >= <= > < == and ~ (no further apart than). A metric that is
    missing, and NaN, break a rule.
    """
    from eventlog.analysis.comparison.difference import diff_sides, load_side
    from eventlog.analysis.comparison.gates import parse_gate
    from eventlog.analysis.rules import RuleError
    from eventlog.storage.system import replace_file

    try:
        rules = [parse_gate(one) for one in gate or ()]
    except RuleError as error:
        raise typer.BadParameter(str(error), param_hint="--gate") from None
    if output is not None and not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no directory for {str(output)!r}.")
    with render.progress("reading runs"):
        found = diff_sides(load_side(a, root), load_side(b, root), rules=rules, benchmark=benchmark)
    if output is not None:
        text = (
            json.dumps(render.plain(found.to_dict()), ensure_ascii=False, indent=2)
            if as_json
            else found.to_markdown()
        )
        replace_file(output, (text + "\n").encode())
    if as_json:
        render.write_json(found.to_dict())
    elif markdown:
        render.write(found.to_markdown())
    else:
        _write_diff(found)
    for warning in found.warnings:
        render.say(warning)
    if not found.passed:
        raise typer.Exit(1)


def _write_diff(found: Diff) -> None:
    from eventlog.analysis.comparison.difference import GATE_COLUMNS, METRIC_COLUMNS, PARAM_COLUMNS

    render.write(f"A  {render.printable(found.a.label)}")
    render.write(f"B  {render.printable(found.b.label)}")
    if found.metrics:
        render.write("")
        render.write_table(METRIC_COLUMNS, found.metric_rows(), right=METRIC_COLUMNS[1:5])
    if found.params:
        render.write("")
        rows = [[row.key, *_shortened([row.a, row.b])] for row in found.params]
        render.write_table(PARAM_COLUMNS, rows)
    if found.gates:
        render.write("")
        render.write_table(GATE_COLUMNS, found.gate_rows())
        render.write(f"\n{found.verdict}")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    app.command(
        "compare",
        epilog=_examples(
            "evlog compare exp_001 exp_002",
            "evlog compare exp_001 exp_002 exp_003 --benchmark gsm8k --markdown",
            "evlog compare digits-1 digits-2 --metric val/loss --json | jq .winner",
        ),
    )(compare)
    app.command(
        "diff",
        epilog=_examples(
            'evlog diff baseline candidate --gate "val_acc>=-0.01" --gate "latency_ms<=5%"',
            'evlog diff baseline.json candidate --gate "gsm8k/accuracy.value>=0.7" --markdown',
            "evlog diff experiment=before experiment=after --output diff.md",
        ),
    )(diff)


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
