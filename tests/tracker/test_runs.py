"""Starting, nesting, resuming and ending runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog import EvlogWarning, Tracker, TrackingConfig, create_tracker
from eventlog.errors import InvalidNameError, RunNotFoundError, TrackerStateError, forget_reports
from eventlog.events import Artifact, Metrics, RunEnded, RunResumed, RunStarted
from eventlog.replay import view
from tests.tracker.support import logged, only_run, view_of


@pytest.fixture(autouse=True)
def _fresh_warnings() -> None:
    forget_reports()


def tracker_at(root: Path, **config: object) -> Tracker:
    return Tracker((), TrackingConfig(project="p", **config), output_dir=root)  # type: ignore[arg-type]


def fail_inside(root: Path, error: BaseException) -> None:
    with tracker_at(root) as tracker:
        tracker.start_run("a")
        raise error


def test_a_call_outside_of_a_run_starts_one(tmp_path: Path) -> None:
    """The first call begins a run whose id is the local time."""
    with tracker_at(tmp_path) as tracker:
        tracker.log_metrics({"a": 1})

    assert len(only_run(tmp_path).name) == len("20260131_235959")


def test_a_tracker_that_logs_nothing_leaves_nothing(tmp_path: Path) -> None:
    """Making a tracker creates no file."""
    with tracker_at(tmp_path):
        pass

    assert list(tmp_path.iterdir()) == []


def test_the_id_is_the_name_then_the_experiment(tmp_path: Path) -> None:
    """A name given wins over the experiment's."""
    tracker = tracker_at(tmp_path, experiment_name="exp")

    assert tracker.start_run("named") == "named"
    tracker.end_run()
    assert tracker.start_run() == "exp"
    tracker.end_run()


def test_a_second_run_of_a_name_gets_a_suffix_and_says_so(tmp_path: Path) -> None:
    """A fresh run never writes into a directory that exists."""
    tracker = tracker_at(tmp_path)
    tracker.start_run("a")
    tracker.end_run()

    with pytest.warns(EvlogWarning, match="this run is 'a-1'"):
        assert tracker.start_run("a") == "a-1"
    tracker.end_run()


def test_resume_goes_on_in_the_same_directory(tmp_path: Path) -> None:
    """A resumed run is a new writer in the old run, and counts artifact versions on."""
    (tmp_path / "f.txt").write_text("x")
    first = tracker_at(tmp_path / "runs")
    first.start_run("a")
    first.log_artifact(tmp_path / "f.txt")
    first.end_run("failed")
    second = tracker_at(tmp_path / "runs")

    assert second.start_run("a", resume=True) == "a"
    artifact = second.log_artifact(tmp_path / "f.txt")
    second.end_run()

    assert artifact is not None
    assert artifact.version == 2
    run = tmp_path / "runs" / "p" / "a"
    assert view(run).status == "finished"
    assert len(logged(run, RunResumed)) == 1
    assert len(view(run).writers) == 2


def test_resume_of_an_unknown_run_is_an_error(tmp_path: Path) -> None:
    """Going on with nothing is a mistake that the user wants to hear of."""
    with pytest.raises(RunNotFoundError, match="'nope'"):
        tracker_at(tmp_path).start_run("nope", resume=True)


def test_a_nested_run_names_its_parent(tmp_path: Path) -> None:
    """A nested run is a run of its own with the parent's id; the parent goes on after it."""
    with tracker_at(tmp_path) as tracker:
        parent = tracker.start_run("parent")
        with tracker.start_run("child", nested=True):
            tracker.log_metrics({"x": 1})
        tracker.log_metrics({"y": 2})

    (started,) = logged(tmp_path / "p" / "child", RunStarted)
    assert started.parent_run_id == parent
    assert [m.data for m in logged(tmp_path / "p" / "parent", Metrics)] == [{"y": 2}]


def test_a_second_run_without_nested_is_refused(tmp_path: Path) -> None:
    """Two runs at once have to be asked for."""
    with tracker_at(tmp_path) as tracker:
        tracker.start_run("a")

        with pytest.raises(TrackerStateError, match="nested=True"):
            tracker.start_run("b")


def test_an_exception_ends_the_run_as_failed(tmp_path: Path) -> None:
    """Type, message and traceback of the exception stand in run_ended."""
    with pytest.raises(ValueError, match="boom"):
        fail_inside(tmp_path, ValueError("boom"))

    (ended,) = logged(tmp_path / "p" / "a", RunEnded)
    assert ended.status == "failed"
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == ("ValueError", "boom")
    assert "raise error" in ended.error.traceback


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "killed"), (SystemExit(0), "finished"), (SystemExit(3), "failed")],
)
def test_other_ends_have_their_own_status(tmp_path: Path, error: BaseException, status: str) -> None:
    """Ctrl-C kills a run; leaving with 0 finishes it."""
    with pytest.raises(type(error)):
        fail_inside(tmp_path, error)

    assert view_of(tmp_path).status == status


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "a/b",
        "a\\b",
        "/abs",
        "",
        "con",
        "NUL.txt",
        "x\ny",
        "a\x00b",
        "x" * 300,
        ".hidden",
        "a:b",
        "tail.",
    ],
)
def test_ids_that_could_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    """No run id, project or artifact name is ever more than a name below the root."""
    with pytest.raises(InvalidNameError):
        tracker_at(tmp_path).start_run(run_id=name or " ")
    with pytest.raises(InvalidNameError):
        create_tracker("local", output_dir=tmp_path, project=name or " ").start_run("a")
    assert not list(tmp_path.rglob("log"))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "a//b", "", "con", "a/.git/b"])
def test_artifact_names_stay_inside(tmp_path: Path, name: str) -> None:
    """An artifact's name may have parts, none of which leads out."""
    (tmp_path / "f").write_text("x")
    with tracker_at(tmp_path / "runs") as tracker, pytest.raises(InvalidNameError):
        tracker.log_artifact(tmp_path / "f", name=name)


def test_by_reference_when_the_config_says_so(tmp_path: Path) -> None:
    """log_artifacts=False records hash and place, and copies nothing."""
    (tmp_path / "f").write_text("x")
    with tracker_at(tmp_path / "runs", log_artifacts=False) as tracker:
        tracker.log_artifact(tmp_path / "f")

    run = only_run(tmp_path / "runs")
    (artifact,) = logged(run, Artifact)
    assert artifact.stored == "reference"
    assert artifact.path == str(tmp_path / "f")
    assert artifact.sha256
    assert not (run / "artifacts").exists()


def test_a_missing_artifact_costs_a_warning(tmp_path: Path) -> None:
    """A file that is not there stops nothing."""
    with tracker_at(tmp_path) as tracker, pytest.warns(EvlogWarning, match="artifact 'gone' was not logged"):
        assert tracker.log_artifact(tmp_path / "gone") is None


def test_log_code_stores_script_and_diff(tmp_path: Path) -> None:
    """log_code keeps what ran, and what was not committed."""
    from tests.tracker.support import run_job

    script = tmp_path / "job.py"
    code = (
        "from eventlog import create_tracker\n"
        "with create_tracker('local', log_code=True) as t: t.log_metrics({'a': 1})\n"
    )
    script.write_text(code)
    run_job(
        "import subprocess, sys; g=['git','-c','user.name=a','-c','user.email=a@b']; "
        "subprocess.run([*g,'init','-q']); subprocess.run([*g,'add','job.py']); "
        "subprocess.run([*g,'commit','-qm','x']); open('job.py','a').write('# changed\\n'); "
        "subprocess.run([sys.executable,'job.py'],check=True)",
        tmp_path,
    )

    names = {artifact.name for artifact in logged(only_run(tmp_path / "experiments"), Artifact)}
    assert names == {"code/job.py", "code/uncommitted.diff"}
    diff = only_run(tmp_path / "experiments") / "artifacts" / "code" / "uncommitted.diff"
    assert "+# changed" in diff.read_text()


def test_disabled_logs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVLOG_DISABLED=1 makes every call a no-op that still works."""
    monkeypatch.setenv("EVLOG_DISABLED", "1")
    with tracker_at(tmp_path) as tracker, tracker.start_run("a"):
        tracker.log_metrics({"a": 1}, 1)
        tracker.log_params({"b": 2})
        tracker.log_artifact(__file__)

    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_root_and_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVLOG_DIR and EVLOG_PROJECT decide where runs lie."""
    monkeypatch.setenv("EVLOG_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("EVLOG_PROJECT", "mine")
    with create_tracker("local") as tracker:
        tracker.start_run("a")

    assert (tmp_path / "there" / "mine" / "a" / "log").is_dir()


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"])
def test_ranks_share_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Rank 1 joins the run of the same id, whoever is first; names keep the rank."""
    monkeypatch.setenv(variable, "1")
    one = tracker_at(tmp_path)
    one.start_run("a")
    one.log_metrics({"loss": 2.0}, 0)
    monkeypatch.setenv(variable, "0")
    with tracker_at(tmp_path) as zero:
        assert zero.start_run("a") == "a"
        zero.log_metrics({"loss": 1.0}, 0)
        one.end_run()

    seen = view(tmp_path / "p" / "a")
    assert {key: stats.last for key, stats in seen.metrics.items()} == {"loss": 1.0, "rank1/loss": 2.0}
    assert seen.status == "finished"


def test_end_run_twice_is_nothing(tmp_path: Path) -> None:
    """Ending what has ended does nothing."""
    tracker = tracker_at(tmp_path)
    tracker.start_run("a")
    tracker.end_run()
    tracker.end_run("failed")

    assert [ended.status for ended in logged(tmp_path / "p" / "a", RunEnded)] == ["finished"]


def test_a_failing_sink_costs_a_warning(tmp_path: Path) -> None:
    """The log has everything; the warning holds the command that delivers it."""
    tracker = create_tracker("local", output_dir=tmp_path, project="p")
    tracker.start_run("a")
    (tmp_path / "p" / "a" / "metrics.json").mkdir()

    with pytest.warns(EvlogWarning, match="evlog sync"):
        tracker.end_run()


def test_the_first_run_joins_the_surrounding_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `evlog run` the script's own root, project and name do not matter, for its first run."""
    outer = tracker_at(tmp_path / "outer")
    outer.start_run("job")
    monkeypatch.setenv("EVLOG_DIR", str(tmp_path / "outer"))
    monkeypatch.setenv("EVLOG_PROJECT", "p")
    monkeypatch.setenv("EVLOG_RUN_ID", "job")
    inner = create_tracker("local", output_dir=tmp_path / "inner", project="mine")

    assert inner.start_run("first") == "job"
    inner.log_metrics({"x": 1}, 1)
    inner.end_run()
    assert inner.start_run("second") == "second"
    inner.end_run()
    assert view(tmp_path / "outer" / "p" / "job").status == "running"
    outer.end_run()

    seen = view(tmp_path / "outer" / "p" / "job")
    assert (seen.status, seen.metrics["x"].last) == ("finished", 1)
    assert (tmp_path / "inner" / "mine" / "second" / "log").is_dir()
