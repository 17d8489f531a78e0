"""``evlog reproduce``: plan, run and judge the repetition of a run."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.analysis.runs import find_run
from eventlog.cli import render
from eventlog.cli.find import complete_run
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.errors import EvlogError

if TYPE_CHECKING:
    from eventlog.lineage.reproduce import Tolerance


class Environment(StrEnum):
    """With what the command is run."""

    AUTO = "auto"
    CURRENT = "current"
    UV = "uv"
    VENV = "venv"


def reproduce(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", autocompletion=complete_run, help="The run; with --what-is-missing also FILE.json."
        ),
    ],
    execute: Annotated[bool, typer.Option("--execute", help="Carry the plan out and compare.")] = False,
    what_is_missing: Annotated[
        bool,
        typer.Option("--what-is-missing", help="List what a repetition would have to guess, nothing else."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "--plan", metavar="FILE", help="Write the plan as JSON too.")
    ] = None,
    repo: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Repository that has the commit; default where it was."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make worktree and environment there and keep them."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Run where it ran, with the code as it is now.")
    ] = False,
    environment: Annotated[
        Environment, typer.Option(metavar="auto|current|uv|venv", help="With what the command is run.")
    ] = Environment.AUTO,
    find_links: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Directory with packages for uv and pip; repeatable."),
    ] = None,
    no_index: Annotated[bool, typer.Option("--no-index", help="Take packages from there alone.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Compare only these; repeatable, may hold '*'.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Leave these out too; repeatable, may hold '*'.")
    ] = None,
    rtol: Annotated[
        float | None, typer.Option(metavar="X", min=0.0, help="Relative tolerance; default 1e-06.")
    ] = None,
    atol: Annotated[
        float | None, typer.Option(metavar="X", min=0.0, help="Absolute tolerance; default 1e-12.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run although something is not as it was.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Plan the repetition of a run, or carry it out and compare the results.

    The plan: a worktree at the commit with the uncommitted changes, the recorded packages, the same data,
    the same command. What is logged becomes the run RUN-repro-1. The verdict is identical (every value has
    the same bits), equal within the tolerances, or different, and where; it is kept as a tag and a note of
    the new run. Times are not compared. Exit code 0: identical or equal; 1: different, or it failed.
    """
    if what_is_missing:
        if execute:
            raise typer.BadParameter("--what-is-missing runs nothing: leave --execute out")
        _what_is_missing(run, root, as_json)
        return
    if _is_record(run):
        raise typer.BadParameter(f"{run} is a record, not a run: it goes with --what-is-missing")
    from eventlog.cli.reproduce_text import write_plan, write_verdict
    from eventlog.lineage.reproduce import make_plan, read_recorded

    found = find_run(run, root.absolute())
    with render.progress(f"reading {found.run_id}"):
        recorded = read_recorded(found.path)
        plan = make_plan(
            recorded, found.path.parents[1], environment=environment.value, repository=repo, in_place=in_place
        )
    if output is not None:
        from eventlog.lineage.reproduce.steps import steps

        document = render.plain(plan.to_dict() | {"steps": steps(plan)})
        output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if not execute:
        write_plan(plan, as_json)
        return
    from eventlog.cli.reproduce_run import Options, carry_out

    options = Options(into, tuple(find_links or ()), no_index, force, as_json)
    done = carry_out(plan, recorded, found, _tolerance(root, metric, ignore, rtol, atol), options)
    if as_json:
        names = {"run": plan.label, "repetition": f"{done.run.project}/{done.run.run_id}"}
        render.write_json(done.verdict.to_dict() | names)
    else:
        write_verdict(plan, done.verdict, done.run)
    if not done.verdict.is_good:
        raise typer.Exit(128 + done.stopped_by if done.stopped_by else 1)


def _tolerance(
    root: Path, metric: list[str] | None, ignore: list[str] | None, rtol: float | None, atol: float | None
) -> Tolerance:
    import msgspec

    from eventlog.configuration import read_table
    from eventlog.lineage.reproduce import Tolerance

    rules = read_table("reproduce", Tolerance, root=root)
    return msgspec.structs.replace(
        rules,
        metrics=metric or rules.metrics,
        ignore=[*rules.ignore, *(ignore or [])],
        rtol=rules.rtol if rtol is None else rtol,
        atol=rules.atol if atol is None else atol,
    )


# --- what is missing -----------------------------------------------------------------------------


class _BadRecordError(EvlogError, ValueError):
    """A file that should hold a record of a run's origin does not."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} is no record: {self.reason}. It is to hold one JSON object."


def _what_is_missing(run: str, root: Path, as_json: bool) -> None:
    from eventlog.cli.reproduce_text import write_gaps
    from eventlog.lineage.missing import corrected_record, missing_in_record
    from eventlog.lineage.record import record_of
    from eventlog.lineage.reproduce import read_recorded

    is_file = _is_record(run)
    if is_file:
        record = _read_record(Path(run))
    else:
        recorded = read_recorded(find_run(run, root).path)
        record = record_of(recorded.facts, recorded.contexts)
    gaps = missing_in_record(record)
    if as_json:
        proposed = corrected_record(record)
        render.write_json({"gaps": [gap.to_dict() for gap in gaps], "record": proposed})
    else:
        write_gaps(gaps, corrected_record(record) if is_file else None)
    if any(gap.kind == "missing" for gap in gaps):
        raise typer.Exit(1)


def _is_record(run: str) -> bool:
    return run.endswith(".json") and Path(run).is_file()


def _read_record(path: Path) -> dict[str, object]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _BadRecordError(path, str(error)) from error
    if not isinstance(record, dict):
        raise _BadRecordError(path, f"it is a {type(record).__name__}")
    return record


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    examples = (
        "evlog reproduce digits-1",
        "evlog reproduce digits-1 --execute --rtol 1e-4",
        "evlog reproduce digits-1 --execute --environment uv --output plan.json",
        "evlog reproduce digits-1 --what-is-missing",
    )
    lines = "\n".join(f"  {line}" for line in examples)
    app.command("reproduce", epilog=f"\b\nExamples:\n{lines}")(reproduce)
