"""W&B's offline format, written by its own SDK: `wandb sync` uploads it from a machine with a network.

The directory of a run is made anew under another name and takes the place of the old one when the run is
written to its end: the same log gives one offline run, however often it is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from eventlog.sink import RunStatus
from sinks._wandb.rows import STEP, Fold, Progress, TableRow
from sinks._wandb.sdk import ONE_AT_A_TIME, import_sdk, make_artifact, settings
from sinks._wandb.stream import Remote


class OfflineRun:
    """Takes a run's rows and files; the SDK is started with the first of them."""

    def __init__(self, directory: Path, remote: Remote, job_type: str, group: str) -> None:
        self._home, self._remote = directory, remote
        self._job_type, self._group = job_type, group
        self._young = directory / f".{remote.run}.{os.getpid()}.tmp"
        self._run: Any = None
        self._sdk: Any = None
        self._rows = 0
        self._texts: dict[str, list[str]] = {"console.log": [], "system.jsonl": []}

    def write(self, fold: Fold) -> None:
        """Take a batch."""
        run = self._started(fold.progress)
        for upload in fold.uploads:
            path = Path(run.dir) / upload.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(upload.content())
            run.save(str(path), base_path=run.dir, policy="now")
        for _, event in fold.artifacts:
            metadata = {"sha256": event.sha256, "source": event.source, "version": event.version}
            with contextlib.suppress(FileNotFoundError):
                run.log_artifact(make_artifact(self._sdk, event, fold.home, metadata))
        for row in fold.rows:
            self._log(row)
        self._texts["console.log"] += fold.lines
        self._texts["system.jsonl"] += fold.stats

    def close(self, progress: Progress, status: RunStatus | None, exit_code: int | None) -> None:
        """Finish the files and give the directory its name; None for *status* throws them away."""
        run = self._started(progress)
        if status is not None:
            run.config.update(progress.config, allow_val_change=True)
            run.tags = tuple(progress.tag_list())
            run.notes = "\n".join(progress.notes) or None
            run.summary.update({k: v for k, v in progress.summary.items() if isinstance(v, (str, dict))})
            run.summary["status"] = status.status
            for name, lines in self._texts.items():
                if lines:
                    path = Path(run.dir) / name
                    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
                    run.save(str(path), base_path=run.dir, policy="now")
        run.finish(exit_code=exit_code or 0)
        if status is not None:
            self._replace()
        shutil.rmtree(self._young, ignore_errors=True)

    def _log(self, row: str | TableRow) -> None:
        if isinstance(row, TableRow):
            part = row.part
            value = self._sdk.Table(columns=part.columns, data=part.rows, allow_mixed_types=True)
            self._run.log({row.column: value, **row.row}, step=row.row["_step"])
            return
        data = json.loads(row)
        self._run.log({k: v for k, v in data.items() if k not in ("_step", "_runtime")}, step=data["_step"])

    def _started(self, progress: Progress) -> Any:
        if self._run is not None:
            return self._run
        shutil.rmtree(self._young, ignore_errors=True)
        self._young.mkdir(parents=True)
        self._sdk = sdk = import_sdk()
        with ONE_AT_A_TIME:
            self._run = sdk.init(
                entity=self._remote.entity or None,
                project=self._remote.project,
                id=self._remote.run,
                name=progress.name or None,
                group=self._group or progress.group,
                job_type=self._job_type or None,
                config=progress.config,
                mode="offline",
                reinit="create_new",
                dir=str(self._young),
                settings=settings(sdk, x_start_time=(progress.started_us or 0) / 1e6 or None),
            )
        self._run.define_metric("*", step_metric=STEP)
        return self._run

    def _replace(self) -> None:
        """Put what was made in the place of what is there."""
        (made,) = self._young.glob("wandb/offline-run-*")
        for old in self._home.glob(f"offline-run-*-{self._remote.run}"):
            shutil.rmtree(old)
        made.rename(self._home / made.name)
