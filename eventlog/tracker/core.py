"""The tracker itself.

`log_metrics` is the one call that has to be fast: what is a plain dict of ints and finite floats goes
straight into the ring, everything else takes the readable way through `RunRecorder`. The calls for sounds
and videos are in `media`, those for models in `models` and `watching`, those for data and seeds in `datasets`
and `seeds`, those for results of benchmarks in `evaluating`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orjson import JSONEncodeError, dumps

from eventlog import events as ev
from eventlog.ids import check_relative_name, safe_name
from eventlog.tracker import finishing, media, results
from eventlog.tracker.config import tag_mapping
from eventlog.tracker.datasets import DatasetCalls
from eventlog.tracker.evaluating import EvaluationCalls
from eventlog.tracker.media import MediaCalls
from eventlog.tracker.models import ModelCalls
from eventlog.tracker.recording import MAX_METRIC_BYTES
from eventlog.tracker.seeds import SeedCalls
from eventlog.tracker.watching import WatchCalls
from eventlog.values import key_text, text

_INT64 = 1 << 63


class Tracker(MediaCalls, ModelCalls, WatchCalls, DatasetCalls, SeedCalls, EvaluationCalls):
    """Logs runs into the append-only log, and has sinks materialize them at their end.

    Every call is thread-safe, does no network I/O and, unless ``strict``, raises nothing because of the
    disk or a value. A call outside of a run starts one.

    Args:
        backends: names of the sinks that get each run: ``local`` and ``console`` at its end, others live.
        config: project, experiment, tags and notes of the runs.
        output_dir: root of all runs; default ``EVLOG_DIR`` or ``./experiments``.
        durability: ``buffered``, or ``synced`` to wait for the disk at every call.
        rank: of this process among those that log into one run; default from the environment.
        strict: raise what would otherwise be a warning.
        resume: go on with a run of the same id instead of starting another.
        writer: fine tuning, for tests and odd disks.
        sink_options: arguments for the classes of sinks, by name of the sink.
        sync_timeout_s: how long the end of a run waits for its delivery, in seconds.
        lineage: capture where the run comes from; default as ``EVLOG_LINEAGE`` or ``evlog.toml`` says.
        system: measure the machine while the run goes on; default as ``EVLOG_SYSTEM`` or ``evlog.toml`` says.
        system_interval_s: seconds between two measurements.
        console: log what the process prints, as `eventlog.lineage.console` describes.
        private: let nobody else read new runs; default as ``EVLOG_PRIVATE`` or ``evlog.toml`` says.
        redact: mask what looks like a credential (`eventlog.tracker.redacting`): False for nothing, regular
            expressions for what is masked besides; default as ``EVLOG_REDACT`` or ``evlog.toml`` says: on.
    """

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Log numbers. Texts among them go to the summary; what is no number is refused with its key.

        Args:
            metrics: name to number (bool, int, float, Decimal, or a scalar of numpy, torch, jax).
            step: whole number of at most 64 bits, in any order; None for none.
        """
        if type(metrics) is dict and type(step) is int and 0 <= step < _INT64:
            for value in metrics.values():
                if type(value) is not float and type(value) is not int:
                    break
            else:
                try:
                    data = dumps(metrics)
                except (JSONEncodeError, TypeError):
                    data = b"null"  # a key that is no text, an int beyond 64 bits
                # orjson writes NaN and infinities as null; a name that holds "null" only takes longer.
                # `find` takes half the time of `in`, 0.07 µs.
                if data.find(b"null") < 0 and 2 < len(data) < MAX_METRIC_BYTES and self._fast(step, data):
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
            run.add(
                ev.Media(
                    key=key_text(key),
                    media_type="html" if html else "text",
                    step=run.step(step),
                    text=text(str(value)),
                )
            )

    def log_image(self, key: str, image: object, step: int | None = None, caption: str | None = None) -> None:
        """Log an image: a file, the bytes of one, a PIL image, a matplotlib figure or an array (h, w[, c]).

        Arrays hold 0–255 as integers or 0–1 as floats; they need pillow.
        """
        run = self._active()
        if run is not None:
            media.log_image(run, key_text(key), image, run.step(step), caption)

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
