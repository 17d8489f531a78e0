"""Row 9: logs of every format version, kept as files, and what was read of them when they were made."""

from __future__ import annotations

import msgspec

from eventlog.events import FORMAT
from tests.golden.make import changed, home, misread, names
from tests.golden.reading import READING
from tests.torture.rows import Form, Result

TITLE = "Golden logs of every format version"
PROMISE = "whole and damaged logs are read the same for ever, byte for byte"


def play(form: Form, seed: int) -> Result:
    """Read every golden log again and compare."""
    del form, seed  # there is one way to read them
    problems, events, cases = [], 0, 0
    for version in range(1, FORMAT + 1):
        problems += [f"format {version}: a file is not what it was: {line}" for line in changed(version)]
        problems += [
            f"format {version}: another reading, python -m pytest tests/golden -k {name}"
            for name in misread(version)
        ]
        for name in names(version):
            found = msgspec.json.decode((home(version) / name / READING).read_bytes())
            events += len(found["salvage"]["events"])
            cases += 1
    return Result(
        cases=cases,
        counts={"format versions": FORMAT, "events in them": events},
        lost=None,
        invented=None,
        problems=problems,
    )
