"""Writes what happened elsewhere as a run, with the times that it had.

The run is written beside its place and gets its name when it is whole: an import that was stopped leaves
nothing that looks like a run, and one that is repeated finds the run and adds nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog import events as ev
from eventlog.clock import SYSTEM_CLOCK
from eventlog.errors import EvlogError
from eventlog.ids import check_name
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import RunPath, is_run
from eventlog.storage.options import WriterOptions
from eventlog.tracker.naming import wants_private
from eventlog.tracker.recording import RunRecorder


class RunExistsError(EvlogError, FileExistsError):
    """Another run has the id that the import would give."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"{self.run} is another run. Import under another name."


class ImportedRun:
    """A run that is being imported.

    Attributes:
        recorder: what writes it; `add` gives the events their times.
        status: how the run ended; the block may change it.
        ended_at: when, microseconds since the epoch; None: with the last event.
    """

    def __init__(self, young: Path, run_id: str, project: str) -> None:
        self._t_us = SYSTEM_CLOCK.now_us()
        self.status = "finished"
        self.ended_at: int | None = None
        # Whoever imports may wait for the disk; nothing is dropped for the sake of speed.
        buffer = LogBuffer(
            young,
            run_id=run_id,
            project=project,
            options=WriterOptions(max_block_s=600.0),
            strict=True,
            now_ns=lambda: self._t_us * 1000,
        )
        self.recorder = RunRecorder(young, buffer, strict=True)

    @property
    def path(self) -> Path:
        """Return where the run lies until it is whole."""
        return self.recorder.path

    def add(self, event: ev.Event, t_us: int | None = None) -> None:
        """Append *event*.

        Args:
            t_us: when it happened, microseconds since the epoch; None: when the one before did.

        Raises:
            DurabilityError: the disk does not take it.
        """
        if t_us is not None:
            self._t_us = t_us
        self.recorder.add(event)

    def end(self, origin: dict[str, object]) -> None:
        """Log where the run comes from and how it ended, and close the log."""
        self.add(ev.Context(kind="import", data=origin), self.ended_at)
        self.recorder.end(self.status, None)


def imported_before(run: RunPath, digest: str) -> bool:
    """Tell whether *run* is there and was imported from the same source.

    Args:
        digest: of the source, as `import_run` was given it.

    Raises:
        RunExistsError: it is there, and comes from somewhere else.
    """
    from eventlog.replay import outline

    if not is_run(run.path):
        return False
    if outline(run.path).context.get("import", {}).get("digest") != digest:
        raise RunExistsError(run.path)
    return True


@contextmanager
def import_run(run: RunPath, *, digest: str, origin: dict[str, object]) -> Iterator[ImportedRun]:
    """Let the block write *run*, which appears when the block has ended well.

    The context ``import`` is written last, so *origin* may still change in the block.

    Args:
        digest: what identifies the source and what was made of it.
        origin: what else is said of where it comes from.

    Raises:
        RunExistsError: somebody made a run of this id in the meantime.
        OSError: it cannot be written.
    """
    check_name("project", run.project)
    check_name("run id", run.run_id)
    young = run.path.with_name(f".{run.run_id}.{os.getpid()}.importing")
    shutil.rmtree(young, ignore_errors=True)
    young.mkdir(0o700 if wants_private(young.parent.parent) else 0o777, parents=True)
    imported = ImportedRun(young, run.run_id, run.project)
    try:
        yield imported
        imported.end(origin | {"digest": digest})
        _appear(young, run.path)
    except BaseException:
        imported.recorder.end("failed", None)
        shutil.rmtree(young, ignore_errors=True)
        raise


def _appear(young: Path, final: Path) -> None:
    """Give the directory its name; a directory with files in it is never replaced."""
    try:
        young.rename(final)
    except OSError as error:
        if is_run(final):
            raise RunExistsError(final) from error
        raise
