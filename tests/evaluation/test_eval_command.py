"""``evlog eval``, as people type it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.analysis.facts import load
from tests.cli.conftest import Evlog, clean_environment, evlog, nothing_left_running, real_evlog, start
from tests.evaluation.engine_support import Reply, in_turn, serving
from tests.tracker.support import logged
from tests.waiting import wait_until

__all__ = ["clean_environment", "evlog", "nothing_left_running"]

MODULE = """
import os, time
from eventlog.evaluation.benchmark import BaseBenchmark

class Sums(BaseBenchmark):
    def __init__(self, size: int = 10, name: str = "sums"):
        super().__init__(name)
        self.size = size
    def load_dataset(self, split="test", num_samples=None):
        rows = [{"question": f"{i}+1=", "answer": str(i + 1)} for i in range(self.size)]
        return rows[:num_samples]
    def extract_answer(self, text):
        return text.strip()
    def check_answer(self, predicted, gold):
        return predicted == gold

class More(Sums):
    def __init__(self, size: int = 5):
        super().__init__(size, "more")

def solve(prompts):
    return [str(int(p.split("+")[0]) + 1) for p in prompts]

def failing(prompts):
    is_mended = os.path.exists("mended")
    return [None if p == "2+1=" and not is_mended else s for p, s in zip(prompts, solve(prompts))]

def hanging(prompts):
    if "4+1=" in prompts and not os.path.exists("mended"):
        open("hangs", "w").close()
        time.sleep(60)
    return solve(prompts)
"""


@pytest.fixture(autouse=True)
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the user's module into the working directory, and forget that of the test before."""
    (tmp_path / "job.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "job", raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run_of(name: str) -> Path:
    """Return the directory of a run of the default project."""
    return Path("experiments/default") / name


def test_eval_prints_results_and_logs_a_run(evlog: Evlog) -> None:
    """The names are ``task/metric``; the run says what was evaluated, and is labelled."""
    done = evlog("eval", "job:Sums", "--model", "job:solve", "-n", "4", "--name", "r", "--tag", "baseline")

    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split() == ["sums/accuracy", "4", "1"]
    assert done.out.splitlines()[-1] == "run default/r"
    facts = load(run_of("r"), with_samples=True)
    assert facts.view.params == {
        "benchmark": "job:Sums",
        "model": "job:solve",
        "split": "test",
        "num_samples": 4,
    }
    assert (facts.view.status, list(facts.view.tags), len(facts.samples["sums"])) == (
        "finished",
        ["baseline"],
        4,
    )


def test_eval_names_the_run_by_benchmark_and_model(evlog: Evlog) -> None:
    """The time tells two of them apart."""
    for _ in range(2):
        assert evlog("eval", "job:Sums", "--model", "job:solve").code == 0

    names = sorted(path.name for path in Path("experiments/default").iterdir())
    assert len(names) == 2
    assert all(name.startswith("sums-job-solve-20") for name in names)


def test_eval_says_when_a_name_is_taken(evlog: Evlog) -> None:
    """The other run is left alone."""
    evlog("eval", "job:Sums", "--model", "job:solve", "--name", "r")

    again = evlog("eval", "job:Sums", "--model", "job:solve", "--name", "r")

    assert "run 'r' exists; this run is 'r-1'" in again.err


def test_eval_prints_json(evlog: Evlog) -> None:
    """For programs: everything but the samples, which lie in the archive."""
    done = evlog(
        "eval",
        "job:Sums",
        "job:More",
        "--group",
        "all",
        "--model",
        "job:solve",
        "-o",
        "job:More.size=3",
        "--json",
    )

    found = json.loads(done.out)
    assert found["metrics"]["accuracy_macro"] == 1.0
    assert {name: one["num_samples"] for name, one in found["results"].items()} == {"sums": 10, "more": 3}
    assert "samples" not in found["results"]["sums"]
    assert len(json.loads((Path(found["path"]) / "artifacts/results.json").read_text())["results"]) == 2


def test_eval_tells_of_failed_samples_and_asks_them_again(evlog: Evlog) -> None:
    """Exit code 1, and the command that mends it; the run says the rest itself."""
    first = evlog("eval", "job:Sums", "--model", "job:failing", "--name", "r")
    Path("mended").touch()
    second = evlog("eval", "--resume", "r")

    assert first.code == 1
    assert "1 samples failed" in first.err
    assert "evlog eval --resume default/r" in first.err
    assert (second.code, second.out.splitlines()[1].split()) == (0, ["sums/accuracy", "10", "1"])
    assert len(logged(run_of("r"), ev.Sample)) == 11


def test_eval_goes_on_after_ctrl_c() -> None:
    """The run is killed, the message says how to go on, and what was answered stays."""
    process = start("eval", "job:Sums", "--model", "job:hanging", "--name", "r", "--batch-size", "1")
    wait_until(Path("hangs").exists, "the model hangs")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Go on with: evlog eval --resume default/r" in err.decode()
    assert b"Traceback" not in err
    assert load(run_of("r")).view.status == "killed"
    assert len(logged(run_of("r"), ev.Sample)) == 4

    Path("mended").touch()
    again = real_evlog("eval", "--resume", "default/r")
    assert again.code == 0, again.err
    assert len(logged(run_of("r"), ev.Sample)) == 10


def test_eval_refuses_a_run_that_goes_on_elsewhere(evlog: Evlog) -> None:
    """Two of them would ask everything twice."""
    process = start("eval", "job:Sums", "--model", "job:hanging", "--name", "r", "--batch-size", "1")
    wait_until(Path("hangs").exists, "the model hangs")

    second = evlog("eval", "--resume", "r")
    process.kill()
    process.wait()

    assert second.code == 1
    assert "is going on now" in second.err


def test_eval_asks_an_endpoint(evlog: Evlog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling parameters are sent and logged; the key is only sent."""
    monkeypatch.setenv("SOME_KEY", "sk-secret-12345")
    with serving() as server:
        done = evlog(
            *("eval", "job:Sums", "--model", "openai:m", "--base-url", server.url, "--name", "r"),
            *("--temperature", "0.5", "--max-tokens", "9", "--seed", "7", "--api-key-env", "SOME_KEY"),
            *("--concurrency", "2", "--system", "Add."),
        )

    assert done.code == 0, done.err
    assert load(run_of("r")).view.params == {
        "benchmark": "job:Sums",
        "model": "openai:m",
        "split": "test",
        "base_url": server.url,
        "system": "Add.",
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 7,
    }
    assert server.requests[0].headers["Authorization"] == "Bearer sk-secret-12345"
    assert server.requests[0].body["seed"] == 7
    assert "sums/prompt_tokens" in done.out
    found = [path for path in Path().rglob("*") if path.is_file() and b"sk-secret" in path.read_bytes()]
    assert found == []


def test_eval_resumes_an_endpoint_with_its_parameters(evlog: Evlog) -> None:
    """They come from the run; only what failed is asked."""
    with serving(in_turn(Reply({"error": "no"}, status=400))) as server:
        evlog("eval", "job:Sums", "--model", f"{server.url}#m", "--temperature", "0", "--name", "r")
        asked = len(server.requests)
        done = evlog("eval", "--resume", "r")

    assert done.code == 0, done.err
    assert len(server.requests) == asked + 1
    assert server.requests[-1].body["temperature"] == 0.0


def test_eval_refuses_to_go_on_with_something_else(evlog: Evlog) -> None:
    """Results of two temperatures are results of neither; the number of samples may grow."""
    evlog("eval", "job:Sums", "--model", "job:solve", "--name", "r", "-n", "3")

    other = evlog("eval", "--resume", "r", "--model", "job:failing")
    option = evlog("eval", "--resume", "r", "-o", "size=20")
    more = evlog("eval", "job:Sums", "--resume", "r", "--model", "job:solve", "-n", "5")

    assert "begun with model 'job:solve', and now it is 'job:failing'" in other.err
    assert "option size" in option.err
    assert (more.code, more.out.splitlines()[1].split()[1]) == (0, "5")


def test_eval_refuses_a_run_that_is_no_evaluation(evlog: Evlog) -> None:
    """It says so, and leaves it alone."""
    evlog("log", "r", "loss=1")
    before = len(list((run_of("r") / "log").iterdir()))

    done = evlog("eval", "--resume", "r")

    assert (done.code, "was not begun by `evlog eval`" in done.err) == (1, True)
    assert len(list((run_of("r") / "log").iterdir())) == before


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "name at least one"),
        (["job:Sums"], 2, "say which"),
        (["nosuch", "--model", "constant:1"], 1, "No benchmark is called 'nosuch'"),
        (["job:Nothing", "--model", "constant:1"], 1, "has no attribute"),
        (["job:Sums", "job:Sums", "--model", "constant:1"], 1, "two benchmarks are called"),
        (["job:Sums", "--group", "sums", "--model", "constant:1"], 1, "the group cannot be called"),
        (["job:Sums", "--model", "gpt-4"], 1, "is none of"),
        (["job:Sums", "--model", "nosuch:f"], 1, "No module named 'nosuch'"),
        (["job:Sums", "--model", "job:nothing"], 1, "has no attribute"),
        (["job:Sums", "--model", "job:MODULE"], 1, "has no attribute"),
        (["job:Sums", "--model", "http://host/v1"], 1, "behind a #"),
        (["job:Sums", "--model", "cmd:"], 1, "needs a command"),
        (["job:Sums", "--model", "job:solve", "--temperature", "1"], 1, "--temperature is for models behind"),
        (["job:Sums", "--model", "constant:1", "-o", "size"], 2, "is not KEY=VALUE"),
        (["job:Sums", "--model", "constant:1", "-o", "speed=1"], 1, "no option 'speed'"),
        (["job:Sums", "--model", "constant:1", "-o", "size=0"], 1, "no items"),
        (["job:Sums", "--model", "constant:1", "--api", "grpc"], 2, "chat or completions"),
        (["job:Sums", "--model", "constant:1", "--rpm", "0"], 1, "above 0"),
        (["--resume", "nosuch"], 1, "No run 'nosuch'"),
        (["--resume", "nosuch", "--name", "x"], 2, "has its own"),
    ],
)
def test_eval_says_what_is_wrong(evlog: Evlog, args: list[str], code: int, message: str) -> None:
    """One line, no traceback."""
    done = evlog("eval", *args)

    assert (done.code, message in done.err.replace("\n", " ")) == (code, True), done.err


@pytest.mark.parametrize("args", [["nosuch"], ["job:Sums", "--rpm", "-1"], ["job:Sums", "-o", "size=0"]])
def test_eval_leaves_no_run_behind_when_it_cannot_begin(evlog: Evlog, args: list[str]) -> None:
    """What is wrong is seen before."""
    evlog("eval", *args, "--model", "constant:1")

    assert not Path("experiments").exists()


def test_eval_runs_a_command_for_each_batch(evlog: Evlog) -> None:
    """JSON lines in, JSON lines out: an object or a text."""
    Path("model.py").write_text(
        "import json, sys\n"
        "for i, line in enumerate(sys.stdin):\n"
        "    answer = str(int(json.loads(line)['prompt'].split('+')[0]) + 1)\n"
        "    print(json.dumps(answer if i % 2 else {'output': answer, 'prompt_tokens': 3}))\n"
    )

    done = evlog(
        "eval", "job:Sums", "--model", f"cmd:{sys.executable} model.py", "--batch-size", "4", "--json"
    )

    found = json.loads(done.out)["results"]["sums"]
    assert (found["metrics"]["accuracy"], found["usage"]["prompt_tokens"]) == (1.0, 15)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; print('Killed', file=sys.stderr); sys.exit(3)", "ended with 3: Killed"),
        ("print('hello')", "which is no answer"),
        ("pass", "wrote 0 lines for 1 prompts"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
        ("import os; os.close(0); print(1)", "which is no answer"),
    ],
)
def test_eval_tells_what_a_command_did_wrong(evlog: Evlog, script: str, message: str) -> None:
    """The sample fails with what the command said."""
    Path("model.py").write_text(script)

    done = evlog(
        *("eval", "job:Sums", "--model", f"cmd:{sys.executable} model.py", "-n", "1"),
        *("--timeout", "1", "--retries", "0"),
    )

    assert done.code == 1
    assert message in done.err


def test_eval_takes_part_in_a_surrounding_run() -> None:
    """Under ``evlog run`` there is one run, not two."""
    command = [sys.executable, "-m", "eventlog", "eval", "job:Sums", "--model", "job:solve"]
    done = real_evlog("run", "--name", "outer", "--", *command)

    assert done.code == 0, done.err
    assert [path.name for path in Path("experiments/default").iterdir()] == ["outer"]
    assert len(logged(run_of("outer"), ev.Sample)) == 10


def test_eval_reads_answers_from_the_cache(evlog: Evlog) -> None:
    """The second time nobody is asked."""
    with serving() as server:
        for _ in range(2):
            done = evlog("eval", "job:Sums", "--model", f"{server.url}#m", "--cache-file", "answers")

    assert done.code == 0, done.err
    assert len(server.requests) == 10
