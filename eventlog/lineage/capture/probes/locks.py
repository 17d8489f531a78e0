"""Finds the files that pin an environment: lock files beside the code, and what conda has installed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.lineage.capture.child import Order, Say
from eventlog.lineage.credentials import without_credentials

MAX_LOCK_BYTES = 5 << 20
MAX_LEVELS = 6
FILES = {
    "uv.lock": "uv",
    "pylock.toml": "pylock",
    "requirements.lock": "requirements",
    "pixi.lock": "pixi",
    "poetry.lock": "poetry",
    "pdm.lock": "pdm",
    "environment.yml": "environment",
    "environment.yaml": "environment",
    "requirements.txt": "requirements",
}
CONDA = "code/conda-explicit.txt"


class Lock(NamedTuple):
    """A file that pins packages, at *source* or with *content*."""

    kind: str
    artifact: str
    sha256: str
    source: str | None
    content: bytes | None


def find(order: Order, prefix: str, say: Say) -> Iterator[Lock]:
    """Yield the locks of the code's project and of the environment at *prefix*."""
    seen: set[str] = set()
    for directory in _directories(order):
        for name, kind in FILES.items():
            path = directory / name
            if kind in seen or not path.is_file():
                continue
            try:
                if path.stat().st_size > MAX_LOCK_BYTES:
                    say.note(f"{path} is larger than {MAX_LOCK_BYTES >> 20} MiB and was left out")
                    continue
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                say.note(f"{path} cannot be read: {error.strerror or error}")
                continue
            seen.add(kind)
            yield Lock(kind, f"code/{name}", digest, str(path), None)
    active = os.environ.get("CONDA_PREFIX", "") if order.interpreter != "" else ""
    content = _conda(prefix) or _conda(active)
    if content:
        yield Lock("conda", CONDA, hashlib.sha256(content).hexdigest(), None, content)


def _directories(order: Order) -> Iterator[Path]:
    """Yield the directories of script and job, each with those above it in the same repository."""
    for start in dict.fromkeys([order.code_directory() or order.cwd, order.cwd]):
        path = Path(start)
        above = [path, *path.parents][: MAX_LEVELS + 1]
        root = next((number for number, one in enumerate(above) if (one / ".git").exists()), 0)
        yield from above[: root + 1]


def _conda(prefix: str) -> bytes | None:
    """Return what ``conda list --explicit --md5`` would say, from the files that conda keeps, if any."""
    records = sorted(Path(prefix, "conda-meta").glob("*.json")) if prefix else []
    lines = []
    for path in records:
        try:
            record = json.loads(path.read_bytes())
            url, md5 = str(record["url"]), record.get("md5")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # it is just being installed
        lines.append(without_credentials(url) + (f"#{md5}" if md5 else ""))
    head = ["# Create an environment with: conda create --name NAME --file THIS_FILE", "@EXPLICIT"]
    return "\n".join([*head, *lines, ""]).encode() if lines else None
