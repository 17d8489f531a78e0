"""Opens a run for writing, for commands that log themselves.

`Tracker` gives a run whose id is taken another name, as a training job wants it. A command that is told the
id means that very run, also when two of them come at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from eventlog import events as ev
from eventlog.ids import check_name
from eventlog.storage.layout import RunPath, is_run, list_rings, log_directory, why_no_ring_file
from eventlog.storage.repair import is_alive

if TYPE_CHECKING:
    from eventlog.storage.options import WriterOptions
    from eventlog.tracker.recording import RunRecorder


def open_recorder(run: RunPath, *, rank: int = 0, options: WriterOptions | None = None) -> RunRecorder:
    """Return what writes into *run* as a new writer; nothing is written yet."""
    from eventlog.storage.buffer import LogBuffer
    from eventlog.tracker.recording import RunRecorder

    buffer = LogBuffer(run.path, run_id=run.run_id, project=run.project, rank=rank, options=options)
    return RunRecorder(run.path, buffer, strict=False)


def run_path(root: Path, project: str, run_id: str) -> RunPath:
    """Return where a run of this id lies.

    Raises:
        InvalidNameError: the names cannot be directories.
    """
    return RunPath(project, run_id, root / check_name("project", project) / check_name("run id", run_id))


def has_living_writer(run: Path) -> bool:
    """Tell whether a process has *run* open for writing now."""
    log_dir = log_directory(run)
    if any(is_alive(log_dir, writer, None, is_sealed=False) for writer in list_rings(log_dir)):
        return True
    if not is_run(run) or why_no_ring_file(log_dir) is None:
        return False
    from eventlog.replay import alive_writers  # rings in memory: only the log itself tells who lives
    from eventlog.storage.merge import RunReader

    reader = RunReader(run)
    for _ in reader.slices():
        pass
    return bool(alive_writers(reader))


def begin(
    recorder: RunRecorder,
    *,
    is_new: bool,
    name: str,
    reason: Literal["resumed", "joined"] = "resumed",
    parent: str | None = None,
    experiment: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    params: Mapping[str, object] | None = None,
    argv: list[str] | None = None,
) -> None:
    """Log the first events of this writer.

    Args:
        is_new: this writer made the run.
        reason: why it takes part in a run that was there.
        argv: the command that the run consists of.
    """
    from eventlog.storage.repair import recover_run
    from eventlog.values import text

    if is_new:
        group = None if experiment is None else text(experiment)
        recorder.add(
            ev.RunStarted(name=text(name), experiment=group, parent_run_id=parent, tags=dict(tags or {}))
        )
    else:
        recover_run(recorder.path)
        recorder.add(ev.RunResumed(reason=reason))
    recorder.params(params or {})
    if is_new and argv:
        from eventlog.lineage.origin import origin_of_command

        recorder.add(ev.Context(kind="command", data=origin_of_command(argv).context()))


def key_and_value(word: str, option: str) -> tuple[str, str]:
    """Return what ``KEY=VALUE`` says, for *option*."""
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise typer.BadParameter(f"{word!r} is not KEY=VALUE", param_hint=option)
    return key, value
