"""Nothing in a run leads out of it: not a link, not a name, not a pipe; whoever put it there."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog import Tracker, create_tracker
from eventlog import events as ev
from eventlog.analysis.reports import images
from eventlog.errors import BadValueError, EvlogError, EvlogWarning
from eventlog.lineage.reproduce.command import plan_command
from eventlog.lineage.reproduce.data import _plan_one
from eventlog.sink import RunInfo, RunStatus
from eventlog.storage import artifacts, modes
from eventlog.storage.layout import is_run, iter_runs
from eventlog.storage.merge import RunReader
from eventlog.storage.options import WriterOptions
from eventlog.storage.system import SYSTEM
from eventlog.testing.runs import RunWriter, png
from sinks._mirror.targets import Content
from sinks._mlflow.sending import Sender
from sinks._sqlite.schema import connect
from sinks._tfevents.mapping import Mapper, RefusedError
from sinks._wandb import media, sdk
from sinks.local import LocalSink

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")

SECRET = b"what nobody asked for"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a directory beside the root, with a file that must not be read or changed."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_bytes(SECRET)
    (directory / "secret.png").write_bytes(png())
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run with an artifact in a directory."""
    run = tmp_path / "root" / "p" / "r"
    writer = RunWriter(run)
    writer.write(ev.RunStarted(name="r"), ev.Metrics(step=1, data={"a": 1.0}))
    writer.close()
    (run / "artifacts" / "below").mkdir(parents=True)
    (run / "artifacts" / "below" / "good.png").write_bytes(png())
    return run


@pytest.fixture(
    params=["up", "absolute", "link", "directory", "pipe", "zero", "nul", "dot", "empty", "itself"]
)
def hostile(request: pytest.FixtureRequest, run: Path, outside: Path) -> str:
    """Return a path that a log may name and that is not to be followed."""
    below = run / "artifacts"
    (below / "link.png").symlink_to(outside / "secret.png")
    (below / "directory").symlink_to(outside)
    (below / "zero").symlink_to("/dev/zero")
    (below / "itself").symlink_to("itself")
    os.mkfifo(below / "pipe")
    return {
        "up": "artifacts/../../../../outside/secret.png",
        "absolute": str(outside / "secret.png"),
        "link": "artifacts/link.png",
        "directory": "artifacts/directory/secret.png",
        "pipe": "artifacts/pipe",
        "zero": "artifacts/zero",
        "nul": "artifacts/a\0b",
        "dot": "./artifacts/below/../directory/secret.png",
        "empty": "",
        "itself": "artifacts/itself",
    }[str(request.param)]


def patiently(call: Callable[[], object]) -> object:
    """Return what *call* returns or raises; a pipe that it waits for fails the test."""
    said: list[object] = []

    def work() -> None:
        try:
            said.append(call())
        except Exception as error:
            said.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert said, "it waits for something that never comes"
    return said[0]


# --- reading ----------------------------------------------------------------------------------------


def test_a_file_of_the_run_is_read(run: Path) -> None:
    """The guard lets through what it should."""
    assert modes.read_inside(run, "artifacts/below/good.png") == png()


def test_reading_inside_follows_nothing(run: Path, hostile: str) -> None:
    """Names that lead out, links and pipes are errors, and no call waits."""
    assert isinstance(patiently(lambda: modes.read_inside(run, hostile)), OSError)


def test_a_file_too_large_for_memory_is_refused(run: Path) -> None:
    """A sparse file costs nothing on the disk and everything in memory."""
    with (run / "artifacts" / "huge").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(OSError, match="bytes, more than") as caught:
        modes.read_inside(run, "artifacts/huge")

    assert caught.value.errno == errno.EFBIG


def test_payloads_are_not_read_through_links(run: Path, outside: Path) -> None:
    """Not even where the content is what the log says."""
    reference = artifacts.spill(run, "note", b'{"type":"note"}')
    real = run / reference.path
    shutil.move(real, outside / "payload")
    real.symlink_to(outside / "payload")

    with pytest.raises((BadValueError, OSError)):
        artifacts.load_payload(run, reference)


def test_payloads_are_not_read_from_hostile_paths(run: Path, hostile: str) -> None:
    """A log may name any file, and know its hash."""
    reference = ev.PayloadRef(path=hostile, size_bytes=10, sha256="0" * 64)

    assert isinstance(patiently(lambda: artifacts.load_payload(run, reference)), (BadValueError, OSError))


@pytest.mark.parametrize("what", ["link", "pipe", "zero", "directory"])
def test_a_segment_that_is_no_file_is_not_read(what: str, run: Path, outside: Path) -> None:
    """A link to another log, a pipe or a device among the segments is named, and the rest is read."""
    other = run.parent / "other"
    writer = RunWriter(other)
    writer.write(ev.Note(text="somebody else's"))
    writer.close()
    (theirs,) = (other / "log").glob("*.jsonl")
    planted = run / "log" / theirs.name
    if what == "link":
        planted.symlink_to(theirs)
    elif what == "zero":
        planted.symlink_to("/dev/zero")
    elif what == "pipe":
        os.mkfifo(planted)
    else:
        planted.mkdir()

    def read() -> list[str]:
        reader = RunReader(run)
        return [type(event).__name__ for part in reader.slices() for event in part.events]

    said = patiently(read)

    assert isinstance(said, OSError) or said == ["RunStarted", "Metrics"]


@pytest.mark.parametrize("room", ["log", "the run", "the project"])
def test_runs_that_are_links_are_not_listed(room: str, run: Path, outside: Path) -> None:
    """A root shows what lies in it."""
    place = {"log": run / "log", "the run": run, "the project": run.parent}[room]
    shutil.move(place, outside / "moved")
    place.symlink_to(outside / "moved")

    assert list(iter_runs(run.parent.parent)) == []
    assert room != "log" or not is_run(run)


def test_a_ring_that_is_a_link_is_not_locked(run: Path, outside: Path) -> None:
    """Recovery would write into a log what lies elsewhere, and remove it."""
    path = run / "log" / "r0-01KAHCZG000000000000000A00.000001.ring"
    path.symlink_to(outside / "secret")

    with pytest.raises(OSError, match="symbolic links"):
        SYSTEM.lock(path)


def test_a_mirror_opens_what_it_has_seen(run: Path, outside: Path) -> None:
    """A file that became a link since the look is not copied."""
    path = run / "artifacts" / "swapped"
    path.symlink_to(outside / "secret")

    with pytest.raises(OSError, match="symbolic links"):
        Content(path, len(SECRET))


def test_wandb_takes_no_medium_from_elsewhere(run: Path, hostile: str) -> None:
    """Images and other media are read inside of the run, when they are looked at and when they are sent."""
    if not hostile:
        return  # no path: then it is a text
    event = ev.Media(key="k", media_type="image", path=hostile)

    assert isinstance(patiently(lambda: media.medium(event, run, "k", 0)), OSError)
    assert isinstance(patiently(media.Upload("n", b"", (run, hostile)).content), OSError)


@pytest.mark.parametrize("is_directory", [False, True])
def test_wandb_takes_no_artifact_from_elsewhere(is_directory: bool, run: Path, hostile: str) -> None:
    """Neither a file nor a part of a directory."""
    added: list[str] = []
    made = SimpleNamespace(add_file=lambda path, **_: added.append(path))
    fake: Any = SimpleNamespace(Artifact=lambda *_, **__: made)
    parts = [ev.FileEntry(path=hostile, size_bytes=1, sha256="")] if is_directory else []
    event = ev.Artifact(
        name="a", path="artifacts/below" if is_directory else hostile, is_directory=is_directory, files=parts
    )
    if is_directory and not hostile.startswith("/"):
        parts[0] = ev.FileEntry(path=f"../../{hostile}", size_bytes=1, sha256="")

    said = patiently(lambda: sdk.make_artifact(fake, event, run, {}))

    assert isinstance(said, OSError)
    assert added == []


@pytest.mark.parametrize("address", ["{}", "file://{}", "FILE://{}", "file://host{}"])
def test_wandb_is_not_told_what_lies_at_a_local_reference(address: str, run: Path, outside: Path) -> None:
    """A log from elsewhere may name any directory; of that only what the log itself says is sent."""
    wandb = pytest.importorskip("wandb")
    event = ev.Artifact(
        name="a", path=address.format(outside), stored="reference", is_directory=True,
        files=[ev.FileEntry(path="x/y", size_bytes=7, sha256="11")],
    )  # fmt: skip

    made = sdk.make_artifact(wandb, event, run, {}).manifest.entries

    assert {name: (entry.size, entry.digest) for name, entry in made.items()} == {"x/y": (7, "11")}
    assert made["x/y"].ref.endswith(f"{outside}/x/y")


def test_mlflow_refuses_what_lies_elsewhere(run: Path, hostile: str) -> None:
    """Such an upload becomes a dead letter, with the reason."""
    sending: Any = SimpleNamespace(path=run)
    upload: Any = SimpleNamespace(path=hostile, size_bytes=None, sha256="0" * 64)

    said = patiently(lambda: Sender._why_not(sending, upload))

    assert isinstance(said, str)
    assert said != "its content is not what was logged"


def test_tensorboard_refuses_what_lies_elsewhere(run: Path, hostile: str) -> None:
    """Such a picture becomes a dead letter, with the reason."""
    mapping: Any = SimpleNamespace(_run=run)
    event = ev.Media(key="k", media_type="image", path=hostile)

    said = patiently(lambda: Mapper._file(mapping, event))

    assert isinstance(said, RefusedError)


def test_a_report_shows_no_picture_from_elsewhere(run: Path, hostile: str) -> None:
    """A page that is passed on holds what lies in its runs."""
    assert patiently(lambda: images._read(run, images._Logged("p/r", "k", hostile, None, ""))) is None


# --- copying ----------------------------------------------------------------------------------------


def test_a_file_swapped_for_a_link_while_a_directory_is_copied_is_refused(
    tmp_path: Path, outside: Path
) -> None:
    """Between the look at a tree and the copy somebody else may change it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").symlink_to(outside / "secret")

    with pytest.raises(OSError, match="symbolic links"):
        artifacts._copy_file(tree / "a", tmp_path / "copy", SYSTEM)

    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("copy", [True, False])
def test_an_artifact_that_is_a_pipe_is_refused_without_waiting(copy: bool, tmp_path: Path) -> None:
    """Also one that was a file a moment ago."""
    os.mkfifo(tmp_path / "pipe")
    tracker = create_tracker("local", output_dir=tmp_path / "root", lineage=False)
    tracker.start_run("r")

    with pytest.warns(EvlogWarning, match="neither a file nor a directory"):
        assert patiently(lambda: tracker.log_artifact(tmp_path / "pipe", copy=copy)) is None

    tracker.end_run()


# --- writing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["artifacts", "artifacts/plots", "artifacts/payloads", "artifacts/models"])
@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
def test_nothing_is_written_through_a_link_below_the_artifacts(
    place: str, tmp_path: Path, outside: Path
) -> None:
    """Who may write into a run cannot make its owner write elsewhere."""
    tracker = create_tracker("local", output_dir=tmp_path / "root", lineage=False)
    tracker.start_run("r")
    run = tracker.run_dir
    assert run is not None
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).symlink_to(outside)
    before = sorted(outside.iterdir())

    tracker.log_artifact(outside / "secret", "plots/a")
    tracker.log_artifact(outside / "secret", "a")
    tracker.log_params({f"p{n}": "x" * 300_000 for n in range(5)})
    tracker.log_model({"a": 1}, "m")
    tracker.log_metrics({"still": 1.0}, 1)
    tracker.end_run()

    assert sorted(outside.iterdir()) == before
    assert (outside / "secret").read_bytes() == SECRET
    assert b"still" in b"".join(path.read_bytes() for path in (run / "log").iterdir())


@pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")
@pytest.mark.parametrize("room", ["log", ".evlog"])
def test_no_log_or_checkpoint_is_written_through_a_link(room: str, run: Path, outside: Path) -> None:
    """A run that is joined or delivered again is not written elsewhere."""
    shutil.rmtree(run / room, ignore_errors=True)
    (run / room).symlink_to(outside)
    before = sorted(outside.iterdir())

    soon = WriterOptions(close_timeout_s=0.2)
    tracker = Tracker(("local",), output_dir=run.parent.parent, lineage=False, rank=1, writer=soon)
    tracker.config.project = "p"
    with tracker.start_run(run_id="r"):
        tracker.log_metrics({"a": 1.0}, 1)
    tracker = Tracker(
        ("local",), output_dir=run.parent.parent, lineage=False, resume=room == ".evlog", writer=soon
    )
    tracker.config.project = "p"
    with tracker.start_run(run_id="r"):
        tracker.log_metrics({"a": 1.0}, 1)

    assert sorted(outside.iterdir()) == before


@pytest.mark.parametrize("name", ["metadata.json", "params.json", "metrics.json", ".metadata.json.{pid}.tmp"])
@pytest.mark.parametrize("is_hard", [False, True])
def test_the_local_sink_writes_through_no_planted_link(
    name: str, is_hard: bool, run: Path, outside: Path
) -> None:
    """A link in the place of its files, or of its young ones, is replaced; what it led to stays."""
    planted = run / name.format(pid=os.getpid())
    if is_hard:
        planted.hardlink_to(outside / "secret")
    else:
        planted.symlink_to(outside / "secret")
    sink = LocalSink()

    sink.open(RunInfo(project="p", run_id="r", path=run))
    sink.close(RunStatus(status="finished"))

    assert (outside / "secret").read_bytes() == SECRET
    assert (run / "metadata.json").is_file()
    assert not (run / "metadata.json").is_symlink()


@pytest.mark.parametrize("name", ["evil", "../evil", "a/b/../../evil"])
def test_the_opener_follows_no_link(name: str, tmp_path: Path, outside: Path) -> None:
    """What sinks append to or make anew is their own."""
    (tmp_path / "evil").symlink_to(outside / "secret")

    with pytest.raises(OSError, match="symbolic links"):
        open(tmp_path / "evil", "ab", opener=modes.opener)  # noqa: SIM115


def test_a_database_is_not_made_through_a_link(tmp_path: Path, outside: Path) -> None:
    """SQLite itself would follow it."""
    (tmp_path / "runs.db").symlink_to(outside / "new.db")

    with pytest.raises((EvlogError, OSError)):
        connect(tmp_path / "runs.db")

    assert not (outside / "new.db").exists()


@pytest.mark.parametrize("room", ["log", "artifacts", ".evlog"])
def test_a_room_that_is_a_link_is_not_taken_for_made(room: str, run: Path, outside: Path) -> None:
    """Else the first file in it would be the first to be refused, or none."""
    shutil.rmtree(run / room, ignore_errors=True)
    (run / room).symlink_to(outside)

    with pytest.raises(NotADirectoryError, match="out of the run"):
        modes.make_directory(run / room)


# --- bringing back ----------------------------------------------------------------------------------


def test_reproducing_links_no_data_outside_of_its_worktree(tmp_path: Path) -> None:
    """A data set whose path climbs out of the repository is none of the repository."""
    code: Any = SimpleNamespace(
        root=str(tmp_path / "repo"), in_place=False, commit="c", repository=None, is_clone=False
    )
    dataset = ev.Dataset(name="d", path=str(tmp_path / "repo" / ".." / ".." / "etc" / "cron.d"))

    assert _plan_one(dataset, code, None).relative is None


@pytest.mark.parametrize(
    ("argv", "variables", "said"),
    [
        (["t.py", "--api-key", "[redacted]"], {}, "'--api-key [redacted]'"),
        (["t.py", "db.password=[redacted]"], {}, "'db.password=[redacted]'"),
        (["t.py"], {"SECRET_URL_X": "https://[redacted]"}, "the variable SECRET_URL_X: set it here"),
    ],
)
def test_a_command_with_a_masked_credential_is_not_given_again(
    argv: list[str], variables: dict[str, str], said: str
) -> None:
    """It says which word is missing, and what to do; the text in its place is no password."""
    data = {"environment": {"variables": variables}}
    recorded: Any = SimpleNamespace(
        command={"orig_argv": ["python", *argv], "cwd": "/"}, cwd="/", context=lambda kind: data.get(kind, {})
    )

    plan, reason = plan_command(recorded)

    assert plan is None
    assert said in reason


def test_a_masked_variable_that_is_set_now_is_the_one_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is missing, and nothing is put over it."""
    monkeypatch.setenv("SECRET_URL_X", "https://h")
    data = {"environment": {"variables": {"SECRET_URL_X": "https://[redacted]", "A": "1"}}}
    recorded: Any = SimpleNamespace(
        command={"orig_argv": ["python", "t.py"]}, cwd=None, context=lambda kind: data.get(kind, {})
    )

    plan, _ = plan_command(recorded)

    assert plan is not None
    assert plan.variables == {"A": "1"}
