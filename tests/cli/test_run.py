"""`evlog run`, always in processes of its own: signals and descriptors are what it is about."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.projections import RunView
from eventlog.replay import events, view
from tests.cli.conftest import real_evlog, start
from tests.waiting import wait_until

READY = "import signal, sys, time; print('ready', flush=True)\n"


def _path(root: Path) -> Path:
    return root / "default" / "job"


def _run(root: Path) -> RunView:
    return view(_path(root))


def _console(root: Path, stream: str) -> list[str]:
    found = [e for e in events(_path(root)) if isinstance(e, ev.Console) and e.stream == stream]
    return "\n".join(event.text for event in found).split("\n") if found else []


def _evlog_run(
    *command: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    return start("run", "--name", "job", *options, "--", *command, env=env)


def test_output_is_passed_on_unchanged_and_logged(root: Path) -> None:
    """Both streams arrive as they were, apart, and as console events."""
    script = "printf 'a\\n\\033[1mb\\r\\nno end'; printf 'oops\\n' >&2"

    out, err = _evlog_run("sh", "-c", script).communicate(timeout=60)

    assert (out, err) == (b"a\n\x1b[1mb\r\nno end", b"oops\n")
    assert _console(root, "stdout") == ["a", "\x1b[1mb", "no end"]
    assert _console(root, "stderr") == ["oops"]


def test_large_output_arrives_whole(root: Path) -> None:
    """Megabytes that come faster than they can be written wait; nothing of them is lost."""
    script = "for i in range(200_000): print('line', i)"

    out, _ = _evlog_run(sys.executable, "-c", script).communicate(timeout=120)

    expected = [f"line {i}" for i in range(200_000)]
    assert out.decode().splitlines() == expected
    assert _console(root, "stdout") == expected
    assert _run(root).dropped == {}


@pytest.mark.parametrize(("code", "status"), [(0, "finished"), (1, "failed"), (3, "failed"), (255, "failed")])
def test_exit_code_is_that_of_the_command(root: Path, code: int, status: str) -> None:
    """The caller sees no difference, and the run knows."""
    process = _evlog_run("sh", "-c", f"exit {code}")
    process.communicate(timeout=60)

    run = _run(root)
    assert process.returncode == code
    assert (run.status, run.exit_code, run.signal) == (status, code, None)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_command_that_dies_of_a_signal_is_killed(root: Path, name: str) -> None:
    """As in a shell, the exit code is 128+n."""
    process = _evlog_run("sh", "-c", f"kill -{name[3:]} $$")
    process.communicate(timeout=60)

    run = _run(root)
    assert process.returncode == 128 + signal.Signals[name]
    assert (run.status, run.exit_code, run.signal) == ("killed", None, name)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_are_passed_on(root: Path, name: str) -> None:
    """The command decides what a signal means, and ends as it likes."""
    script = f"signal.signal(signal.{name}, lambda *_: (print('got it', flush=True), sys.exit(7)))\n"
    process = _evlog_run(
        sys.executable, "-c", "import signal, sys, time\n" + script + READY + "while True: time.sleep(60)"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    process.send_signal(signal.Signals[name])
    out, _ = process.communicate(timeout=60)

    assert out == b"got it\n"
    assert process.returncode == 7
    assert _run(root).exit_code == 7


def test_command_that_does_not_care_dies_of_the_signal(root: Path) -> None:
    """The signal's default action is the command's, not ours: the log is closed properly."""
    process = _evlog_run(sys.executable, "-c", READY + "time.sleep(600)")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    process.terminate()
    process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGTERM
    assert (_run(root).status, _run(root).signal) == ("killed", "SIGTERM")


def test_tracker_in_the_command_takes_part_in_the_run(root: Path) -> None:
    """One run, two writers, and the command's end is the run's end."""
    script = (
        "import os; os.chdir('/'); from eventlog import create_tracker\n"
        "with create_tracker('local') as t: t.log_metrics({'loss': 0.5}, step=1)\n"
        "raise SystemExit(4)"
    )

    process = _evlog_run(sys.executable, "-c", script)
    _, err = process.communicate(timeout=60)

    run = _run(root)
    assert err == b""
    assert [path.name for path in (root / "default").iterdir()] == ["job"]
    assert (run.status, run.exit_code, len(run.writers)) == ("failed", 4, 2)
    assert run.metrics["loss"].last == 0.5


def test_log_inside_needs_no_name(root: Path) -> None:
    """`evlog log` in a script that `evlog run` started logs into that run."""
    script = (
        f"{sys.executable} -m eventlog log --params lr=1 && echo loss=2 | {sys.executable} -m eventlog log -"
    )

    process = _evlog_run("sh", "-c", script)
    process.communicate(timeout=60)

    run = _run(root)
    assert (run.status, run.params, run.metrics["loss"].last) == ("finished", {"lr": 1}, 2.0)


def test_run_is_materialized_for_its_sinks(root: Path) -> None:
    """After the end the files are there, with the final status."""
    _evlog_run("true", options=("--track", "local")).communicate(timeout=60)

    state = json.loads((_path(root) / "final_state.json").read_text())
    assert state["status"] == "finished"
    assert state["exit_code"] == 0


def test_tags_project_and_command_are_known(root: Path) -> None:
    """What was asked for on the command line is in the run."""
    real_evlog("run", "--track-project", "p", "--name", "job", "--tag", "a", "--tag", "b=c", "true", "--x")

    run = view(root / "p" / "job")
    assert run.tags == {"a": None, "b": "c"}
    assert run.context["command"]["argv"] == ["true", "--x"]


def test_a_name_that_is_taken_gets_a_suffix_and_a_word(root: Path) -> None:
    """Nothing is written into a run that was there."""
    first, second = (real_evlog("run", "--name", "job", "true") for _ in range(2))

    assert first.err == ""
    assert "job-1" in second.err
    assert sorted(path.name for path in (root / "default").iterdir()) == ["job", "job-1"]


def test_run_inside_a_run_is_its_child(root: Path) -> None:
    """A run that a command starts with `evlog run` knows its parent."""
    _evlog_run(sys.executable, "-m", "eventlog", "run", "--name", "inner", "true").communicate(timeout=60)

    assert view(root / "default" / "inner").parent_run_id == "job"


def test_last_words_of_a_failure_are_shown(root: Path) -> None:
    """The end of standard error is kept as the run's error, whatever language it is in."""
    _evlog_run(sys.executable, "-c", "raise ValueError('out of luck')").communicate(timeout=60)

    error = _run(root).error
    assert error is not None
    assert error.traceback.endswith("ValueError: out of luck")


def test_progress_bars_keep_their_last_state(root: Path) -> None:
    """A line that was written over a thousand times is one line in the log."""
    script = "import sys\nfor i in range(1001): sys.stdout.write(f'\\r{i}'); sys.stdout.flush()\nprint()"

    out, _ = _evlog_run(sys.executable, "-c", script).communicate(timeout=60)

    assert out.count(b"\r") == 1001
    assert _console(root, "stdout") == ["1000"]


def test_command_that_cannot_be_started_fails(root: Path, tmp_path: Path) -> None:
    """127 if it is not there, 126 if it may not run; the run is failed."""
    script = tmp_path / "script"
    script.write_text("no program")

    missing = real_evlog("run", "--name", "a", "--", "no-such-command-anywhere")
    forbidden = real_evlog("run", "--name", "b", "--", str(script))

    assert (missing.code, forbidden.code) == (127, 126)
    assert view(root / "default" / "a").status == "failed"


def test_command_runs_also_when_nothing_can_be_logged(tmp_path: Path) -> None:
    """A training is worth more than its log."""
    (tmp_path / "file").write_text("")

    done = real_evlog("run", "--dir", str(tmp_path / "file"), "--", "echo", "hello")

    assert (done.code, done.out) == (0, "hello\n")
    assert "cannot be logged" in done.err


def test_disabled_run_writes_nothing(root: Path) -> None:
    """EVLOG_DISABLED leaves the command and takes the rest."""
    done = real_evlog("run", "--", "echo", "hello", env={"EVLOG_DISABLED": "1"})

    assert (done.code, done.out, done.err) == (0, "hello\n", "")
    assert not root.exists()


def test_command_has_its_output_for_itself_without_console(root: Path) -> None:
    """--no-console logs none of it."""
    out, _ = _evlog_run("echo", "hello", options=("--no-console",)).communicate(timeout=60)

    assert out == b"hello\n"
    assert _console(root, "stdout") == []


def test_standard_input_reaches_the_command(root: Path) -> None:
    """A filter stays a filter."""
    assert real_evlog("run", "--", "cat", stdin=b"one\ntwo\n").out == "one\ntwo\n"


def test_a_reader_that_goes_away_is_felt_by_the_command(root: Path) -> None:
    """`evlog run -- yes | head` ends as `yes | head` does."""
    process = _evlog_run("yes")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    process.stderr.close()
    assert _run(root).signal == "SIGPIPE"


def test_signal_mask_and_ignored_signals_of_the_command_are_ours(root: Path) -> None:
    """What we block for ourselves is not blocked in the command, and SIGPIPE does its work."""
    script = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))\n"

    out, _ = _evlog_run(sys.executable, "-c", script).communicate(timeout=60)
    flags, _ = start("run", "--", "grep", "SigIgn", "/proc/self/status").communicate(timeout=60)

    assert out == b"[]\n"
    assert int(flags.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


def test_run_whose_evlog_was_killed_is_crashed_and_keeps_its_output(root: Path) -> None:
    """SIGKILL on evlog itself loses no line that it had read."""
    script = "print('first', flush=True); input()"
    process = start("run", "--name", "job", "--", sys.executable, "-c", script, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    wait_until(lambda: _console(root, "stdout") == ["first"], "the line is logged")

    process.kill()
    process.communicate(timeout=60)

    assert _run(root).status == "crashed"
    assert _console(root, "stdout") == ["first"]


def test_something_left_in_the_background_is_waited_for(root: Path) -> None:
    """Output that comes after the command's end is passed on and logged, not cut by SIGPIPE."""
    os.mkfifo("gate")
    process = _evlog_run("sh", "-c", "(read x < gate; echo late) & echo early")
    assert process.stdout is not None
    assert process.stdout.readline() == b"early\n"

    Path("gate").write_text("go\n")
    out, _ = process.communicate(timeout=60)

    assert out == b"late\n"
    assert (_console(root, "stdout"), process.returncode) == (["early", "late"], 0)
