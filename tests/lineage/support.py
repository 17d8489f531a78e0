"""What the tests of lineage share: git repositories, and runs that say where they come from."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from eventlog import replay
from eventlog.lineage.capture.capture import Capture
from eventlog.projections import RunView
from eventlog.tracker import Tracker, TrackingConfig
from tests.waiting import wait_until

_GIT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


def git(directory: Path, *words: str, stdin: bytes = b"") -> str:
    """Run git in *directory* and return what it prints."""
    settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"]
    settings += ["-c", "protocol.file.allow=always", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(directory), *settings, *words],
        env=_GIT,
        input=stdin,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().removesuffix("\n")


def repository(directory: Path, **files: str) -> Path:
    """Make a repository with one commit of *files* (``train="…"`` is ``train.py``) and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    git(directory, "init", "-q")
    git(directory, "config", "user.name", "Ada")
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "--allow-empty", "-m", "first")
    return directory


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository, which is the working directory."""
    directory = repository(tmp_path / "code", train="print(1)\n")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return directory


def captured(root: Path, run_id: str = "a", *, ends_at_once: bool = False, **options: object) -> RunView:
    """Log a run that captures its lineage, in this process, and return its view.

    Args:
        ends_at_once: end the run while its lineage is looked for.
    """
    options = {"lineage": True, "system": False, **options}
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=root, **options)  # type: ignore[arg-type]
    with tracker.start_run(run_id=run_id):
        path = tracker.run_dir
        assert path is not None
        (capture,) = tracker._stack[-1].running._parts  # type: ignore[union-attr]
        assert isinstance(capture, Capture)
        if not ends_at_once and capture._sources:
            wait_until(capture._is_done.is_set, "the lineage is known")
    return replay.view(path)


def with_nvml(directory: Path, module: str) -> dict[str, str]:
    """Put *module* in the place of `pynvml`, for processes with the environment that is returned.

    NVIDIA's library itself is there by its name only: it is another one.
    """
    place = directory / "fake"
    place.mkdir()
    (place / "pynvml.py").write_text(textwrap.dedent(module))
    loaded = Path("/proc/self/maps").read_text().split()
    (place / "libnvidia-ml.so.1").symlink_to(next(word for word in loaded if "/libc" in word))
    said = {name: os.environ.get(name) for name in ("PYTHONPATH", "LD_LIBRARY_PATH")}
    return {name: os.pathsep.join(filter(None, [str(place), value])) for name, value in said.items()}


def notes(view: RunView) -> str:
    """Return what could not be found out, as one text."""
    found = view.context["lineage"]["notes"]
    assert isinstance(found, list)
    return "\n".join(map(str, found))
