"""Sidecars beside real jobs: what is logged arrives, and nothing that goes wrong there reaches the job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sync.destinations import Delivered, install, is_alive, processes_of, tell
from tests.tracker.support import run_job, start_job, view_of
from tests.waiting import wait_until

START = """
import os, signal, sys, threading, time
from eventlog import create_tracker
t = create_tracker("files", output_dir="runs", project="p", to=os.environ["TO"])
t.start_run(run_id="a")
t.log_metrics({"x": 1}, 1)
"""
UNTIL_DELIVERED = """
def here(name="a"):
    path = os.environ["TO"] + "/" + name + ".jsonl"
    return os.path.exists(path) and '"metrics"' in open(path).read()
while not here(): time.sleep(0.01)
"""
WAIT = UNTIL_DELIVERED + "\nprint('ready', flush=True)\nwhile True: time.sleep(0.01)\n"


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Path) -> Path:
    """Install the sinks, for processes that find them as users' packages are found."""
    site = install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("TO", str(to))
    return site


@pytest.fixture(autouse=True)
def no_sidecar_is_left(tmp_path: Path, site: Path) -> Iterator[None]:
    """However a job ends, the process beside it ends soon after."""
    yield
    wait_until(lambda: not processes_of(tmp_path), "the sidecars have ended", timeout_s=30.0)


@pytest.fixture
def there(to: Path) -> Delivered:
    return Delivered(to, "a")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "p" / "a"


def wait_for_status(there: Delivered, status: str) -> None:
    wait_until(lambda: there.status == status, f"{status} is told", timeout_s=30.0)


def said(err: str) -> str:
    """Return standard error without the progress that a slow machine shows."""
    return "".join(line for line in err.splitlines(True) if not line.startswith("evlog: delivering "))


def ready(job: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert job.stdout is not None
    assert job.stdout.readline().strip() == "ready"
    return job


# --- how a job may end ----------------------------------------------------------------------------


def test_a_run_is_at_its_destination_when_end_run_returns(
    tmp_path: Path, there: Delivered, run: Path
) -> None:
    """In another process than the job's, and nothing is said about it."""
    done = run_job(
        START + "t.end_run()\nprint(os.getpid(), open(os.environ['TO'] + '/a.status').read())", tmp_path
    )

    pid, status = done[1].split()
    assert (done[0], status, said(done[2])) == (0, "finished", "")
    assert there.is_all_of(run)
    assert len(there.processes) == 1
    assert int(pid) not in there.processes


def test_what_is_logged_arrives_while_the_job_goes_on(tmp_path: Path, there: Delivered) -> None:
    """Also a run that nobody ended, whose end the interpreter's exit is."""
    assert run_job(START + UNTIL_DELIVERED, tmp_path)[0] == 0

    assert there.status == "killed"


def test_an_exception_is_told_as_a_failure(tmp_path: Path, there: Delivered, run: Path) -> None:
    """The job's own traceback is the only thing on its standard error."""
    exit_code, _, err = run_job(START + "raise RuntimeError('lost it')", tmp_path)

    assert (exit_code, there.status) == (1, "failed")
    assert said(err).rstrip().endswith("RuntimeError: lost it")
    assert there.is_all_of(run)


def test_sigterm_is_told_and_does_not_wait(tmp_path: Path, there: Delivered, run: Path) -> None:
    """The job dies of its signal at once; the sidecar delivers the rest."""
    job = ready(start_job(START + WAIT, tmp_path))

    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)

    assert job.returncode == -signal.SIGTERM
    wait_for_status(there, "killed")
    assert there.is_all_of(run)


def test_a_job_that_is_killed_is_told_as_crashed(tmp_path: Path, there: Delivered, run: Path) -> None:
    """Everything that it logged arrives after its death."""
    log = "for i in range(5000): t.log_metrics({'x': i}, i)\nos.kill(os.getpid(), signal.SIGKILL)"
    run_job(START + UNTIL_DELIVERED + log, tmp_path)

    wait_for_status(there, "crashed")
    assert len(there.steps) == 5001
    assert there.is_all_of(run)


def test_ctrl_c_ends_the_job_and_not_its_sidecar(tmp_path: Path, there: Delivered, run: Path) -> None:
    """The terminal sends it to all processes of the group; the end that it makes is delivered."""
    job = subprocess.Popen(
        [sys.executable, "-c", START + WAIT],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    ready(job)

    os.killpg(job.pid, signal.SIGINT)
    job.communicate(timeout=30)

    assert there.status == "killed"
    assert there.is_all_of(run)


def test_a_sidecar_has_a_session_of_its_own(tmp_path: Path, there: Delivered) -> None:
    """The end of the terminal, too, is the job's alone."""
    job = ready(start_job(START + WAIT, tmp_path))
    (pid,) = there.processes

    sessions = os.getsid(pid), os.getsid(job.pid)
    job.terminate()
    job.communicate(timeout=30)

    assert sessions == (pid, os.getsid(0))


def test_a_thread_that_exits_does_not_end_the_delivery(tmp_path: Path, there: Delivered) -> None:
    """sys.exit in a thread is that thread's end only."""
    code = START + "x = threading.Thread(target=sys.exit); x.start(); x.join()\nt.end_run()"

    assert run_job(code, tmp_path)[0] == 0

    assert there.status == "finished"


# --- what a job may do ----------------------------------------------------------------------------


def test_a_forked_child_has_no_part_in_the_delivery(tmp_path: Path, there: Delivered, run: Path) -> None:
    """What it logs arrives; its end does not end the sidecar, and it does not wait for it."""
    code = START + UNTIL_DELIVERED
    code += """
pid = os.fork()
if pid == 0:
    t.log_metrics({"child": 1}, 2)
    t.end_run()
    sys.exit(0)
os.waitpid(pid, 0)
t.log_metrics({"x": 1}, 3)
t.end_run()
"""
    exit_code, _, err = run_job(code, tmp_path)

    assert (exit_code, said(err), there.status) == (0, "", "finished")
    assert there.steps == [1, 2, 3]
    assert len(there.processes) == 1


def test_a_child_that_is_forked_while_the_sidecar_starts_does_not_hold_it_up(
    tmp_path: Path, there: Delivered
) -> None:
    """It may have inherited the other ends of the pipes; only posix_spawn needs none to start a process."""
    spy = """
import os
spawn, spawned = os.posix_spawn, []
os.posix_spawn = lambda *a, **k: spawned.append(a) or spawn(*a, **k)
"""
    code = """
pids = []
for i in range(20):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    pids.append(pid)
    time.sleep(0.001)
t.end_run()
print(open(os.environ["TO"] + "/a.status").read(), len(spawned))
for pid in pids: os.kill(pid, 9)
"""
    assert run_job(spy + START + code, tmp_path)[:2] == (0, "finished 1\n")


def test_workers_that_live_on_do_not_hold_up_the_end(tmp_path: Path, there: Delivered, run: Path) -> None:
    """What is there is waited for; what they still log is delivered after the job's end of the run."""
    code = """
r, w = os.pipe()
r2, w2 = os.pipe()
pid = os.fork()
if pid == 0:
    t.log_metrics({"child": 1}, 2)
    t.flush()
    os.write(w2, b"x")
    os.read(r, 1)
    t.log_metrics({"child": 2}, 3)
    t.flush()
    os._exit(0)
os.read(r2, 1)
t.end_run()
print("steps", '"child": 1' in open(os.environ["TO"] + "/a.jsonl").read())
os.write(w, b"x")
os.waitpid(pid, 0)
"""
    exit_code, out, err = run_job(START + code, tmp_path)

    assert (exit_code, out) == (0, "steps True\n")
    assert "Finish with" not in err
    assert err.count("evlog: delivering") <= 1  # it does not wait for their end
    wait_for_status(there, "finished")
    assert there.steps == [1, 2, 3]


def test_nested_runs_and_runs_in_sequence_have_a_sidecar_each(tmp_path: Path, to: Path) -> None:
    """Each ends with its run."""
    code = """
t.start_run(run_id="inner", nested=True)
t.log_metrics({"x": 1}, 1)
t.end_run()
t.end_run()
t.start_run(run_id="next")
t.log_metrics({"x": 1}, 1)
t.end_run()
"""
    assert run_job(START + code, tmp_path)[0] == 0

    runs = [Delivered(to, name) for name in ("a", "inner", "next")]
    assert [one.status for one in runs] == ["finished"] * 3
    assert len(set.union(*(one.processes for one in runs))) == 3


def test_one_sidecar_serves_all_sinks_of_a_run(tmp_path: Path, to: Path) -> None:
    """Also one whose options are given by its name, beside one that gets the run at its end."""
    code = """
import os
from eventlog import create_tracker
t = create_tracker(["local", "files", "more"], output_dir="runs", project="p",
    sink_options={"files": {"to": os.environ["TO"]}, "more": {"to": os.environ["TO"] + "2"}})
t.start_run(run_id="a")
t.end_run()
"""
    assert run_job(code, tmp_path)[0] == 0

    places = [Delivered(to, "a"), Delivered(to.with_name("there2"), "a")]
    assert [one.status for one in places] == ["finished"] * 2
    assert places[0].processes == places[1].processes
    assert (tmp_path / "runs" / "p" / "a" / "metrics.json").exists()


def test_a_resumed_run_is_delivered_on(tmp_path: Path, there: Delivered, run: Path) -> None:
    """A second job goes on where the first one was, and so does its sidecar."""
    run_job(START + "t.end_run()", tmp_path)
    run_job(START.replace('t.start_run(run_id="a")', 't.start_run(run_id="a", resume=True)')
            + "t.end_run('failed')", tmp_path)  # fmt: skip

    assert there.status == "failed"
    assert there.is_all_of(run)
    assert len(there.processes) == 2


def test_a_job_under_evlog_run_leaves_the_end_to_it(tmp_path: Path, there: Delivered, run: Path) -> None:
    """The job does not wait for an end that is not its own; the run's end arrives all the same."""
    (tmp_path / "job.py").write_text(START.replace('run_id="a"', "") + "t.end_run()\nprint('left')\n")

    done = subprocess.run(
        [sys.executable, "-m", "eventlog", "run", "--name", "a", "--project", "p", "--dir", "runs", "--",
         sys.executable, "job.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "left\n")
    assert "Finish with" not in done.stderr
    assert done.stderr.count("evlog: delivering") <= 1  # it does not wait for that end
    wait_for_status(there, "finished")
    assert there.is_all_of(run)


# --- where a job may run ----------------------------------------------------------------------------


@pytest.mark.parametrize("as_script", [True, False])
def test_files_in_the_working_directory_are_no_packages(
    tmp_path: Path, there: Delivered, as_script: bool
) -> None:
    """W&B makes a directory of its name, and users name scripts as they like."""
    (tmp_path / "wandb").mkdir()
    for name in ("sync.py", "queue.py", "sidecar.py", "file_sinks.py", "typing.py"):
        (tmp_path / name).write_text("import os; print('wrong one'); os._exit(9)\n")
    prefix = "import sys; sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[-1])]\n"
    (tmp_path / "job.py").write_text(prefix + START + "t.end_run()\n")
    how = ["job.py"] if as_script else ["-c", prefix + START + "t.end_run()"]

    done = subprocess.run(
        [sys.executable, "-P", *how, str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, said(done.stderr), there.status) == (0, "", "finished")


def test_a_working_directory_that_was_deleted_does_no_harm(tmp_path: Path, there: Delivered) -> None:
    """The job goes on as far as it can, and so does the delivery."""
    (tmp_path / "work").mkdir()
    code = (
        "import os; os.rmdir(os.getcwd())\n" + START.replace('"runs"', f'"{tmp_path}/runs"') + "t.end_run()"
    )

    exit_code, _, err = run_job(code, tmp_path / "work")

    assert (exit_code, said(err), there.status) == (0, "", "finished")


def test_a_relative_destination_means_where_the_run_began(tmp_path: Path) -> None:
    """Also if the job goes elsewhere, and the sidecar has to be started again."""
    (tmp_path / "elsewhere").mkdir()
    code = START.replace('os.environ["TO"]', '"out"').replace("runs", str(tmp_path / "runs"))
    kill = "\nos.environ['TO'] = 'out'\n" + UNTIL_DELIVERED + "\nos.chdir('elsewhere')\n"
    kill += "os.kill(int(open('../out/a.calls').read().split()[1]), 9)\nt.end_run()"

    assert run_job(code + kill, tmp_path)[0] == 0

    assert Delivered(tmp_path / "out", "a").status == "finished"
    assert not (tmp_path / "elsewhere" / "out").exists()


def test_a_job_without_standard_error_gets_its_run_delivered(tmp_path: Path, to: Path) -> None:
    """Nobody is there to be shown anything."""
    tell(to, "hang-write")
    code = (
        START.replace('os.environ["TO"]', 'os.environ["TO"], sync_timeout_s=3') + "t.end_run()\nprint('ok')"
    )

    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_a_sink_on_a_search_path_of_the_jobs_own_is_found(
    tmp_path: Path, there: Delivered, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the job can import the sidecar can import too."""
    monkeypatch.delenv("PYTHONPATH")

    done = run_job(f"import sys; sys.path.append({str(site)!r})\n" + START + "t.end_run()", tmp_path)

    assert (done[0], said(done[2]), there.status) == (0, "", "finished")


# --- what may go wrong ------------------------------------------------------------------------------


def impatient(code: str, timeout_s: float = 2.0) -> str:
    return code.replace('os.environ["TO"]', f'os.environ["TO"], sync_timeout_s={timeout_s}')


def test_a_sink_that_hangs_is_given_up_with_the_command_that_finishes(
    tmp_path: Path, to: Path, there: Delivered, run: Path
) -> None:
    """The job ends as ever; the command in the warning does the rest."""
    fault = tell(to, "hang-write")
    exit_code, out, err = run_job(impatient(START) + "t.end_run()\nprint('after')", tmp_path)

    assert (exit_code, out) == (0, "after\n")
    assert "evlog: delivering a to files: " in err
    assert f"evlog sync {run} --to files --option to={to}" in err
    wait_until(lambda: not any(map(is_alive, there.processes)), "the sidecar has ended", timeout_s=30.0)
    fault.unlink()
    command = err.partition("Finish with: ")[2].split()
    subprocess.run([sys.executable, "-m", "eventlog", *command[1:]], timeout=60, check=True)
    assert there.status == "finished"
    assert there.is_all_of(run)


def test_a_sink_that_raises_costs_one_warning(tmp_path: Path, to: Path, run: Path) -> None:
    """With what it said, and what to do."""
    tell(to, "fail-write")
    exit_code, _, err = run_job(impatient(START) + "t.end_run()", tmp_path)

    assert exit_code == 0
    assert "RuntimeError: 404 in write" in err
    assert "evlog sync" in err
    assert view_of(tmp_path / "runs").status == "finished"


def test_a_destination_that_is_down_costs_a_warning_and_is_tried_again(
    tmp_path: Path, to: Path, there: Delivered, run: Path
) -> None:
    """It comes back while the run goes on, and has everything."""
    tell(to, "down")
    code = """
calls = os.environ["TO"] + "/a.calls"
while not os.path.exists(calls) or open(calls).read().count("open") < 2: time.sleep(0.01)
os.remove(os.environ["TO"] + "/down")
t.end_run()
"""
    exit_code, _, err = run_job(START + code, tmp_path)

    assert exit_code == 0
    assert "files: the server is down" in err
    assert (there.status, there.is_all_of(run)) == ("finished", True)


def test_a_sidecar_that_dies_is_started_again(tmp_path: Path, to: Path, there: Delivered, run: Path) -> None:
    """By a signal from outside, or by what a sink does; each event arrives once."""
    code = """
os.kill(int(open(os.environ["TO"] + "/a.calls").read().split()[1]), 9)
open(os.environ["TO"] + "/exit-open", "w").close()
t.log_metrics({"x": 2}, 2)
calls = lambda: set(open(os.environ["TO"] + "/a.calls").read().split()[1::2])
while len(calls()) < 3: time.sleep(0.01)
os.remove(os.environ["TO"] + "/exit-open")
t.end_run()
"""
    exit_code, _, err = run_job(START + UNTIL_DELIVERED + code, tmp_path)

    assert (exit_code, said(err)) == (0, "")
    assert len(there.processes) >= 4
    assert (there.status, there.is_all_of(run)) == ("finished", True)


def test_a_sink_that_always_ends_the_process_does_not_hold_up_the_end(tmp_path: Path, to: Path) -> None:
    """After the run's end it has one more try with the whole of it."""
    tell(to, "exit-write")
    exit_code, out, err = run_job(
        START + "\nbegan = time.monotonic()\nt.end_run()\nprint(time.monotonic() - began < 25)", tmp_path
    )

    assert (exit_code, out) == (0, "True\n")
    assert "its process ended with code 7" in err


@pytest.mark.parametrize(
    ("sink", "options"), [("needy", ""), ("needy", "color='red'"), ("unloadable", "color='red'")]
)
def test_a_missing_package_costs_a_warning(tmp_path: Path, sink: str, options: str) -> None:
    """The run is logged as ever."""
    code = f"""
from eventlog import create_tracker
t = create_tracker("{sink}", output_dir="runs", project="p", {options})
with t.start_run(run_id="a"):
    t.log_metrics({{"x": 1}}, 1)
"""
    exit_code, _, err = run_job(code, tmp_path)

    assert exit_code == 0
    assert "pip install no_such_package_anywhere" in err
    assert view_of(tmp_path / "runs").status == "finished"


def test_a_package_that_is_missed_late_costs_a_warning(tmp_path: Path, to: Path) -> None:
    """A sink may import what it needs when it is opened."""
    tell(to, "needs-open")

    exit_code, _, err = run_job(START + "t.end_run()", tmp_path)

    assert exit_code == 0
    assert "pip install no_such_package_anywhere" in err


def test_a_sink_that_prints_a_lot_disturbs_nobody(tmp_path: Path, to: Path, there: Delivered) -> None:
    """It goes into a file of bounded size, and nothing of it is taken for a message of ours."""
    tell(to, "chatty")

    exit_code, out, err = run_job(START + UNTIL_DELIVERED + "t.end_run()", tmp_path)

    assert (exit_code, out, said(err), there.status) == (0, "", "", "finished")
    assert (tmp_path / "runs/p/a/.evlog/sidecar.log").stat().st_size > 300_000


def test_events_that_are_refused_are_told(tmp_path: Path, there: Delivered) -> None:
    """All others arrive, and the way to see them is named."""
    code = START + "from eventlog.events import Alert\nt.log_event(Alert(title='x'))\nt.end_run()"

    exit_code, _, err = run_job(code, tmp_path)

    assert (exit_code, there.status) == (0, "finished")
    assert "files refused 1 events of run a" in err


def test_a_strict_tracker_raises_what_was_not_delivered(tmp_path: Path, to: Path) -> None:
    """Who asks for errors gets them, after the run is safe."""
    tell(to, "fail-open")
    exit_code, _, err = run_job(
        impatient(START).replace("project=", "strict=True, project=") + "t.end_run()", tmp_path
    )

    assert exit_code == 1
    assert "NotDeliveredError: run a is logged, but not yet all of it is delivered: files: " in err
    assert view_of(tmp_path / "runs").status == "finished"


def test_a_run_that_is_deleted_ends_its_sidecar(tmp_path: Path, run: Path, there: Delivered) -> None:
    """It does not make the directory anew, and does not stay."""
    job = ready(start_job(START + WAIT, tmp_path))

    run.rename(tmp_path / "away")  # in one step: it may be written at this moment
    job.kill()
    job.communicate()

    wait_until(lambda: not any(map(is_alive, there.processes)), "the sidecar has ended", timeout_s=30.0)
    assert not run.exists()


def test_the_sidecar_of_a_killed_job_goes_on_when_its_sink_does(
    tmp_path: Path, to: Path, there: Delivered
) -> None:
    """A destination that hung while the job was killed still learns how the run ended."""
    fault = tell(to, "hang-write")
    code = START + "while not os.path.exists(os.environ['TO'] + '/a.calls'): time.sleep(0.01)\n"
    code += "os.kill(os.getpid(), signal.SIGKILL)"
    run_job(code, tmp_path)

    fault.unlink()

    wait_for_status(there, "crashed")
