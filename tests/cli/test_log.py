from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.projections import RunView
from eventlog.replay import events, view
from eventlog.tracker import Tracker, TrackingConfig
from tests.cli.conftest import Evlog, real_evlog, start
from tests.waiting import wait_until


def _run(root: Path, run_id: str = "job", project: str = "default") -> RunView:
    return view(root / project / run_id)


def _metrics(root: Path) -> list[tuple[int | None, dict[str, int | float | str]]]:
    return [(e.step, e.data) for e in events(root / "default" / "job") if isinstance(e, ev.Metrics)]


def test_log_makes_the_run(root: Path, evlog: Evlog) -> None:
    """The first call starts the run and leaves it finished."""
    done = evlog("log", "job", "loss=0.5", "n=3", "--step", "7")

    assert done == (0, "", "")
    assert _metrics(root) == [(7, {"loss": 0.5, "n": 3})]
    assert _run(root).status == "finished"


def test_log_goes_on_with_the_run(root: Path, evlog: Evlog) -> None:
    """Each call is another writer of the same run."""
    for step in range(3):
        evlog("log", "job", f"loss={step}", f"step={step}")

    assert [step for step, _ in _metrics(root)] == [0, 1, 2]
    assert len(_run(root).writers) == 3
    assert [type(e) for e in events(root / "default" / "job")].count(ev.RunStarted) == 1


@pytest.mark.parametrize(
    ("word", "metrics", "summary"),
    [
        ("x=1", {"x": 1}, {}),
        ("x=-1.5e3", {"x": -1500.0}, {}),
        ("x=.5", {"x": 0.5}, {}),
        ("x=true", {"x": 1}, {}),
        ("x=nan", {"x": "NaN"}, {}),
        ("x=-inf", {"x": "-Infinity"}, {}),
        ("x=9007199254740993", {"x": 9007199254740993}, {}),
        ("x=best", {}, {"x": "best"}),
        ("x=1_0", {}, {"x": "1_0"}),
        ("x=", {}, {"x": ""}),
        ("x=a=b", {}, {"x": "a=b"}),
    ],
)
def test_words_become_numbers_or_texts(
    root: Path, evlog: Evlog, word: str, metrics: dict[str, object], summary: dict[str, object]
) -> None:
    """What reads as a number is a metric, the rest goes to the summary."""
    assert evlog("log", "job", word).code == 0

    assert [data for _, data in _metrics(root)] == ([metrics] if metrics else [])
    assert _run(root).summary == summary


def test_params_keep_their_types(root: Path, evlog: Evlog) -> None:
    """--params takes JSON values, and a param may be called step."""
    evlog("log", "job", "--params", "lr=0.1", "opt=adam", "layers=[1,2]", "on=true", "step=5")

    assert _run(root).params == {"lr": 0.1, "opt": "adam", "layers": [1, 2], "on": True, "step": 5}


def test_stream_of_lines_is_logged(root: Path, evlog: Evlog) -> None:
    """JSON in both shapes, words, and empty lines."""
    lines = (
        '{"loss":0.5,"step":3}\n\n{"step":4,"metrics":{"loss":NaN,"best":"no"}}\nloss=0.25 step=5\nloss=0.1'
    )

    done = evlog("log", "job", "-", "--step", "9", stdin=lines)

    assert done.code == 0
    assert _metrics(root) == [
        (3, {"loss": 0.5}),
        (4, {"loss": "NaN"}),
        (5, {"loss": 0.25}),
        (9, {"loss": 0.1}),
    ]
    assert _run(root).summary == {"best": "no"}


def test_bad_lines_are_reported_by_number_and_the_rest_is_kept(root: Path, evlog: Evlog) -> None:
    """One bad line costs that line, or only its bad part, and the exit code."""
    lines = (
        b'{"loss":1}\nnonsense\n{"loss":\n\xff\n[1]\n'
        b'{"loss":2,"x":null}\nstep=1.5 loss=3\n{"metrics":{"loss":4},"y":1}\n'
    )

    done = evlog("log", "job", "-", stdin=lines)

    assert done.code == 1
    assert [data["loss"] for _, data in _metrics(root)] == [1, 2, 3, 4]
    numbers = [line.partition("line ")[2].partition(":")[0] for line in done.err.splitlines()]
    assert numbers == ["2", "3", "4", "5", "6", "7", "8"]


def test_a_line_without_end_does_not_fill_memory(root: Path, evlog: Evlog) -> None:
    """What is too long for a line is skipped, and the next line is read."""
    done = evlog("log", "job", "-", stdin=b'{"x":"' + b"a" * (3 << 20) + b'"}\nloss=1\n')

    assert done.code == 1
    assert "line 1: it has more than" in done.err
    assert [data for _, data in _metrics(root)] == [{"loss": 1}]


def test_lines_are_logged_as_they_arrive(root: Path) -> None:
    """A slow program's values can be read while it runs; its end ends the visit."""
    process = start("log", "job", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"loss=1\n")
    process.stdin.flush()
    path = root / "default" / "job"

    wait_until(lambda: path.is_dir() and view(path).metrics.keys() == {"loss"}, "the first line is logged")
    during = view(path).status
    process.communicate(timeout=60)

    assert during == "running"
    assert view(path).status == "finished"


def test_interrupted_stream_is_killed(root: Path) -> None:
    """Ctrl-C keeps what came before it."""
    process = start("log", "job", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"loss=1\n")
    process.stdin.flush()
    path = root / "default" / "job"
    wait_until(lambda: path.is_dir() and view(path).metrics.keys() == {"loss"}, "the first line is logged")

    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    process.communicate()

    assert process.returncode == 130
    assert view(path).status == "killed"


@pytest.mark.parametrize("status", ["finished", "failed", "killed"])
def test_end_ends_the_run_and_makes_its_files(root: Path, evlog: Evlog, status: str) -> None:
    """--end says how it went."""
    evlog("log", "job", "loss=1", "--keep-open")
    between = _run(root).status

    done = evlog("log", "job", "--end", status)

    assert (between, done.code) == ("running", 0)
    assert _run(root).status == status
    state = json.loads((root / "default" / "job" / "final_state.json").read_text())
    assert state["status"] == status


def test_project_is_taken_from_where_it_is_said(root: Path, evlog: Evlog) -> None:
    """PROJECT/ID, --project and EVLOG_PROJECT mean the same."""
    evlog("log", "p/job", "a=1")
    evlog("log", "job", "b=1", "--project", "p")
    real_evlog("log", "job", "c=1", env={"EVLOG_PROJECT": "p"})

    assert set(_run(root, project="p").metrics) == {"a", "b", "c"}


def test_a_run_that_is_written_by_others_stays_theirs(root: Path, evlog: Evlog) -> None:
    """A value that is added from outside does not end a training."""
    with Tracker((), TrackingConfig(project="default"), output_dir=root) as tracker:
        tracker.start_run(run_id="job")

        evlog("log", "job", "loss=1")

        assert _run(root).status == "running"
    assert _run(root).status == "finished"


def test_two_that_make_the_run_at_once_share_it(root: Path) -> None:
    """Of many processes one makes the run, and no value is lost."""
    processes = [start("log", "job", f"m{i}=1") for i in range(6)]

    for process in processes:
        process.communicate(timeout=60)

    assert [process.returncode for process in processes] == [0] * 6
    assert [path.name for path in (root / "default").iterdir()] == ["job"]
    assert set(_run(root).metrics) == {f"m{i}" for i in range(6)}
    assert [type(e) for e in events(root / "default" / "job")].count(ev.RunStarted) == 1


def test_log_says_something_about_a_run_that_is_over(evlog: Evlog, root: Path) -> None:
    """Tags and notes are added, and a run that failed stays failed."""
    evlog("log", "p/a", "loss=1", "--end", "failed", "--dir", str(root))

    words = ["--tag", "owner=ada", "--tag", "kept", "--note", "diverged", "--dir", str(root)]
    done = evlog("log", "p/a", *words)

    seen = view(root / "p" / "a")
    assert done.code == 0
    assert (seen.tags, seen.notes, seen.status) == ({"owner": "ada", "kept": None}, ["diverged"], "failed")


def test_log_refuses_a_tag_without_a_name(evlog: Evlog, root: Path) -> None:
    """A mistake costs nothing but a message."""
    done = evlog("log", "p/a", "--tag", "=x", "--dir", str(root))

    assert done.code == 2
    assert "no name" in done.err
    assert not (root / "p" / "a").exists()
