"""The tracker itself.

`log_metrics` is the one call that has to be fast: what is a plain dict of ints and finite floats goes
straight into the ring, everything else takes the readable way through `RunRecorder`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from orjson import JSONEncodeError, dumps

from eventlog import events as ev
from eventlog.errors import TrackerStateError
from eventlog.ids import check_relative_name, safe_name
from eventlog.settings import Settings, from_environment
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.options import Durability, WriterOptions
from eventlog.tracker import finishing, lifecycle, results
from eventlog.tracker.config import TrackingConfig, tag_mapping
from eventlog.tracker.naming import default_run_id, place_run
from eventlog.tracker.recording import MAX_METRIC_BYTES, RunRecorder
from eventlog.values import key_text, text

_INT64 = 1 << 63


class RunHandle(str):
    """The id of a run that was started; as a context manager it ends that run."""

    __slots__ = ("_tracker",)
    _tracker: Tracker

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return (str, (str(self),))  # in another process it is the id and nothing else

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracker.end_with(error, run_id=self)


class Tracker:
    """Logs runs into the append-only log, and has sinks materialize them at their end.

    Every call is thread-safe, does no network I/O and, unless ``strict``, raises nothing because of the
    disk or a value. A call outside of a run starts one.

    Args:
        backends: names of the sinks that get each run at its end.
        config: project, experiment, tags and notes of the runs.
        output_dir: root of all runs; default ``EVLOG_DIR`` or ``./experiments``.
        durability: ``buffered``, or ``synced`` to wait for the disk at every call.
        rank: of this process among those that log into one run; default from the environment.
        strict: raise what would otherwise be a warning.
        resume: go on with a run of the same id instead of starting another.
        writer: fine tuning, for tests and odd disks.
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
    ) -> None:
        self.config = config or TrackingConfig()
        self.backends = tuple(backends)
        self.settings: Settings = from_environment()
        self.root = Path(output_dir) if output_dir is not None else self.settings.root
        self.rank = self.settings.rank if rank is None else rank
        self.strict, self.resume = strict, resume
        self._options = writer or WriterOptions()
        if durability is not None:
            self._options = msgspec.structs.replace(self._options, durability=durability)
        self._stack: list[RunRecorder] = []
        self._starting = threading.Lock()
        self._fast = self._never

    # --- runs ---------------------------------------------------------------------------------

    @property
    def project(self) -> str:
        """Return the project of the runs that this tracker starts."""
        return self.config.project or self.settings.project

    @property
    def run_id(self) -> str | None:
        """Return the id of the active run, or None."""
        return self._stack[-1].run_id if self._stack else None

    @property
    def run_dir(self) -> Path | None:
        """Return the directory of the active run, or None."""
        return self._stack[-1].path if self._stack else None

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
        resume = self.resume if resume is None else resume
        name = run_name or self.config.experiment_name or run_id or default_run_id()
        joined = self.settings.run_id if not self._stack and run_id is None else None
        if self.settings.is_disabled:
            return self._disabled(run_id or name)
        wanted = run_id or joined or (run_name or self.config.experiment_name or name)
        placed = place_run(
            self.root, self.project, wanted, resume=resume, joins=joined is not None, rank=self.rank
        )
        recorder = self._recorder(placed.path)
        parent = self._stack[-1].run_id if self._stack else None
        if not placed.is_new:
            finishing.recover_and_learn(recorder)
        if placed.is_new:
            self._log_start(recorder, name, parent)
        else:
            recorder.add(ev.RunResumed(reason="resumed" if resume else "joined"))
        self._push(recorder)
        if self.config.log_code:
            finishing.log_code(recorder)
        return self._handle(recorder.run_id)

    def _recorder(self, path: Path) -> RunRecorder:
        buffer = LogBuffer(
            path,
            run_id=path.name,
            project=path.parent.name,
            rank=self.rank,
            options=self._options,
            strict=self.strict,
        )
        return RunRecorder(path, buffer, strict=self.strict)

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
        recorder.add(
            ev.Context(
                kind="command",
                data={"argv": [text(a) for a in sys.argv], "python": sys.version.split()[0]},
            )
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
        if self._stack and self._options.durability == "buffered":
            self._fast = self._stack[-1].buffer.stream.append_metrics
        elif self._stack:
            self._fast = self._stack[-1].buffer.append_metrics_synced
        else:
            self._fast = self._never

    def _never(self, step: int, data: bytes) -> bool:  # noqa: ARG002 - the shape of the fast way
        return False

    def _disabled(self, run_id: str) -> RunHandle:
        return self._handle(run_id)

    def _active(self) -> RunRecorder | None:
        """Return the active run, started now if there is none; None if logging is disabled."""
        if self.settings.is_disabled:
            return None
        if not self._stack:
            # With a limit: a process that was forked in this moment inherits a lock that nobody releases.
            is_mine = self._starting.acquire(timeout=10)
            try:
                if not self._stack:
                    self.start_run()
            finally:
                if is_mine:
                    self._starting.release()
        return self._stack[-1]

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
            is_last = run_id is None or self._stack[-1].run_id == run_id
            status, info = finishing.verdict(error)
            self._end(status, info)
            if is_last:
                return

    def _end(self, status: str, error: ev.ErrorInfo | None) -> None:
        recorder = self._stack.pop()
        self._choose_fast_way()
        lifecycle.forget(recorder)
        recorder.end(text(status), error)
        if self.rank == 0:
            finishing.materialize(recorder, self.backends, strict=self.strict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._stack:
            self.end_with(error)

    # --- what is logged ------------------------------------------------------------------------

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Log numbers. Texts among them go to the summary; what is no number is refused with its key.

        Args:
            metrics: name to number (bool, int, float, Decimal, or a scalar of numpy, torch, jax).
            step: whole number of at most 64 bits, in any order; None for none.
        """
        if type(metrics) is dict and type(step) is int and -_INT64 <= step < _INT64:
            for value in metrics.values():
                if type(value) is not float and type(value) is not int:
                    break
            else:
                try:
                    data = dumps(metrics)
                except (JSONEncodeError, TypeError):
                    data = b"null"  # a key that is no text, an int beyond 64 bits
                # orjson writes NaN and infinities as null; a name that holds "null" only takes longer.
                if b"null" not in data and 2 < len(data) < MAX_METRIC_BYTES and self._fast(step, data):
                    return
        self._log_metrics_slowly(metrics, step)

    def _log_metrics_slowly(self, metrics: object, step: object) -> None:
        run = self._active()
        if run is not None:
            run.metrics(metrics, step)  # type: ignore[arg-type]  # it refuses what is no mapping, by name

    def log_params(self, params: object) -> None:
        """Log inputs: a mapping, dataclass, msgspec struct, argparse namespace or pydantic model."""
        run = self._active()
        if run is not None:
            run.params(params)

    def log_summary(self, values: object) -> None:
        """Log final values or texts; the last one given for a name counts."""
        run = self._active()
        if run is not None:
            run.summary(values)

    def log_artifact(
        self,
        path: str | Path,
        name: str | None = None,
        type: str | None = None,
        *,
        copy: bool | None = None,
    ) -> ev.Artifact | None:
        """Log a file or directory: copied into the run, hashed, with a version if the name was logged before.

        Args:
            name: below ``artifacts/``, may hold ``/``; default the file's name.
            type: free text such as ``model`` or ``plot``.
            copy: False records path and hash only; default as the config's ``log_artifacts`` says.

        Returns:
            What was logged, or None if it could not be read or stored.

        Raises:
            InvalidNameError: *name* would leave the run.
        """
        source = Path(path)
        # A name that was given is checked; one that comes from a file is made good.
        wanted = (
            safe_name(source.name or source.resolve().name)
            if name is None
            else check_relative_name("artifact", name)
        )
        run = self._active()
        if run is None:
            return None
        copy = self.config.log_artifacts if copy is None else copy
        return run.artifact(source, wanted, None if type is None else text(type), copy=copy)

    def log_experiment_result(self, result: object, prefix: str = "") -> None:
        """Log rates, scores, duration and what was tried of *result*, an object or a mapping."""
        metrics, params = results.metrics_of(result, prefix), results.params_of(result, prefix)
        if metrics:
            self.log_metrics(metrics)
        if params:
            self.log_params(params)

    def log_histogram(self, key: str, values: object, step: int | None = None, bins: int = 64) -> None:
        """Log the distribution of *values* (any shape), or a pair of counts (n,) and edges (n + 1,)."""
        run = self._active()
        if run is not None:
            run.histogram(key, values, step, bins)

    def log_table(
        self,
        key: str,
        columns: Sequence[object] | None = None,
        rows: Sequence[Sequence[object]] | None = None,
        step: int | None = None,
        *,
        dataframe: object = None,
    ) -> None:
        """Log rows under *columns*, or a data frame of pandas or polars."""
        run = self._active()
        if run is not None:
            columns, rows = finishing.table_of(columns, rows, dataframe)
            run.table(key, columns, rows, step)

    def log_text(self, key: str, value: str, step: int | None = None, *, html: bool = False) -> None:
        """Log a text, or HTML, of any length."""
        run = self._active()
        if run is not None:
            media: ev.Media = ev.Media(
                key=key_text(key),
                media_type="html" if html else "text",
                step=run.step(step),
                text=text(str(value)),
            )
            run.add(media)

    def log_image(self, key: str, image: object, step: int | None = None, caption: str | None = None) -> None:
        """Log an image: a file, the bytes of one, a PIL image, a matplotlib figure or an array (h, w[, c]).

        Arrays hold 0–255 as integers or 0–1 as floats; they need pillow.
        """
        run = self._active()
        if run is not None:
            finishing.log_image(run, key_text(key), image, run.step(step), caption)

    def log_checkpoint(
        self, path: str | Path, step: int | None = None, metrics: Mapping[str, object] | None = None
    ) -> None:
        """Log that a checkpoint was saved at *path*, with its size; on the disk when this returns."""
        run = self._active()
        if run is not None:
            numbers, _ = run.numbers(metrics or {})
            size = finishing.size_of(Path(path))
            run.add(
                ev.Checkpoint(
                    path=text(str(Path(path).absolute())),
                    step=run.step(step),
                    metrics=numbers,
                    size_bytes=size,
                )
            )

    def set_tags(self, tags: Mapping[str, object] | Sequence[str] | str) -> None:
        """Set labels, with values or without."""
        run = self._active()
        if run is not None:
            run.add(ev.Tags(data=tag_mapping(tags)))

    def remove_tags(self, *names: str) -> None:
        """Take labels away."""
        run = self._active()
        if run is not None:
            run.add(ev.Tags(removed=[text(name) for name in names]))

    def add_note(self, note: str) -> None:
        """Add free text about the run."""
        run = self._active()
        if run is not None:
            run.add(ev.Note(text=text(str(note))))

    def log_event(self, event: ev.Event) -> None:
        """Log any event, for integrations that know the structs."""
        run = self._active()
        if run is not None:
            run.add(event)

    def flush(self) -> None:
        """Wait until everything that was logged is on the disk."""
        for recorder in self._stack:
            recorder.buffer.sync()
