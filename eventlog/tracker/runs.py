"""The life of a tracker's runs: where they begin, how they nest, and how they end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from eventlog import events as ev
from eventlog.errors import TrackerStateError, warn_once
from eventlog.settings import Settings, from_environment
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.options import Durability, WriterOptions
from eventlog.tracker import finishing, lifecycle
from eventlog.tracker.config import TrackingConfig, tag_mapping
from eventlog.tracker.naming import Placed, default_run_id, make_private, place_run, unmade_run, wants_private
from eventlog.tracker.recording import RunRecorder
from eventlog.tracker.redacting import Redact, check_patterns
from eventlog.values import text


class RunHandle(str):
    """The id of a run that was started; as a context manager it ends that run."""

    __slots__ = ("_tracker",)
    _tracker: Runs

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return (str, (str(self),))  # in another process it is the id and nothing else

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracker.end_with(error, run_id=self)


class Runs:
    """The runs of one tracker, the active one on top of those that it is nested in.

    Attributes:
        config: project, experiment, tags and notes of the runs.
        backends: names of the sinks that get each run.
        sink_options: the options of those sinks, by name.
        sync_timeout_s: how long the end of a run waits for its delivery, in seconds.
        lineage, system, system_interval_s, console: what goes on beside a run, see `Tracker`.
        private, redact: who may read the runs, and what is masked in them, see `Tracker`.
        root: directory of all projects.
    """

    def __init__(
        self,
        backends: Sequence[str] = ("local",),
        config: TrackingConfig | None = None,
        *,
        output_dir: str | Path | None = None,
        durability: Durability | None = None,
        rank: int | None = None,
        strict: bool = False,
        resume: bool = False,
        writer: WriterOptions | None = None,
        sink_options: Mapping[str, Mapping[str, object]] | None = None,
        sync_timeout_s: float = 30.0,
        lineage: bool | None = None,
        system: bool | None = None,
        system_interval_s: float = 15.0,
        console: bool = False,
        private: bool | None = None,
        redact: Redact = None,
    ) -> None:
        self.config = config or TrackingConfig()
        self.backends = tuple(backends)
        self.settings: Settings = from_environment()
        self.root = Path(output_dir) if output_dir is not None else self.settings.root
        self.rank = self.settings.rank if rank is None else rank
        self.strict, self.resume = strict, resume
        self.sink_options = dict(sink_options or {})
        self.sync_timeout_s = sync_timeout_s
        self.lineage = self.settings.lineage if lineage is None else lineage
        self.system, self.system_interval_s, self.console = system, system_interval_s, console
        self.private, self.redact = private, check_patterns(redact)
        self._options = writer or WriterOptions()
        if durability is not None:
            self._options = msgspec.structs.replace(self._options, durability=durability)
        self._stack: list[RunRecorder] = []
        self._starting = threading.RLock()
        self._has_joined = False
        self._fast = self._never

    # --- runs ---------------------------------------------------------------------------------

    @property
    def project(self) -> str:
        """Return the project of the runs that this tracker starts."""
        return self.config.project or self.settings.project

    @property
    def run_id(self) -> str | None:
        """Return the id of the active run, or None."""
        newest = self._newest()
        return newest.run_id if newest is not None else None

    @property
    def run_dir(self) -> Path | None:
        """Return the directory of the active run, or None."""
        newest = self._newest()
        return newest.path if newest is not None else None

    def _newest(self) -> RunRecorder | None:
        # In one look: another thread may end the run between two.
        newest = self._stack[-1:]
        return newest[0] if newest else None

    def start_run(
        self,
        run_name: str | None = None,
        run_id: str | None = None,
        nested: bool = False,
        *,
        resume: bool | None = None,
    ) -> RunHandle:
        """Start a run and return its id, which is also a context manager that ends it.

        The directory is named by *run_id*, else *run_name*, else the experiment, else the time; one that
        exists gets a numeric suffix. Under ``evlog run`` the first run of a process joins that run.

        Args:
            nested: inside of the active run, which becomes the parent.
            resume: go on with the run of this id; default as the tracker was told.

        Raises:
            TrackerStateError: a run is active and *nested* is False.
            InvalidNameError: the id cannot be a directory's name.
            RunNotFoundError: *resume*, and there is no such run.
        """
        if self._stack and not nested:
            raise TrackerStateError(
                f"run {self.run_id!r} is active. End it with end_run(), or pass nested=True."
            )
        name = run_name or self.config.experiment_name or run_id or default_run_id()
        if self.settings.is_disabled:
            return self._handle(run_id or name)
        resume = self.resume if resume is None else resume
        placed = self._place(run_id, name, resume=resume)
        recorder = self._recorder(placed.path)
        known: dict[str, dict[str, object]] = {}
        if placed.is_new:
            self._log_start(recorder, name, self.run_id)
        else:
            known = finishing.recover_and_learn(recorder)
            recorder.add(ev.RunResumed(reason="resumed" if resume else "joined"))
            if resume:
                self._log_command(recorder, known)
        self._push(recorder)
        self._begin_beside(recorder, known)
        if self.rank == 0:
            self._deliver_live(recorder)
        if self.config.log_code:
            finishing.log_code(recorder)
        return self._handle(recorder.run_id)

    def _deliver_live(self, recorder: RunRecorder) -> None:
        """Start the process that brings the run to all sinks that do not wait for its end."""
        live = [name for name in self.backends if name not in finishing.AT_THE_END]
        if live:
            # Few runs need it, and `subprocess` takes milliseconds to import.
            from eventlog.tracker.live import Sidecar

            targets = {name: self.sink_options.get(name, {}) for name in live}
            try:
                recorder.sidecar = Sidecar(recorder.path, targets, timeout_s=self.sync_timeout_s)
                recorder.sidecar.start()
            except (OSError, RuntimeError) as error:  # no more threads, no working directory
                recorder.complain("sidecar", f"it is logged, but cannot be delivered now: {error}")

    def _place(self, run_id: str | None, name: str, *, resume: bool) -> Placed:
        """Return the run's directory: for the first run that of a surrounding ``evlog run``, if any."""
        surrounding = self.settings.run_id
        if surrounding is not None and run_id is None and not self._has_joined:
            self._has_joined = True
            root, project, joins = self.settings.root, self.settings.project, True
            run_id = surrounding
        else:
            root, project, joins = self.root, self.project, False
        private = wants_private(root, self.private)
        try:
            placed = place_run(
                root, project, run_id or name, resume=resume, joins=joins, rank=self.rank, private=private
            )
        except OSError as error:
            if self.strict:
                raise
            placed = unmade_run(root, project, run_id or name, joins=joins or resume or self.rank > 0)
            warn_once(
                f"place {placed.path}",
                f"the directory {placed.path} of a new run cannot be made: {error.strerror or error}. "
                "Training goes on; evlog keeps what it can and tries again. Make room on the file "
                f"system of {root}, or mend it.",
            )
        if private:
            make_private(placed.path)
        return placed

    def _recorder(self, path: Path) -> RunRecorder:
        buffer = LogBuffer(
            path,
            run_id=path.name,
            project=path.parent.name,
            rank=self.rank,
            options=self._options,
            strict=self.strict,
        )
        return RunRecorder(path, buffer, strict=self.strict, redact=self.redact)

    def _log_start(self, recorder: RunRecorder, name: str, parent: str | None) -> None:
        recorder.add(
            ev.RunStarted(
                name=text(name),
                experiment=self.config.experiment_name,
                parent_run_id=parent,
                tags=tag_mapping(self.config.tags),
                notes=self.config.notes,
            )
        )
        self._log_command(recorder, {})

    def _log_command(self, recorder: RunRecorder, known: Mapping[str, object]) -> None:
        """Log what this process runs, if the log does not say so already."""
        from eventlog.lineage.origin import origin_of_process

        event = recorder.masked(ev.Context(kind="command", data=origin_of_process().context()))
        if known.get("command") != event.data:
            recorder.add(event)

    def _begin_beside(self, recorder: RunRecorder, known: Mapping[str, Mapping[str, object]]) -> None:
        """Begin to capture the lineage of the run, and whatever else goes on beside it."""
        from eventlog.lineage.running import Options, begin, taken_by

        is_around = known and recorder.run_id == self.settings.run_id
        recorder.running = begin(
            recorder,
            Options(
                lineage=self.lineage,
                diff=self.config.log_code,
                system=self.system,
                system_interval_s=self.system_interval_s,
                console=self.console,
                rank=self.rank,
                root=self.root,
                known=known,
                skip=taken_by(self.settings.lineage_python) if is_around else frozenset(),
            ),
        )

    def _handle(self, run_id: str) -> RunHandle:
        handle = RunHandle(run_id)
        handle._tracker = self
        return handle

    def _push(self, recorder: RunRecorder) -> None:
        self._stack.append(recorder)
        lifecycle.watch(recorder)
        self._choose_fast_way()

    def _choose_fast_way(self) -> None:
        newest = self._newest()
        if newest is None:
            self._fast = self._never
        elif self._options.durability == "buffered":
            self._fast = newest.buffer.stream.append_metrics
        else:
            self._fast = newest.buffer.append_metrics_synced

    def _never(self, step: int, data: bytes) -> bool:  # noqa: ARG002 - the shape of the fast way
        return False

    def _active(self) -> RunRecorder | None:
        """Return the active run, started now if there is none; None if logging is disabled."""
        if self.settings.is_disabled:
            return None
        while (newest := self._newest()) is None:
            if sys.is_finalizing():
                return None  # a finalizer of the last moment: no thread could write what it logs
            # With a limit: a process that was forked in this moment inherits a lock that nobody releases.
            is_mine = self._starting.acquire(timeout=10)
            try:
                if not self._stack:
                    self.start_run()
            finally:
                if is_mine:
                    self._starting.release()
        return newest

    def end_run(self, status: str = "finished") -> None:
        """End the active run, close its log and let the sinks materialize it; without a run do nothing."""
        if self._stack:
            self._end(status, None)

    def end_with(self, error: BaseException | None, *, run_id: str | None = None) -> None:
        """End the active run as *error*, which left its block, says: finished, failed or killed.

        Args:
            run_id: end only if this run is active, or was left open below the active one.
        """
        while self._stack and (run_id is None or any(r.run_id == run_id for r in self._stack)):
            is_last = run_id in (None, self.run_id)
            status, info = finishing.verdict(error)
            self._end(status, info)
            if is_last:
                return

    def _end(self, status: str, error: ev.ErrorInfo | None) -> None:
        # First, for it may take a moment: what ends the process meanwhile still finds the run open.
        recorder = self._newest()
        if recorder is None:
            return
        recorder.end_running()
        if sys.is_finalizing():
            return
        try:
            self._stack.remove(recorder)
        except ValueError:
            return  # a signal handler or another thread was quicker
        self._choose_fast_way()
        lifecycle.forget(recorder)
        recorder.end(text(status), error)
        if self.rank == 0:
            finishing.materialize(recorder, self.backends, strict=self.strict)
        if recorder.sidecar is not None:
            recorder.sidecar.finish(strict=self.strict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._stack:
            self.end_with(error)
