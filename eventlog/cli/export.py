"""``evlog export`` and ``evlog stats``: results as files, and what lies below a root."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import RootNotFoundError, resolve_runs
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root, Runs
from eventlog.storage.layout import RunPath

if TYPE_CHECKING:
    from eventlog.analysis.totals import Stats
    from eventlog.query.answer import Rows


class ExportFormat(StrEnum):
    """What an export becomes."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


class ExportTable(StrEnum):
    """What the rows of CSV and Parquet are."""

    RUNS = "runs"
    METRICS = "metrics"
    SUMMARIES = "summaries"
    PARAMS = "params"
    EVALUATIONS = "evaluations"
    SAMPLES = "samples"


Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there; default standard output.")
]


def export(
    run: Runs = None,
    output: Output = None,
    form: Annotated[
        ExportFormat | None,
        typer.Option("--format", metavar="json|csv|parquet", help="Default as FILE is called, else json."),
    ] = None,
    table: Annotated[
        ExportTable,
        typer.Option(
            "--table",
            metavar="runs|metrics|summaries|params|evaluations|samples",
            help="Rows of CSV and Parquet; runs: one for each, with its params and results as columns.",
        ),
    ] = ExportTable.RUNS,
    canonical: Annotated[
        bool,
        typer.Option(
            "--canonical", help="JSON without times, ids and hosts: the same bytes for the same results."
        ),
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="With --canonical, results to leave out, beside times and speeds."
        ),
    ] = None,
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="With --canonical, the hashes of artifacts too.")
    ] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Write runs as JSON, CSV or Parquet. JSON of one run is an object, of several a list."""
    chosen = form or _format_of(output)
    if chosen is not ExportFormat.JSON and canonical:
        raise typer.BadParameter("--canonical is JSON. Leave --format out.")
    if chosen is ExportFormat.PARQUET and output is None:
        raise typer.BadParameter("parquet needs a file: add --output FILE.")
    if canonical and run is None:
        raise typer.BadParameter("--canonical needs RUN: it does not say which run is which.")
    if not canonical and (ignore or artifacts):
        raise typer.BadParameter("--ignore and --artifacts belong to --canonical.")
    if output is not None and not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no directory for {str(output)!r}.")
    if output is not None and output.is_dir():
        raise IsADirectoryError(f"{str(output)!r} is a directory. Give the name of a file.")
    runs = resolve_runs(run, root)
    if chosen is ExportFormat.JSON:
        _json(runs, output, canonical=canonical, ignore=ignore or [], artifacts=artifacts)
    else:
        _rows(runs, table, chosen, output)


def _format_of(output: Path | None) -> ExportFormat:
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    if suffix and suffix not in set(ExportFormat):
        raise typer.BadParameter(
            f"nothing is written as .{suffix}. Call the file .json, .csv or .parquet, or add --format.",
            param_hint="--output",
        )
    return ExportFormat(suffix or ExportFormat.JSON)


def _json(
    runs: Sequence[RunPath], output: Path | None, *, canonical: bool, ignore: list[str], artifacts: bool
) -> None:
    from eventlog.analysis.exports.canonical import canonical_to_write
    from eventlog.analysis.exports.document import document_to_write
    from eventlog.analysis.exports.lines import json_lines, json_lines_of_several

    def documents(bar: render.Bar) -> Iterator[dict[str, object]]:
        for run in runs:
            if canonical:
                yield canonical_to_write(run.path, ignore=ignore, with_artifacts=artifacts)
            else:
                yield document_to_write(run.path)
            bar.advance()

    with render.progress("reading runs", total=len(runs)) as bar, _growing(output) as young:
        found = documents(bar)
        pieces = json_lines(next(found)) if len(runs) == 1 else json_lines_of_several(found)
        if young is None:
            sys.stdout.buffer.writelines(pieces)
            sys.stdout.buffer.flush()
        else:
            with young.open("wb") as file:
                file.writelines(pieces)


def _rows(runs: Sequence[RunPath], table: ExportTable, form: ExportFormat, output: Path | None) -> None:
    if table is ExportTable.RUNS:
        from eventlog.analysis.exports.table import run_table

        found = run_table([run.path for run in runs])
        with _growing(output) as young:
            if form is ExportFormat.PARQUET:
                assert young is not None
                found.write_parquet(young)
            else:
                _write_csv(found, young)
        return
    roots = {run.path.parent.parent for run in runs}
    if len(roots) > 1:
        raise typer.BadParameter("these runs lie below several roots. Export them one root at a time.")
    with _growing(output) as young:
        for root in roots:
            _query(root, runs, table, form, young)


def _query(
    root: Path, runs: Sequence[RunPath], table: ExportTable, form: ExportFormat, young: Path | None
) -> None:
    from eventlog.query import Database

    question = f"SELECT * FROM {table.value} WHERE list_contains($runs, project || '/' || run_id)"
    values = {"runs": [f"{run.project}/{run.run_id}" for run in runs]}
    with render.progress("reading runs") as bar:
        is_file = form is ExportFormat.PARQUET
        database = Database.open(root, on_progress=bar.set, writes_to=young if is_file else None)
    with database:
        if is_file:
            assert young is not None
            database.write_parquet(question, young, values)
        else:
            _write_csv(database.execute(question, values), young)


def _write_csv(rows: Rows, young: Path | None) -> None:
    from eventlog.cli.formats import Format, write_rows

    if young is None:
        write_rows(rows, Format.CSV, sys.stdout)
        return
    with young.open("w", newline="", encoding="utf-8") as file:
        write_rows(rows, Format.CSV, file)


@contextmanager
def _growing(output: Path | None) -> Iterator[Path | None]:
    """Yield where a file is made: it gets its name when it is whole."""
    if output is None:
        yield None
        return
    young = output.absolute().with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        yield young
        young.replace(output)
    finally:
        young.unlink(missing_ok=True)


# --- stats ---------------------------------------------------------------------------------------


def stats(root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Show what lies below ROOT: projects, runs, events, sizes, the busiest metrics."""
    from eventlog.analysis.totals import stats as stats_of

    if not root.is_dir():
        raise RootNotFoundError(root)
    with render.progress("reading runs"):
        found = stats_of(root)
    for problem in found.problems:
        render.say(problem)
    if as_json:
        render.write_json(found.to_dict())
    else:
        _show(found)


def _show(found: Stats) -> None:
    status = ", ".join(f"{count} {name}" for name, count in found.status.items())
    facts = {
        "root": found.root,
        "runs": f"{found.runs} ({status})" if status else "0",
        "experiments": str(found.experiments),
        "on the disk": render.size(found.size_bytes),
        "query cache": f"{render.size(found.cache_bytes)} (may be deleted)",
        "damage": f"{found.damage} findings. See: evlog verify" if found.damage else "",
        "dropped": f"{found.dropped} events that a full disk cost" if found.dropped else "",
    }
    for name, value in facts.items():
        if value:
            render.write(f"{name:<13}{render.printable(value)}")
    if not found.projects:
        return
    render.write("")
    columns = ("project", "runs", "running", "events", "points", "log", "artifacts", "other", "last start")
    rows = [
        (
            one.project,
            str(one.runs),
            str(one.running),
            str(one.events),
            str(one.points),
            render.size(one.log_bytes),
            render.size(one.artifact_bytes),
            render.size(one.other_bytes),
            render.local_time(one.last_started_us),
        )
        for one in found.projects
    ]
    render.write_table(columns, rows, right=columns[1:-1])
    if found.busiest:
        render.write("\nbusiest metrics")
        counts = [(one.key, str(one.runs), str(one.points)) for one in found.busiest]
        render.write_table(("metric", "runs", "points"), counts, right=("runs", "points"), indent=2)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    app.command(
        "export",
        epilog="\b\nExamples:\n  evlog export digits-1 --output results.json\n"
        "  evlog export --output all.csv\n"
        "  evlog export digits-1 digits-2 --table metrics --output curves.parquet\n"
        "  evlog export digits-1 --canonical --output baseline.json",
    )(export)
    app.command("stats", epilog="\b\nExamples:\n  evlog stats\n  evlog stats --json | jq .size_bytes")(stats)
