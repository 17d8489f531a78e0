"""``evlog sweep`` in processes of its own: every trial is done once, whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.projections import RunView
from eventlog.replay import view
from eventlog.storage.layout import iter_runs
from tests.cli.conftest import Evlog, clean_environment, evlog, nothing_left_running, root, start
from tests.waiting import wait_until

__all__ = ["clean_environment", "evlog", "nothing_left_running", "root"]

TRAIN = """
import sys
from eventlog import create_tracker
lr, seed = float(sys.argv[1]), int(sys.argv[2])
tracker = create_tracker("local")
tracker.start_run()
tracker.log_metrics({"val_accuracy": lr + seed / 100}, step=1)
tracker.end_run()
"""
# Tells that it began, and ends when it may.
WAITS = "echo {n} >> began; echo $$ > pid-{n}; until [ -e go ]; do sleep 0.01; done; echo {n} >> ended"


def sweep_file(command: list[str] | str, params: dict[str, object], **more: object) -> str:
    path = Path("s.json")
    path.write_text(json.dumps({"command": command, "params": params} | more))
    return str(path)


def shell(script: str, values: list[int], **more: object) -> str:
    """Return the file of a sweep of a shell script over n."""
    return sweep_file(["sh", "-c", script], {"n": values}, **more)


def runs(root: Path) -> dict[str, RunView]:
    return {run.run_id: view(run.path) for run in iter_runs(root)}


def statuses(root: Path) -> dict[object, list[str]]:
    """Return how the attempts of each n ended."""
    found: dict[object, list[str]] = {}
    for _, run in sorted(runs(root).items()):
        found.setdefault(run.params["n"], []).append(run.status)
    return found


def lines(name: str) -> list[str]:
    path = Path(name)
    return sorted(path.read_text().split()) if path.exists() else []


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, err = process.communicate(timeout=30)
    return process.returncode, err.decode()


def heard(process: subprocess.Popen[bytes]) -> bytes:
    """Return what *process* said since the last time, without waiting."""
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    return process.stderr.read() or b""


def test_grid_runs_every_trial_once_and_ends_with_the_leaderboard(evlog: Evlog, root: Path) -> None:
    """Params keep their types, runs share tags, seeds are averaged; another call adds nothing."""
    Path("train.py").write_text(TRAIN)
    metric = {"key": "val_accuracy", "mode": "max"}
    space: dict[str, object] = {"lr": [0.1, 0.2], "seed": [0, 2], "note": "1e-3"}
    command = f"{sys.executable} train.py {{lr}} {{seed}} {{note}}"
    config = sweep_file(command, space, name="tried", jobs=2, tags={"owner": "me"}, metric=metric)

    first = evlog("sweep", config)
    again = evlog("sweep", config)

    assert first.code == again.code == 0, first.err
    found = runs(root)
    assert sorted((run.params["lr"], run.params["seed"], run.params["note"]) for run in found.values()) == [
        (lr, seed, "1e-3") for lr in (0.1, 0.2) for seed in (0, 2)
    ]
    for run in found.values():
        assert (run.status, run.experiment) == ("finished", "tried")
        assert run.tags == {"sweep": "tried", "owner": "me"}
    assert "4 trials, 4 done" in first.out
    assert "evlog leaderboard --metric val_accuracy --experiment tried" in first.out
    best, second = [line for line in first.out.splitlines() if "±" in line]
    assert "0.21" in best
    assert "0.11" in second


def test_dry_run_makes_nothing(evlog: Evlog, root: Path) -> None:
    """It tells the trials and how they stand, as a table or as JSON."""
    config = shell("true", [1, 2])

    table = evlog("sweep", config, "--dry-run")
    found = json.loads(evlog("sweep", config, "--dry-run", "--json").out)

    assert "2 trials, 2 left" in table.out
    assert found["sweep"] == "s"
    assert found["counts"] == {"left": 2}
    assert [(trial["params"], trial["state"]) for trial in found["trials"]] == [
        ({"n": 1}, "left"),
        ({"n": 2}, "left"),
    ]
    assert not root.exists()


def test_trial_that_failed_is_tried_again_only_when_asked(evlog: Evlog, root: Path) -> None:
    """A failure is an answer: the exit code is 1, its last words are shown."""
    config = shell("[ {n} = 1 ] || [ -e mended ] || { echo no luck >&2; exit 3; }", [1, 2], jobs=2)

    first, again = evlog("sweep", config), evlog("sweep", config)
    Path("mended").touch()
    retried = evlog("sweep", config, "--retry-failed")

    assert (first.code, again.code, retried.code) == (1, 1, 0)
    assert "ended with 3: no luck" in first.err
    assert again.err == ""
    assert statuses(root) == {1: ["finished"], 2: ["failed", "finished"]}


def test_limit_runs_so_many_trials_now(evlog: Evlog, root: Path) -> None:
    """What is left on purpose is no failure."""
    config = shell("true", [1, 2])

    first = evlog("sweep", config, "--limit", "1", "--json")
    rest = evlog("sweep", config, "--jobs", "2")

    assert (first.code, rest.code) == (0, 0)
    assert json.loads(first.out)["counts"] == {"done": 1, "left": 1}
    assert statuses(root) == {1: ["finished"], 2: ["finished"]}


def test_jobs_run_at_once_each_with_its_device(evlog: Evlog, root: Path) -> None:
    """Trials that wait for each other can end only together, and have different devices."""
    meet = (
        "echo $CUDA_VISIBLE_DEVICES > device-{n}; while [ $(ls device-* | wc -l) -lt 2 ]; do sleep 0.01; done"
    )
    config = shell(meet, [1, 2], jobs=2, devices=[0, "3,4"])

    done = evlog("sweep", config)

    assert done.code == 0, done.err
    assert sorted(Path(f"device-{n}").read_text().strip() for n in (1, 2)) == ["0", "3,4"]
    assert statuses(root) == {1: ["finished"], 2: ["finished"]}


def test_sweep_that_is_killed_loses_nothing(root: Path) -> None:
    """Its jobs go on; the next call waits for them, then does the rest."""
    config = shell(WAITS, [1, 2, 3], jobs=2)
    first = start("sweep", config)
    wait_until(lambda: lines("began") == ["1", "2"], "two jobs")
    first.send_signal(signal.SIGKILL)
    first.wait()

    second = start("sweep", config)
    wait_until(lambda: b"waiting for jobs" in heard(second), "the second to wait for the first's jobs")
    Path("go").touch()
    code, _ = ended(second)

    assert code == 0
    assert lines("ended") == lines("began") == ["1", "2", "3"]
    assert statuses(root) == {1: ["finished"], 2: ["finished"], 3: ["finished"]}


def test_job_that_is_killed_is_tried_again(evlog: Evlog, root: Path) -> None:
    """A killed command and a killed wrapper are no answers; what finished stays."""
    script = "[ -e go ] || { [ {n} != 2 ] || kill -9 $$; [ {n} != 3 ] || kill -9 $PPID; }"
    config = shell(script, [1, 2, 3], jobs=2)

    first = evlog("sweep", config)
    Path("go").touch()
    second = evlog("sweep", config)

    assert (first.code, second.code) == (1, 0)
    found = statuses(root)
    assert found[1] == ["finished"]
    assert found[2] == ["killed", "finished"]
    assert [run.status for run in runs(root).values()].count("finished") == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sweep_that_is_stopped_goes_on_when_called_again(evlog: Evlog, root: Path, number: int) -> None:
    """The commands get the signal, no further one begins, and the next call does all that is left."""
    config = shell(WAITS, [1, 2])
    first = start("sweep", config)
    wait_until(lambda: lines("began") == ["1"], "a job")

    first.send_signal(number)
    code, said = ended(first)
    stopped = statuses(root)
    Path("go").touch()
    second = evlog("sweep", config, "--jobs", "2")

    assert code == 1
    assert "call the sweep again" in said
    assert stopped == {1: ["killed"]}
    assert second.code == 0, second.err
    assert statuses(root) == {1: ["killed", "finished"], 2: ["finished"]}


def test_second_signal_kills_who_does_not_listen(root: Path) -> None:
    """The command goes with its wrapper."""
    config = shell("trap '' INT TERM; " + WAITS, [1, 2])
    sweep = start("sweep", config)
    wait_until(lambda: lines("began") == ["1"] and lines("pid-1") != [], "a job")

    sweep.send_signal(signal.SIGINT)
    sweep.send_signal(signal.SIGTERM)
    code, _ = ended(sweep)

    assert code == 1
    wait_until(is_gone(int(lines("pid-1")[0])), "the command's end")
    assert lines("began") == ["1"]
    assert [run.status for run in runs(root).values()] == ["crashed"]


def is_gone(pid: int) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return ") Z " in Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            return True

    return look


def test_second_process_is_told_who_runs_the_sweep(evlog: Evlog) -> None:
    """Two of them would do each trial twice."""
    config = shell(WAITS, [1])
    first = start("sweep", config)
    wait_until(lambda: lines("began") == ["1"], "a job")

    second = evlog("sweep", config)
    Path("go").touch()

    assert second.code == 1
    assert f"is run by process {first.pid} already" in second.err
    assert ended(first)[0] == 0


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ('{"command": "x \'y", "params": {"a": 1}}', [], "No closing quotation"),
        ('{"command": "x", "params": {"a b": 1}}', [], "a name has letters"),
        (
            '{"command": "x", "params": {"a": {"min": 1, "max": 1000000000000}}}',
            [],
            "more than 1000000 values",
        ),
        ('{"command": "x", "params": {"a": {"min": 0.5, "max": 2.5, "type": "int"}}}', [], "whole bounds"),
        ('{"command": "x", "params": {"a": 1}, "method": "random", "count": 9999999999}', [], "needs count"),
        ('{"command": "x", "params": {"a": 1}, "jobs": 0}', [], "jobs is a whole number"),
        ('{"command": "x", "params": {"a": 1}, "name": "' + "n" * 190 + '"}', [], "more than 180 bytes"),
        ("[" * 100_000, [], "s.json"),
        ('{"command": "x", "params": {"a": 1}}', ["--project", "../p"], "project"),
    ],
)
def test_sweep_of_a_wrong_file_says_what_is_wrong(
    evlog: Evlog, text: str, words: list[str], said: str
) -> None:
    """One line, exit code 1, and nothing is run or made."""
    Path("s.json").write_text(text)

    done = evlog("sweep", "s.json", *words)

    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in Path().iterdir()] == ["s.json"]


def test_values_that_are_the_same_make_one_trial(evlog: Evlog) -> None:
    """0.1 twice is one point; 1, 1.0, true and "1" are four."""
    config = sweep_file("true", {"a": [0.1, 0.1, 1, 1.0, True, "1"]})

    found = json.loads(evlog("sweep", config, "--dry-run", "--json").out)["trials"]

    assert [trial["params"]["a"] for trial in found] == [0.1, 1, 1.0, True, "1"]
    assert len({trial["run_id"] for trial in found}) == 5


def test_param_of_a_run_without_a_value_is_refused(evlog: Evlog, root: Path) -> None:
    """Before anything runs."""
    done = evlog("run", "--param", "lr", "--", "true")

    assert done.code == 2
    assert "not KEY=VALUE" in done.err
    assert not root.exists()
