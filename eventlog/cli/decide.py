"""``evlog decide``: pick a winner by a rule and write the decision down in its runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import RootNotFoundError
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.cli.runs import Status

if TYPE_CHECKING:
    from eventlog.analysis.ranking.decision import Decision
    from eventlog.events import Event
    from eventlog.storage.layout import RunPath

TAG = "decision"
_NO_LONGER = "Decision: no longer the winner by the rule {rule!r}; now {winner}."


def decide(
    rule: Annotated[
        str,
        typer.Argument(metavar="RULE", help="As: highest mean val_f1 with std<=0.5, tie-break accuracy."),
    ],
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this experiment.")
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            "--group-by",
            "-g",
            metavar="PARAM",
            help="Compare runs that differ in it; repeatable, or with commas. Default: all params that "
            "vary, but the seed.",
        ),
    ] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this project.")] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL", help="Only runs for which this is true; the columns are those of `runs`."
        ),
    ] = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            metavar="running|finished|failed|killed|crashed",
            help="Only runs that stand so; repeatable; default finished.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, and write nothing down.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Pick a winner by a rule, and write the decision into its runs as a note and the tag `decision`.

    RULE is highest or lowest, perhaps a statistic (mean, median, std, min, max, worst), and a metric; then
    conditions (std<=0.5, n>=3, seeds>=3, mean train_time<=60), within NUMBER (so close is as good), and
    tie-breaks. The same decision again adds nothing. The exit code is 1 if nobody wins.
    """
    from eventlog.analysis.ranking.decision import decide as decided
    from eventlog.analysis.rules import RuleError

    if not root.is_dir():
        raise RootNotFoundError(root)
    try:
        with render.progress("reading runs"):
            decision = decided(
                rule,
                root,
                group_by=group_by or (),
                project=project,
                experiment=experiment,
                where=where,
                status=[str(one) for one in status or (Status.FINISHED,)],
            )
    except RuleError as error:
        raise typer.BadParameter(str(error), param_hint="RULE") from None
    for problem in decision.problems:
        render.say(problem)
    written = [] if dry_run or decision.winner is None else record(decision)
    if as_json:
        render.write_json(decision.to_dict() | {"recorded": written})
    else:
        _write(decision, written, is_dry=dry_run)
    if decision.winner is None:
        raise typer.Exit(1)


def _write(decision: Decision, written: list[str], *, is_dry: bool) -> None:
    by = ", ".join(decision.group_by) or "nothing: no param varies"
    render.write(render.printable(f"Rule: {decision.rule}"))
    render.write(render.printable(f"Compared by: {by}"))
    render.write("")
    columns, rows = decision.columns, decision.rows
    if render.fits_screen(columns, rows):
        render.write_table(columns, rows, right=(*decision.metrics, "n", "seeds"))
    else:
        render.write_records(columns, rows)
    render.write("")
    for line in [*decision.reasons, *decision.left_out]:
        render.write(f"- {render.printable(line)}")
    render.write("")
    render.write(render.printable(decision.title))
    if decision.winner is None:
        return
    if is_dry:
        render.write("Nothing was written down (--dry-run).")
    elif written:
        render.write(render.printable(f"Written down in {', '.join(written)}."))
    else:
        render.write("It was written down before.")


# --- what is written down -----------------------------------------------------------------------------


def record(decision: Decision) -> list[str]:
    """Write *decision* into the winner's runs, and take its tag from those that won before.

    Returns:
        The runs that were written into; none if all said so already.
    """
    winning = decision.winning
    assert winning is not None
    winners = {member.label for member in winning.runs}
    written = []
    for candidate in decision.candidates:
        for member in candidate.runs:
            run = _run_path(member.label, member.path)
            events = _won(run, decision) if member.label in winners else _lost(run, decision)
            if events:
                _append(run, events)
                written.append(member.label)
    return written


def _run_path(label: str, path: str) -> RunPath:
    from eventlog.storage.layout import RunPath

    project, _, run_id = label.partition("/")
    return RunPath(project, run_id, Path(path))


def _won(run: RunPath, decision: Decision) -> list[Event]:
    from eventlog import events as ev
    from eventlog.replay import outline
    from eventlog.values import text

    said = outline(run.path)
    has_tag = said.tags.get(TAG) == text(decision.rule)
    # A note of an earlier decision may say the same while another one came in between.
    has_note = has_tag and next((n for n in reversed(said.notes) if n.startswith("Decision: ")), "") == text(
        decision.note
    )
    found: list[Event] = [] if has_tag else [ev.Tags(data={TAG: text(decision.rule)})]
    return found if has_note else [*found, ev.Note(text=text(decision.note))]


def _lost(run: RunPath, decision: Decision) -> list[Event]:
    from eventlog import events as ev
    from eventlog.replay import outline
    from eventlog.values import text

    if outline(run.path).tags.get(TAG) != text(decision.rule):
        return []
    gone = _NO_LONGER.format(rule=decision.rule, winner=decision.winner)
    return [ev.Tags(removed=[TAG]), ev.Note(text=text(gone))]


def _append(run: RunPath, events: list[Event]) -> None:
    """Append *events* to a run as a guest: its status stays what it is, and what writes it goes on."""
    from eventlog.cli.writing import begin, has_living_writer, open_recorder
    from eventlog.tracker.finishing import materialize

    is_live = has_living_writer(run.path)
    recorder = open_recorder(run)
    begin(recorder, is_new=False, name=run.run_id, reason="joined")
    try:
        for event in events:
            recorder.add(event)
    finally:
        recorder.end("finished", None)
    if not is_live and (run.path / "metadata.json").exists():
        materialize(recorder, ("local",), strict=False)
