"""Lineage beside the life of a job: short runs, hanging programs, forks, ranks, kills, and `evlog run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventlog import replay
from eventlog.events import Artifact, Context
from eventlog.lineage import running
from eventlog.lineage.capture import snapshot
from eventlog.projections import RunView
from eventlog.tracker import Tracker, TrackingConfig
from tests.lineage.support import captured, git, notes, repository
from tests.tracker.support import logged, only_run, run_job, start_job
from tests.waiting import wait_until

SCRIPT = (
    "from eventlog import create_tracker\nwith create_tracker('local') as t: t.log_metrics({'a': 1}, 1)\n"
)


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository, which is the working directory."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_LOCALID", "EVLOG_RUN_ID", "EVLOG_LINEAGE_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    directory = repository(tmp_path / "code", train=SCRIPT)
    monkeypatch.chdir(directory)
    return directory


def contexts(run: Path) -> list[str]:
    """Return the kinds of context in *run*, one entry an event, sorted."""
    return sorted(event.kind for event in logged(run, Context))


def hanging_git(directory: Path) -> Path:
    """Put a `git` that never answers into *directory*; return where its process ids will stand."""
    directory.mkdir()
    pids = directory / "pids"
    (directory / "git").write_text(f"#!/bin/sh\nsleep 1000 &\necho $$ $! >> {pids}\nwait\n")
    (directory / "git").chmod(0o755)
    return pids


def are_gone(pids: Path) -> bool:
    """Tell whether processes were started, and none of them lives."""
    words = pids.read_text().split() if pids.exists() else []
    return bool(words) and not any(is_alive(int(word)) for word in words)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the end --------------------------------------------------------------------------------------------


def test_the_shortest_run_has_its_commit(code: Path) -> None:
    """The end waits a moment for it; everything is said before the run's end is."""
    view = captured(code / "runs", ends_at_once=True)

    assert view.context["git"]["commit"] == git(code, "rev-parse", "HEAD")
    assert contexts(code / "runs" / "p" / "a") == ["command", "environment", "git", "hardware", "lineage"]
    assert view.status == "finished"


def test_a_run_that_nobody_ends_has_its_commit(code: Path) -> None:
    """The end of the process waits too."""
    code_, _, err = run_job(
        "from eventlog import create_tracker; create_tracker('local').log_metrics({'a': 1}, 1)",
        code,
        EVLOG_LINEAGE="1",
    )

    assert (code_, err) == (0, "")
    assert "commit" in replay.view(only_run(code / "experiments")).context["git"]


def test_a_hanging_git_delays_neither_the_rest_nor_the_end(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note says what is missing, and what was started is ended with the run."""
    pids = hanging_git(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    view = captured(code / "runs", ends_at_once=True)

    assert "the run ended before all of its lineage was known" in notes(view)
    assert "git" not in view.context
    assert {"environment", "hardware"} <= view.context.keys()
    wait_until(lambda: are_gone(pids), "the hanging git is gone")


@pytest.mark.parametrize("forks", [False, True])
def test_nothing_outlives_a_job_that_is_killed(code: Path, tmp_path: Path, forks: bool) -> None:
    """Not even what hangs: it notices that nobody reads any more, also if a fork of the job lives on."""
    pids = hanging_git(tmp_path / "bin")
    job = start_job(
        f"""
        import os, sys
        from eventlog import create_tracker
        tracker = create_tracker("local")
        tracker.log_metrics({{"a": 1}}, 1)
        print("started", flush=True)
        sys.stdin.readline()
        if {forks} and not os.fork():
            sys.stdin.read()
            os._exit(0)
        print("forked", flush=True)
        sys.stdin.read()
        """,
        code,
        EVLOG_LINEAGE="1",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    assert job.stdin is not None
    assert job.stdout is not None
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "git hangs")
    job.stdin.write("go on\n")
    job.stdin.flush()
    assert [job.stdout.readline(), job.stdout.readline()] == ["started\n", "forked\n"]

    job.kill()
    job.wait()

    wait_until(lambda: are_gone(pids), "the hanging git is gone")
    job.communicate()


def test_a_job_that_is_told_to_end_does_so_soon(code: Path, tmp_path: Path) -> None:
    """SIGTERM leaves a run that was killed, with what was known, however git hangs."""
    pids = hanging_git(tmp_path / "bin")
    job = start_job(
        """
        import time
        from eventlog import create_tracker
        tracker = create_tracker("local")
        tracker.log_metrics({"a": 1}, 1)
        while True: time.sleep(0.1)
        """,
        code,
        EVLOG_LINEAGE="1",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    wait_until(lambda: pids.exists() and bool(pids.read_text()), "git hangs")

    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)

    view = replay.view(only_run(code / "experiments"))
    assert (job.returncode, view.status) == (-signal.SIGTERM, "killed")
    assert "ended before" in notes(view)
    wait_until(lambda: are_gone(pids), "the hanging git is gone")


def test_no_child_and_no_descriptor_is_left(code: Path) -> None:
    """A job that waits for its own children meets none of ours; many runs leave nothing open."""
    out = run_job(
        """
        import os
        from eventlog import create_tracker
        tracker = create_tracker("local", project="p")
        def one(): tracker.start_run(); tracker.end_run()
        one()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3): one()
        print(len(os.listdir("/proc/self/fd")) - before)
        try: print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError: print("none")
        """,
        code,
        EVLOG_LINEAGE="1",
    )

    assert out[1].split() == ["0", "none"]


def test_a_job_that_is_over_already_can_still_say_where_it_comes_from(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer Pythons start no threads while they end; then the one that is there does the work."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("eventlog.lineage.capture.snapshot._thread", SimpleNamespace(start_new_thread=refuse))

    assert captured(code / "runs").context["git"]["branch"] == "main"


def test_a_program_that_is_no_interpreter_is_not_started_again(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that has Python inside would begin from the start."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)

    assert "cannot be started as a Python interpreter" in notes(captured(code / "runs"))


def test_what_is_waited_for_is_found_out_at_full_speed(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a job that trains the child steps back; a run that ends at once has no use for that."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\nnice > {tmp_path}/niceness\nexit 1\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(snapshot, "START_AFTER_S", 60.0)

    captured(code / "runs", "short", ends_at_once=True)
    short = (tmp_path / "niceness").read_text()
    monkeypatch.setattr(snapshot, "START_AFTER_S", 0.0)
    captured(code / "runs", "long")

    ours = os.nice(0)
    assert (int(short), int((tmp_path / "niceness").read_text())) == (ours, min(19, ours + snapshot.NICENESS))


def test_an_interrupted_end_leaves_no_part_behind(tmp_path: Path) -> None:
    """Ctrl-C while one part is waited for ends the others without waiting, and goes on its way."""
    ended: list[float] = []

    class Slow:
        def begin(self) -> None: ...
        def forget(self) -> None: ...
        def end(self, timeout_s: float) -> None:
            ended.append(timeout_s)

    class Interrupted(Slow):
        def end(self, timeout_s: float) -> None:
            raise KeyboardInterrupt

    beside = running.Running(SimpleNamespace(path=tmp_path, run_id="a"))
    beside.add(Slow())
    beside.add(Interrupted())

    with pytest.raises(KeyboardInterrupt):
        beside.end(60.0)
    assert ended == [0.0]


# --- several runs -----------------------------------------------------------------------------------


def test_a_second_run_sees_what_was_committed_since(code: Path) -> None:
    """What is taken over from the run before is the machine, never the code."""
    first = captured(code / "runs", "a")
    (code / "train.py").write_text("print(2)\n")
    dirty = captured(code / "runs", "b")
    git(code, "commit", "-qam", "second")
    last = captured(code / "runs", "c")

    assert [view.context["git"]["is_dirty"] for view in (first, dirty, last)] == [False, True, False]
    assert last.context["git"]["commit"] == git(code, "rev-parse", "HEAD") != first.context["git"]["commit"]
    assert first.context["environment"] == last.context["environment"]


def test_nested_runs_all_know_where_they_come_from(code: Path) -> None:
    """Each can be looked at alone."""
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=code / "runs", lineage=True)
    with tracker.start_run(run_id="outer"), tracker.start_run(run_id="inner", nested=True):
        tracker.log_metrics({"a": 1}, 1)

    views = [replay.view(code / "runs" / "p" / name) for name in ("outer", "inner")]
    assert [view.context["git"]["branch"] for view in views] == ["main", "main"]
    assert views[0].context["environment"] == views[1].context["environment"]


def test_a_resumed_run_logs_only_what_is_different(code: Path) -> None:
    """The same again is no news; what is no longer so is said."""

    def go_on() -> RunView:
        return captured(code / "runs", "a", resume=True)

    captured(code / "runs", "a")
    go_on()
    same = contexts(code / "runs" / "p" / "a")
    (code / "train.py").write_text("print(2)\n")
    go_on()
    again = go_on()
    git(code, "checkout", "-q", "train.py")
    clean = go_on()

    assert same == ["command", "environment", "git", "hardware", "lineage"]
    assert again.context["git"]["diff"] == "code/uncommitted.diff"
    assert len(logged(code / "runs" / "p" / "a", Artifact)) == 1
    assert (clean.context["git"]["is_dirty"], clean.context["git"]["diff"]) == (False, None)
    assert contexts(code / "runs" / "p" / "a").count("git") == 3


def test_a_forked_child_captures_nothing_again(code: Path) -> None:
    """It takes part in a run whose lineage is its parent's, also if it is forked while that is found out."""
    code_, _, err = run_job(
        """
        import os
        from eventlog import create_tracker
        tracker = create_tracker("local")
        tracker.log_metrics({"a": 1}, 1)
        for delay in range(3):
            pid = os.fork()
            if not pid:
                tracker.log_metrics({"a": 2}, 2)
                tracker.end_run()
                os._exit(0)
            os.waitpid(pid, 0)
        tracker.end_run()
        """,
        code,
        EVLOG_LINEAGE="1",
    )

    run = only_run(code / "experiments")
    assert (code_, err) == (0, "")
    assert contexts(run) == ["command", "environment", "git", "hardware", "lineage"]
    assert len(replay.view(run).writers) == 4


@pytest.mark.parametrize(("local", "expected"), [("0", 1), ("3", 0), ("", 0)])
def test_other_ranks_describe_only_their_host(
    code: Path, monkeypatch: pytest.MonkeyPatch, local: str, expected: int
) -> None:
    """The first rank of each host describes it, beside and not over what rank 0 says of its own."""
    if local:
        monkeypatch.setenv("LOCAL_RANK", local)

    view = captured(code / "runs", rank=8)

    assert [kind for kind in view.context if kind != "command"] == [
        f"hardware/{os.uname().nodename}"
    ] * expected


# --- evlog run ------------------------------------------------------------------------------------------


def evlog_run(cwd: Path, *command: str) -> RunView:
    """Run a command under `evlog run` and return the view of its run."""
    subprocess.run(
        [sys.executable, "-m", "eventlog", "run", "--name", "a", "--", *command],
        cwd=cwd,
        env={**os.environ, "EVLOG_LINEAGE": "1"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return replay.view(cwd / "experiments" / "default" / "a")


def test_evlog_run_captures_for_the_command_and_a_tracker_inside_does_not(code: Path) -> None:
    """One run, one lineage: command, script and interpreter are those of the command."""
    view = evlog_run(code, sys.executable, "train.py")

    run = code / "experiments" / "default" / "a"
    assert contexts(run) == ["command", "environment", "git", "hardware", "lineage"]
    assert len(view.writers) == 2
    assert view.context["command"]["argv"] == [sys.executable, "train.py"]
    assert view.context["command"]["script"] == str(code / "train.py")
    assert view.context["git"]["branch"] == "main"
    assert "evlog" in view.context["environment"]["packages"]  # type: ignore[operator]


def test_evlog_run_lists_the_packages_of_the_commands_interpreter(code: Path, tmp_path: Path) -> None:
    """Of another Python it asks that one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    info = next((tmp_path / "venv").glob("lib/*/site-packages")) / "only_here-3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: only-here\nVersion: 3\n")

    view = evlog_run(code, str(tmp_path / "venv" / "bin" / "python"), "-c", "pass")

    environment = view.context["environment"]
    assert environment["packages"] == {"only-here": "3"}
    assert environment["prefix"] == str(tmp_path / "venv")


def test_a_tracker_behind_a_shell_adds_its_own_packages(code: Path) -> None:
    """`evlog run` cannot know which Python a shell will start; that one says it."""
    view = evlog_run(code, "sh", "-c", f"{sys.executable} train.py")

    kinds = contexts(code / "experiments" / "default" / "a")
    assert (kinds.count("git"), kinds.count("hardware"), kinds.count("command")) == (1, 1, 1)
    assert "evlog" in view.context["environment"]["packages"]  # type: ignore[operator]
    assert view.context["environment"]["executable"] == sys.executable


def test_evlog_run_of_any_command_has_its_commit(code: Path) -> None:
    """Which Python would run it is not known, and a note says so."""
    view = evlog_run(code, "true")

    assert view.context["git"]["commit"] == git(code, "rev-parse", "HEAD")
    assert "packages" not in view.context["environment"]
    assert "which Python runs" in notes(view)
