"""Lists what is installed for one Python. Also run as a program of its own, by any Python from 3.8 on.

Nothing outside of the standard library is imported, and nothing of this package.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib import metadata

_NAME = re.compile(r"^Name:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_VERSION = re.compile(r"^Version:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)


def installed(path: list[str] | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Return name and version of all packages on *path* (default ``sys.path``), and where some came from.

    Of a name that is there twice the first counts, as it does for an import. What came from an index has no
    address.
    """
    versions: dict[str, str] = {}
    sources: dict[str, str] = {}
    found = metadata.distributions() if path is None else metadata.distributions(path=path)
    for one in found:
        try:
            text = one.read_text("METADATA") or one.read_text("PKG-INFO") or ""
            # The head only: the description of a package may say anything.
            head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
            name, version = _NAME.search(head), _VERSION.search(head)
            if name is None or name[1] in versions:
                continue
            versions[name[1]] = version[1] if version else ""
            origin = one.read_text("direct_url.json")
            if origin:
                sources[name[1]] = _address(json.loads(origin))
        except (OSError, ValueError, TypeError, AttributeError):
            continue  # half of it was removed meanwhile
    return dict(sorted(versions.items(), key=lambda item: item[0].lower())), sources


def _address(origin: dict[str, dict[str, str]]) -> str:
    url, vcs = str(origin.get("url", "")), origin.get("vcs_info", {})
    return f"{vcs.get('vcs', 'git')}+{url}@{vcs['commit_id']}" if "commit_id" in vcs else url


def describe(path: list[str] | None = None) -> dict[str, object]:
    """Return what there is to say about this Python."""
    versions, sources = installed(path)
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "packages": versions,
        "sources": sources,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe()))
