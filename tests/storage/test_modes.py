"""Files below a run, on systems that cannot open step by step, and files that are not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from eventlog.storage.modes import check_inside, read_inside


@pytest.fixture(params=["step by step", "by path"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run with a file, on a system that can open below a directory or cannot."""
    if request.param == "by path":
        monkeypatch.setattr(os, "supports_dir_fd", set())
    (tmp_path / "outside").write_bytes(b"secret")
    run = tmp_path / "run"
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "a.txt").write_bytes(b"mine")
    return run


def test_file_below_a_run_is_read(run: Path) -> None:
    """Its path is given to those who open by path."""
    assert read_inside(run, "artifacts/a.txt") == b"mine"
    assert check_inside(run, "artifacts/a.txt") == run / "artifacts" / "a.txt"


def test_link_out_of_a_run_is_refused(run: Path) -> None:
    """However the system opens files, none outside is read."""
    (run / "artifacts" / "b.txt").symlink_to(run.parent / "outside")
    (run / "elsewhere").symlink_to(run.parent)

    for name in ("artifacts/b.txt", "elsewhere/outside"):
        with pytest.raises(OSError, match=r"link|outside of the run"):
            read_inside(run, name)


@pytest.mark.parametrize("name", ["artifacts", "missing.txt", "artifacts/missing.txt"])
def test_what_is_no_file_says_so_with_its_path(run: Path, name: str) -> None:
    """The error names the whole path, as any of the system's does."""
    with pytest.raises(OSError, match=r"regular file|No such file") as raised:
        read_inside(run, name)

    assert raised.value.filename == str(run / name)
    assert raised.value.errno == (errno.EINVAL if name == "artifacts" else errno.ENOENT)


@pytest.mark.parametrize("name", ["", ".", "..", "a//b", "../outside", "a/../../outside", "/", "a\0b"])
def test_name_that_leads_out_is_none(run: Path, name: str) -> None:
    """A name has parts below the run and nothing else."""
    with pytest.raises(OSError, match="no name below the run"):
        check_inside(run, name)
