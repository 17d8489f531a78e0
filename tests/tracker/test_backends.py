"""The names that people know: what each tracker is made of, and what it is refused."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from eventlog import TrackingConfig, create_tracker
from eventlog.errors import EvlogWarning, TrackerStateError, UnknownSinkError, forget_reports
from eventlog.tracker.backends import (
    LocalFileTracker,
    MLflowTracker,
    MultiTracker,
    TensorBoardTracker,
    WandBTracker,
    _is_installed,
)
from eventlog.tracker.live import sync_command
from tests.sync.destinations import install


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the sinks, and let every warning be heard."""
    forget_reports()
    site = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_one_name_or_several_are_the_sinks_of_the_runs() -> None:
    """Each once, in their order."""
    assert create_tracker("files", to="x").backends == ("files",)
    assert create_tracker(["local", "files", "files"], to="x").backends == ("local", "files")


def test_options_go_to_the_sinks_that_have_them() -> None:
    """Those of the tracker and its config stay there, and what is given by name comes first."""
    tracker = create_tracker(
        ["files", "more"], to=Path("a"), token="t", project="p", sync_timeout_s=3,
        sink_options={"more": {"batch": 5}},
    )  # fmt: skip

    assert tracker.sink_options == {
        "files": {"to": "a", "token": "t"},
        "more": {"batch": 5, "to": "a", "token": "t"},
    }
    assert (tracker.project, tracker.sync_timeout_s) == ("p", 3)


def test_an_option_that_nobody_has_is_refused() -> None:
    """A typing error is not found after a week of training."""
    with pytest.raises(TypeError, match="'colour' is no option of the tracker or of files"):
        create_tracker("files", to="x", colour="red")


def test_an_option_that_cannot_go_to_another_process_is_refused() -> None:
    """At once, with the sink's name."""
    with pytest.raises(TypeError, match="the options of 'files' go to another process"):
        create_tracker("files", to=object())


def test_a_name_that_nobody_offers_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(UnknownSinkError, match=r"No sink is called 'nowhere'.*files"):
        create_tracker("nowhere")


def test_a_missing_package_leaves_a_local_run_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once, for it is the same for every run."""
    monkeypatch.setitem(sys.modules, "wandb", None)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        trackers = [create_tracker("wandb"), create_tracker(["wandb", "local"]), WandBTracker()]

    assert [tracker.backends for tracker in trackers] == [("local",)] * 3
    assert [warning.category for warning in heard] == [EvlogWarning]
    assert "pip install 'evlog[wandb]', then evlog sync RUN --to wandb" in str(heard[0].message)


def test_a_directory_of_the_packages_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B makes one where a script runs."""
    (tmp_path / "a_package_that_is_none").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    assert not _is_installed("a_package_that_is_none")
    assert _is_installed("msgspec")


def test_a_sink_that_cannot_be_loaded_here_is_left_to_its_process() -> None:
    """What is wrong with it costs a warning there."""
    tracker = create_tracker("unloadable", color="red")

    assert tracker.sink_options == {"unloadable": {"color": "red"}}


def test_the_classes_take_what_create_tracker_takes() -> None:
    """A config, single fields of one, and options of their sink."""
    config = TrackingConfig(project="p", notes="n")

    tracker = TensorBoardTracker(config, log_dir="board", notes="other")

    assert tracker.backends == ("tensorboard",)
    assert (tracker.config.project, tracker.config.notes) == ("p", "other")
    assert tracker.sink_options == {"tensorboard": {"log_dir": "board"}}
    assert MLflowTracker(tracking_uri="file:x").sink_options == {"mlflow": {"tracking_uri": "file:x"}}
    assert LocalFileTracker("there").root == Path("there")


def test_several_trackers_in_one_have_one_log_and_all_sinks() -> None:
    """With the settings of the first."""
    first = create_tracker("local", output_dir="here", project="p")
    second = create_tracker("files", to="x", output_dir="elsewhere", sync_timeout_s=60)

    both = MultiTracker([first, second])

    assert (both.backends, both.root, both.project) == (("local", "files"), Path("here"), "p")
    assert (both.sink_options, both.sync_timeout_s) == ({"files": {"to": "x"}}, 60)
    with pytest.raises(TrackerStateError):
        MultiTracker([])


def test_the_command_that_finishes_shows_no_secret(tmp_path: Path) -> None:
    """It ends in logs that others read; everything else can be pasted."""
    command = sync_command(tmp_path / "a run", "files", {"to": "a b", "api_key": "s3cret", "token": "s3cret"})

    assert command == (
        f"evlog sync '{tmp_path}/a run' --to files --option 'to=a b' --option 'api_key=…' --option 'token=…'"
    )


def test_a_local_tracker_imports_nothing_for_other_processes() -> None:
    """Few runs need one, and it takes milliseconds."""
    code = (
        "import sys, eventlog; eventlog.create_tracker('local');"
        "heavy = ('subprocess', 'eventlog.tracker.live', 'importlib.metadata');"
        "print([m for m in heavy if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
