"""Brings a SQLite database of experiments into logs: a run for each experiment, with the times that it had.

Databases of the `sqlite` sink, and of other trackers with the tables ``experiments``, ``training_metrics``,
``evaluation_results`` and ``checkpoints``; the usual other names of tables and columns are known too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, tzinfo
from pathlib import Path

import msgspec

from eventlog import events as ev
from eventlog.ids import check_name, safe_name
from eventlog.importers.sqlite_events import Experiment, experiment_of
from eventlog.importers.sqlite_rows import Database, Row, SourceDatabaseError, opened
from eventlog.importers.writing import RunExistsError, import_run, imported_before
from eventlog.storage.layout import RunPath

__all__ = ["ImportedDatabase", "ImportedExperiment", "SourceDatabaseError", "import_database"]


class ImportedExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one experiment.

    Attributes:
        result: ``imported``, ``would import`` (a dry run), ``known`` (the run is there, from the same rows)
            or ``taken`` (another run has the id, or the experiment has changed since it was imported).
        metrics, evaluations, samples, checkpoints: events of each kind; 0 for a run that was there.
        values: numbers in the metrics.
    """

    experiment_id: str
    project: str
    run_id: str
    result: str
    metrics: int = 0
    values: int = 0
    evaluations: int = 0
    samples: int = 0
    checkpoints: int = 0


class ImportedDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a database.

    Attributes:
        left_out: what no event was made of, with counts.
    """

    path: str
    experiments: list[ImportedExperiment]
    left_out: dict[str, int]

    @property
    def is_good(self) -> bool:
        """Tell whether every experiment is a run now."""
        return all(one.result != "taken" for one in self.experiments)

    def to_dict(self) -> dict[str, object]:
        """Return everything in terms of JSON."""
        built: dict[str, object] = msgspec.to_builtins(self)
        return built


def import_database(
    path: Path,
    root: Path,
    *,
    project: str | None = None,
    zone: tzinfo = UTC,
    dry_run: bool = False,
    on_experiment: Callable[[int, int], None] | None = None,
) -> ImportedDatabase:
    """Make a run below *root* for each experiment of the database *path*, which is not changed.

    An import may be stopped and repeated: a run appears when it is whole, and one that is there is known.

    Args:
        project: of the runs; default what the database says, else the file's name.
        zone: of times that name none.
        dry_run: only tell what would be done.
        on_experiment: called with the number of experiments that are done, and of all.

    Raises:
        SourceDatabaseError: *path* is no such database.
        InvalidNameError: *project* cannot be a directory.
    """
    if project is not None:
        check_name("project", project)
    with opened(path) as database:
        rows = list(database.experiments())
        places = _places(database, rows, root, project or safe_name(path.stem), keeps=project is None)
        left_out: Counter[str] = Counter()
        done = []
        for number, (row, place) in enumerate(zip(rows, places, strict=True)):
            told, missed = _import_one(database, row, place, zone, dry_run=dry_run)
            done.append(told)
            left_out += missed
            if on_experiment:
                on_experiment(number + 1, len(rows))
        for table, count in database.orphans.items():
            left_out[f"{table}: rows of no experiment"] += count
    return ImportedDatabase(path=str(path), experiments=done, left_out=dict(+left_out))


def _places(database: Database, rows: list[Row], root: Path, project: str, *, keeps: bool) -> list[RunPath]:
    """Return where each experiment goes; ids that are the same then are told apart by what they came from.

    Args:
        keeps: the project that the database names counts.
    """
    roles = database.sources["experiments"].roles
    taken: set[tuple[str, str]] = set()
    places = []
    for row in rows:
        own = row[roles["project"]] if "project" in roles else None
        into = safe_name(str(own)) if own and keeps else project
        run_id = safe_name(str(row[roles["id"]]))
        if (into, run_id) in taken and own:
            run_id = safe_name(f"{own}-{run_id}")
        stem, number = run_id, 1
        while (into, run_id) in taken:
            number += 1
            run_id = f"{stem}-{number}"
        taken.add((into, run_id))
        places.append(RunPath(into, run_id, root / into / run_id))
    return places


def _import_one(
    database: Database, row: Row, place: RunPath, zone: tzinfo, *, dry_run: bool
) -> tuple[ImportedExperiment, Counter[str]]:
    """Return what became of one experiment, and what was left out of it."""
    digest = database.digest(row)
    told = ImportedExperiment(
        experiment_id=str(row[database.sources["experiments"].roles["id"]]),
        project=place.project,
        run_id=place.run_id,
        result=_standing(place, digest),
    )
    if told.result:
        return told, Counter()
    found = experiment_of(database, row, zone)
    result = "would import" if dry_run else _write(place, found, digest, database.path)
    return _counted(told, found, result), found.left_out


def _standing(place: RunPath, digest: str) -> str:
    """Return ``known`` or ``taken`` if there is a run already, else nothing."""
    try:
        return "known" if imported_before(place, digest) else ""
    except RunExistsError:
        return "taken"


def _write(place: RunPath, found: Experiment, digest: str, path: Path) -> str:
    origin: dict[str, object] = {"kind": "sqlite", "source": str(path.absolute())}
    origin |= {"rows": dict(found.counts), "left_out": dict(found.left_out)}
    try:
        with import_run(place, digest=digest, origin=origin) as run:
            run.status, run.ended_at = found.status, found.ended_us
            for t_us, event in found.events():
                run.add(event, t_us)
    except RunExistsError:  # another import of the same may have been faster
        return _standing(place, digest)
    return "imported"


def _counted(told: ImportedExperiment, found: Experiment, result: str) -> ImportedExperiment:
    events = [event for _, event in found.timed]
    return msgspec.structs.replace(
        told,
        result=result,
        metrics=sum(isinstance(event, ev.Metrics) for event in events),
        values=sum(len(event.data) for event in events if isinstance(event, ev.Metrics)),
        evaluations=sum(isinstance(event, ev.Evaluation) for event in events),
        samples=sum(isinstance(event, ev.Sample) for event in events),
        checkpoints=sum(isinstance(event, ev.Checkpoint) for event in events),
    )
