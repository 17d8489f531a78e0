"""The `wandb` sink: a run as a run of Weights & Biases.

Each event that makes a row of W&B's history gets the next row number of its run, which is the row's
``_step``, and its line offset. The user's step is the column ``step``, which `define_metric` makes the
x axis of everything, so steps may come in any order. Rows are posted to the run's file stream at their own
offsets, and W&B is asked how many it holds before a batch counts as delivered; the SDK's `finish` is never
believed.

How a repeated batch becomes harmless: the pump repeats a begun batch as it was (`Traits.fixed_batches`), so
its rows get the same numbers again; the number of confirmed rows is saved with the checkpoint. What W&B
already holds is not sent again, and what is sent again goes to the same offset. So each row is there once
whether the service overwrites lines by offset or appends them. An answer that says less than was confirmed
is stale: it is asked again, and never acted on. Config, summary, tags and files are replaced as a whole;
artifacts of equal content are one version.

`mode="offline"` writes W&B's offline format through the SDK instead, anew each time (`sinks._wandb.offline`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from eventlog.errors import SinkRejectedError, SinkUnavailableError
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from sinks._wandb.api import DEFAULT_URL, STATE, UPSERT, Api, WandBRefusedError, api_key, configured
from sinks._wandb.life import Heart, config_of, exit_code, origin
from sinks._wandb.media import artifact_name, table_value
from sinks._wandb.names import project_name, run_name
from sinks._wandb.offline import OfflineRun
from sinks._wandb.read import delivered_points, expected_points
from sinks._wandb.rows import Fold, Progress, TableRow, encode_row
from sinks._wandb.sdk import Session, require_package, session
from sinks._wandb.stream import Lines, Remote, Stream

_PATIENCE = 2
"""So many refusals of the same kind may pass by themselves; the next one is told."""
HEARTBEAT_S = 30.0


class WandBSink:
    """Delivers a run to W&B, or writes W&B's offline format.

    Args:
        project: at W&B; default the log's project.
        entity: user or team; default the one of the API key.
        mode: ``online`` or ``offline``.
        group, job_type: of the run; the group's default is the run's experiment.
        base_url: of the service; default WANDB_BASE_URL, then what `wandb login` noted.
        dir: where offline runs go; default ``wandb`` in the run's directory.
        timeout_s: for one request.
        confirm_s: how long W&B may take to show what it took.
        settle_s: after an interruption, how long its answer has to stay the same to be believed.
    """

    def __init__(
        self,
        *,
        project: str = "",
        entity: str = "",
        mode: str = "online",
        group: str = "",
        job_type: str = "",
        base_url: str = "",
        dir: str = "",
        timeout_s: float | str = 60.0,
        confirm_s: float | str = 60.0,
        settle_s: float | str = 2.0,
    ) -> None:
        if mode not in ("online", "offline"):
            raise ValueError(f"mode is {mode!r} for the wandb sink; choose 'online' or 'offline'")
        require_package()
        self._mode: Literal["online", "offline"] = "online" if mode == "online" else "offline"
        self._url = (base_url or configured("base_url") or DEFAULT_URL).rstrip("/")
        self._project, self._group, self._job_type, self._dir = project, group, job_type, dir
        self._entity = entity or configured("entity") or ""
        self._timeout_s = _seconds("timeout_s", timeout_s)
        self._confirm_s = _seconds("confirm_s", confirm_s)
        self._settle_s = _seconds("settle_s", settle_s)
        self._run = RunInfo(project="", run_id="", path=Path())
        self._progress = Progress()
        self._stream: Stream | None = None
        self._offline: OfflineRun | None = None
        self._refusals = 0
        self._heart: Heart | None = None

    @property
    def traits(self) -> Traits:
        """Return what it asks of the pump: the same batches again, or everything for a file made anew."""
        if self._mode == "offline":
            return Traits(is_projection=True)
        return Traits(fixed_batches=True, batch_age_s=10.0)

    @property
    def destination(self) -> str:
        """Return the service with entity and project, or the directory of the offline runs."""
        if self._mode == "offline":
            return f"offline:{self._dir}" if self._dir else "offline"
        return "/".join(part for part in (self._url, self._entity, self._project) if part)

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Find the run at W&B, or make it."""
        self._run = run
        self._progress = msgspec.convert(run.state, Progress) if run.state else Progress()
        if self._mode == "offline":
            directory = Path(self._dir) if self._dir else run.path / "wandb"
            self._offline = OfflineRun(directory, self._remote(), self._job_type, self._group)
            return None
        if run.started is not None and self._progress.started_us is None:
            self._progress.started_us = run.started.ts
        with self._told():
            api = Api(self._url, api_key(self._url), timeout_s=self._timeout_s)
            self._stream = Stream(api, self._remote(), confirm_s=self._confirm_s, settle_s=self._settle_s)
            self._stream.find(self._held())
            is_new = self._upsert()
            self._stream.settle(is_new=is_new)
            self._stream.check_last(self._progress.rows, self._progress.last)
        self._heart = Heart(api, self._stream.remote, HEARTBEAT_S)
        return None

    def state(self) -> dict[str, object]:
        """Return how many lines were confirmed, and what is overwritten as a whole."""
        built = msgspec.to_builtins(self._progress)
        assert isinstance(built, dict)
        return built

    def write(self, batch: Batch) -> None:
        """Deliver the batch and wait until W&B shows it."""
        fold = Fold(self._progress.copy(), self._run.path, self._remote().run)
        fold.take(batch)
        if self._offline is not None:
            self._offline.write(fold)
            self._progress = fold.progress
        else:
            with self._told():
                self._deliver(fold)
        self._say_rejected(fold)

    def close(self, status: RunStatus | None) -> None:
        """Tell W&B how the run ended, if it did, and see that it knows."""
        if self._heart is not None:
            self._heart.stop()
            self._heart = None
        if self._offline is not None:
            offline, self._offline = self._offline, None
            offline.close(self._progress, status, None if status is None else exit_code(status))
            return
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            if status is not None and not status.is_running:
                with self._told():
                    self._end(stream, status)
        finally:
            stream.close()

    # --- delivering ------------------------------------------------------------------------------------

    def _deliver(self, fold: Fold) -> None:
        stream, before = self._stream, self._progress
        assert stream is not None
        rows = self._finish_rows(fold)
        names = stream.upload(fold.uploads)
        self._progress = fold.progress
        try:
            if fold.is_config_changed or fold.artifacts:
                self._upsert()
            stream.append(
                Lines(before.rows, rows),
                Lines(before.stats, fold.stats),
                Lines(before.lines, fold.lines),
                summary=encode_row(fold.progress.user_summary()),
                uploaded=names,
                ids=fold.progress.last,
            )
        except BaseException:
            self._progress = before
            raise

    def _finish_rows(self, fold: Fold) -> list[str]:
        """Return the lines of the rows, after what they refer to was logged as artifacts."""
        waiting = [row for row in fold.rows if isinstance(row, TableRow)]
        values: dict[str, dict[str, object]] = {}
        if waiting or fold.artifacts:
            with self._session() as sdk:
                for entry, event in fold.artifacts:
                    aliases = ["latest", artifact_name(f"{self._run.run_id}-v{event.version}")]
                    try:
                        sdk.log(event, self._run.path, aliases)
                    except OSError as error:
                        fold.rejected.append((entry.writer, event.seq, str(error)))
                for wait in waiting:
                    values[wait.part.upload.name] = table_value(wait.part, sdk.log_table(wait.part))
            fold.is_config_changed = True  # the SDK wrote the config as it had read it
        lines = []
        for row in fold.rows:
            if isinstance(row, TableRow):
                value = values[row.part.upload.name]
                fold.progress.summary[row.column] = value
                lines.append(encode_row({row.column: value, **row.row}))
            else:
                lines.append(row)
        return lines

    def _session(self) -> contextlib.AbstractContextManager[Session]:
        assert self._stream is not None
        remote = self._stream.remote
        return session(
            url=self._url,
            key=self._stream.api.key,
            entity=remote.entity,
            project=remote.project,
            run_id=remote.run,
        )

    def _upsert(self) -> bool:
        """Make the run, or replace what W&B knows of it beside its lines; tell whether it is new."""
        assert self._stream is not None
        progress, context = self._progress, self._progress.context
        started = self._run.started
        return self._stream.upsert(
            UPSERT,
            config=config_of(progress, self._run),
            displayName=progress.name or (started.name if started else self._run.run_id),
            groupName=self._group or progress.group or (started.experiment if started else None),
            jobType=self._job_type or None,
            notes="\n".join(progress.notes) or None,
            tags=progress.tag_list(),
            **origin(context),
        )

    def _end(self, stream: Stream, status: RunStatus) -> None:
        progress = self._progress.copy()
        progress.summary["status"] = status.status
        stream.end(encode_row(progress.user_summary()), exit_code(status), STATE)

    # --- reading back ----------------------------------------------------------------------------------

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield the numbers and params that W&B should hold."""
        return expected_points(entries, self._run.path, self._remote().run)

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Yield the numbers and params that W&B's own interface answers with."""
        self._run = run
        api = Api(self._url, api_key(self._url), timeout_s=self._timeout_s)
        with contextlib.closing(api), self._told():
            yield from delivered_points(api, self._remote())

    # --- errors and names ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Take a refusal for a passing one at first: the log can wait."""
        try:
            yield
            self._refusals = 0
        except WandBRefusedError as error:
            self._refusals += 1
            is_final = error.status in (401, 403) or (error.status == 409 and error.what == "UpsertBucket")
            if is_final:
                raise
            if self._refusals <= _PATIENCE:
                raise SinkUnavailableError(str(error)) from error
            if error.status in (400, 413, 422):
                raise SinkRejectedError(str(error)) from error
            raise

    def _say_rejected(self, fold: Fold) -> None:
        if fold.rejected:
            said = "; ".join(reason for _, _, reason in fold.rejected[:3])
            raise SinkRejectedError(
                f"W&B cannot hold {len(fold.rejected)} events: {said}", [r[:2] for r in fold.rejected]
            )

    def _remote(self) -> Remote:
        run = self._run
        return Remote(
            entity=self._entity,
            project=project_name(self._project or run.project),
            run=run_name(run, is_mixed=bool(self._project)),
        )

    def _held(self) -> tuple[int, int, int]:
        progress = self._progress
        return progress.rows, progress.stats, progress.lines


def _seconds(name: str, value: float | str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < sys.maxsize:
        raise ValueError(f"{name} is {value!r} for the wandb sink; give a number of seconds")
    return seconds
