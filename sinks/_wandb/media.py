"""What W&B's history holds for histograms, tables and media: small JSON objects that name uploaded files.

The shapes are those that wandb 0.31 writes; the tests compare them with the SDK's own.
"""

from __future__ import annotations

import hashlib
import html
import mimetypes
import re
import struct
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import orjson

from eventlog import events as ev
from eventlog.storage.modes import read_inside

MAX_BINS = 512
"""W&B shows no histogram with more."""

_DIRECTORIES = {"image": "images", "audio": "audio", "video": "videos", "html": "html", "text": "html"}


class Upload(NamedTuple):
    """A file of the run at W&B: its name there and its bytes, or the run and the path in it."""

    name: str
    data: bytes
    path: tuple[Path, str] | None = None

    def content(self) -> bytes:
        """Return the bytes."""
        return self.data if self.path is None else read_inside(*self.path)


class TablePart(NamedTuple):
    """A table that is an artifact too, for W&B's table view reads only those."""

    name: str
    upload: Upload
    columns: list[str]
    rows: list[list[object]]


def histogram(event: ev.Histogram) -> dict[str, object]:
    """Return the histogram, with neighbouring bins joined where there are too many."""
    counts, edges = list(event.counts), list(event.edges)
    width = -(-len(counts) // MAX_BINS)
    if width > 1:
        counts = [sum(counts[i : i + width]) for i in range(0, len(counts), width)]
        edges = [*edges[:-1:width], edges[-1]]
    return {"_type": "histogram", "values": counts, "bins": edges}


def medium(event: ev.Media, run: Path, column: str, row: int) -> tuple[dict[str, object], Upload]:
    """Return what the history holds for *event*, and the file to upload.

    Raises:
        OSError: the file is gone.
    """
    path = (run, event.path) if event.path and event.text is None else None
    data = _page(event) if path is None else read_inside(*path)
    digest = hashlib.sha256(data).hexdigest()
    suffix = _suffix(event, None if path is None else Path(path[1]))
    name = f"media/{_DIRECTORIES[event.media_type]}/{file_stem(column)}_{row}_{digest[:20]}{suffix}"
    kind = "html" if event.media_type == "text" else event.media_type
    found: dict[str, object] = {"_type": f"{kind}-file", "sha256": digest, "size": len(data), "path": name}
    if kind == "image":
        found |= {"format": suffix[1:] or "png", **_image_size(data)}
    if event.caption:
        found["caption"] = event.caption
    return found, Upload(name, b"" if path else data, path)


def table(column: str, row: int, run_id: str, columns: list[str], rows: list[list[object]]) -> TablePart:
    """Return a table that stands in row *row* of the history."""
    columns, rows = _rectangle(columns, rows)
    data = orjson.dumps({"columns": columns, "data": rows})
    digest = hashlib.sha256(data).hexdigest()
    name = f"media/table/{file_stem(column)}_{row}_{digest[:20]}.table.json"
    artifact = artifact_name(f"{run_id}-{column}-table")
    return TablePart(artifact, Upload(name, data), columns, rows)


def _rectangle(columns: list[str], rows: list[list[object]]) -> tuple[list[str], list[list[object]]]:
    """Return a table as W&B takes it: columns with names of their own, and rows of their number."""
    names: list[str] = []
    for number in range(max([len(columns), *map(len, rows)])):
        name = columns[number] if number < len(columns) else f"column {number + 1}"
        while name in names:
            name += "_2"
        names.append(name)
    return names, [row + [None] * (len(names) - len(row)) for row in rows]


def table_value(part: TablePart, artifact_path: str) -> dict[str, object]:
    """Return what the history holds for a table whose artifact was logged."""
    data = part.upload.data
    return {
        "_type": "table-file",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "path": part.upload.name,
        "nrows": len(part.rows),
        "ncols": len(part.columns),
        "artifact_path": artifact_path,
        "_latest_artifact_path": artifact_path,
    }


def file_stem(key: str) -> str:
    """Return *key* as (part of) a path that every file system and URL takes."""
    plain = re.sub(r"[^A-Za-z0-9_./-]", "_", key)
    return "/".join(part for part in plain.split("/") if part.strip(".")) or "_"


def artifact_name(name: str) -> str:
    """Return *name* as W&B takes it for artifacts; what had to change is told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    if plain == name and len(name) <= 128:
        return name
    return f"{plain[:115]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _suffix(event: ev.Media, path: Path | None) -> str:
    if event.media_type in ("html", "text"):
        return ".html"
    named = PurePosixPath(path.name).suffix.lower() if path else ""
    return named or mimetypes.guess_extension(event.mime_type or "") or ""


def _page(event: ev.Media) -> bytes:
    text = event.text or ""
    return (text if event.media_type == "html" else f"<pre>{html.escape(text)}</pre>").encode()


def _image_size(data: bytes) -> dict[str, object]:
    """Return width and height as the header of a PNG or GIF says; other formats go without."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
    elif data[:4] == b"GIF8" and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
    else:
        return {}
    return {"width": width, "height": height}
