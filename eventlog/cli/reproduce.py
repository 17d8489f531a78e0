"""``evlog reproduce``: plan, run and judge the repetition of a run."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from eventlog.analysis.runs import find_run
from eventlog.cli import render
from eventlog.cli.find import complete_run
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.errors import EvlogError
from eventlog.storage.layout import RunPath

if TYPE_CHECKING:
    from eventlog.lineage.missing import Gap
    from eventlog.lineage.reproduce import Plan, Recorded, Tolerance, Verdict
    from eventlog.lineage.reproduce.carry import Start


_STDERR = 2


class Environment(StrEnum):
    """With what the command is run."""

    AUTO = "auto"
    CURRENT = "current"
    UV = "uv"
    VENV = "venv"


class _Options:
    """What the command line says of how a plan is carried out."""

    def __init__(self, **given: object) -> None:
        self.into = cast("Path | None", given["into"])
        self.find_links = cast("list[Path]", given["find_links"])
        self.no_index = bool(given["no_index"])
        self.force = bool(given["force"])
        self.is_quiet = bool(given["is_quiet"])

    def tell(self, step: str) -> None:
        """Say what is being done."""
        if not self.is_quiet:
            render.say(step)


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
        _what_is_missing(run, root, as_json)
        return
    from eventlog.lineage.reproduce import make_plan, read_recorded

    found = find_run(run, root.absolute())
    with render.progress(f"reading {found.run_id}"):
        recorded = read_recorded(found.path)
        plan = make_plan(
            recorded, found.path.parents[1], environment=environment.value, repository=repo, in_place=in_place
        )
    if output is not None:
        output.write_text(json.dumps(render.plain(plan.to_dict()), indent=2) + "\n", encoding="utf-8")
    if not execute:
        _write_plan(plan, as_json)
        return
    tolerance = _tolerance(root, metric, ignore, rtol, atol)
    options = _Options(
        into=into, find_links=find_links or [], no_index=no_index, force=force, is_quiet=as_json
    )
    verdict, new = _carry_out(plan, recorded, found, tolerance, options)
    if as_json:
        render.write_json(
            verdict.to_dict() | {"run": plan.label, "repetition": f"{new.project}/{new.run_id}"}
        )
    else:
        _write_verdict(plan, verdict, new)
    if not verdict.is_good:
        raise typer.Exit(1)


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
    from eventlog.analysis.facts import load
    from eventlog.lineage.missing import corrected_record, missing_in_record, record_of

    if run.endswith(".json") and Path(run).is_file():
        record = _read_record(Path(run))
    else:
        record = record_of(load(find_run(run, root).path))
    gaps = missing_in_record(record)
    if as_json:
        proposed = corrected_record(record)
        render.write_json({"gaps": [gap.to_dict() for gap in gaps], "record": proposed})
    else:
        _write_gaps(gaps)
        if run.endswith(".json") and gaps:
            render.write("\nThe record as it should be:")
            render.write(json.dumps(render.plain(corrected_record(record)), ensure_ascii=False, indent=2))
    if any(gap.kind == "missing" for gap in gaps):
        raise typer.Exit(1)


def _read_record(path: Path) -> dict[str, object]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _BadRecordError(path, str(error)) from error
    if not isinstance(record, dict):
        raise _BadRecordError(path, f"it is a {type(record).__name__}")
    return record


def _write_gaps(gaps: list[Gap]) -> None:
    if not gaps:
        render.write("nothing is missing")
        return
    rows = [(gap.kind, gap.field, gap.reason, gap.mend) for gap in gaps]
    render.write_table(("kind", "what", "why", "what belongs there"), rows)


# --- the plan ------------------------------------------------------------------------------------


def _write_plan(plan: Plan, as_json: bool) -> None:
    from eventlog.lineage.reproduce.plan import steps

    if as_json:
        render.write_json(plan.to_dict())
        return
    render.write(f"# how to repeat {render.printable(plan.label)}; --execute does it")
    for line in steps(plan):
        render.write(render.printable(line))
    _write_problems(plan)


def _write_problems(plan: Plan) -> None:
    for problem in plan.problems:
        level = "stops" if problem.is_final else "stops, unless --force" if problem.blocks else "note"
        render.write(render.printable(f"# {level}: {problem}"))


def _write_verdict(plan: Plan, verdict: Verdict, new: RunPath) -> None:
    render.write(f"{render.printable(plan.label)} -> {render.printable(f'{new.project}/{new.run_id}')}")
    render.write(render.printable(str(verdict)))
    for note in verdict.notes:
        render.write(render.printable(f"note: {note}"))
    if len(verdict.differences) > 1:
        rows = [
            (one.key, "-" if one.step is None else str(one.step), *map(_value, (one.old, one.new)))
            for one in verdict.differences
        ]
        render.write_table(("result", "first step", "was", "is"), rows, right=("first step", "was", "is"))
    if verdict.ignored:
        render.write(render.printable(f"not compared: {', '.join(verdict.ignored)}"))


def _value(value: float | None) -> str:
    return "-" if value is None else repr(value)


# --- carrying it out -----------------------------------------------------------------------------


def _carry_out(
    plan: Plan, recorded: Recorded, found: RunPath, tolerance: Tolerance, options: _Options
) -> tuple[Verdict, RunPath]:
    """Repeat the run and compare; return the verdict and the run that was made.

    Raises:
        ReproductionError: it cannot be run.
    """
    from eventlog.lineage.reproduce.carry import places_below, prepare

    _refuse(plan, options)
    for problem in plan.problems:
        options.tell(str(problem))
    with _workspace(plan, options.into) as directory:
        places = places_below(directory)
        start = prepare(
            plan,
            places,
            options.tell,
            find_links=options.find_links,
            no_index=options.no_index,
            is_forced=options.force,
        )
        first, new = _start(plan, recorded, found, start, options)
        is_gone = options.into is None and new.path.is_relative_to(directory)
        verdict = _judge(recorded, new, tolerance, is_gone=is_gone)
        for run in dict.fromkeys([first, new]):
            _keep(plan, run, verdict)
        return verdict, new


def _refuse(plan: Plan, options: _Options) -> None:
    from eventlog.lineage.reproduce import ReproductionError

    stops = [p for p in plan.problems if p.is_final or (p.blocks and not options.force)]
    if stops:
        way = "" if any(p.is_final for p in stops) else "Go on all the same with --force."
        raise ReproductionError(f"{plan.label} cannot be repeated", "; ".join(map(str, stops)), way)


@contextlib.contextmanager
def _workspace(plan: Plan, into: Path | None) -> Iterator[Path]:
    """Yield a directory for worktree and environment; it goes away unless somebody named it."""
    import tempfile

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
                remove_worktree(plan.code, places_below(directory).code)


def _start(
    plan: Plan, recorded: Recorded, found: RunPath, start: Start, options: _Options
) -> tuple[RunPath, RunPath]:
    """Run the command as `evlog run` does; return the run of the command and the one to be compared."""
    from eventlog.lineage.reproduce import ReproductionError, carry

    root = found.path.parents[1]
    first = root / plan.siblings[0].partition("/")[0] / plan.new_run_id
    roots = carry.roots_of(plan, root, start)
    before = carry.known_runs(roots)
    writers = carry.writers_of(found.path)
    options.tell(f"running {' '.join(start.argv)}")
    code = _run(first, root, plan, start, is_quiet=options.is_quiet)
    if carry.writers_of(found.path) != writers and plan.status != "running":
        raise ReproductionError(
            "run", f"the command wrote into {plan.label} itself, whose name it has in its code"
        )
    if not first.is_dir():
        raise ReproductionError("run", f"it could not be logged (exit code {code})")
    made = carry.find_repeated(plan, recorded, first, carry.known_runs(roots) - before)
    return RunPath(first.parent.name, first.name, first), RunPath(made.parent.name, made.name, made)


def _run(first: Path, root: Path, plan: Plan, start: Start, *, is_quiet: bool) -> int:
    command = [sys.executable, "-P", "-m", "eventlog", "run", "--dir", str(root), "--name", first.name]
    command += ["--project", first.parent.name, "--tag", f"reproduces={plan.label}", "--", *start.argv]
    environment = {k: v for k, v in start.environment.items() if k not in ("EVLOG_RUN_ID", "EVLOG_DISABLED")}
    # What we print for programs stays free of what the command prints.
    process = subprocess.Popen(command, cwd=start.cwd, env=environment, stdout=_STDERR if is_quiet else None)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the terminal gave it to the command too, whose end we wait for


def _judge(recorded: Recorded, new: RunPath, tolerance: Tolerance, *, is_gone: bool) -> Verdict:
    """Compare; *is_gone* says that the new run goes away with its worktree."""
    import msgspec

    from eventlog.lineage.reproduce import compare_results, read_recorded
    from eventlog.lineage.reproduce.carry import data_notes

    repeated = read_recorded(new.path)
    notes = data_notes(recorded, repeated)
    if is_gone:
        notes.append("its code logs into the worktree, which goes away; --into DIR keeps it")
    verdict = compare_results(recorded, repeated, tolerance, notes=notes)
    status = repeated.facts.view.status
    if status != "finished" and recorded.facts.view.status == "finished":
        how = repeated.facts.view.error
        why = f"the new run {status}" + (f" ({how.message})" if how else "")
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
