"""The results of all runs at once, out of the query cache: thousands of runs in one question.

The numbers are those of `eventlog.analysis.facts.results`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from eventlog import events as ev
from eventlog.analysis.groups import Scores, seed_of
from eventlog.analysis.runs import NoRunsError, root_path
from eventlog.codec import decode_lines
from eventlog.errors import BadValueError
from eventlog.storage.artifacts import resolve
from eventlog.values import flatten, number_in_memory

if TYPE_CHECKING:
    from eventlog.query.connect import Connection

RunKey = tuple[str, str]
Root = "str | os.PathLike[str] | Connection | None"

_NON_FINITE = ("NaN", "Infinity", "-Infinity")
_PLACE = "{'ts': coalesce(sorted_at, ts), 'writer': writer, 'seq': seq}"
_EVALUATIONS = f"""
    SELECT project, run_id, payload->>'$.benchmark' AS benchmark,
           arg_max(CASE WHEN spilled THEN payload ELSE (payload->'$.metrics')::JSON END, place)::VARCHAR,
           spilled, max(place) AS latest
    FROM (SELECT *, {_PLACE} AS place, json_exists(payload, '$.payload') AS spilled
          FROM all_events WHERE type = 'evaluation') AS e
    SEMI JOIN selected USING (project, run_id)
    GROUP BY project, run_id, benchmark, spilled,
             CASE WHEN spilled THEN [seq::VARCHAR, writer] ELSE json_keys(payload, '$.metrics') END
    ORDER BY latest
"""
"""The last evaluation of each run, benchmark and set of names."""

_SEEDS = f"""
    SELECT project, run_id, arg_max(payload->'$.data.seed', {_PLACE})::VARCHAR
    FROM all_events SEMI JOIN selected USING (project, run_id)
    WHERE type = 'context' AND payload->>'$.kind' = 'seeds' AND json_exists(payload, '$.data.seed')
    GROUP BY project, run_id
"""


@contextlib.contextmanager
def connected(root: str | os.PathLike[str] | Connection | None) -> Iterator[Connection]:
    """Yield a connection to the runs below *root*; one that was given is not closed.

    Raises:
        NoRunsError: there is no such directory.
    """
    if root is not None and not isinstance(root, (str, os.PathLike)):
        yield root
        return
    from eventlog.query.connect import Connection

    path = root_path(root)
    if not path.is_dir():  # else the cache would make it
        raise NoRunsError(str(path))
    with Connection(path) as connection:
        yield connection


class Overview:
    """Runs that fit, and their results.

    Attributes:
        runs: in the order of their starts, without results.
        problems: what could not be read, a sentence for each run.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        project: str | None = None,
        experiment: str | None = None,
        where: str | None = None,
        status: Sequence[str] = (),
    ) -> None:
        self._connection = connection
        conditions = ["true", "project = $project"] if project is not None else ["true"]
        conditions += ["experiment = $experiment"] if experiment is not None else []
        conditions += (
            [f"list_contains([{', '.join(f'$status{i}' for i in range(len(status)))}], status)"]
            if status
            else []
        )
        conditions += [f"(\n{where}\n)"] if where else []
        self._selected = " AND ".join(conditions)
        self._named: dict[str, object] = {f"status{i}": value for i, value in enumerate(status)}
        self._named |= {"project": project} if project is not None else {}
        self._named |= {"experiment": experiment} if experiment is not None else {}
        self._final: dict[RunKey, dict[str, float]] = {}
        self.runs: dict[RunKey, Scores] = {}
        self._load_runs()
        self._evaluated = self._load_evaluations()
        self.problems = connection.problems

    def names(self) -> set[str]:
        """Return the names of all results."""
        found = {
            str(key)
            for (key,) in self._ask(
                "SELECT DISTINCT key FROM summaries SEMI JOIN selected USING (project, run_id)"
            )
        }
        return found.union(*self._final.values(), *self._evaluated.values())

    def scores(self, keys: Collection[str] | None = None) -> list[Scores]:
        """Return the runs with their results; only those called *keys*, if given."""
        results: dict[RunKey, dict[str, float]] = {run: {} for run in self.runs}
        wanted = None if keys is None else set(keys)
        for run, found in self._evaluated.items():
            results[run] |= _only(found, wanted)
        sql = "SELECT project, run_id, key, last FROM summaries SEMI JOIN selected USING (project, run_id)"
        if keys is not None:
            sql += " WHERE list_contains($keys, key)"
        for project, run_id, key, last in self._ask(sql, **({} if keys is None else {"keys": list(keys)})):
            results[str(project), str(run_id)][str(key)] = cast("float", last)
        for run, found in self._final.items():
            results[run] |= _only(found, wanted)
        return [msgspec.structs.replace(run, results=results[key]) for key, run in self.runs.items()]

    def _load_runs(self) -> None:
        seeds = {(str(p), str(r)): msgspec.json.decode(str(seed)) for p, r, seed in self._ask(_SEEDS)}
        sql = """
            SELECT project, run_id, name, experiment, status, path, params::VARCHAR, summary::VARCHAR, tags
            FROM runs SEMI JOIN selected USING (project, run_id)
            ORDER BY started_at NULLS LAST, project, run_id
        """
        for project, run_id, name, experiment, status, path, params, summary, tags in self._ask(sql):
            key = str(project), str(run_id)
            flat = flatten(msgspec.json.decode(str(params or "{}")))
            self._final[key] = _numbers(flatten(msgspec.json.decode(str(summary or "{}"))))
            self.runs[key] = Scores(
                project=key[0],
                run_id=key[1],
                name=str(name or run_id),
                experiment=None if experiment is None else str(experiment),
                status=str(status),
                path=str(path),
                params=flat,
                tags=dict(cast("dict[str, str | None]", tags or {})),
                seed=seed_of(flat, seeds.get(key)),
                results={},
            )

    def _load_evaluations(self) -> dict[RunKey, dict[str, float]]:
        found: dict[RunKey, dict[str, float]] = {}
        for project, run_id, benchmark, said, is_spilled, _ in self._ask(_EVALUATIONS):
            run = str(project), str(run_id)
            metrics = self._spilled(run, str(said)) if is_spilled else msgspec.json.decode(str(said or "{}"))
            into = found.setdefault(run, {})
            for name, value in metrics.items():
                with contextlib.suppress(BadValueError):
                    into[f"{benchmark}/{name}"] = number_in_memory(value)
        return found

    def _spilled(self, run: RunKey, line: str) -> dict[str, int | float | str]:
        """Return the metrics of an evaluation that was too large for its line; none if they are gone."""
        (event,) = decode_lines([line.encode()])
        with contextlib.suppress(OSError, BadValueError, msgspec.MsgspecError):
            event = resolve(Path(self.runs[run].path), event)
        return event.metrics if isinstance(event, ev.Evaluation) else {}

    def _ask(self, sql: str, **named: object) -> Iterator[tuple[object, ...]]:
        selected = f"WITH selected AS (SELECT project, run_id FROM runs WHERE {self._selected})"
        return iter(self._connection.sql(f"{selected}\n{sql}", **self._named, **named))


def _only(found: dict[str, float], wanted: set[str] | None) -> dict[str, float]:
    return found if wanted is None else {key: value for key, value in found.items() if key in wanted}


def _numbers(summary: dict[str, object]) -> dict[str, float]:
    return {
        key: number_in_memory(value)
        for key, value in summary.items()
        if not isinstance(value, bool) and (isinstance(value, (int, float)) or value in _NON_FINITE)
    }
