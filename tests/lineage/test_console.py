"""What a process prints while a run is active."""

# ruff: noqa: T201 - printing is what is tested here

from __future__ import annotations

import io
import logging
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventlog import EvlogWarning, Tracker
from eventlog.events import Console, RunEnded
from eventlog.lineage.console import listening
from eventlog.lineage.console.listening import INTERVAL_S
from eventlog.lineage.console.listening import Console as Listening
from eventlog.lineage.running import LOGGED_BY
from eventlog.storage.system import host_name
from tests.tracker.support import logged, only_run, run_job, start_job
from tests.waiting import wait_until

JOB = """
    from eventlog import create_tracker
    tracker = create_tracker("local", output_dir="runs", console=True, lineage=False, system=False)
"""


def printed(run: Path | None, stream: str = "stdout") -> str:
    """Return what the log says of a stream."""
    return "\n".join(event.text for event in logged(run, Console) if event.stream == stream)


def tracker_in(root: Path) -> Tracker:
    return Tracker((), output_dir=root, console=True, lineage=False, system=False)


def start(tracker: Tracker, name: str) -> Path:
    """Start a run and return its directory."""
    tracker.start_run(name)
    assert tracker.run_dir is not None
    return tracker.run_dir


def test_console_has_what_both_streams_print_and_the_terminal_too(tmp_path: Path) -> None:
    """Text is passed on unchanged, and logged as lines of its stream, before the run's end."""
    code, out, err = run_job(
        JOB
        + """
    import sys
    with tracker.start_run("r"):
        print("one"); print("ü", end=""); sys.stdout.writelines([" two\\n", "three"])
        print("wrong", file=sys.stderr)
    print("after")
    """,
        tmp_path,
        PYTHONIOENCODING="utf-8",
    )

    run = only_run(tmp_path / "runs")
    assert (code, out, err) == (0, "one\nü two\nthreeafter\n", "wrong\n")
    assert (printed(run), printed(run, "stderr")) == ("one\nü two\nthree", "wrong")
    assert len(logged(run, RunEnded)) == 1


def test_console_is_off_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the option nothing is listened to."""
    with Tracker((), output_dir=tmp_path, lineage=False, system=False) as tracker:
        tracker.start_run("r")
        print("unheard")

    assert printed(only_run(tmp_path)) == ""
    assert capsys.readouterr().out == "unheard\n"


def test_console_hears_handlers_that_were_there_before(tmp_path: Path) -> None:
    """A handler of `logging` keeps the stream that it was made with."""
    handler = logging.StreamHandler()
    log = logging.getLogger("test_console")
    log.addHandler(handler)
    try:
        with tracker_in(tmp_path) as tracker:
            run = start(tracker, "r")
            log.warning("epoch %d", 3)
    finally:
        log.removeHandler(handler)

    assert printed(run, "stderr") == "epoch 3"


def test_console_leaves_the_streams_as_they_were(tmp_path: Path) -> None:
    """The objects stay the same ones, and after the run have their own method again."""
    out, own, encoding = sys.stdout, sys.stdout.write, sys.stdout.encoding

    with tracker_in(tmp_path) as tracker:
        tracker.start_run("r")
        during = (sys.stdout is out, sys.stdout.encoding == encoding, sys.stdout.write != own)
        sys.stdout.fileno()

    assert during == (True, True, True)
    assert (sys.stdout is out, sys.stdout.write) == (True, own)


def test_console_that_cannot_begin_leaves_the_streams_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread that logs, what is printed is not kept for one either; the next run is heard."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    own = sys.stdout.write
    with monkeypatch.context() as patch, tracker_in(tmp_path) as tracker:
        patch.setattr(listening, "_thread", SimpleNamespace(start_new_thread=refuse))
        with pytest.warns(EvlogWarning, match="no listener"):
            tracker.start_run("a")
        during = sys.stdout.write
    with tracker_in(tmp_path) as tracker:
        run = start(tracker, "b")
        print("heard")

    assert during == own
    assert printed(run) == "heard"


def test_console_does_not_take_away_what_another_put_over_it(tmp_path: Path) -> None:
    """A tool that listens too, and came later, goes on hearing; nothing is logged any more."""
    heard: list[str] = []
    stream = sys.stdout
    with tracker_in(tmp_path) as tracker:
        run = start(tracker, "r")
        under = stream.write

        def theirs(text: str) -> int:
            heard.append(text)
            return under(text)

        stream.write = theirs  # type: ignore[method-assign]
        print("both")
    print("theirs only")
    is_theirs = stream.write is theirs
    del stream.write

    assert is_theirs
    assert "".join(heard) == "both\ntheirs only\n"
    assert printed(run) == "both"


def test_console_keeps_the_last_state_of_a_progress_bar(tmp_path: Path) -> None:
    """What is written over is not kept."""
    with tracker_in(tmp_path) as tracker:
        run = start(tracker, "r")
        for percent in range(101):
            sys.stderr.write(f"\r{percent} %")
        sys.stderr.write("\n")

    assert printed(run, "stderr") == "100 %"


def test_console_belongs_to_the_innermost_run(tmp_path: Path) -> None:
    """What a nested run prints is its own; the one around it goes on afterwards."""
    with tracker_in(tmp_path) as tracker:
        outer = start(tracker, "outer")
        print("a")
        with tracker.start_run("inner", nested=True):
            inner = tracker.run_dir
            print("b")
        print("c")

    assert (printed(outer), printed(inner)) == ("a\nc", "b")


def test_console_takes_the_output_of_all_threads(tmp_path: Path) -> None:
    """No line is lost or mixed with another."""
    with tracker_in(tmp_path) as tracker:
        run = start(tracker, "r")
        threads = [
            threading.Thread(target=lambda n=n: [sys.stdout.write(f"{n}-{i}\n") for i in range(500)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lines = printed(run).split("\n")
    assert sorted(lines) == sorted(f"{n}-{i}" for n in range(4) for i in range(500))
    assert [line for line in lines if line.startswith("2-")] == [f"2-{i}" for i in range(500)]


def test_console_passes_on_what_a_stream_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program sees the same error as without; the text is in the log all the same."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError("gone")

    monkeypatch.setattr(sys, "stdout", Closed())
    with tracker_in(tmp_path) as tracker:
        run = start(tracker, "r")
        with pytest.raises(BrokenPipeError, match="gone"):
            print("last words")

    assert printed(run).startswith("last words")


def test_console_goes_on_with_a_stream_that_has_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose method cannot be replaced, or none, is left alone; the other one is heard."""

    class Fixed:
        __slots__ = ("text",)

        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> None:
            self.text += text

    monkeypatch.setattr(sys, "stdout", Fixed())
    with tracker_in(tmp_path) as tracker:
        run = start(tracker, "r")
        print("unheard")
        print("heard", file=sys.stderr)

    assert (printed(run), printed(run, "stderr")) == ("", "heard")


def test_a_forked_child_prints_without_logging(tmp_path: Path) -> None:
    """What a worker prints reaches the terminal; the log has it once, from the process that owns the run."""
    _, out, _ = run_job(
        JOB
        + """
    import os, sys
    with tracker.start_run("r"):
        print("parent", flush=True)
        if not (pid := os.fork()):
            print("child", flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
    """,
        tmp_path,
    )

    run = only_run(tmp_path / "runs")
    assert out == "parent\nchild\n"
    assert printed(run) == "parent"
    assert len(list((run / "log").glob("*.000001.jsonl"))) == 1


def test_a_run_of_a_forked_child_has_the_childs_console(tmp_path: Path) -> None:
    """A child that starts a run of its own logs what it prints there."""
    run_job(
        JOB
        + """
    import os, sys
    with tracker.start_run("parent"):
        print("a", flush=True)
        if not (pid := os.fork()):
            own = create_tracker("local", output_dir="runs", console=True, lineage=False, system=False)
            with own.start_run("child"):
                print("b", flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print("c")
    """,
        tmp_path,
    )

    runs = tmp_path / "runs" / "default"
    assert (printed(runs / "parent"), printed(runs / "child")) == ("a\nc", "b")


def test_a_kill_costs_what_was_printed_last(tmp_path: Path) -> None:
    """Lines that were printed before the last half second are in the log."""
    job = start_job(
        JOB
        + """
    import time
    tracker.start_run("r")
    print("first", flush=True)
    while True:
        time.sleep(0.05)
    """,
        tmp_path,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "first\n"
    run = only_run(tmp_path / "runs")
    wait_until(lambda: printed(run) == "first", "the line is logged", timeout_s=20 * INTERVAL_S)
    job.send_signal(signal.SIGKILL)
    job.communicate()

    assert printed(run) == "first"


def test_much_output_is_bounded_in_memory_and_in_events(tmp_path: Path) -> None:
    """More than can wait is counted; no event holds more than a line of the log takes."""

    class Recorded:
        def __init__(self) -> None:
            self.events: list[Console] = []

        def add(self, event: Console) -> bool:
            self.events.append(event)
            return True

    listening, run, before = Listening(), Recorded(), sys.stdout
    sys.stdout = io.StringIO()
    try:
        listening.begin(run)  # type: ignore[arg-type]
        with listening._lock:  # nothing is logged meanwhile
            for _ in range(40):
                sys.stdout.write("x" * 999_999 + "\n")
        listening.end(run)  # type: ignore[arg-type]
    finally:
        sys.stdout = before

    text = "".join(event.text for event in run.events if event.stream == "stdout")
    assert 16_000_000 <= len(text) < 18_000_000
    assert "characters were printed too fast" in "".join(e.text for e in run.events if e.stream == "stderr")
    assert max(len(event.text) for event in run.events) <= 1 << 16


def test_console_that_evlog_run_logs_is_not_logged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker that takes part in the run of such a command is told so by its environment."""
    monkeypatch.setenv(LOGGED_BY, f"{host_name()}/r")
    with tracker_in(tmp_path) as tracker:
        run = start(tracker, "r")
        print("logged outside")
        with tracker.start_run("other", nested=True):
            other = tracker.run_dir
            print("logged here")

    assert (printed(run), printed(other)) == ("", "logged here")
