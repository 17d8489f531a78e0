from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.analysis.runs import find_run
from eventlog.cli.render import duration, local_time, plain, printable, size
from eventlog.errors import AmbiguousRunError, RunNotFoundError
from eventlog.tracker import Tracker, TrackingConfig
from tests.cli.conftest import Evlog, log_run


def _listed(evlog: Evlog, *args: str) -> list[str]:
    return [run["run_id"] for run in json.loads(evlog("list", "--json", *args).out)]


def test_list_has_the_newest_run_first(root: Path, evlog: Evlog) -> None:
    """The run that was started last stands at the top, whatever its name."""
    for name in ("b", "c", "a"):
        log_run(root, name)

    assert _listed(evlog) == ["a", "c", "b"]


def test_list_limit_keeps_the_newest(root: Path, evlog: Evlog) -> None:
    """--limit cuts at the old end."""
    for name in ("b", "c", "a"):
        log_run(root, name)

    assert _listed(evlog, "--limit", "2") == ["a", "c"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--project", "p2"], ["two"]),
        (["--status", "failed"], ["two"]),
        (["--status", "failed", "--status", "finished"], ["two", "one"]),
        (["--tag", "gpu"], ["two", "one"]),
        (["--tag", "gpu=a"], ["one"]),
        (["--tag", "gpu=a", "--tag", "gpu=b"], []),
        (["--status", "crashed"], []),
    ],
)
def test_list_filters(root: Path, evlog: Evlog, options: list[str], expected: list[str]) -> None:
    """Filters of one kind widen, tags narrow."""
    log_run(root, "one", project="p1", tags={"gpu": "a"})
    log_run(root, "two", project="p2", tags={"gpu": "b"}, status="failed")

    assert _listed(evlog, *options) == expected


def test_list_shows_a_run_that_is_written_as_running(root: Path, evlog: Evlog) -> None:
    """A run whose writer lives is running."""
    with Tracker((), TrackingConfig(project="demo"), output_dir=root) as tracker:
        tracker.start_run(run_id="live")

        assert _listed(evlog, "--status", "running") == ["live"]


def _raised(message: str) -> RuntimeError:
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        return error


def test_show_tells_all_that_is_known(root: Path, evlog: Evlog) -> None:
    """Params, metrics, summary, artifacts and the error of a run are on one page."""
    source = root.parent / "model.bin"
    source.write_bytes(b"x" * 2048)
    tracker = Tracker((), TrackingConfig(project="demo", notes="a note"), output_dir=root)
    tracker.start_run(run_id="one")
    tracker.log_params({"opt": {"lr": 0.5}})
    tracker.log_metrics({"loss": math.nan}, step=7)
    tracker.log_summary({"best": "yes"})
    tracker.log_artifact(source)
    tracker.end_with(_raised("out of luck"))

    out = evlog("show", "one").out

    for text in ("demo/one", "failed", "a note", "opt.lr", "nan", "7..7", "best", "model.bin", "2.0 KiB"):
        assert text in out
    assert "RuntimeError: out of luck" in out
    assert "Traceback" in out


def test_show_json_writes_non_finite_numbers_as_the_log_does(root: Path, evlog: Evlog) -> None:
    """JSON has no NaN, so it is a string."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=root)
    tracker.start_run(run_id="one")
    tracker.log_metrics({"loss": math.inf}, step=1)
    tracker.end_run()

    shown = json.loads(evlog("show", "one", "--json").out)

    assert shown["metrics"]["loss"]["last"] == "Infinity"


# --- RUN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "digits-1",
        "demo/digits-1",
        "digits",
        "demo/dig",
        "experiments/demo/digits-1",
        "./experiments/demo/digits-1/",
    ],
)
def test_run_is_found_by_each_of_its_names(root: Path, name: str) -> None:
    """A path, an id, PROJECT/ID and an unambiguous beginning all mean the run."""
    log_run(root, "digits-1")
    log_run(root, "other")

    found = find_run(name, Path("experiments"))

    assert (found.project, found.run_id) == ("demo", "digits-1")
    assert found.path.samefile(root / "demo" / "digits-1")


def test_run_named_in_full_is_not_hidden_by_a_longer_name(root: Path) -> None:
    """An id that is also the beginning of another one still means itself."""
    log_run(root, "digits")
    log_run(root, "digits-1")

    assert find_run("digits", root).run_id == "digits"


def test_run_in_two_projects_is_ambiguous(root: Path) -> None:
    """The message names both, so that one can be chosen."""
    log_run(root, "one", project="a")
    log_run(root, "one", project="b")

    with pytest.raises(AmbiguousRunError, match="a/one, b/one"):
        find_run("one", root)


@pytest.mark.parametrize("name", ["", "x", "/", "..", "demo/", "demo/x", "a/b/c"])
def test_unknown_run_is_not_found(root: Path, name: str) -> None:
    """What fits no run is an error that says where it looked."""
    log_run(root, "one")

    with pytest.raises(RunNotFoundError):
        find_run(name, root)


def test_run_directory_can_be_the_current_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run's directory, '.' is that run."""
    monkeypatch.chdir(log_run(root, "one"))

    assert find_run(".", root).run_id == "one"


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0, "0.0s"),
        (59.94, "59.9s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (7260, "2h01m"),
        (90000, "1d01h"),
    ],
)
def test_duration_reads_well(seconds: float | None, expected: str) -> None:
    """Two units at most."""
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 50, "1024.0 TiB")],
)
def test_size_reads_well(count: int | None, expected: str) -> None:
    """Units of 1024."""
    assert size(count) == expected


def test_time_beyond_every_calendar_is_its_number() -> None:
    """A log may hold any number."""
    assert local_time(1 << 80) == str(1 << 80)


def test_printable_keeps_what_can_be_seen() -> None:
    """Letters of any language stay; what cannot be seen becomes an escape."""
    assert printable("größe 損失") == "größe 損失"
    assert printable("a\x1b\n\u202e\udc80") == "a\\x1b\\n\\u202e\\udc80"


def test_plain_is_json_for_everything() -> None:
    """Bytes, times and unknown things become text, containers stay."""
    from datetime import UTC, datetime

    value = {1: [b"\x01", datetime(2026, 1, 2, tzinfo=UTC), -math.inf, (None, True)]}

    assert plain(value) == {"1": ["01", "2026-01-02T00:00:00+00:00", "-Infinity", [None, True]]}


def test_show_tells_evaluations_datasets_and_checkpoints(evlog: Evlog, root: Path) -> None:
    """What a run was measured on, and where its states lie; long lists of packages are counted."""
    tracker = Tracker(("local",), TrackingConfig(project="p"), output_dir=root)
    with tracker.start_run("a"):
        tracker.log_event(ev.Evaluation(benchmark="gsm8k", step=3, metrics={"accuracy": 0.75, "odd": "NaN"}))
        tracker.log_event(ev.Dataset(name="digits", version="v1", split="test", rows=450))
        tracker.log_checkpoint("weights.pt", step=3)
        packages = {f"package{i}": "1.0" for i in range(50)}
        tracker.log_event(ev.Context(kind="environment", data={"packages": packages, "host": "here"}))

    shown = evlog("show", "a", "--dir", str(root)).out
    found = json.loads(evlog("show", "a", "--json", "--dir", str(root)).out)

    for word in ("gsm8k", "0.75", "digits", "450", "weights.pt", "50 (--json shows them)"):
        assert word in shown
    assert "package7" not in shown
    assert found["evaluations"][0]["metrics"] == {"accuracy": 0.75, "odd": "NaN"}
    assert found["context"]["environment"]["packages"] == packages


def test_list_shows_params_and_results_that_are_asked_for(evlog: Evlog, root: Path) -> None:
    """A column each; empty where a run has none; only runs of the experiment."""
    for name, experiment, loss in (("a", "x", 0.5), ("b", "x", None), ("c", "y", 0.1)):
        config = TrackingConfig(project="p", experiment_name=experiment)
        tracker = Tracker(("local",), config, output_dir=root)
        with tracker.start_run(name):
            tracker.log_params({"net": {"depth": 3}})
            tracker.log_metrics({} if loss is None else {"loss": loss})

    words = ["--experiment", "x", "--param", "net.depth", "--metric", "loss", "--dir", str(root)]
    found = json.loads(evlog("list", *words, "--json").out)
    lines = evlog("list", *words).out.splitlines()

    assert [(run["run_id"], run["net.depth"], run["loss"]) for run in found] == [
        ("b", 3, None),
        ("a", 3, 0.5),
    ]
    assert "net.depth  loss" in lines[0]
    assert lines[2].split()[-2:] == ["3", "0.5"]
