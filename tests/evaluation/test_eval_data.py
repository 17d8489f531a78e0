"""``evlog eval`` on a file of the user's: how it is named, moved, changed, and what the run says of it."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.analysis.facts import load, results
from eventlog.evaluation.benchmark_registry import BenchmarkRegistry
from tests.cli.conftest import Evlog, clean_environment, evlog, nothing_left_running, start
from tests.evaluation.engine_support import Reply, Request, chat, right, serving
from tests.tracker.support import logged
from tests.waiting import wait_until

__all__ = ["clean_environment", "evlog", "nothing_left_running"]

ROWS = [{"question": f"{i}+1=", "answer": str(i + 1)} for i in range(10)]


def write(path: str, rows: list[dict[str, str]]) -> str:
    """Write rows as JSONL."""
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_of(name: str, project: str = "default") -> Path:
    """Return the directory of a run."""
    return Path("experiments") / project / name


def test_eval_of_a_file_needs_one_command(evlog: Evlog) -> None:
    """Questions, answers, an endpoint: that is all a newcomer has."""
    write("sums.jsonl", ROWS)
    with serving() as server:
        done = evlog("eval", "sums.jsonl", "--metric", "number", "--model", f"{server.url}#m", "--name", "r")

    assert done.code == 0, done.err
    found = results(load(run_of("r")))
    assert found["sums/accuracy"] == 0.9
    assert "sums/strict_accuracy" in found
    assert load(run_of("r")).view.params["options"] == {"metric": "number"}


def test_eval_takes_data_and_metric_as_flags(evlog: Evlog) -> None:
    """They are the options of the benchmark; data alone are a benchmark."""
    write("sums.jsonl", ROWS)

    flag = evlog("eval", "gsm8k", "--data", "sums.jsonl", "--model", "constant:3", "--name", "flag")
    alone = evlog("eval", "--data", "sums.jsonl", "--metric", "f1", "--model", "constant:3", "--name", "a")

    assert (flag.code, alone.code) == (0, 0), flag.err + alone.err
    assert load(run_of("flag")).view.params["options"] == {"data": "sums.jsonl"}
    assert load(run_of("a")).view.params["benchmark"] == "sums.jsonl"
    assert results(load(run_of("a")))["sums/f1"] == 0.1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sums.jsonl", "--data", "other.jsonl"], "is its own data"),
        (["gsm8k", "--data", "sums.jsonl", "-o", "data=other.jsonl"], "says 'other.jsonl'"),
    ],
)
def test_eval_refuses_two_sources_of_data(evlog: Evlog, args: list[str], message: str) -> None:
    """One of them would be ignored."""
    done = evlog("eval", *args, "--model", "constant:3")

    assert (done.code, message in done.err.replace("\n", " ")) == (2, True), done.err


def test_eval_help_names_all_benchmarks(evlog: Evlog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the help need not search elsewhere."""
    monkeypatch.setattr(BenchmarkRegistry, "_registered", {})  # what other tests have left

    help_text = evlog("eval", "--help").out

    assert [name for name in BenchmarkRegistry.names() if name not in help_text] == []


def test_eval_of_data_of_another_kind_leaves_no_run_behind(evlog: Evlog) -> None:
    """That no item can be asked is seen before anything is logged or paid for."""
    write("sums.jsonl", ROWS)

    done = evlog("eval", "sums.jsonl", "--metric", "choice", "--model", "constant:A")

    assert (done.code, "none of choices" in done.err) == (1, True)
    assert not Path("experiments").exists()


def test_eval_names_the_run_by_what_matters_most(evlog: Evlog) -> None:
    """However long the model's name is."""
    write("sums.jsonl", ROWS)
    command = f"cmd:{sys.executable} model.py {'x' * 300}"
    Path("model.py").write_text("import sys\nfor line in sys.stdin: print('\"3\"')\n")

    evlog("eval", "sums.jsonl", "--model", "constant:3", "--seed", "7", "-n", "2")
    done = evlog("eval", "sums.jsonl", "--model", command, "-n", "2", "--project", "long")

    assert done.code == 0, done.err
    (name,) = (path.name for path in Path("experiments/default").iterdir())
    assert name.startswith("sums-constant-num_samples=2-seed=7-20")


def test_eval_says_which_data_it_read(evlog: Evlog) -> None:
    """With hash and rows, once, also when it goes on."""
    file = write("sums.jsonl", ROWS)
    evlog("eval", file, "--model", "constant:3", "--name", "r", "-n", "4")
    evlog("eval", "--resume", "r", "-n", "8")

    (data,) = logged(run_of("r"), ev.Dataset)
    assert (data.name, data.split, data.rows) == ("sums", "test", 10)
    assert data.sha256 == hashlib.sha256(Path(file).read_bytes()).hexdigest()
    assert data.path == str(Path(file).absolute())


def test_eval_says_that_the_data_have_grown(evlog: Evlog) -> None:
    """What was asked is not asked again; the run has read two states of the file."""
    file = write("sums.jsonl", ROWS[:6])
    evlog("eval", file, "--model", "constant:3", "--name", "r")
    write("sums.jsonl", ROWS)
    done = evlog("eval", "--resume", "r")

    assert (done.code, done.out.splitlines()[1].split()[1]) == (0, "10")
    assert [data.rows for data in logged(run_of("r"), ev.Dataset)] == [6, 10]
    assert len(logged(run_of("r"), ev.Sample)) == 10


@pytest.mark.parametrize("how", [["sums.jsonl"], ["gsm8k", "--data", "sums.jsonl"]])
def test_eval_goes_on_with_data_that_have_moved(evlog: Evlog, how: list[str]) -> None:
    """Each item is checked, so the place does not matter."""
    write("sums.jsonl", ROWS)
    evlog("eval", *how, "--model", "constant:3", "--name", "r", "-n", "4")
    Path("sums.jsonl").rename("elsewhere.jsonl")

    lost = evlog("eval", "--resume", "r")
    found = evlog("eval", "--resume", "r", "--data", "elsewhere.jsonl", "-n", "6")

    assert (lost.code, "sums.jsonl: there is no such file" in lost.err) == (1, True)
    assert found.code == 0, found.err
    assert [sample.index for sample in logged(run_of("r"), ev.Sample)] == list(range(6))
    assert len({sample.benchmark for sample in logged(run_of("r"), ev.Sample)}) == 1


def test_eval_leaves_a_run_alone_whose_data_have_changed(evlog: Evlog) -> None:
    """It was finished, and stays so."""
    write("sums.jsonl", ROWS)
    evlog("eval", "sums.jsonl", "--model", "constant:3", "--name", "r")
    before = sorted((run_of("r") / "log").iterdir())
    write("sums.jsonl", ROWS[5:] + ROWS[:5])

    done = evlog("eval", "--resume", "r")

    assert (done.code, "item 0 is not the one" in done.err) == (1, True)
    assert sorted((run_of("r") / "log").iterdir()) == before
    assert load(run_of("r")).view.status == "finished"


def test_eval_keeps_the_password_of_a_judge_to_itself(evlog: Evlog) -> None:
    """Options are params of the run, and a judge is one; it may be given again."""
    write("open.jsonl", ROWS[:2])

    def judging(request: Request) -> Reply:
        return chat('{"score": 4}')

    with serving(judging) as server:
        secret = f"judge=http://me:sesame@{server.url.removeprefix('http://')}#m"
        given = ["--data", "open.jsonl", "-o", secret]
        done = evlog("eval", "judge", "--model", "constant:3", "--name", "r", "-n", "1", *given)
        again = evlog("eval", "--resume", "r", "-o", secret, "-n", "2")

    assert (done.code, again.code) == (0, 0), done.err + again.err
    logs = [path for path in Path("experiments").rglob("*") if path.is_file()]
    assert [path for path in logs if b"sesame" in path.read_bytes()] == []
    assert {request.headers["Authorization"][:5] for request in server.requests} == {"Basic"}


def test_eval_is_refused_while_another_loads_its_data(evlog: Evlog) -> None:
    """Two at once would ask everything twice; the lock is held from the first look at the run on."""
    write("sums.jsonl", ROWS)
    evlog("eval", "sums.jsonl", "--model", "constant:3", "--name", "r", "-n", "1")
    code = (
        "import sys; from pathlib import Path; from eventlog.evaluation.engine_log import only_one\n"
        "with only_one(Path('experiments/default/r'), 'r'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        refused = evlog("eval", "--resume", "r")
        other.kill()
    taken = evlog("eval", "--resume", "r")

    assert (refused.code, "is going on now" in refused.err) == (1, True)
    assert taken.code == 0, taken.err


def test_eval_of_a_killed_process_goes_on_with_many_calls_at_once(evlog: Evlog) -> None:
    """Only what was under way is asked twice."""
    rows = [{"question": f"{i}+1=", "answer": str(i + 1)} for i in range(60)]
    write("sums.jsonl", rows)
    hanging = ["33+1="]

    def answer(request: Request) -> Reply:
        return Reply(b"", hangs=True) if request.prompt in hanging else right(request)

    with serving(answer) as server:
        how = ("--concurrency", "16")
        process = start("eval", "sums.jsonl", "--model", f"{server.url}#m", "--name", "r", *how)
        wait_until(lambda: len(server.requests) == 60, "all but one are answered")
        process.send_signal(signal.SIGKILL)
        process.wait()
        hanging.clear()
        kept = len(logged(run_of("r"), ev.Sample))
        done = evlog("eval", "--resume", "r", *how)

    assert done.code == 0, done.err
    assert len(server.requests) == 60 + 60 - kept
    assert kept >= 60 - 16
    assert sorted(sample.index for sample in logged(run_of("r"), ev.Sample)) == list(range(60))


FULL = """
import resource
import sys

import eventlog.evaluation.engine_log as engine_log
from eventlog.cli.app import app
from eventlog.storage.options import WriterOptions

engine_log.PATIENT = WriterOptions(max_block_s=0.2, close_timeout_s=0.2, ring="memory", ring_bytes=1 << 20)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))  # no sample fits into a file
app(sys.argv[1:], prog_name="evlog")
"""


def test_eval_stops_asking_when_the_log_is_full(evlog: Evlog) -> None:
    """An answer that cannot be kept was paid for in vain; with room again the rest is asked."""
    write("sums.jsonl", [{"question": f"{i}+1=", "answer": "x" * 50_000} for i in range(100)])
    with serving() as server:
        args = ["eval", "sums.jsonl", "--model", f"{server.url}#m", "--name", "r", "--concurrency", "1"]
        full = subprocess.run([sys.executable, "-c", FULL, *args], capture_output=True, timeout=60)
        asked = len(server.requests)
        kept = len(logged(run_of("r"), ev.Sample))
        done = evlog("eval", "--resume", "r")

    assert full.returncode == 1
    assert b"Go on with: evlog eval --resume default/r" in full.stderr
    assert b"Traceback" not in full.stderr
    assert asked < 100
    assert done.code == 0, done.err
    assert len(server.requests) == asked + 100 - kept
