"""``evlog verify``: whether the logs hold what was written, byte by byte."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from eventlog.cli import render
from eventlog.cli.find import resolve_runs
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root, Runs
from eventlog.storage.layout import RunPath, list_segments, log_directory
from eventlog.storage.modes import opener

if TYPE_CHECKING:
    from eventlog.events import SegmentSealed
    from eventlog.storage.block import Finding
    from eventlog.storage.reader import SegmentReport

_CHUNK_BYTES = 1 << 20
_SEAL_BYTES = 4096


def verify(run: Runs = None, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Check every byte of the logs, after moving what killed writers left into them.

    Exit code 1 if anything that was written is damaged or missing. A torn tail is no damage: it is the
    line that a killed process was writing.
    """
    runs = resolve_runs(run, root)
    checked = []
    # Each byte is read twice: for the lines, then for the hash.
    with render.progress("verifying", total=2 * sum(_size(found.path) for found in runs)) as bar:
        for found in runs:
            bar.tell(found.run_id)
            checked.append(_check(found, bar))
    if as_json:
        render.write_json([_json(one) for one in checked])
    else:
        _write(checked)
    if not all(one.is_good for one in checked):
        raise typer.Exit(1)


class _Segment:
    """What is known of one segment. *hashed* is ``ok``, ``differs``, or ``-`` if it is not sealed."""

    def __init__(self, report: SegmentReport, advance: Callable[[int], None]) -> None:
        self.report = report
        self.hashed = _compare_hash(report, advance)

    @property
    def is_good(self) -> bool:
        return self.hashed != "differs" and not any(finding.is_loss for finding in self.report.findings)


class _Checked:
    """What is known of one run."""

    def __init__(self, run: RunPath) -> None:
        self.run = run
        self.label = f"{run.project}/{run.run_id}"
        self.segments: list[_Segment] = []
        self.recovered = 0
        self.problems: list[str] = []
        self.is_readable = True
        self.elsewhere: list[Finding] = []

    @property
    def is_good(self) -> bool:
        return not self.problems and not self.elsewhere and all(segment.is_good for segment in self.segments)


def _check(run: RunPath, bar: render.Bar) -> _Checked:
    from eventlog.storage.repair import recover_run

    checked = _Checked(run)
    try:
        for recovery in recover_run(run.path):
            checked.recovered += recovery.events
            if recovery.problem:
                checked.problems.append(recovery.problem)
        _read(checked, bar)
    except OSError as error:
        checked.is_readable = False
        checked.problems.append(str(error))
    return checked


def _read(checked: _Checked, bar: render.Bar) -> None:
    """Verify every line, then compare the hashes."""
    from eventlog.replay import alive_writers, open_run

    reader = open_run(checked.run.path)
    for writer in reader.known_writers():
        for block in reader.writer(writer).blocks():
            bar.advance(sum(map(len, block.lines)) + len(block.lines))
    alive = alive_writers(reader)
    told: list[Finding] = []
    for writer in reader.known_writers():
        for report in reader.writer(writer).reports(is_alive=writer in alive):
            checked.segments.append(_Segment(report, bar.advance))
            told += report.findings
    # What is wrong with a segment that is not there stands in no segment's report.
    checked.elsewhere = [finding for finding in reader.findings if finding not in told]


def _size(run: Path) -> int:
    """Return the bytes of a run's segments, as far as they can be seen."""
    total = 0
    log_dir = log_directory(run)
    with contextlib.suppress(OSError):  # the check itself will say so
        for segments in list_segments(log_dir).values():
            total += sum(name.path(log_dir).stat().st_size for name in segments)
    return total


def _compare_hash(report: SegmentReport, advance: Callable[[int], None]) -> str:
    seal = _seal_of(report.path) if report.is_sealed else None
    if seal is None:
        return "-"
    digest, left = hashlib.sha256(), seal.size_bytes
    with open(report.path, "rb", opener=opener) as file:
        while left > 0 and (data := file.read(min(left, _CHUNK_BYTES))):
            digest.update(data)
            left -= len(data)
            advance(len(data))
    return "ok" if left == 0 and digest.hexdigest() == seal.sha256 else "differs"


def _seal_of(path: Path) -> SegmentSealed | None:
    """Return the seal if it is the last line, as it should be; the reader reports it if it is not."""
    import msgspec

    from eventlog.codec import decode
    from eventlog.events import SegmentSealed

    with open(path, "rb", opener=opener) as file:
        file.seek(max(0, path.stat().st_size - _SEAL_BYTES))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    try:
        event = decode(last)
    except msgspec.MsgspecError:
        return None
    return event if isinstance(event, SegmentSealed) else None


# --- output --------------------------------------------------------------------------------------


def _write(checked: list[_Checked]) -> None:
    rows = [
        (
            one.label,
            segment.report.writer,
            str(segment.report.segment),
            str(segment.report.state),
            str(segment.report.events),
            str(segment.report.size_bytes),
            segment.hashed if segment.report.is_verified else "no checksums",
        )
        for one in checked
        for segment in one.segments
    ]
    columns = ("run", "writer", "segment", "state", "events", "bytes", "sha256")
    render.write_table(columns, rows, right=("segment", "events", "bytes"))
    for one in checked:
        for line in _remarks(one):
            render.write(render.printable(f"{one.label}: {line}"))
    good = sum(one.is_good for one in checked)
    unread = sum(not one.is_readable for one in checked)
    more = f", {unread} that cannot be read" if unread else ""
    render.write(f"{len(checked)} runs: {good} good, {len(checked) - good - unread} with damage{more}")


def _remarks(one: _Checked) -> list[str]:
    lines = [f"{one.recovered} events recovered from killed writers"] if one.recovered else []
    lines += one.problems
    lines += [
        f"{finding.writer} segment {finding.segment}: {_finding_text(finding)}" for finding in one.elsewhere
    ]
    for segment in one.segments:
        name = segment.report.path.name
        lines += [f"{name}: {_finding_text(finding)}" for finding in segment.report.findings]
        if segment.hashed == "differs":
            lines.append(f"{name}: its bytes do not have the sha256 of its seal")
    return lines


def _finding_text(finding: Finding) -> str:
    text = f"{finding.problem} at byte {finding.start}"
    if finding.end > finding.start:
        text = f"{finding.problem} at bytes {finding.start} to {finding.end - 1}"
    if finding.first_seq is not None:
        text += f", events {finding.first_seq} to {finding.last_seq} are lost"
    return text + (f" ({finding.detail})" if finding.detail else "")


def _json(one: _Checked) -> dict[str, object]:
    import msgspec

    return {
        "project": one.run.project,
        "run_id": one.run.run_id,
        "path": str(one.run.path),
        "is_good": one.is_good,
        "recovered": one.recovered,
        "problems": one.problems,
        "findings": [msgspec.to_builtins(finding) for finding in one.elsewhere],
        "segments": [
            {
                "writer": segment.report.writer,
                "segment": segment.report.segment,
                "path": str(segment.report.path),
                "state": str(segment.report.state),
                "is_sealed": segment.report.is_sealed,
                "is_verified": segment.report.is_verified,
                "events": segment.report.events,
                "size_bytes": segment.report.size_bytes,
                "sha256": segment.hashed,
                "findings": [msgspec.to_builtins(finding) for finding in segment.report.findings],
            }
            for segment in one.segments
        ],
    }
