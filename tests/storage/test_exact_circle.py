"""How long a line in a ring may be: exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.codec import MAX_LINE_BYTES
from eventlog.storage.circle import RingFile
from eventlog.storage.files import opened
from eventlog.storage.system import SYSTEM


@pytest.mark.parametrize("before", [0, 1, 5000])
@pytest.mark.parametrize(("long", "is_ours"), [(MAX_LINE_BYTES, True), (3 * MAX_LINE_BYTES, False)])
def test_line_is_none_if_it_is_longer_than_ours_wherever_it_begins(
    tmp_path: Path, before: int, long: int, is_ours: bool
) -> None:
    """A writer's longest is found, also behind others; one of three times that is not read to its end."""
    lines = [b"x" * before, b"y" * long, b"z"]
    data = b"\n".join(lines) + b"\n"
    (tmp_path / "ring").write_bytes(data)

    with opened(tmp_path / "ring") as fd:
        ring = RingFile(fd, len(data), SYSTEM)
        read = [ring.line_at(0), ring.line_at(before + 1), ring.line_at(before + long + 2)]

    assert read == [lines[0], lines[1] if is_ours else None, b"z"]
