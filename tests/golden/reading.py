"""What evlog says of a log, as bytes that can be compared."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec

from eventlog.errors import CorruptSegmentError
from eventlog.events import AnyEvent, UnknownEvent
from eventlog.storage.block import Finding
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.merge import RunReader
from eventlog.storage.reader import Policy
from eventlog.storage.repair import recover_run

CHECKPOINT, READING, SUMS = "checkpoint.json", "reading.json", "SHA256SUMS"
"""A consumer's cursors, if the case has any; the reading that never changes; the sums of all files."""


def reading(case: Path, scratch: Path) -> bytes:
    """Return everything that is read of *case*, under each policy, recovered first; JSON, sorted.

    Args:
        scratch: for a copy, because recovery writes.
    """
    copy = scratch / case.name
    shutil.copytree(case / "run", copy)
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    recovered = [
        {"writer": one.writer, "events": one.events, "is_good": not one.problem} for one in recover_run(copy)
    ]
    start = None
    if (case / CHECKPOINT).exists():
        start = msgspec.json.decode((case / CHECKPOINT).read_bytes(), type=Checkpoint)
    found = {"recovered": recovered} | {policy: _read(copy, policy, start) for policy in get_args(Policy)}
    return json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _read(run: Path, policy: Policy, start: Checkpoint | None) -> dict[str, Any]:
    """Return what a policy reads: under ``salvage`` everything, else how far it goes with each writer."""
    reader = RunReader(run, policy=policy, start=start)
    events: list[dict[str, Any]] = []
    refused = None
    try:
        for part in reader.slices():
            events += [{"writer": part.writer, **_event(event)} for event in part.events]
    except CorruptSegmentError as error:
        refused = {"file": error.path.name, "offset": error.offset, "problem": error.reason}
    if policy != "salvage":
        return {"events": dict(Counter(event["writer"] for event in events)), "refused": refused}
    segments = [
        {
            "writer": report.writer,
            "segment": report.segment,
            "state": str(report.state),
            "is_sealed": report.is_sealed,
            "is_verified": report.is_verified,
            "events": report.events,
            "findings": [_finding(finding) for finding in report.findings],
        }
        for writer in sorted(reader.writers)
        for report in reader.writers[writer].reports(is_alive=False)
    ]
    return {"events": events, "segments": segments}


def _event(event: AnyEvent) -> dict[str, Any]:
    """Return an event with its defaults left out, so that fields may be added to its type."""
    if isinstance(event, UnknownEvent):
        return {
            "type": event.type,
            "seq": event.seq,
            "ts": event.ts,
            "raw": event.raw.decode(errors="backslashreplace"),
        }
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return fields


def _finding(finding: Finding) -> dict[str, Any]:
    """Return what is said, without the words that explain it, which may be said better some day."""
    fields: dict[str, Any] = msgspec.to_builtins(finding)
    return {name: value for name, value in fields.items() if name not in ("writer", "segment", "detail")}
