"""Who may read what, and how a file below a run is opened: exactly."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from eventlog.storage.modes import close_to_others, is_ours, open_inside, read_inside


@pytest.mark.parametrize("name", ["a.txt", "b/a.txt", "b/c/a.txt", "b/c/d/a.txt"])
def test_file_is_read_at_any_depth(tmp_path: Path, name: str) -> None:
    """All parts of its name but the last are directories, however many there are."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")

    assert read_inside(tmp_path, name) == b"mine"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other numbers for it")
def test_what_stands_for_a_directory_is_not_opened_unless_it_is_one(tmp_path: Path) -> None:
    """The system is asked for a directory, and says that a link is none; at the end it is a loop."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "last").symlink_to("b/a.txt")
    codes = []

    for name in ("link/a.txt", "last"):
        with pytest.raises(OSError, match="a link or a file stands") as raised:
            open_inside(tmp_path, name)
        codes.append(raised.value.errno)

    assert codes == [errno.ENOTDIR, errno.ELOOP]


def test_system_that_cannot_go_step_by_step_goes_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a link may lead about within the run, but not out of it."""
    monkeypatch.setattr(os, "supports_dir_fd", set())
    run = tmp_path / "run"
    run.mkdir()
    (run / "a.txt").write_bytes(b"mine")
    (tmp_path / "outside").write_bytes(b"secret")
    (run / "within").symlink_to("a.txt")
    (run / "out").symlink_to(tmp_path / "outside")

    assert read_inside(run, "within") == b"mine"
    with pytest.raises(OSError, match="it lies outside of the run"):
        read_inside(run, "out")


def test_bytes_are_asked_for_where_the_system_knows_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows would change the ends of lines. A flag that can be read back stands for its own here."""
    monkeypatch.setattr(os, "supports_dir_fd", set())
    monkeypatch.setattr(os, "O_BINARY", os.O_NONBLOCK, raising=False)
    (tmp_path / "a.txt").write_bytes(b"mine")

    fd = open_inside(tmp_path, "a.txt")

    try:
        assert not os.get_blocking(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(("user", "answer"), [("70000", True), ("70001", False)])
def test_file_is_ours_if_its_owner_has_our_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, answer: bool
) -> None:
    """However large the number is."""
    found = os.stat_result((0o40700, 0, 0, 1, int("70000"), 0, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda _: found)
    monkeypatch.setattr(os, "geteuid", lambda: int(user))

    is_it = is_ours(tmp_path)

    monkeypatch.undo()
    assert is_it is answer


def test_directory_that_is_closed_already_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be somebody else's, who alone may change it."""
    changed: list[int] = []
    closed, half_open = tmp_path / "closed", tmp_path / "open"
    closed.mkdir(0o700)
    half_open.mkdir()
    half_open.chmod(0o750)
    monkeypatch.setattr(Path, "chmod", lambda _, mode: changed.append(mode))

    close_to_others(closed)
    close_to_others(half_open)

    assert changed == [0o700]
