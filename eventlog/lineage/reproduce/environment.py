"""The interpreter and packages of a run: one that is there, or an environment that is built."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlparse

import msgspec

from eventlog.lineage.reproduce.code import run_step
from eventlog.lineage.reproduce.errors import ReproductionError
from eventlog.lineage.reproduce.recorded import Recorded

Tell = Callable[[str], None]
Wanted = Literal["auto", "current", "uv", "venv"]
Kind = Literal["current", "recorded", "uv", "venv"]

# The heads alone: to parse all that packages say of themselves takes twice as long.
_PROBE = r"""
import importlib.metadata as metadata, json, platform, re, sys
packages, local = {}, {}
for found in metadata.distributions():
    head = (found.read_text("METADATA") or found.read_text("PKG-INFO") or "").partition("\n\n")[0]
    said = dict(reversed(re.findall(r"^(Name|Version):[ \t]*(\S+)", head, re.M)))
    name = said.get("Name")
    if not name or name in packages:
        continue
    packages[name] = said.get("Version", "")
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        origin = {}
    if "dir_info" in origin:
        local[name] = origin.get("url", "")
print(json.dumps({"python": platform.python_version(), "packages": packages, "local": local,
                  "path": [place for place in sys.path if place]}))
"""


class Interpreter(msgspec.Struct, frozen=True):
    """What an interpreter says of itself.

    Attributes:
        packages: version by normalised name.
        local: directory of each package that was installed from one, by normalised name.
        path: where it looks for modules.
    """

    python: str
    packages: dict[str, str] = {}
    local: dict[str, str] = {}
    path: list[str] = []


class EnvironmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """With what the command is run.

    Attributes:
        interpreter: the one that is used or that an environment is made from.
        python: the version that the run had.
        packages: version by normalised name, that the run had.
        local: packages that come from a directory: their version says little.
        sources: addresses of packages that did not come from an index.
        path: where the interpreter looks for modules.
        differences: what the interpreter has otherwise, if it is used as it is.
    """

    kind: Kind
    interpreter: str
    python: str | None
    packages: dict[str, str] = {}
    local: dict[str, str] = {}
    sources: dict[str, str] = {}
    path: list[str] = []
    differences: list[str] = []


@cache
def probe(interpreter: str) -> Interpreter:
    """Ask *interpreter* what it has; once, for nobody installs anything meanwhile.

    Raises:
        ReproductionError: it cannot be started.
    """
    # -P: what lies in our working directory is not installed.
    told = run_step("environment", [interpreter, *_safe_path(interpreter), "-c", _PROBE])
    found = msgspec.json.decode(told, type=Interpreter)
    return Interpreter(
        found.python,
        {normalised(name): version for name, version in found.packages.items()},
        {normalised(name): _directory(url) for name, url in found.local.items()},
        found.path,
    )


def _safe_path(interpreter: str) -> list[str]:
    return ["-P"] if interpreter == sys.executable else []  # others may be older than 3.11


def plan_environment(recorded: Recorded, wanted: Wanted) -> EnvironmentPlan:
    """Return what the command is to be run with; nothing is installed.

    An interpreter that has exactly what was recorded is used as it is: ours, else the recorded one.
    """
    known = recorded.context("environment")
    python = known.get("python") or recorded.context("command").get("python")
    python = str(python) if python else None
    given = known.get("packages")
    packages = {normalised(str(k)): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
    ours = probe(sys.executable)
    sources = _sources(known.get("sources"))
    here = EnvironmentPlan(
        kind="current",
        interpreter=sys.executable,
        python=python,
        packages=packages,
        local=_local(sources, packages, ours),
        sources=sources,
        path=ours.path,
        differences=differences(python, packages, ours),
    )
    if wanted == "current" or (wanted == "auto" and (not packages or not here.differences)):
        return here
    if wanted == "auto":
        there = _recorded_interpreter(known, here)
        if there is not None:
            return there
    kind: Kind = "uv" if wanted == "uv" or (wanted == "auto" and find_uv()) else "venv"
    base = sys.executable if kind == "uv" else _base(python)
    return msgspec.structs.replace(here, kind=kind, interpreter=base, differences=[])


def _recorded_interpreter(known: Mapping[str, object], here: EnvironmentPlan) -> EnvironmentPlan | None:
    executable = str(known.get("executable") or "")
    if not executable or not Path(executable).is_file() or executable == sys.executable:
        return None
    try:
        found = probe(executable)
    except ReproductionError:
        return None
    if differences(here.python, here.packages, found):
        return None
    return msgspec.structs.replace(
        here,
        kind="recorded",
        interpreter=executable,
        local=_local(here.sources, here.packages, found),
        path=found.path,
        differences=[],
    )


def differences(python: str | None, packages: Mapping[str, str], found: Interpreter) -> list[str]:
    """Return what *found* has otherwise than the run had, one line each; packages beyond it too."""
    lines = [] if python in (None, found.python) else [f"python {python} was, {found.python} is"]
    if not packages:
        return lines
    for name in sorted(packages.keys() | found.packages.keys()):
        was, now = packages.get(name), found.packages.get(name)
        if was != now:
            lines.append(f"{name} {was or 'not installed'} was, {now or 'not installed'} is")
    return lines


def build(
    plan: EnvironmentPlan,
    target: Path,
    *,
    move: Mapping[str, str],
    tell: Tell,
    find_links: Sequence[Path] = (),
    no_index: bool = False,
) -> str:
    """Make the environment of *plan* at *target*, if it has to be made; return its interpreter.

    Args:
        move: the old place of the code to its new one: local packages below it are taken from there.
        tell: is told what had to be done otherwise.

    Raises:
        ReproductionError: the environment or a package cannot be had.
    """
    if plan.kind in ("current", "recorded"):
        return plan.interpreter
    python = target / "bin" / "python"
    install = [*_make(plan, target), "--quiet", "--no-deps"]
    install += [word for place in find_links for word in ("--find-links", str(place.absolute()))]
    install += ["--no-index"] if no_index else []
    pins = requirements(plan)
    if pins:
        listing = target / "requirements.txt"
        listing.write_text("\n".join(pins) + "\n", encoding="utf-8")
        run_step("environment", [*install, "-r", str(listing)])
    for name in sorted(plan.local.keys() & plan.packages.keys()):
        _install_local(name, Path(moved(plan.local[name], move)), install, python, tell)
    return str(python)


def _make(plan: EnvironmentPlan, target: Path) -> list[str]:
    """Make an empty environment; return the words of what installs into it."""
    if plan.kind == "venv":
        return _make_venv(plan, target)
    uv = find_uv()
    if uv is None:
        way = "Install it (pip install uv), or take --environment venv."
        raise ReproductionError("environment", "uv is not installed", way)
    wanted = plan.python or plan.interpreter
    run_step("environment", [uv, "venv", "--quiet", "--python", wanted, str(target)])
    return [uv, "pip", "install", "--python", str(target / "bin" / "python")]


def _install_local(name: str, directory: Path, install: Sequence[str], python: Path, tell: Tell) -> None:
    """Install the package in *directory*; what cannot be built without a network is found on the path."""
    if not directory.is_dir():
        raise ReproductionError("environment", f"{name} came from {directory}, which is not there")
    try:
        run_step("environment", [*install, "-e", str(directory)])
    except ReproductionError:
        tell(f"{name} could not be built; its directory {directory} is put on the path")
        where = run_step(
            "environment", [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        )
        places = [place for place in (directory / "src", directory) if place.is_dir()]
        Path(where.strip(), f"evlog-{name}.pth").write_text(
            "\n".join(map(str, places)) + "\n", encoding="utf-8"
        )


def requirements(plan: EnvironmentPlan) -> list[str]:
    """Return the packages that are installed from an index or an address, one requirement each."""
    lines = []
    for name, version in sorted(plan.packages.items()):
        source = plan.sources.get(name, "")
        if name in plan.local or name == "pip" or not version:
            continue
        is_gone = source.startswith("file:") and not Path(_directory(source)).exists()
        lines.append(f"{name} @ {source}" if source and not is_gone else f"{name}=={version}")
    return lines


def _sources(given: object) -> dict[str, str]:
    """Return the recorded addresses of packages by normalised name."""
    return {normalised(str(k)): str(v) for k, v in given.items() if v} if isinstance(given, dict) else {}


def _local(sources: Mapping[str, str], packages: Mapping[str, str], found: Interpreter) -> dict[str, str]:
    """Return the directories of packages that came from one, then or, if that is not recorded, now."""
    then = {name: _directory(url) for name, url in sources.items() if url.startswith("file:")}
    then = {name: path for name, path in then.items() if not path.endswith((".whl", ".zip", ".tar.gz"))}
    now = {
        name: path
        for name, path in found.local.items()
        if name not in sources and found.packages.get(name) == packages.get(name, found.packages.get(name))
    }
    return then | now


def variables_for(plan: EnvironmentPlan, interpreter: str, move: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make *interpreter* and the moved code what a command finds first."""
    found = {"PATH": os.pathsep.join([str(Path(interpreter).parent), os.environ.get("PATH", os.defpath)])}
    if plan.kind in ("uv", "venv"):
        found["VIRTUAL_ENV"] = str(Path(interpreter).parents[1])
        return found
    # Code that was installed in development mode would come from where it is edited today.
    places = [place for place in plan.path if moved(place, move) != place]
    for directory in plan.local.values():
        if moved(directory, move) != directory:
            places += [str(Path(directory) / "src"), directory]
    there = [new for new in dict.fromkeys(moved(place, move) for place in places) if Path(new).is_dir()]
    if there:
        found["PYTHONPATH"] = os.pathsep.join(there)
    return found


def moved(path: str, move: Mapping[str, str]) -> str:
    """Return *path* in its new place, or as it is if it lies in none of the old ones."""
    for old, new in move.items():
        if path == old or path.startswith(old.rstrip("/") + "/"):
            return new + path[len(old.rstrip("/")) :]
    return path


def find_uv() -> str | None:
    """Return the program uv, if it is installed, beside this interpreter or anywhere on the path."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else shutil.which("uv")


def normalised(name: str) -> str:
    """Return the name of a package as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _base(python: str | None) -> str:
    """Return an interpreter of the series that is wanted, or ours."""
    series = ".".join((python or "").split(".")[:2])
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        sys.executable if not series or series == ours else shutil.which(f"python{series}") or sys.executable
    )


def _make_venv(plan: EnvironmentPlan, target: Path) -> list[str]:
    """Make a virtual environment; return the pip that installs into it: that of its base, if it can."""
    base = probe(plan.interpreter)
    if plan.python and base.python.split(".")[:2] != plan.python.split(".")[:2]:
        raise ReproductionError(
            "environment",
            f"python {plan.python} is not installed ({plan.interpreter} is {base.python})",
            "Install it, or let uv fetch it: --environment uv.",
        )
    python, quietly = str(target / "bin" / "python"), ["install", "--disable-pip-version-check"]
    pip = [int(part) for part in re.findall(r"\d+", base.packages.get("pip", "0"))]
    if pip >= [22, 3]:  # since then it installs elsewhere too, which saves the seconds of unpacking another
        run_step("environment", [plan.interpreter, "-m", "venv", "--without-pip", str(target)])
        return [plan.interpreter, "-m", "pip", "--python", python, *quietly]
    run_step("environment", [plan.interpreter, "-m", "venv", str(target)])
    return [python, "-m", "pip", *quietly]


def _directory(url: str) -> str:
    return unquote(urlparse(url).path)
