"""What ``evlog sync`` shows without sending anything: ``--status``, ``--verify`` and ``--dry-run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import typer

from eventlog.cli import render
from eventlog.delivery.preview import preview
from eventlog.delivery.proof import Proof, prove
from eventlog.delivery.status import Standing, standings
from eventlog.storage.layout import RunPath
from eventlog.sync import Outcome, SyncOptions, Target, explain

STATUS_COLUMNS = (
    "run",
    "sink",
    "destination",
    "state",
    "events",
    "behind",
    "lag",
    "sent",
    "told",
    "refused",
    "error",
)


def write_status(
    runs: Sequence[RunPath], sinks: Sequence[str], failures: Sequence[Outcome], *, as_json: bool
) -> None:
    """Write how each run stands at each destination that it was ever sent to.

    Args:
        sinks: only these, and runs that never went there too; all if empty.
        failures: names that mean no run.

    Raises:
        typer.Exit: with 1, a name means no run, or a run cannot be read.
    """
    found: list[Standing] = []
    problems = [failure.message for failure in failures]
    for run in runs:
        try:
            found += _standings(run, sinks)
        except OSError as error:
            problems.append(f"{run.project}/{run.run_id} cannot be read: {error}")
    if as_json:
        render.write_json([msgspec.to_builtins(one) for one in found])
    else:
        _show_status(found)
    for problem in problems:
        render.say(problem)
    if problems:
        raise typer.Exit(1)


def _show_status(found: Sequence[Standing]) -> None:
    render.write_table(
        STATUS_COLUMNS,
        [
            (
                f"{one.project}/{one.run_id}",
                one.sink,
                one.destination or "-",
                "delivering" if one.holder and one.state == "behind" else one.state,
                str(one.events),
                str(one.lag_events),
                render.duration(one.lag_s) if one.lag_events else "-",
                render.local_time(one.delivered_at),
                one.told or "-",
                str(one.dead_letters),
                one.last_error or "-",
            )
            for one in found
        ],
        right=("events", "behind", "lag", "refused"),
    )


def _standings(run: RunPath, sinks: Sequence[str]) -> list[Standing]:
    found = [one for one in standings(run.path) if not sinks or one.sink in sinks]
    missing = [name for name in sinks if all(one.sink != name for one in found)]
    if not found and not sinks:
        missing = ["-"]
    return found + [
        Standing(project=run.project, run_id=run.run_id, sink=name, destination="", state="never sent")
        for name in missing
    ]


def write_proofs(
    runs: Sequence[RunPath], targets: Sequence[Target], failures: Sequence[Outcome], *, as_json: bool
) -> None:
    """Compare each destination with the log and write the result.

    Raises:
        typer.Exit: with 1, something is not proven.
    """
    proofs = [
        Proof(project="", run_id=one.run_id, sink="", result="failed", message=one.message)
        for one in failures
    ]
    with render.progress("comparing", total=len(runs) * len(targets)) as bar:
        for run in runs:
            for target in targets:
                bar.tell(f"{run.run_id} at {target.sink}")
                proofs.append(_proof(run, target))
                bar.advance()
    if as_json:
        render.write_json([msgspec.to_builtins(proof) for proof in proofs])
    else:
        _show_proofs(proofs)
    if any(proof.result != "proven" for proof in proofs):
        raise typer.Exit(1)


def _proof(run: RunPath, target: Target) -> Proof:
    try:
        return prove(run.path, target.make(), target.sink)
    except Exception as error:  # sinks are anybody's code; the table shows what they raised
        return Proof(
            project=run.project,
            run_id=run.run_id,
            sink=target.sink,
            result="failed",
            message=explain(error, target.sink),
        )


def _show_proofs(proofs: Sequence[Proof]) -> None:
    render.write_table(
        ("run", "sink", "result", "points", "series", "undelivered", "refused", "message"),
        [
            (
                f"{one.project}/{one.run_id}" if one.project else one.run_id,
                one.sink,
                one.result,
                str(one.points),
                str(one.series),
                str(one.undelivered),
                str(one.refused),
                one.message,
            )
            for one in proofs
        ],
        right=("points", "series", "undelivered", "refused"),
    )
    for one in proofs:
        for difference in one.differences:
            render.write(
                render.printable(
                    f"  {one.run_id} {difference.series}: {difference.expected} in the log, "
                    f"{difference.delivered} at {one.sink}; {difference.detail}"
                )
            )


def write_preview(
    runs: Sequence[RunPath],
    targets: Sequence[Target],
    options: SyncOptions,
    failures: Sequence[Outcome],
    *,
    as_json: bool,
) -> None:
    """Write how many events of each kind would be sent.

    Raises:
        typer.Exit: with 1, a run or a sink is not what was meant.
    """
    rows: list[dict[str, object]] = []
    problems = [f"{one.run_id}: {one.message}" for one in failures]
    for run in runs:
        for target in targets:
            try:
                counts = preview(
                    run.path, target.make(), target.sink, shape=options.shape, restart=options.restart
                )
            except Exception as error:  # as a delivery would fail
                problems.append(f"{run.run_id} to {target.sink}: {explain(error, target.sink)}")
                continue
            rows.append(
                {"project": run.project, "run_id": run.run_id, "sink": target.sink, "events": dict(counts)}
            )
    if as_json:
        render.write_json(rows)
    else:
        render.write_table(
            ("run", "sink", "events", "kinds"),
            [
                (f"{row['project']}/{row['run_id']}", str(row["sink"]), *_counted(row["events"]))
                for row in rows
            ],
            right=("events",),
        )
    for problem in problems:
        render.say(problem)
    if problems:
        raise typer.Exit(1)


def _counted(counts: object) -> tuple[str, str]:
    assert isinstance(counts, dict)
    kinds = Counter(counts).most_common()
    return str(sum(counts.values())), ", ".join(f"{count} {kind}" for kind, count in kinds) or "nothing new"
