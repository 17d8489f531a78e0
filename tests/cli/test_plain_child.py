"""The way of running a command that every platform has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from eventlog.cli.plain_child import NOT_FOUND, run_command
from eventlog.events import Console
from eventlog.storage.buffer import LogBuffer
from eventlog.tracker.recording import RunRecorder
from tests.tracker.support import logged


def recorder_at(path: Path) -> RunRecorder:
    return RunRecorder(path, LogBuffer(path, run_id="a", project="p"), strict=False)


@pytest.mark.parametrize(
    ("code", "exit_code", "signal_name", "status"),
    [
        ("pass", 0, None, "finished"),
        ("raise SystemExit(3)", 3, None, "failed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, "SIGKILL", "killed"),
    ],
)
def test_the_end_of_a_command_is_told(
    tmp_path: Path, code: str, exit_code: int | None, signal_name: str | None, status: str
) -> None:
    """Exit code, signal and status are the command's."""
    outcome = run_command([sys.executable, "-c", code], os.environ, None)

    assert (outcome.exit_code, outcome.signal, outcome.status) == (exit_code, signal_name, status)


def test_what_a_command_prints_is_logged_and_passed_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both outputs are events, and reach ours unchanged."""
    recorder = recorder_at(tmp_path / "p" / "a")
    code = "import sys; print('out'); print('err', file=sys.stderr)"
    outcome = run_command([sys.executable, "-c", code], os.environ, recorder)
    recorder.end("finished", None)

    lines = {(event.stream, event.text) for event in logged(recorder.path, Console)}
    assert lines == {("stdout", "out"), ("stderr", "err")}
    assert capfd.readouterr() == ("out\n", "err\n")
    assert outcome.last_words == "err"


def test_a_command_that_is_not_there_has_its_own_code(tmp_path: Path) -> None:
    """As in a shell: 127, and a message."""
    recorder = recorder_at(tmp_path / "p" / "a")

    assert run_command(["no-such-command-anywhere"], os.environ, recorder).shell_code == NOT_FOUND
    recorder.end("failed", None)
