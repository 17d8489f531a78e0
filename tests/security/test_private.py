"""Who may read what evlog makes: what the umask says, or nobody else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import Tracker, create_tracker
from eventlog.query.catalog import cache_directory
from eventlog.query.database import Database
from eventlog.storage.layout import RunPath
from eventlog.storage.modes import is_private, mode_for
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import recover_run
from eventlog.sync import SyncOptions, Target, deliver_one
from eventlog.tracker.naming import unmade_run, wants_private

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root that all may enter: pytest's own directories are private."""
    tmp_path.chmod(0o755)
    return tmp_path / "experiments"


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set each umask that people have."""
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """Set the umask of most systems, whatever this one has."""
    old = os.umask(0o022)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    """Return the mode of *path*, a link's own."""
    return stat.S_IMODE(path.lstat().st_mode)


def wrong(run: Path, files: int, directories: int) -> dict[str, str]:
    """Return what below *run* has another mode; sealed segments lack the right to write."""
    found = {}
    for path in [run, *run.rglob("*")]:
        wanted = directories if path.is_dir() else files
        if path.suffix == ".jsonl" and path.parent.name == "log" and b"segment_sealed" in path.read_bytes():
            wanted &= 0o555
        if mode(path) & 0o777 != wanted:
            found[str(path.relative_to(run))] = oct(mode(path))
    return found


def log_everything(tracker: Tracker, tmp_path: Path) -> None:
    """Log what leads to each kind of file."""
    source, tree = tmp_path / "weights.bin", tmp_path / "tree" / "below"
    tree.mkdir(parents=True, exist_ok=True)
    for path in (source, tree / "a.txt"):
        path.write_bytes(b"x")
        path.chmod(0o666)
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.log_artifact(source)
    tracker.log_artifact(source, "plots/deep/weights.bin")
    tracker.log_artifact(tmp_path / "tree")
    tracker.log_image("i", b"\x89PNG\r\n\x1a\n", 1)
    tracker.log_model({"a": 1}, "m")
    tracker.log_params({f"p{n}": "x" * 300_000 for n in range(5)})  # a payload


def delivered(run: Path, sink: str, **options: object) -> bool:
    """Deliver *run* as another process would later."""
    place = RunPath(run.parent.name, run.name, run)
    target = Target(sink=sink, options=options)
    return deliver_one(place, target, SyncOptions(timeout_s=20), stop=threading.Event()).is_good


def everything(root: Path, tmp_path: Path, **options: object) -> Path:
    """Return a run with every kind of file that one may have."""
    tracker = create_tracker("local", output_dir=root, **options)
    with tracker.start_run("r"):
        run = tracker.run_dir
        assert run is not None
        log_everything(tracker, tmp_path)
    with tracker.start_run(run_id="r", resume=True):
        tracker.log_metrics({"loss": 1.0}, 2)
    assert delivered(run, "local")
    assert delivered(run, "csv", to=str(run / "csv"))
    assert delivered(run, "sqlite", path=str(run / "runs.sqlite"))
    return run


def evlog(*words: str) -> None:
    """Run the command, which has to go well."""
    done = subprocess.run(
        [sys.executable, "-m", "eventlog", *words], check=False, timeout=60, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_modes_follow_the_umask(root: Path, tmp_path: Path, umask: int) -> None:
    """A group that shares a root with 002 may read and write in it; with 077 nobody else may."""
    run = everything(root, tmp_path)

    assert wrong(run, 0o666 & ~umask, 0o777 & ~umask) == {}
    assert mode(root) == 0o777 & ~umask


def test_a_private_run_is_its_owners_alone(root: Path, tmp_path: Path, umask: int) -> None:
    """Every directory 0700 and every file 0600, sealed ones 0400, whatever the umask would allow."""
    run = everything(root, tmp_path, private=True)

    assert wrong(run, 0o600, 0o700) == {}
    assert mode(run.parent) == 0o777 & ~umask


@pytest.mark.parametrize("is_private_run", [False, True])
def test_files_of_a_run_that_goes_on_have_their_modes(
    is_private_run: bool, root: Path, usual_umask: None
) -> None:
    """Ring, reserve and open segment are closed from their first byte on."""
    tracker = Tracker((), output_dir=root, lineage=False, private=is_private_run)
    with tracker.start_run("r"):
        log = root / "default" / "r" / "log"
        kinds = {path.suffix for path in log.iterdir()}

        found = wrong(log.parent, *((0o600, 0o700) if is_private_run else (0o644, 0o755)))

    assert found == {}
    assert {".jsonl", ".reserve"} <= kinds


def test_recovery_by_another_process_keeps_a_run_private(root: Path, usual_umask: None) -> None:
    """Who recovers, syncs or compacts was never told; the directory tells."""
    code = (
        "import os, sys; from eventlog import Tracker; t = Tracker((), output_dir=sys.argv[1], lineage=False,"
        "private=True); t.start_run('r')\nfor i in range(100): t.log_metrics({'a': i}, i)\nos._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=False, timeout=60)

    recover_run(root / "default" / "r")

    assert wrong(root / "default" / "r", 0o600, 0o700) == {}


@pytest.mark.parametrize("how", ["environment", "file", "command"])
def test_it_can_be_asked_for_in_other_ways(
    how: str, root: Path, usual_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the environment, for a team, and of a command."""
    root.mkdir()
    if how == "environment":
        monkeypatch.setenv("EVLOG_PRIVATE", "1")
    if how == "file":
        (root / "evlog.toml").write_text("[private]\nenabled = true\n")
    if how == "command":
        monkeypatch.setenv("EVLOG_DIR", str(root))
        evlog("run", "--private", "--name", "r", "--", sys.executable, "-c", "print(1)")
    else:
        with Tracker(("local",), output_dir=root, lineage=False).start_run("r"):
            pass

    assert wrong(root / "default" / "r", 0o600, 0o700) == {}


def test_the_program_wins_over_the_environment(
    root: Path, usual_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the environment over the file; a file that cannot be read counts as yes."""
    root.mkdir()
    (root / "evlog.toml").write_text("[private]\nenabled = true\n")
    assert wants_private(root)
    monkeypatch.setenv("EVLOG_PRIVATE", "0")
    assert not wants_private(root)
    assert wants_private(root, True)
    monkeypatch.delenv("EVLOG_PRIVATE")
    (root / "evlog.toml").write_text("[private")
    assert wants_private(root)


def test_an_import_is_private_too(
    root: Path, tmp_path: Path, usual_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory in which it is written counts, also after it got its name."""
    monkeypatch.setenv("EVLOG_PRIVATE", "1")
    text = tmp_path / "train.log"
    text.write_text("step 1 loss 0.5\nstep 2 loss 0.4\n")
    monkeypatch.setenv("EVLOG_DIR", str(root))

    evlog("import", "text", str(text))

    (run,) = [path.parent for path in root.rglob("log")]
    assert wrong(run, 0o600, 0o700) == {}


def test_a_resumed_run_can_be_closed(root: Path, usual_umask: None) -> None:
    """What others could read before is shut by its directory; what is new is closed itself."""
    with Tracker((), output_dir=root, lineage=False).start_run("r"):
        pass
    with Tracker((), output_dir=root, lineage=False, private=True).start_run(run_id="r", resume=True):
        pass

    run = root / "default" / "r"
    assert mode(run) == 0o700
    assert sorted(mode(path) for path in (run / "log").iterdir()) == [0o400, 0o444]


def test_a_run_whose_directory_comes_later_is_private(root: Path, tmp_path: Path, usual_umask: None) -> None:
    """The disk may be full, or somebody else's, when the run starts."""
    placed = unmade_run(root, "default", "r", joins=True)
    root.write_bytes(b"")  # in the way
    tracker = Tracker(
        (), output_dir=root, lineage=False, private=True, writer=WriterOptions(write_interval_s=0.01)
    )
    tracker.start_run("r", resume=False)
    tracker.log_metrics({"a": 1}, 1)
    root.unlink()
    tracker.flush()
    tracker.end_run()

    (run,) = (root / "default").iterdir()
    assert run.name.startswith(placed.path.name)
    assert wrong(run, 0o600, 0o700) == {}


def test_setgid_directories_are_kept(root: Path, usual_umask: None) -> None:
    """What is made below a group's directory belongs to the group, as `mkdir` does it."""
    root.mkdir()
    root.chmod(0o2775)
    if not mode(root) & stat.S_ISGID:
        pytest.skip("this user cannot set the bit for its group")

    with Tracker((), output_dir=root, lineage=False).start_run("r"):
        pass

    assert mode(root / "default" / "r" / "log") & stat.S_ISGID


@pytest.mark.parametrize(
    ("source", "copied"), [(0o600, 0o600), (0o666, 0o644), (0o755, 0o755), (0o4777, 0o755), (0o444, 0o444)]
)
def test_a_copy_has_the_rights_that_its_source_and_the_umask_allow(
    source: int, copied: int, root: Path, tmp_path: Path, usual_umask: None
) -> None:
    """As `cp` does: a file that was closed is not opened, a program stays one, and setuid goes."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    file.chmod(source)

    with create_tracker("local", output_dir=root, lineage=False) as tracker:
        tracker.log_artifact(file)

    (copy,) = [path for path in root.rglob("file") if path.parent.name == "artifacts"]
    assert mode(copy) == copied
    assert copy.stat().st_mtime_ns == file.stat().st_mtime_ns


def test_a_mirror_of_a_private_run_is_private(root: Path, tmp_path: Path, usual_umask: None) -> None:
    """The copy is worth as much as what was copied."""
    run = everything(root, tmp_path, private=True)

    assert delivered(run, "mirror", to=str(tmp_path / "mirror"))

    copy = tmp_path / "mirror" / "default" / "r"
    assert {path for path in copy.rglob("*") if mode(path) & 0o077} == set()
    assert mode(copy) == 0o700


@pytest.mark.parametrize(
    ("sink", "option", "places"),
    [
        ("csv", "to", ["leaderboard.csv", "experiment_results.csv", ".csv-parts/default/r.part"]),
        ("sqlite", "path", [""]),
        ("tensorboard", "log_dir", ["default/r"]),
    ],
)
def test_what_a_sink_makes_of_a_private_run_is_private(
    sink: str, option: str, places: list[str], root: Path, tmp_path: Path, usual_umask: None
) -> None:
    """Also outside of the run, and in the files that it shares with runs that are open."""
    there = tmp_path / "there"
    for name, is_closed in (("open", False), ("r", True), ("another", False)):
        with Tracker((), output_dir=root, lineage=False, private=is_closed).start_run(name):
            pass
        assert delivered(root / "default" / name, sink, **{option: str(there)})

    assert all((there / place).exists() for place in places)
    assert [place for place in places if mode(there / place) & 0o077] == []


@pytest.mark.parametrize("sink", ["csv", "sqlite"])
def test_files_for_many_runs_are_open_without_private_ones(
    sink: str, root: Path, tmp_path: Path, usual_umask: None
) -> None:
    """What others may read, they may read in tables too."""
    with Tracker((), output_dir=root, lineage=False).start_run("r"):
        pass

    assert delivered(
        root / "default" / "r",
        sink,
        **{"csv": {"to": str(tmp_path)}}.get(sink, {"path": str(tmp_path / "x.db")}),
    )

    made = tmp_path / {"csv": "leaderboard.csv", "sqlite": "x.db"}[sink]
    assert mode(made) == 0o644


def test_files_that_are_no_runs_are_left_to_the_umask(tmp_path: Path) -> None:
    """A home that is closed does not close a root that is made in it."""
    tmp_path.chmod(0o700)

    assert mode_for(tmp_path / "experiments", 0o777) == 0o777
    assert mode_for(tmp_path / "report.html", 0o666) == 0o666
    assert not is_private(tmp_path / "gone")


def test_a_copy_of_the_files_alone_stays_closed(root: Path, tmp_path: Path, usual_umask: None) -> None:
    """The directory keeps others out; the files must not rely on it."""
    run = everything(root, tmp_path, private=True)
    there = tmp_path / "open"
    there.mkdir(mode=0o755)

    for path in (run / "log").iterdir():
        shutil.copy2(path, there)

    assert all(not mode(path) & 0o077 for path in there.iterdir())


@pytest.mark.parametrize("above", ["log", "artifacts", ".evlog"])
def test_a_root_below_a_directory_named_like_a_room_is_as_any(
    above: str, tmp_path: Path, usual_umask: None
) -> None:
    """Such a directory may be a link, too: it is not in a run."""
    tmp_path.chmod(0o755)
    (tmp_path / "big").mkdir()
    (tmp_path / above).symlink_to(tmp_path / "big")

    run = everything(tmp_path / above / "experiments", tmp_path, private=True)

    assert wrong(run, 0o600, 0o700) == {}


def test_the_query_cache_of_a_private_run_is_closed(root: Path, usual_umask: None) -> None:
    """It holds what the run holds; others get a cache of their own."""
    with Tracker((), output_dir=root, lineage=False).start_run("open"):
        pass
    with Database.open(root) as database:
        database.execute("SELECT * FROM runs")
        assert mode(root / ".evlog" / "cache") & 0o077
    with Tracker((), output_dir=root, lineage=False, private=True).start_run("closed"):
        pass

    with Database.open(root) as database:
        database.execute("SELECT * FROM runs")

    assert not mode(root / ".evlog" / "cache") & 0o077


def test_the_cache_of_another_user_is_not_used(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns it reads what is in it, and can put into it what was never logged."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    place = cache_directory(root)
    assert place == root / ".evlog" / "cache"
    if os.geteuid() == 0:
        os.chown(place, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)

    with Tracker((), output_dir=root, lineage=False, private=True).start_run("r"):
        pass
    with Database.open(root) as database:
        assert [row[0] for row in database.execute("SELECT run_id FROM runs").rows()] == ["r"]

    assert list(place.iterdir()) == []
    (own,) = (tmp_path / "home" / "evlog").iterdir()
    assert mode(own) == 0o700


@pytest.mark.parametrize("link", [".evlog", ".evlog/cache"])
def test_no_cache_is_kept_behind_a_link(
    link: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is old and unknown in a cache is removed: a link would lead that to files of somebody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    mine = tmp_path / "documents" / ("cache" if link == ".evlog" else ".")
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years")
    os.utime(mine / "thesis.txt", (0, 0))
    with Tracker((), output_dir=root, lineage=False).start_run("r"):
        pass
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(tmp_path / "documents")

    with Database.open(root) as database:
        assert len(list(database.execute("SELECT run_id FROM runs").rows())) == 1

    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_what_a_sink_makes_in_directories_of_its_own_is_private(
    depth: int, root: Path, usual_umask: None
) -> None:
    """A few levels below the run are looked through; deeper ones are not, for what is no run at all."""
    with Tracker((), output_dir=root, lineage=False, private=True).start_run("closed"):
        pass
    (run,) = (path.parent for path in root.glob("*/*/log"))
    run = run.rename(root / "found")  # as for another process, which has not been told

    assert mode_for(run.joinpath(*"abcd"[:depth]), 0o666) == 0o600
