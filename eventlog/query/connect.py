"""The way in from Python: `eventlog.connect`.

with eventlog.connect("experiments") as runs:
    runs.sql("SELECT run_id, last FROM summaries WHERE key = $key", key="val/loss").df()
    best = runs.runs("status = 'finished' AND tags['owner'] = 'ada'")
    best[0].params["lr"], best[0].metrics("val/loss").values
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, overload

from eventlog.errors import QueryError
from eventlog.query.answer import Answer, html_table
from eventlog.query.database import Database
from eventlog.query.limits import parse_memory
from eventlog.query.naming import pick_run
from eventlog.query.run import COLUMNS, Run
from eventlog.query.sandbox import DEFAULT_TIMEOUT_S, Sandbox
from eventlog.query.series import Series, has_numpy, series

DEFAULT_ROOT = "./experiments"


class MetricNotFoundError(QueryError, LookupError):
    """A run has no metric of this name."""

    def __init__(self, run: str, key: str, near: Sequence[str]) -> None:
        super().__init__(run, key, list(near))
        self.run, self.key, self.near = run, key, list(near)

    def __str__(self) -> str:
        hint = f" Near: {', '.join(self.near)}." if self.near else ""
        return f"The run {self.run!r} has no metric {self.key!r}.{hint} Run.keys() lists them."


class Runs(Sequence[Run]):
    """Runs in the order of their starts, the newest first. A notebook shows them as a table."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"<Runs: {len(self)}>"

    def _repr_html_(self) -> str:
        shown = ("project", "id", "name", "status", "started_at", "duration_s", "params")
        return html_table(shown, iter([tuple(getattr(run, name) for name in shown) for run in self._runs]))


class Connection:
    """The runs below a root, as they are at `connect` and at each `refresh`.

    Any number of threads may use it at once; each question gets a cursor of its own.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        as_of: str | datetime | None = None,
        sandbox: bool = False,
        memory: str | int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self.root = Path(root or os.environ.get("EVLOG_DIR") or DEFAULT_ROOT)
        self.as_of = as_of
        self._is_sandbox, self._timeout_s = sandbox, timeout_s
        self._memory = parse_memory(memory) if isinstance(memory, str) else memory
        self._lock = threading.Lock()
        self._source: Database | Sandbox | None = self._open()

    def sql(self, query: str, /, **parameters: object) -> Answer:
        """Ask *query*; ``$name`` in it stands for the argument *name*.

        Raises:
            QueryError: DuckDB refused it.
        """
        return Answer(self._now(), query, parameters)

    def runs(self, where: str = "true", /, **parameters: object) -> Runs:
        """Return the runs for which *where*, a condition on the table `runs`, is true, the newest first."""
        order = "ORDER BY started_at DESC NULLS LAST, project, run_id"
        rows = self.sql(f"SELECT {COLUMNS} FROM runs WHERE (\n{where}\n) {order}", **parameters)
        return Runs([Run.of_row(self, row) for row in rows])

    def run(self, name: str) -> Run:
        """Return one run: its id, PROJECT/ID, or the beginning of one.

        Raises:
            RunNotFoundError: it fits none.
            AmbiguousRunError: it fits several.
        """
        project, run_id = self._pick(name)
        row = self.sql(
            f"SELECT {COLUMNS} FROM runs WHERE project = $project AND run_id = $run_id",
            project=project,
            run_id=run_id,
        ).fetchone()
        assert row is not None
        return Run.of_row(self, row)

    def metrics(self, run: str, key: str, *, rank: int | None = None) -> Series:
        """Return all points of a metric of a run as arrays, in the order of their steps.

        Args:
            run: its id, PROJECT/ID, or the beginning of one.
            rank: only what this rank logged.

        Raises:
            RunNotFoundError, AmbiguousRunError: *run* fits none, or several.
            MetricNotFoundError: the run never logged it.
        """
        project, _, run_id = run.rpartition("/")
        found = self._points(project, run_id, key, rank) if project else None
        if found is None or not len(found.values):
            project, run_id = self._pick(run)
            found = self._points(project, run_id, key, rank)
        if not len(found.values):
            raise MetricNotFoundError(
                run_id, key, difflib.get_close_matches(key, self._keys(project, run_id))
            )
        return found

    def keys(self, run: str) -> list[str]:
        """Return the names of a run's metrics, sorted."""
        project, run_id = self._pick(run)
        return self._keys(project, run_id)

    def refresh(self) -> Self:
        """Take in what was logged since; answers that are being read go on with what they began with."""
        with self._lock:
            if self._source is None:
                raise _closed()
            # The old one is not closed: another thread may still read from it. The last reader ends it.
            self._source = self._open()
        return self

    @property
    def problems(self) -> list[str]:
        """Return what could not be read, a sentence for each run."""
        return list(self._now().problems)

    def close(self) -> None:
        """Give memory and processes back; called twice, the second call does nothing."""
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()

    # --- inside ------------------------------------------------------------------------------------

    def _open(self) -> Database | Sandbox:
        database = Database.open(
            self.root, as_of=self.as_of, memory=None if self._is_sandbox else self._memory
        )
        if not self._is_sandbox:
            return database
        with database:
            return Sandbox(database, memory=self._memory, timeout_s=self._timeout_s)

    def _now(self) -> Database | Sandbox:
        source = self._source
        if source is None:
            raise _closed()
        return source

    def _pick(self, name: str) -> tuple[str, str]:
        rows = self._now().execute("SELECT project, run_id FROM runs").rows()
        return pick_run([(str(project), str(run_id)) for project, run_id in rows], name, self.root)

    def _keys(self, project: str, run_id: str) -> list[str]:
        rows = self.sql(
            "SELECT DISTINCT key FROM summaries WHERE project = $project AND run_id = $run_id ORDER BY key",
            project=project,
            run_id=run_id,
        )
        return [str(row[0]) for row in rows]

    def _points(self, project: str, run_id: str, key: str, rank: int | None) -> Series:
        of_rank = "" if rank is None else f" AND rank = {int(rank)}"
        sql = (
            "SELECT step, epoch_us(ts) AS t, value FROM metrics WHERE project = $project "
            f"AND run_id = $run_id AND key = $key{of_rank} ORDER BY step, ts, writer, seq"
        )
        named: dict[str, object] = {"project": project, "run_id": run_id, "key": key}
        source = self._now()
        relation = source.relation(sql, named) if has_numpy() else None
        if relation is not None:
            return Series.of_arrays(relation.fetchnumpy())
        return series(list(source.execute(sql, named).rows()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection to the runs below {self.root}>"

    def _repr_html_(self) -> str:
        return html_table(
            ("project", "runs", "running", "last start"),
            iter(
                self.sql(
                    "SELECT project, count(*), count(*) FILTER (status = 'running'), max(started_at) "
                    "FROM runs GROUP BY project ORDER BY project"
                )
            ),
        )


def _closed() -> QueryError:
    return QueryError("This connection is closed. Open another with eventlog.connect().")
