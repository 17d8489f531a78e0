"""Compiles the library that lets chosen file operations fail, and says how a process gets it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("preload.c")
_STATE_BYTES = 4096


def why_not() -> str | None:
    """Return why there can be no such library here, or None."""
    if sys.platform != "linux":
        return f"LD_PRELOAD is not known on {sys.platform}"
    return None if shutil.which("gcc") else "gcc is not installed"


def environment(directory: Path) -> Mapping[str, str]:
    """Compile the library into *directory* and return the variables that load it.

    Raises:
        subprocess.CalledProcessError: it cannot be compiled; its output tells why.
    """
    library, state = directory / "preload.so", directory / "preload.state"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    state.write_bytes(bytes(_STATE_BYTES))
    return {"LD_PRELOAD": str(library), "EVLOG_FAULTS": str(state)}
