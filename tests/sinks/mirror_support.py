"""What the tests of the mirror share: a run with everything in it, and looking at both sides."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventlog import Tracker, TrackingConfig
from eventlog import events as ev
from eventlog.delivery.pump import deliver_run
from eventlog.sink import Batch, RunInfo, RunStatus
from eventlog.storage.merge import RunReader
from eventlog.testing import make_run
from sinks.mirror import RECORD, Copied, MirrorSink, Record

YOUNG = ".evlog/mirror-young/"


def full_run(root: Path, name: str = "a") -> Path:
    """Log a run with artifacts, a payload file, two segments and the files of another sink."""
    source = root.parent / f"sources-{name}"
    (source / "folder" / "deep").mkdir(parents=True)
    (source / "empty.bin").write_bytes(b"")
    (source / "folder" / "deep" / "ä b?*[1]%20.txt").write_text("odd")
    (source / "model.bin").write_bytes(bytes(range(256)) * 500)
    with Tracker((), TrackingConfig(project="p"), output_dir=root) as tracker:
        tracker.start_run(name)
        tracker.log_params({"lr": 0.1})
        for step in range(50):
            tracker.log_metrics({"loss": 1 / (step + 1)}, step)
        for artifact in ("empty.bin", "folder", "model.bin"):
            tracker.log_artifact(source / artifact)
    run = root / "p" / name
    make_run(run, [ev.Note(text="n" * 2_000_000), ev.Metrics(step=50, data={"loss": "NaN"})])
    (run / "metadata.json").write_text("{}")
    return run


def sync(run: Path, sink: MirrorSink) -> None:
    """Deliver as the pump does."""
    deliver_run(run, sink, "mirror", timeout_s=0)


def copy_now(run: Path, sink: MirrorSink, status: str | None = "finished", generation: int = 0) -> None:
    """Deliver everything in one batch, whatever was delivered before."""
    sink.open(RunInfo(project=run.parent.name, run_id=run.name, path=run, generation=generation))
    sink.write(Batch(list(RunReader(run).slices())))
    sink.close(None if status is None else RunStatus(status=status))


def files_of(run: Path) -> dict[str, bytes]:
    """Return the files of a run that a mirror should have, by path."""
    found = {p.relative_to(run).as_posix(): p for p in sorted(run.rglob("*")) if p.is_file()}
    return {path: file.read_bytes() for path, file in found.items() if not path.startswith(".evlog/")}


def problems_of(run: Path, held: dict[str, bytes]) -> list[str]:
    """Return what is wrong with what a mirror holds of *run* at this instant, by path below the run.

    Every file under its final name is whole, or for a segment a prefix of whole lines; the record is true;
    files lie there before the log that names them.
    """
    source = files_of(run)
    found = []
    for path, data in held.items():
        if path.startswith(YOUNG) or path == RECORD:
            continue
        is_prefix = path.startswith("log/") and source[path].startswith(data) and data.endswith(b"\n")
        if data != source[path] and not is_prefix:
            found.append(f"{path} is half written")
    if RECORD in held:
        files: dict[str, Copied] = msgspec.json.decode(held[RECORD], type=Record).files
        untrue = [path for path, copied in files.items() if len(held.get(path, b"")) != copied.size_bytes]
        found += [f"{path} is recorded and not there" for path in untrue]
    if any(path.startswith("log/") for path in held):
        files_there = [path for path in source if path.startswith("artifacts/")]
        found += [f"{path} is named and not there" for path in files_there if path not in held]
    return found
