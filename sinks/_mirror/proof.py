"""What a mirror should hold of a run, and what it holds, as points to compare.

Each value of a metric is a point, each other event one with its hash, and each file that an event names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from eventlog.events import Artifact, Media, Metrics, UnknownEvent, type_name
from eventlog.sink import Batch, Entry, Point
from eventlog.storage.artifacts import PAYLOADS
from eventlog.storage.layout import ARTIFACTS_DIRECTORY, LOG_DIRECTORY
from eventlog.storage.merge import RunReader
from eventlog.values import number_in_memory
from sinks._mirror.targets import Target, sha256_of

# What reading the log needs: the segments, and the fields that did not fit a line.
_LOG = (f"{LOG_DIRECTORY}/", f"{ARTIFACTS_DIRECTORY}/{PAYLOADS}/")


def expected_points(entries: Iterable[Entry]) -> Iterator[Point]:
    """Yield what a mirror of *entries* should hold."""
    for entry in entries:
        yield from _points(entry)
        for path, digest in _files_of(entry):
            yield Point(f"file {path}", None, digest)


def mirrored_points(target: Target, place: str) -> Iterator[Point]:
    """Read the log that lies at *place*, and hash the files that it names, where they lie.

    Raises:
        SinkUnavailableError: the target cannot be reached now.
    """
    held = target.list(place)
    with tempfile.TemporaryDirectory(prefix="evlog-mirror-") as directory:
        copy = Path(directory) / "run"
        for path in held:
            if path.startswith(_LOG):
                _fetch(target, f"{place}/{path}", copy / path)
        for part in RunReader(copy).slices():
            for entry in Batch([part]).entries():
                yield from _points(entry)
                for path, _ in _files_of(entry):
                    found = sha256_of(target.chunks(f"{place}/{path}")) if path in held else "missing"
                    yield Point(f"file {path}", None, found)


def _fetch(target: Target, path: str, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with copy.open("wb") as file:
        for chunk in target.chunks(path):
            file.write(chunk)


def _points(entry: Entry) -> Iterator[Point]:
    event = entry.event
    if isinstance(event, Metrics):
        for key, value in event.data.items():
            yield Point(f"metric {entry.name(key)}", event.step, number_in_memory(value), event.ts)
    else:
        raw = event.raw if isinstance(event, UnknownEvent) else msgspec.json.encode(event)
        yield Point(f"event {type_name(event)}", None, f"{entry.writer} {sha256(raw).hexdigest()}", event.ts)


def _files_of(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of the files below the run that an event names."""
    event = entry.event
    if isinstance(event, Artifact) and event.stored == "copy":
        if event.is_directory:
            yield from ((f"{event.path}/{part.path}", part.sha256) for part in event.files)
        elif event.sha256:
            yield event.path, event.sha256
    elif isinstance(event, Media) and event.path and event.sha256:
        yield event.path, event.sha256
