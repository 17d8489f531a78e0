"""Lists what is installed for one Python. Also run as a program of its own, by any Python from 3.8 on.

Nothing outside of the standard library is imported, and nothing of this package. What is installed is what
`importlib.metadata` finds; that module is asked only for what is packed into a file, for to import it takes
as long as to read a hundred packages.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator

_NAME = re.compile(r"^Name:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_VERSION = re.compile(r"^Version:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalVM"}


def installed(path: list[str] | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Return name and version of all packages on *path* (default ``sys.path``), and where some came from.

    Of a name that is there twice the first counts, as it does for an import. What came from an index has no
    address.
    """
    versions: dict[str, str] = {}
    sources: dict[str, str] = {}
    for read in _found(sys.path if path is None else path):
        try:
            text = read("METADATA") or read("PKG-INFO") or read("") or ""
            # The head only: the description of a package may say anything.
            head = text.partition("\n\n")[0]
            name, version = _NAME.search(head), _VERSION.search(head)
            if name is None or name[1] in versions:
                continue
            versions[name[1]] = version[1] if version else ""
            origin = read("direct_url.json")
            if origin:
                sources[name[1]] = _address(json.loads(origin))
        except (OSError, ValueError, TypeError, AttributeError):
            continue  # half of it was removed meanwhile
    return dict(sorted(versions.items(), key=lambda item: item[0].lower())), sources


def _found(path: list[str]) -> Iterator[Callable[[str], str | None]]:
    """Yield for each package what reads the files of its metadata; of files with packages inside, too."""
    for entry in path:
        try:
            names = os.listdir(entry or ".")  # noqa: PTH208 - a path object for each would take as long again
        except NotADirectoryError:
            from importlib import metadata

            yield from (one.read_text for one in metadata.distributions(path=[entry]))
            continue
        except OSError:
            continue
        for name in names:
            low = name.lower()
            # An egg is a directory of its own on the path.
            if low.endswith((".dist-info", ".egg-info")) or (
                low == "egg-info" and entry.lower().endswith(".egg")
            ):
                yield _reader(os.path.join(entry, name))  # noqa: PTH118


def _reader(place: str) -> Callable[[str], str | None]:
    def read(name: str) -> str | None:
        # Old packages have a file, whose own name is empty here.
        path = os.path.join(place, name) if name else place  # noqa: PTH118
        try:
            with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                return file.read()
        except OSError:
            return None

    return read


def _address(origin: dict[str, dict[str, str]]) -> str:
    url, vcs = str(origin.get("url", "")), origin.get("vcs_info", {})
    return f"{vcs.get('vcs', 'git')}+{url}@{vcs['commit_id']}" if "commit_id" in vcs else url


def describe(path: list[str] | None = None) -> dict[str, object]:
    """Return what there is to say about this Python."""
    versions, sources = installed(path)
    name = sys.implementation.name
    return {
        "python": sys.version.split()[0],
        "implementation": _IMPLEMENTATIONS.get(name, name),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "packages": versions,
        "sources": sources,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe()))
