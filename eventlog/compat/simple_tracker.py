"""A tracker of evaluations with two CSV files: its calls are events, its files a projection of the logs.

from eventlog.compat.simple_tracker import SimpleExperimentTracker

tracker = SimpleExperimentTracker("qa", score_key="generation.score")
tracker.log({"generation": {"score": 0.8}}, "squad", {"query": "…", "expected_response": "…"})
tracker.get_experiment_history()
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import secrets
import sys
import threading
import time
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from eventlog.compat.base_tracker import BaseExperimentTracker
from eventlog.compat.evaluated import ScoreKey
from eventlog.compat.evaluation_results import leaderboard_of, results_of
from eventlog.compat.evaluation_run import EvaluationRun
from eventlog.errors import EvlogError, LeaseHeldError, warn_once
from eventlog.ids import safe_name
from eventlog.settings import from_environment
from eventlog.storage.layout import is_run, iter_runs, log_directory

__all__ = ["BaseExperimentTracker", "BatchLengthError", "SimpleExperimentTracker"]

RESULTS_FILE, LEADERBOARD_FILE = "experiment_results.csv", "leaderboard.csv"
MAX_OPEN_RUNS = 8
REFRESH_S = 1.0
_SHARE = 20.0
"""The files are made anew only when that took less than one part in so many of the time since."""
_PATIENCE_S = 10.0


class BatchLengthError(EvlogError, ValueError):
    """A batch has not one input for each result."""

    def __init__(self, results: int, inputs: int) -> None:
        super().__init__(results, inputs)
        self.results, self.inputs = results, inputs

    def __str__(self) -> str:
        return (
            f"log_batch got {self.results} results and {self.inputs} inputs; give one input for each result."
        )


class SimpleExperimentTracker(BaseExperimentTracker):
    """Logs evaluations into runs, and keeps `experiment_results.csv` and `leaderboard.csv` in *output_dir*.

    Thread-safe, and any number of processes may share *output_dir*, also one run. Without a `run_id` a call
    goes to the run that was named last, at first to one of the tracker's own. A run ends when the tracker is
    closed or the program ends; one that is named again later is resumed.

    The files hold all runs of all projects below *output_dir*. They are made from the logs: after a call if
    the last time is long enough ago (about a second), whenever they are asked for, and at the end. A program
    that was killed has lost nothing: the next one, or ``evlog sync --dir OUTPUT_DIR --to csv``, makes them.

    Args:
        score_key: name, dotted path or list of names that lead to the score in a result.

    Attributes:
        project_name: as it was given; a name that cannot be a directory is changed for that.
        output_dir: directory of the files, and of the runs as ``<project>/<run id>``.
    """

    def __init__(
        self,
        project_name: str,
        output_dir: str | Path = "./gllm_evals/experiments",
        score_key: str | list[str] = "score",
    ) -> None:
        super().__init__(project_name)
        self.output_dir = Path(output_dir)
        self.score_key: ScoreKey = score_key
        self._directory = self.output_dir.absolute()
        self._project = _directory_name(project_name)
        self._runs: OrderedDict[str, EvaluationRun] = OrderedDict()
        self._behind: set[str] = set()
        self._is_first_refresh = True
        self._current: str | None = None
        self._lock, self._refreshing = threading.RLock(), threading.Lock()
        self._owner = os.getpid()
        self._refreshed_at, self._refresh_took = -float("inf"), 0.0
        self._is_disabled = from_environment().is_disabled

    # --- what the interface names ------------------------------------------------------------------

    @property
    def experiment_results_file(self) -> Path:
        """Return the file with a row for each result, as of now."""
        self.refresh()
        return self.output_dir / RESULTS_FILE

    @property
    def leaderboard_file(self) -> Path:
        """Return the file with a row for each run, as of now."""
        self.refresh()
        return self.output_dir / LEADERBOARD_FILE

    @property
    def run_id(self) -> str:
        """Return the run that a call without one goes to."""
        with self._lock:
            if self._current is None:
                self._current = f"{datetime.now():%Y%m%d_%H%M%S}_{secrets.token_hex(3)}"
            return self._current

    def log(  # type: ignore[override]  # the interface's own signature is narrower than its base's
        self,
        evaluation_result: Any,
        dataset_name: str,
        data: Any,
        run_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Log one result; see `BaseExperimentTracker.log`."""
        self._log_one(evaluation_result, dataset_name, data, run_id, metadata)
        if self._is_due():
            self.refresh(wait=False)

    async def alog(  # type: ignore[override]
        self,
        evaluation_result: Any,
        dataset_name: str,
        data: Any,
        run_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Log one result without holding up the event loop."""
        # A call takes microseconds; opening a run and making the files takes longer.
        if self._is_open(run_id):
            self._log_one(evaluation_result, dataset_name, data, run_id, metadata)
        else:
            await asyncio.to_thread(self._log_one, evaluation_result, dataset_name, data, run_id, metadata)
        if self._is_due():
            await asyncio.to_thread(self.refresh, wait=False)

    async def log_batch(  # type: ignore[override]
        self,
        evaluation_results: Sequence[Any],
        dataset_name: str,
        data: Sequence[Any],
        run_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Log several results, each with its data.

        Raises:
            BatchLengthError: there is not one input for each result; nothing was logged.
        """
        results, inputs = list(evaluation_results), list(data)
        if len(results) != len(inputs):
            raise BatchLengthError(len(results), len(inputs))

        def log_all() -> None:
            for result, one in zip(results, inputs, strict=True):
                self._log_one(result, dataset_name, one, run_id, metadata)

        await asyncio.to_thread(log_all)
        if self._is_due():
            await asyncio.to_thread(self.refresh, wait=False)

    async def log_context(self, **kwargs: Any) -> None:
        """Log what surrounds the evaluation, such as a model's name or a prompt's version, into the run."""
        if not self._is_disabled:
            run = await asyncio.to_thread(self._run, None)
            run.log_context(kwargs)

    def get_experiment_history(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the project's rows of the leaderboard, the best score first."""
        return leaderboard_of(self.leaderboard_file, self._project)

    def get_run_results(self, run_id: str) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the results of a run as they were logged, from its log; none if there is no such run."""
        name = _directory_name(run_id)
        path = self._directory / self._project / name
        with self._lock:
            run = self._runs.get(name)
        if run is not None:
            run.write_out()
        return results_of(path) if is_run(path) else []

    # --- runs --------------------------------------------------------------------------------------

    def close(self, error: BaseException | None = None) -> None:
        """End the open runs and make the files; the tracker may be used again.

        Args:
            error: what ended the work; None for a good end.
        """
        with self._lock:
            self._be_alone_after_fork()
            while self._runs:
                self._end_oldest(error)
        self.refresh()

    def __enter__(self) -> SimpleExperimentTracker:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close(error)

    def _log_one(
        self, result: Any, dataset: str, data: Any, run_id: str | None, metadata: Mapping[str, Any] | None
    ) -> None:
        if self._is_disabled:
            return
        # A run is ended to make room for others; then it is opened again.
        while not (run := self._run(run_id)).log(result, dataset, data, metadata, self.score_key):
            pass
        self._behind.add(run.path.name)

    def _is_open(self, run_id: str | None) -> bool:
        return _directory_name(run_id or self.run_id) in self._runs and os.getpid() == self._owner

    def _run(self, run_id: str | None) -> EvaluationRun:
        with self._lock:
            self._be_alone_after_fork()
            self._current = str(run_id or self.run_id)
            name = _directory_name(self._current)
            run = self._runs.get(name)
            if run is None:
                run = EvaluationRun(self._directory / self._project / name, self._current)
                _end_with_the_program(self)
                self._runs[name] = run
            self._runs.move_to_end(name)
            while len(self._runs) > MAX_OPEN_RUNS:
                self._end_oldest(None)
            return run

    def _end_oldest(self, error: BaseException | None) -> None:
        name, run = self._runs.popitem(last=False)
        run.end(error)
        self._behind.add(name)

    def _be_alone_after_fork(self) -> None:
        if os.getpid() != self._owner:
            self._owner, self._behind = os.getpid(), set()
            self._refreshing = threading.Lock()  # the parent's may have been held

    # --- the files ---------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        pause = max(REFRESH_S, _SHARE * self._refresh_took)
        return not self._is_disabled and time.monotonic() - self._refreshed_at >= pause

    def refresh(self, *, wait: bool = True) -> None:
        """Make the files anew with everything that was logged; never raises because of them.

        Args:
            wait: if another thread or process is at it, wait and look again.
        """
        if not self._refreshing.acquire(blocking=wait):
            return
        try:
            began = time.monotonic()
            with self._lock:
                if self._is_first_refresh:
                    self._is_first_refresh, self._behind = False, self._behind | self._left_behind()
                names, self._behind = self._behind, set()
                runs = list(self._runs.values())
            for run in runs if names else ():
                run.write_out()
            for name in sorted(names):
                self._deliver(name, patience_s=_PATIENCE_S if wait else 0.0)
            self._refreshed_at = time.monotonic()
            self._refresh_took = self._refreshed_at - began
        finally:
            self._refreshing.release()

    def _left_behind(self) -> set[str]:
        """Return the project's runs whose logs are newer than the files: of a program that was killed."""
        made_at = _changed_at(self._directory / LEADERBOARD_FILE)
        runs = [run for run in iter_runs(self._directory) if run.project == self._project]
        return {run.run_id for run in runs if _log_changed_at(run.path) > made_at}

    def _deliver(self, name: str, *, patience_s: float) -> None:
        from eventlog.delivery.pump import deliver_run
        from eventlog.plugins import load_sink

        run, deadline = self._directory / self._project / name, time.monotonic() + patience_s
        while True:
            try:
                deliver_run(run, load_sink("csv", to=str(self._directory)), "csv", timeout_s=0)
            except LeaseHeldError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                self._behind.add(name)
            except Exception as error:  # it must not reach the evaluation; the log has everything
                self._behind.add(name)
                warn_once(
                    f"csv {self._directory}",
                    f"the results are logged, but {self._directory} has not got them yet: {error} "
                    f"Later: evlog sync --dir {self._directory} --to csv",
                )
            return


# --- names and times -------------------------------------------------------------------------------


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _log_changed_at(run: Path) -> int:
    return max((_changed_at(path) for path in log_directory(run).iterdir()), default=0)


def _directory_name(name: str) -> str:
    """Return a good directory name for *name*; names that had to be changed stay apart."""
    safe = safe_name(str(name))
    return safe if safe == name else f"{safe[:150]}-{zlib.crc32(str(name).encode(errors='replace')):08x}"


# --- the end ---------------------------------------------------------------------------------------

_open: weakref.WeakSet[SimpleExperimentTracker] = weakref.WeakSet()
_is_watching = False


def _end_with_the_program(tracker: SimpleExperimentTracker) -> None:
    """Close *tracker* at exit: before the tracker's own hook, which would call its runs killed."""
    global _is_watching
    _open.add(tracker)
    if not _is_watching:
        _is_watching = True
        atexit.register(_close_all)


def _close_all() -> None:
    error = getattr(sys, "last_value", None)
    for tracker in list(_open):
        with contextlib.suppress(Exception):  # at exit nobody is left to hear of it
            tracker.close(error if isinstance(error, BaseException) else None)
