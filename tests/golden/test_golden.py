"""Logs of released formats, kept as files and read the same for ever.

`format-<n>/run` is a run with two writers, rotated segments, one damaged line, one torn tail and an
event of every type; `expected.json` is what a reader has to say of it. Neither is ever changed.
`format-<n>/cases/<name>` are whole and damaged logs, each with its `reading.json`: see `cases`, `rings` and
`make`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.events import FORMAT, KNOWN, AnyEvent, UnknownEvent
from eventlog.storage.merge import RunReader
from tests.golden.make import changed, home, make, names
from tests.golden.reading import READING, reading

GOLDEN = Path(__file__).parent


def as_json(event: AnyEvent) -> dict[str, Any]:
    """Return an event as expected.json has it: defaults left out, so that fields may be added."""
    if isinstance(event, UnknownEvent):
        return {"type": event.type, "seq": event.seq, "ts": event.ts, "raw": event.raw.decode()}
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return fields


def expected(version: int) -> dict[str, Any]:
    """Return what a reader has to say of the log of format *version*."""
    found: dict[str, Any] = json.loads((GOLDEN / f"format-{version}" / "expected.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_golden_log_yields_the_same_events_for_ever(version: int) -> None:
    """The events, in the merged order, with every field."""
    reader = RunReader(GOLDEN / f"format-{version}" / "run")

    events = [{"writer": p.writer, "event": as_json(event)} for p in reader.slices() for event in p.events]

    assert events == expected(version)["events"]


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_golden_log_has_the_same_damage_for_ever(version: int) -> None:
    """The state of each segment, and which events are lost."""
    reader = RunReader(GOLDEN / f"format-{version}" / "run")
    list(reader.slices())

    found = [
        {
            "writer": report.writer,
            "segment": report.segment,
            "state": str(report.state),
            "is_sealed": report.is_sealed,
            "events": report.events,
            "lost": [[f.first_seq, f.last_seq] for f in report.findings if f.first_seq is not None],
        }
        for writer in sorted(reader.writers)
        for report in reader.writers[writer].reports(is_alive=False)
    ]

    assert found == expected(version)["segments"]


def test_golden_log_has_an_event_of_every_type() -> None:
    """A type that is added gets a line in a golden log, so that it is read for ever, too."""
    types = {entry["event"]["type"] for n in range(1, FORMAT + 1) for entry in expected(n)["events"]}

    frames = {"segment_opened", "segment_sealed"}
    assert {str(kind.__struct_config__.tag) for kind in KNOWN} - frames <= types


FORMATS = range(1, FORMAT + 1)
CASES = [(version, name) for version in FORMATS for name in names(version)]


@pytest.mark.parametrize(("version", "name"), CASES, ids=[f"{version}-{name}" for version, name in CASES])
def test_golden_case_is_read_the_same_for_ever(version: int, name: str, tmp_path: Path) -> None:
    """Events, damage, what each policy does and what is recovered: byte for byte."""
    case = home(version) / name

    assert reading(case, tmp_path) == (case / READING).read_bytes()


@pytest.mark.parametrize("version", FORMATS)
def test_golden_files_are_what_they_were(version: int) -> None:
    """Nobody has changed one, taken one away or put one in without its sum."""
    assert changed(version) == []


def test_golden_case_that_is_there_is_not_made_again() -> None:
    """A golden log that follows the code proves nothing."""
    before = {path: path.read_bytes() for path in home(FORMAT).rglob("*") if path.is_file()}

    with pytest.raises(FileExistsError, match="never made again"):
        make("sealed")

    assert {path: path.read_bytes() for path in home(FORMAT).rglob("*") if path.is_file()} == before
