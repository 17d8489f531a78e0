"""What becomes of runs when processes fork, are told to end, or just end."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest

from eventlog.events import Metrics, RunEnded
from tests.tracker.support import logged, only_run, run_job, start_job, view_of

START = """
import os, signal, sys, threading
from eventlog import create_tracker
t = create_tracker("local", output_dir="runs", project="p")
t.start_run("a")
t.log_metrics({"x": 1}, 1)
"""


def test_a_run_that_nobody_ended_is_killed_at_exit(tmp_path: Path) -> None:
    """The interpreter's end seals the log."""
    assert run_job(START, tmp_path)[0] == 0

    assert view_of(tmp_path / "runs").status == "killed"


def test_an_uncaught_exception_fails_the_run(tmp_path: Path) -> None:
    """The exception that ended the program stands in run_ended."""
    code, _, err = run_job(START + "\nraise RuntimeError('lost it')", tmp_path)

    (ended,) = logged(only_run(tmp_path / "runs"), RunEnded)
    assert (code, ended.status) == (1, "failed")
    assert "lost it" in err
    assert ended.error is not None
    assert ended.error.message == "lost it"


def test_os_exit_leaves_a_crashed_run_with_all_its_events(tmp_path: Path) -> None:
    """Nothing runs at os._exit; the ring has what the segment has not."""
    run_job(START + "\nfor i in range(1000): t.log_metrics({'x': i}, i)\nos._exit(3)", tmp_path)

    seen = view_of(tmp_path / "runs")
    assert seen.status == "crashed"
    assert seen.metrics["x"].count == 1001


def test_sigterm_seals_the_run_and_still_ends_the_process(tmp_path: Path) -> None:
    """With the default action the run is killed, and the exit status is the signal's."""
    job = start_job(START + "\nprint('ready', flush=True)\nwhile True: t.log_metrics({'x': 2}, 2)", tmp_path)
    assert job.stdout is not None
    job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)

    (ended,) = logged(only_run(tmp_path / "runs"), RunEnded)
    assert job.returncode == -signal.SIGTERM
    assert (ended.status, ended.signal) == ("killed", "SIGTERM")


def test_sigterm_goes_to_the_users_handler(tmp_path: Path) -> None:
    """A handler that was there is called, and may go on logging."""
    code = """
    import signal
    def mine(number, frame):
        global stop
        stop = True
    signal.signal(signal.SIGTERM, mine)
    stop = False
    """
    body = (
        START
        + "\nprint('ready', flush=True)\nwhile not stop: pass\nt.log_metrics({'saved': 1}, 9)\nt.end_run()\n"
    )
    job = start_job(textwrap.dedent(code) + body, tmp_path)
    assert job.stdout is not None
    job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)

    seen = view_of(tmp_path / "runs")
    assert job.returncode == 0
    assert seen.status == "finished"
    assert "saved" in seen.metrics


def test_a_forked_child_is_another_writer(tmp_path: Path) -> None:
    """Parent and child log into one run; nothing is there twice, and the child does not end the run."""
    run_job(
        START
        + """
pid = os.fork()
if pid == 0:
    t.log_metrics({"child": 1}, 1)
    t.flush()
    os._exit(0)
os.waitpid(pid, 0)
t.log_metrics({"parent": 1}, 2)
t.end_run()
""",
        tmp_path,
    )

    run = only_run(tmp_path / "runs")
    assert [m.data for m in logged(run, Metrics)] == [{"x": 1}, {"child": 1}, {"parent": 1}]
    assert view_of(tmp_path / "runs").status == "finished"
    assert len(view_of(tmp_path / "runs").writers) == 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_can_log(tmp_path: Path, method: str) -> None:
    """Workers of every start method log, and no event is lost or doubled."""
    (tmp_path / "job.py").write_text(
        f"""
import multiprocessing as mp
from eventlog import Tracker, TrackingConfig

def work(n):
    t = Tracker((), TrackingConfig(project="p"), output_dir="runs", rank=n + 1)
    t.start_run("a")
    for i in range(100):
        t.log_metrics({{"x": i}}, i)
    t.end_run()

if __name__ == "__main__":
    with mp.get_context({method!r}).Pool(3, maxtasksperchild=1) as pool:
        pool.map(work, range(3), chunksize=1)
"""
    )
    code, _, err = run_job("import runpy; runpy.run_path('job.py', run_name='__main__')", tmp_path)
    assert (code, err) == (0, "")

    seen = view_of(tmp_path / "runs")
    assert sorted((key, stats.count) for key, stats in seen.metrics.items()) == [
        (f"rank{n}/x", 100) for n in (1, 2, 3)
    ]


def test_threads_lose_nothing(tmp_path: Path) -> None:
    """64 threads log at once; every call is there once, each thread's in its order."""
    run_job(
        START
        + """
def work(n):
    for i in range(200):
        t.log_metrics({f"t{n}": i}, i)
threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
[x.start() for x in threads]; [x.join() for x in threads]
t.end_run()
""",
        tmp_path,
    )

    seen: dict[str, list[int | float | str]] = {}
    for event in logged(only_run(tmp_path / "runs"), Metrics):
        for key, value in event.data.items():
            seen.setdefault(key, []).append(value)
    del seen["x"]
    assert seen == {f"t{n}": list(range(200)) for n in range(64)}


def test_logging_inside_a_signal_handler_does_not_deadlock(tmp_path: Path) -> None:
    """A handler that logs in the middle of a log call gets its event kept."""
    code, _, err = run_job(
        START
        + """
import itertools
count = 0
def tick(number, frame):
    global count
    count += 1
    t.log_metrics({"tick": count}, count)
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for i in itertools.count():
    t.log_metrics({"x": i}, i)
    if count >= 300: break
signal.setitimer(signal.ITIMER_REAL, 0)
t.end_run()
print(count)
""",
        tmp_path,
    )

    assert code == 0, err
    ticks = sorted(
        m.step for m in logged(only_run(tmp_path / "runs"), Metrics) if "tick" in m.data and m.step
    )
    assert ticks == list(range(1, len(ticks) + 1))
    assert len(ticks) >= 300


def test_ctrl_c_in_the_middle_keeps_the_chain_whole(tmp_path: Path) -> None:
    """KeyboardInterrupt inside a log call leaves a log that verifies to its end."""
    job = start_job(
        START
        + """
n = 0
while n < 20:
    try:
        print(n, flush=True)
        while True: t.log_metrics({"x": 1.5}, 1)
    except KeyboardInterrupt:
        n += 1
t.end_run()
""",
        tmp_path,
    )
    assert job.stdout is not None
    for _ in range(20):
        job.stdout.readline()
        job.send_signal(signal.SIGINT)
    job.communicate(timeout=30)

    seen = view_of(tmp_path / "runs")
    assert (seen.status, seen.findings) == ("finished", 0)


def test_importing_loads_only_orjson_and_msgspec(tmp_path: Path) -> None:
    """A training job does not pay for the command line or for SQL."""
    code = """
    import sys, eventlog
    heavy = {"duckdb", "typer", "rich", "watchfiles", "numpy", "click"}
    print(*sorted(heavy & {name.split(".")[0] for name in sys.modules}))
    """

    assert run_job(code, tmp_path)[1].strip() == ""


def test_threads_that_log_first_share_one_run(tmp_path: Path) -> None:
    """When no run was started, the first calls of many threads start one, not many."""
    run_job(
        """
import threading
from eventlog import create_tracker
t = create_tracker("local", output_dir="runs", project="p", experiment_name="one")
barrier = threading.Barrier(16)
def work(n):
    barrier.wait()
    t.log_metrics({f"t{n}": 1}, 1)
threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
[x.start() for x in threads]; [x.join() for x in threads]
t.end_run()
""",
        tmp_path,
    )

    assert len(view_of(tmp_path / "runs").metrics) == 16


def test_a_handler_over_ours_that_calls_ours_is_called_once(tmp_path: Path) -> None:
    """Chains of SIGTERM handlers end, also when another run is started after the user's was installed."""
    job = start_job(
        START
        + """
ours = signal.getsignal(signal.SIGTERM)
def mine(number, frame):
    print("mine", flush=True)
    ours(number, frame)
signal.signal(signal.SIGTERM, mine)
t.end_run()
t.start_run("b")
print("ready", flush=True)
while True: t.log_metrics({"x": 1}, 1)
""",
        tmp_path,
    )
    assert job.stdout is not None
    job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    out, err = job.communicate(timeout=30)

    assert (out, job.returncode) == ("mine\n", -signal.SIGTERM), err
