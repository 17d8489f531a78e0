"""What a reader says of a log while it grows, however often and however seldom it looks."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.storage.merge import RunReader
from tests.logs import LogMaker, metrics, put


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=7),
    looks=st.lists(st.integers(0, 40), max_size=6),
    is_sealed=st.booleans(),
)
def test_reader_of_a_growing_log_yields_every_event_once(
    sizes: list[int], looks: list[int], is_sealed: bool
) -> None:
    """A look may find half a segment, and the next one that segment and many more behind it."""
    maker = LogMaker()
    segments = [maker.segment(metrics(size), is_sealed=is_sealed) for size in sizes]
    lines = [(number, line) for number, part in enumerate(segments, 1) for line in part]

    with tempfile.TemporaryDirectory() as directory:
        reader, read = RunReader(Path(directory)), []
        for stop in [*sorted(looks), len(lines)]:
            for number in {number for number, _ in lines[:stop]}:
                put(Path(directory), number, b"".join(line for n, line in lines[:stop] if n == number))
            read += [event for part in reader.slices() for event in part.events]

    assert read == maker.events
    assert reader.findings == []
