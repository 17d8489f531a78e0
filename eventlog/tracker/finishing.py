"""What surrounds a run: its verdict, its code, and the sinks at its end.

What few runs need (subprocess, tempfile, the sinks) is imported where it is used: 10 ms of each start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from eventlog import events as ev
from eventlog.errors import warn_once
from eventlog.ids import safe_name
from eventlog.storage.layout import list_segments
from eventlog.storage.repair import recover_run
from eventlog.tracker.lifecycle import describe_error
from eventlog.tracker.recording import RunRecorder

AT_THE_END = frozenset({"local", "console"})
"""These sinks make their files from a finished run; all others get it live, from a sidecar."""


def verdict(error: BaseException | None) -> tuple[str, ev.ErrorInfo | None]:
    """Return the status that an exception, or none, gives a run."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", None
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return "killed", describe_error(error)
    return "failed", describe_error(error)


def recover_and_learn(recorder: RunRecorder) -> dict[str, dict[str, object]]:
    """Prepare to go on with a run: recover what dead writers left, and know its artifacts' versions.

    Returns:
        What the log says of the run's lineage, by kind of context.
    """
    from eventlog.replay import outline

    recover_run(recorder.path)
    if not list_segments(recorder.path / "log"):
        return {}
    seen = outline(recorder.path)
    versions: dict[str, int] = {}
    for artifact in seen.artifacts:
        versions[artifact.name] = max(artifact.version, versions.get(artifact.name, 0))
    recorder.know_versions(versions)
    return seen.context


def materialize(recorder: RunRecorder, backends: Sequence[str], *, strict: bool) -> None:
    """Let the sinks without a process of their own have the run that has just ended; errors are warnings."""
    from eventlog.delivery.pump import deliver_run
    from eventlog.plugins import load_sink

    for name in AT_THE_END.intersection(backends):
        try:
            deliver_run(recorder.path, load_sink(name), name, timeout_s=0)
        except Exception as error:  # a sink must never reach the training; the log has everything
            if strict:
                raise
            warn_once(
                f"sink {name} {recorder.path}",
                f"run {recorder.run_id} is logged, but not yet in {name!r}: {error}. "
                f"Deliver it with: evlog sync {recorder.path} --to {name}",
            )


def log_code(recorder: RunRecorder) -> None:
    """Store the entry script as an artifact; the uncommitted changes are stored with the lineage."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main and Path(main).is_file():
        recorder.artifact(Path(main), f"code/{safe_name(Path(main).name)}", "code", copy=True)


def size_of(path: Path) -> int | None:
    """Return the bytes of a file or of all files below a directory; None if it is not there."""
    try:
        if path.is_dir():
            return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())
        return path.stat().st_size
    except OSError:
        return None


def table_of(
    columns: Sequence[object] | None, rows: Sequence[Sequence[object]] | None, dataframe: object
) -> tuple[Sequence[object], Sequence[Sequence[object]]]:
    """Return columns and rows, from a data frame of pandas or polars if one was given."""
    if dataframe is None:
        return columns or [], rows or []
    names = list(getattr(dataframe, "columns", []))
    take = getattr(dataframe, "rows", None)  # polars
    if callable(take):
        return names, list(take())
    take = getattr(dataframe, "itertuples", None)  # pandas
    return names, [list(row) for row in take(index=False)] if callable(take) else []
