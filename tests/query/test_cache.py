"""The cache is derived: whatever happens to its files, the answers stay right."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import duckdb
import pytest

from eventlog import TrackingConfig
from eventlog.query import catalog, merge
from eventlog.query import refresh as refresh_module
from eventlog.query.catalog import DataFile, Manifest, cache_directory, commit, load_manifest, scratch
from eventlog.query.refresh import refresh
from eventlog.query.scan import scan
from eventlog.tracker import Tracker
from tests.faults import Killed, KilledAfter, WatchedSystem, killed_at
from tests.query.histories import ask, fold, read_tables


def make_run(root: Path, name: str, *, project: str = "p", steps: int = 5) -> Path:
    with Tracker((), TrackingConfig(project=project), output_dir=root) as tracker:
        tracker.start_run(name)
        for step in range(steps):
            tracker.log_metrics({"loss": 1 / (step + 1)}, step)
    return root / project / name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(3):
        make_run(tmp_path, f"run-{number}")
    return tmp_path


@pytest.fixture
def cache(root: Path) -> Path:
    """A cache that holds everything, and will be looked at as if it were old."""
    with patch("eventlog.query.scan.RACY_NS", 0):
        ask(root)
        ask(root)
    assert all(entry.is_settled for entry in load_manifest(cache_directory(root)).runs)
    return cache_directory(root)


# --- what is in it -------------------------------------------------------------------------------


def test_settled_runs_are_not_opened_again(root: Path, cache: Path) -> None:
    """What is in the cache comes from the cache: the log may be empty files by then."""
    wanted = fold(root)
    for path in root.glob("p/*/log/*.jsonl"):
        path.chmod(0o644)
        path.write_bytes(b"")

    assert ask(root) == wanted


def test_nothing_is_written_when_nothing_changed(root: Path, cache: Path) -> None:
    """A question over unchanged runs leaves the directory as it is."""
    before = sorted((path.name, path.stat().st_mtime_ns) for path in cache.iterdir())
    ask(root)

    after = sorted((path.name, path.stat().st_mtime_ns) for path in cache.iterdir())
    assert [x for x in after if x[0] != "refresh.lock"] == [x for x in before if x[0] != "refresh.lock"]


def test_many_refreshes_leave_few_files(root: Path) -> None:
    """Small files are merged, and old ones go when nobody can read them any more."""
    with patch.object(catalog, "KEPT_S", -1.0):
        for number in range(20):
            make_run(root, f"more-{number}")
            ask(root, ["runs"])

    assert ask(root) == fold(root)
    assert len(list(cache_directory(root).iterdir())) < 8 * merge.MANY


@pytest.mark.parametrize("table", ["runs", "metrics", "summaries"])
def test_rows_of_deleted_runs_are_left_out_of_large_files(root: Path, cache: Path, table: str) -> None:
    """Files too large to be merged are written anew when many of their rows do not count any more."""
    shutil.rmtree(root / "p" / "run-1")
    with patch.object(merge, "SMALL_BYTES", 0):
        ask(root)

    assert load_manifest(cache).gone == []
    assert ask(root) == fold(root)


def test_few_deleted_runs_do_not_rewrite_large_files(root: Path, cache: Path) -> None:
    """Until they are many, their names are kept and their rows are passed over."""
    shutil.rmtree(root / "p" / "run-1")
    with patch.object(merge, "SMALL_BYTES", 0), patch.object(merge, "MUCH_GONE", 2.0):
        ask(root)

        assert [name[:2] for name in load_manifest(cache).gone] == [("p", "run-1")]
        make_run(root, "run-1", steps=2)
        assert ask(root) == fold(root)


# --- runs that move ------------------------------------------------------------------------------


def rename_run(root: Path) -> None:
    (root / "p" / "run-0").rename(root / "p" / "other")


def rename_project(root: Path) -> None:
    (root / "p").rename(root / "q")


def move_to_another_project(root: Path) -> None:
    (root / "q").mkdir()
    (root / "p" / "run-0").rename(root / "q" / "run-0")


def delete_all(root: Path) -> None:
    shutil.rmtree(root / "p")


def replace_by_another(root: Path) -> None:
    shutil.rmtree(root / "p" / "run-0")
    (root / "p" / "run-1").rename(root / "p" / "run-0")


def log_again(root: Path) -> None:
    shutil.rmtree(root / "p" / "run-0")
    make_run(root, "run-0", steps=2)


def resume(root: Path) -> None:
    with Tracker((), TrackingConfig(project="p"), output_dir=root) as tracker:
        tracker.start_run("run-0", run_id="run-0", resume=True)
        tracker.log_metrics({"loss": 9.0}, 9)


CHANGES = [rename_run, rename_project, move_to_another_project, delete_all, replace_by_another, log_again]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_runs_that_move_are_noticed(root: Path, cache: Path, change: Callable[[Path], None]) -> None:
    """Deleted, renamed and replaced runs are what they are now at the next question."""
    change(root)

    assert ask(root) == fold(root)
    assert ask(root, wants_all=True) == fold(root)


# --- what cannot be read ---------------------------------------------------------------------------


def test_a_run_that_cannot_be_read_costs_itself_only(root: Path) -> None:
    """The problem is told each time; the other runs are all there."""
    path = next((root / "p" / "run-1" / "log").glob("*.jsonl"))
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    for _ in range(2):
        with duckdb.connect() as connection:
            state = refresh(root, connection)

            rows = read_tables(connection, state, ["runs"])["runs"]

        assert [row[1] for row in rows] == ["run-0", "run-2"]
        assert [problem.split(":")[0] for problem in state.overlay.problems] == [str(root / "p" / "run-1")]


def test_what_the_cache_holds_of_an_unreadable_run_stays(root: Path, cache: Path) -> None:
    """A run whose new segment cannot be read keeps its rows, with a problem, until it can."""
    wanted = fold(root)
    path = next((root / "p" / "run-1" / "log").glob("*.jsonl"))
    new = path.with_name(path.name.replace("000001", "000002"))
    new.mkdir()
    with duckdb.connect() as connection:
        state = refresh(root, connection)

        assert read_tables(connection, state) == wanted

    assert len(state.overlay.problems) == 1
    new.rmdir()
    assert ask(root) == wanted


def test_a_name_that_is_no_text_is_a_problem(root: Path) -> None:
    """A directory whose name is not UTF-8 is told, not a traceback."""
    os.mkdir(os.fsencode(root / "p") + b"/\xff")  # noqa: PTH102 - bytes
    with duckdb.connect() as connection:
        state = refresh(root, connection)

        assert len(read_tables(connection, state, ["runs"])["runs"]) == 3

    assert len(state.overlay.problems) == 1


# --- its own files ---------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [truncate, remove], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("pattern", ["points-*", "runs-*", "events-*", "manifest-*"])
def test_harmed_files_are_made_again(
    root: Path, cache: Path, pattern: str, harm: Callable[[Path], None]
) -> None:
    """Files of the cache that are shorter than they were, or gone, are noticed before they are read."""
    for path in cache.glob(pattern):
        harm(path)

    assert ask(root) == fold(root)


def test_a_damaged_file_that_a_refresh_reads_is_made_again(root: Path, cache: Path) -> None:
    """Bytes that changed in a file of the right size cost one building."""
    for path in cache.glob("events-*"):
        path.write_bytes(bytes(path.stat().st_size))
    resume(root)

    assert ask(root) == fold(root)


def test_garbage_that_looks_like_a_newer_state_stops_nobody(root: Path, cache: Path) -> None:
    """A manifest that is no manifest is passed over, and the next commit comes after it."""
    (cache / f"manifest-{999:012d}.msgpack").write_bytes(b"garbage")
    (cache / "manifest-x.msgpack").write_bytes(b"")
    make_run(root, "new")

    assert ask(root) == fold(root)
    assert load_manifest(cache).number >= 1000


def test_a_cache_that_is_removed_meanwhile_is_built_again(root: Path, cache: Path) -> None:
    """A refresh that finds its files gone begins anew, once."""
    resume(root)

    removed: list[Path] = []

    def and_remove(*arguments: object) -> object:
        found = scan(*arguments)  # type: ignore[arg-type]
        if not removed:
            removed.append(cache)
            shutil.rmtree(cache)
        return found

    with patch.object(refresh_module, "scan", and_remove):
        found = ask(root)

    assert found == fold(root)


def test_whoever_holds_an_old_state_can_read_on(root: Path, cache: Path) -> None:
    """Files that a newer state does not name stay for a while, however old they are."""
    with duckdb.connect() as connection:
        state = refresh(root, connection)
        wanted = fold(root)
        for path in cache.glob("*.parquet"):
            os.utime(path, (1, 1))
        for number in range(2 * merge.MANY):
            make_run(root, f"more-{number}")
            ask(root, ["runs"])

        assert read_tables(connection, state) == wanted


def test_old_files_go_after_a_while(root: Path, cache: Path) -> None:
    """What nobody names for long is removed by a commit."""
    (cache / "points-old.parquet").write_bytes(b"x")
    os.utime(cache / "points-old.parquet", (1, 1))
    make_run(root, "new")
    ask(root)

    assert not (cache / "points-old.parquet").exists()


def test_the_scratch_of_the_dead_is_removed_and_that_of_the_living_stays(root: Path, cache: Path) -> None:
    """A scratch directory belongs to who holds its lock."""
    dead = cache / ".scratch-dead"
    dead.mkdir()
    (dead / "lock").touch()
    with scratch(cache) as living:
        make_run(root, "new")
        ask(root)

        assert living.exists()
        assert not dead.exists()


def test_a_root_that_is_read_only_has_its_cache_elsewhere(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the user's own cache directory is used, one for each root."""
    elsewhere = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere))
    # The superuser may write everywhere, so that the answer of the system has to be given here.
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert ask(root) == fold(root)
    assert cache_directory(root).is_relative_to(elsewhere)
    assert list(elsewhere.glob("evlog/*/points-*.parquet"))


# --- a commit that is stopped ------------------------------------------------------------------------


def states(directory: Path) -> tuple[Manifest, Manifest]:
    """Return two states whose files are there, and commit the first."""
    (directory / "points-1.parquet").write_bytes(b"x")
    files = {"points": [DataFile("points-1.parquet", 1, 1)]}
    old, new = Manifest(number=1), Manifest(number=2, files=files)
    assert commit(directory, old)
    return old, new


def count_calls(directory: Path) -> int:
    system = WatchedSystem()
    _, new = states(directory)
    assert commit(directory, new, system)
    return len(system.calls)


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("kind", [killed_at, KilledAfter], ids=["before", "in"])
def test_a_commit_that_is_stopped_at_any_call_leaves_the_old_or_the_new(
    tmp_path: Path, kind: Callable[[int], object], has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever call of it is the last one, a whole state is there, and the next commit succeeds."""
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    (tmp_path / "count").mkdir()
    for number in range(1, count_calls(tmp_path / "count") + 1):
        directory = tmp_path / str(number)
        directory.mkdir()
        old, new = states(directory)
        system = kind(number)
        with pytest.raises(Killed):
            commit(directory, new, system if isinstance(system, WatchedSystem) else WatchedSystem(system))  # type: ignore[arg-type]

        found = load_manifest(directory)

        assert found.files in (old.files, new.files)
        found.number += 1
        assert commit(directory, found)
        assert load_manifest(directory) == found
