"""Pictures of runs that a report carries with it: small PNG files, few of them, looked at before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eventlog.analysis.reports.model import Image
from eventlog.analysis.reports.reading import Below
from eventlog.storage.modes import read_inside

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_BYTES = 400_000
_MOST_BYTES_IN_ALL = 2_000_000
_MOST_PIXELS = 4_000_000
"""A PNG of few bytes may unfold into gigabytes in whoever looks at it."""


class _Logged(NamedTuple):
    """An image as the log names it; nothing of it is believed."""

    run: str
    name: str
    path: str
    step: int | None
    caption: str


def images(
    below: Below, runs: Sequence[str], paths: Mapping[str, Path], *, most: int
) -> tuple[list[Image], int]:
    """Return at most *most* pictures, and how many more there are; the first ones of each run come first.

    Args:
        runs: in the order in which they are asked.
    """
    logged = _logged(below, runs)
    found: list[Image] = []
    room = _MOST_BYTES_IN_ALL
    left_out = 0
    for one in _in_turn(logged, runs):
        image = _read(paths[one.run], one) if len(found) < most else None
        if image is None or len(image.data) > room:
            left_out += 1
            continue
        found.append(image)
        room -= len(image.data)
    order = {run: i for i, run in enumerate(runs)}
    return sorted(found, key=lambda image: (image.name, order[image.run])), left_out


def _logged(below: Below, runs: Sequence[str]) -> dict[str, list[_Logged]]:
    """Return the last picture of each name, by run."""
    found: dict[str, list[_Logged]] = {run: [] for run in runs}
    for project, run_id, payload in below.ask(_MEDIA, runs):
        said = json.loads(str(payload))
        name, path, step = said.get("key"), said.get("path"), said.get("step")
        if isinstance(name, str) and isinstance(path, str):
            number = step if isinstance(step, int) else None
            one = _Logged(f"{project}/{run_id}", name, path, number, str(said.get("caption") or ""))
            found[one.run].append(one)
    for project, run_id, name, path in below.ask(_ARTIFACTS, runs):
        found[f"{project}/{run_id}"].append(_Logged(f"{project}/{run_id}", str(name), str(path), None, ""))
    return found


def _in_turn(logged: Mapping[str, list[_Logged]], runs: Sequence[str]) -> Iterator[_Logged]:
    """Yield the first picture of each run, then the second of each, ...."""
    longest = max(map(len, logged.values()), default=0)
    for i in range(longest):
        for run in runs:
            if i < len(logged[run]):
                yield logged[run][i]


def _read(run: Path, one: _Logged) -> Image | None:
    """Return a picture if it is a small PNG that lies in the run; a log may name any file."""
    try:
        data = read_inside(run, one.path, at_most=_MOST_BYTES)
    except (OSError, ValueError):  # gone, too large, a link, no text for a path: left out and counted
        return None
    size = _size(data)
    if size is None:
        return None
    return Image(
        run=one.run,
        name=one.name,
        step=one.step,
        caption=one.caption,
        width=size[0],
        height=size[1],
        data=data,
    )


def _size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG of moderate size, None for anything else.

    Source: PNG specification (W3C, 2003), sections 5.2 and 11.2.2: signature, then the chunk IHDR.
    """
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) > _MOST_BYTES:
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return (width, height) if 0 < width * height <= _MOST_PIXELS else None


_MEDIA = """
    SELECT project, run_id, arg_max(payload, {'ts': ts, 'writer': writer, 'seq': seq})
    FROM events SEMI JOIN selected USING (project, run_id)
    WHERE type = 'media' AND payload->>'$.media_type' = 'image'
    GROUP BY project, run_id, payload->>'$.key' ORDER BY project, run_id, payload->>'$.key'
"""
_ARTIFACTS = """
    SELECT project, run_id, name, arg_max(path, version)
    FROM artifacts SEMI JOIN selected USING (project, run_id)
    WHERE lower(name) LIKE '%.png' AND stored = 'copy'
    GROUP BY project, run_id, name ORDER BY ALL
"""
