"""One layer between us and the operating system: nothing in storage and of checkpoints goes past it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import eventlog
from eventlog.storage.system import RealSystem, System

PACKAGE = Path(eventlog.__file__).parent
MODULES = [
    *sorted((PACKAGE / "storage").glob("*.py")),
    *(PACKAGE / "delivery" / name for name in ("ledger.py", "lease.py", "letters.py")),
]
LAYERS = {"system.py", "modes.py", "mounts.py", "processes.py"}
"""The layer itself, and what it asks about modes, mounts and processes."""
OF_FILES = {
    *("open", "read_bytes", "read_text", "write_bytes", "write_text", "mkdir", "rmdir", "unlink", "rename"),
    *("touch", "chmod", "stat", "lstat", "exists", "is_file", "is_dir", "is_symlink", "iterdir", "glob"),
    *("rglob", "hardlink_to", "symlink_to", "readlink", "resolve", "samefile"),
}
"""Methods of `Path` that ask the operating system, and the built-in `open`."""
HARMLESS = {"os.getpid", "os.urandom", "os.register_at_fork", "os.fspath", "os.strerror"}
SYSTEMS = {"system", "self._system", "SYSTEM"}
OWN = {"self", "buffer"}
PAST_THE_LAYER = {
    # The user's own files, which are read and never changed, and symbolic links, which no log has.
    "artifacts.py": {"is_dir", "resolve", "stat", "open", "is_symlink", "is_file", "exists", "unlink"}
    | {"os.walk", "os.open", "os.fstat", "os.utime", "chmod", "shutil.copystat", "shutil.rmtree"},
    # Looks for runs; it reads none.
    "layout.py": {"os.scandir", "is_dir", "lstat"},
}


def asked(module: Path) -> Iterator[str]:
    """Yield what *module* asks the operating system for without a `System`."""
    for node in ast.walk(ast.parse(module.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            yield "open"
        if isinstance(node.func, ast.Attribute):
            of, name = ast.unparse(node.func.value), node.func.attr
            if of in {"os", "shutil", "tempfile", "fcntl", "io"}:
                yield f"{of}.{name}"
            elif name in OF_FILES and of not in SYSTEMS | OWN:
                yield name


def test_every_file_operation_goes_through_the_layer() -> None:
    """What the tests put in its place sees, and can spoil, everything that a log and a checkpoint need."""
    past = {
        module.name: sorted(
            name for name in asked(module) if name not in HARMLESS | PAST_THE_LAYER.get(module.name, set())
        )
        for module in MODULES
        if module.name not in LAYERS
    }

    assert {name: found for name, found in past.items() if found} == {}
    assert len(past) > 15


def test_layer_is_what_the_protocol_says() -> None:
    """The real system has the calls of the protocol and no others."""
    of_protocol, of_real = (
        {name for name in vars(one) if not name.startswith("_")} for one in (System, RealSystem)
    )

    assert of_real == of_protocol
