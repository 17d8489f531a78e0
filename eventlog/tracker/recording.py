"""One run of one process: turns what was logged into events, and ends the run.

Values are validated and converted here, once. What cannot be kept costs one warning that names the key;
the rest of the call is kept. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from eventlog import events as ev
from eventlog.codec import encode_fields
from eventlog.errors import BadValueError, warn_once
from eventlog.storage import artifacts
from eventlog.storage.buffer import LineTooLongError, LogBuffer
from eventlog.tracker.redacting import Redact, redactor_for
from eventlog.values import as_mapping, key_text, metric_number, step_number, text, to_json

if TYPE_CHECKING:
    from eventlog.lineage.running import Running
    from eventlog.tracker.live import Sidecar

E = TypeVar("E", bound=ev.Event)

MAX_METRIC_BYTES = 64_000
MAX_SPILLED_FIELD = 4096
"""Bytes of a field that stays in the line of an event that does not fit one."""
END_WAIT_S, EXIT_WAIT_S, SIGNAL_WAIT_S = 4.0, 4.0, 0.5
"""How long the end of a run waits for what goes on beside it, counted from the run's start."""


class RunRecorder:
    """The events of one run, as one process logs them.

    Attributes:
        path: the run's directory.
        is_ended: nothing is taken any more.
    """

    def __init__(self, path: Path, buffer: LogBuffer, *, strict: bool, redact: Redact = None) -> None:
        self.path, self.buffer, self.strict = path, buffer, strict
        self._redactor = redactor_for(path, redact)
        self.run_id, self.project = buffer.run_id, buffer.project
        self.is_ended = False
        self._versions: dict[str, int] = {}
        self._lock = threading.RLock()  # a signal handler may end the run in the middle of anything

    # --- writing ------------------------------------------------------------------------------

    def add(self, event: ev.Event) -> bool:
        """Append *event* without credentials; what is too large for a line goes into a file first."""
        event = self.masked(event)
        try:
            return self.buffer.append(event)
        except LineTooLongError:
            return self.buffer.append(self._spilled(event))

    def masked(self, event: E) -> E:
        """Return *event* as it is logged: without what looks like a credential, unless that is not wanted."""
        return event if self._redactor is None else cast("E", self._redactor.mask(event))

    def _spilled(self, event: ev.Event) -> ev.Event:
        kind = ev.type_name(event)
        try:
            reference = artifacts.spill(self.path, kind, encode_fields(event))
        except OSError as error:
            self.complain("payload", f"a large {kind} could not be stored: {error}")
            return ev.Dropped(counts={kind: 1}, reason=str(error), first_ts=0, last_ts=0)
        # What is required or small stays in the line, so that a reader without the file knows what it was,
        # and SQL finds the numbers of a sample with a long output.
        kept = {
            field.name: value
            for field, value in zip(
                msgspec.structs.fields(event), msgspec.structs.astuple(event), strict=True
            )
            if field.name not in {"seq", "ts", "payload"}
            and (field.required or len(msgspec.json.encode(value)) <= MAX_SPILLED_FIELD)
        }
        return type(event)(**kept, payload=reference)

    def complain(self, key: str, message: str) -> None:
        """Report something that was not logged: raise under ``strict``, else warn once."""
        if self.strict:
            raise BadValueError(key, "value", message)
        warn_once(f"{self.path} {key}", f"run {self.run_id}: {message}")

    # --- metrics ---------------------------------------------------------------------------------

    def metrics(self, metrics: Mapping[object, object], step: object) -> None:
        """Log numbers at a step; texts among them go to the summary."""
        number = self.step(step)
        good, words = self.numbers(metrics)
        if good:
            self._add_metrics(number, good)
        if words:
            self.add(ev.Summary(data=dict(words)))

    def step(self, step: object) -> int | None:
        """Return *step* as a whole number, or None after a complaint."""
        try:
            return step_number(step)
        except BadValueError as error:
            self.complain("step", f"{error} The metrics are kept without a step.")
            return None

    def numbers(self, metrics: object) -> tuple[dict[str, int | float | str], dict[str, str]]:
        """Return the numbers and the texts of *metrics*; complain about the rest."""
        good: dict[str, int | float | str] = {}
        words: dict[str, str] = {}
        named = as_mapping(metrics)
        if named is None:
            self.complain("metrics", f"log_metrics takes a mapping, not a {type(metrics).__name__}")
            return good, words
        for raw, value in named.items():
            key = key_text(raw)
            if key in good or key in words:
                self.complain(key, f"{key!r} stands twice in one call; the first value is kept")
            elif isinstance(value, str):
                words[key] = text(value)
            else:
                try:
                    good[key] = metric_number(key, value)
                except BadValueError as error:
                    self.complain(key, str(error))
        return good, words

    def _add_metrics(self, step: int | None, data: dict[str, int | float | str]) -> None:
        """Append one event, or several of the same step if one would be too long."""
        event = ev.Metrics(step=step, data=data)
        if len(encode_fields(event)) <= MAX_METRIC_BYTES or len(data) == 1:
            self.add(event)
            return
        keys = list(data)
        half = len(keys) // 2
        self._add_metrics(step, {key: data[key] for key in keys[:half]})
        self._add_metrics(step, {key: data[key] for key in keys[half:]})

    # --- params, summary, texts -----------------------------------------------------------------

    def params(self, params: object) -> None:
        """Log inputs; nested ones keep their shape."""
        named = as_mapping(params)
        if named is None:
            self.complain("params", f"log_params takes named values, not a {type(params).__name__}")
        elif named:
            data = to_json(named)
            self.add(ev.Params(data=data if isinstance(data, dict) else {"params": data}))

    def summary(self, values: object) -> None:
        """Log final values."""
        named = as_mapping(values)
        if named is None:
            self.complain("summary", f"log_summary takes named values, not a {type(values).__name__}")
        elif named:
            self.add(ev.Summary(data={key_text(k): _summary_value(v) for k, v in named.items()}))

    def histogram(self, key: str, values: object, step: object, bins: int) -> None:
        """Log a histogram of *values*, or one that is counted already (counts, edges)."""
        try:
            counts, edges = _histogram(values, bins)
        except (TypeError, ValueError) as error:
            self.complain(key, f"the histogram {key!r} was not logged: {error}")
            return
        self.add(ev.Histogram(key=key_text(key), step=self.step(step), edges=edges, counts=counts))

    def table(
        self, key: str, columns: Sequence[object], rows: Sequence[Sequence[object]], step: object
    ) -> None:
        """Log rows of values."""
        self.add(
            ev.Table(
                key=key_text(key),
                step=self.step(step),
                columns=[key_text(column) for column in columns],
                rows=[[to_json(cell) for cell in row] for row in rows],
            )
        )

    # --- files ----------------------------------------------------------------------------------

    def artifact(self, source: Path, name: str, kind: str | None, *, copy: bool) -> ev.Artifact | None:
        """Log a file or directory; return what was logged, or None if it could not be."""
        with self._lock:
            version = self._versions.get(name, 0) + 1
            self._versions[name] = version
        try:
            stored = artifacts.store(self.path, source, name, version) if copy else artifacts.describe(source)
        except (OSError, BadValueError) as error:
            with self._lock:
                if self._versions[name] == version:
                    self._versions[name] = version - 1
            self.complain(name, f"artifact {name!r} was not logged: {error}")
            return None
        if stored.skipped:
            names = ", ".join(stored.skipped[:3])
            self.complain(
                name,
                f"{len(stored.skipped)} entries of {source} were left out, for they are no files or links "
                f"that lead out of it: {names}",
            )
        event = ev.Artifact(
            name=name,
            path=stored.path if copy else text(str(source.absolute())),
            artifact_type=kind,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            version=version,
            stored="copy" if copy else "reference",
            is_directory=source.is_dir(),
            files=stored.files,
            source=text(str(source)),
        )
        self.add(event)
        return event

    def know_versions(self, versions: Mapping[str, int]) -> None:
        """Go on counting where the run's earlier writers stopped."""
        with self._lock:
            for name, version in versions.items():
                self._versions[name] = max(version, self._versions.get(name, 0))

    # --- the end ----------------------------------------------------------------------------------

    def end(
        self,
        status: str,
        error: ev.ErrorInfo | None,
        signal_name: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Log the end and close the log; the second call does nothing."""
        self.end_running()
        with self._lock:
            if self.is_ended:
                return
            self.is_ended = True
        if self._is_inherited and self.buffer.writer is None:
            return  # a forked child that logged nothing leaves no trace
        if self._is_inherited:
            self.buffer.close("forked")  # the run is its parent's to end
            return
        self.add(ev.RunEnded(status=status, error=error, signal=signal_name, exit_code=exit_code))
        self.buffer.close(status)

    def end_running(self, timeout_s: float = END_WAIT_S) -> None:
        """End what goes on beside the run; the second call does nothing."""
        running, self.running = self.running, None
        if running is not None:
            running.end(timeout_s)

    # --- for `lifecycle` -----------------------------------------------------------------------

    def end_at_exit(self, status: str, error: ev.ErrorInfo | None, signal_name: str | None) -> None:
        """End the run, because the process does; a signal does not wait for the delivery."""
        self.end_running(EXIT_WAIT_S if signal_name is None else SIGNAL_WAIT_S)
        self.end(status, error, signal_name)
        self.buffer.stream.retire()
        if self.sidecar is not None and signal_name is None:
            self.sidecar.finish()

    def write_soon(self) -> None:
        """Let what was logged reach the disk, without waiting."""
        self.buffer.stream.notify_flusher()

    def after_fork_in_child(self) -> None:
        """Go on as another writer, with locks of one's own."""
        running, self.running = self.running, None
        if running is not None:
            running.forget()
        self._lock = threading.RLock()
        self.buffer.after_fork_in_child()
        self._is_inherited = True

    _is_inherited = False
    sidecar: Sidecar | None = None
    running: Running | None = None


def _summary_value(value: object) -> object:
    """Return a number as a number, also from an array library, and anything else as JSON."""
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        try:
            return metric_number("summary", value)
        except BadValueError:
            pass
    return to_json(value)


def _histogram(values: object, bins: int) -> tuple[list[int], list[float]]:
    """Count finite *values* in *bins* of equal width; a (counts, edges) pair is taken as it is."""
    if isinstance(values, tuple) and len(values) == 2:
        counts, edges = (_floats(part) for part in values)
        if len(edges) != len(counts) + 1:
            raise ValueError(f"{len(counts)} counts need {len(counts) + 1} edges, not {len(edges)}")
        return [int(count) for count in counts], edges
    numbers = [x for x in _floats(values) if x - x == 0]
    if not numbers:
        raise ValueError("it has no finite value")
    low, high = min(numbers), max(numbers)
    width = (high - low) / bins
    if width <= 0:
        return [len(numbers)], [low - 0.5, high + 0.5]
    counted = [0] * bins
    for x in numbers:
        counted[min(bins - 1, int((x - low) / width))] += 1
    return counted, [low + width * i for i in range(bins)] + [high]


def _floats(values: object) -> list[float]:
    flat = getattr(values, "ravel", None) or getattr(values, "flatten", None)
    if callable(flat):
        values = flat()
    tolist = getattr(values, "tolist", None)
    if callable(tolist):
        values = tolist()
    if not isinstance(values, Sequence) or isinstance(values, str):
        values = list(values) if hasattr(values, "__iter__") and not isinstance(values, str) else [values]
    return [float(x) for x in cast("Sequence[float]", values)]
