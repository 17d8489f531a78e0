"""The mirror in a directory: the same bytes, in part, in time, and for good."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.sink import Batch, RunInfo, RunStatus
from eventlog.storage.merge import RunReader
from eventlog.testing import Courier, RunWriter, describe_difference, entries_of, make_run
from sinks._mirror.targets import Content, DirectoryTarget, Held
from sinks.mirror import MirrorSink
from tests.cli import conftest as cli
from tests.faults import WatchedSystem, failing
from tests.logs import LogMaker, metrics, put
from tests.sinks.mirror_support import copy_now, files_of, full_run, sync

evlog = cli.evlog
clean_environment = cli.clean_environment


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def watched(to: Path, system: WatchedSystem) -> MirrorSink:
    """Return a sink whose calls to the operating system are seen."""
    sink = MirrorSink(to=to)
    sink.target = DirectoryTarget(to, system)
    return sink


def named(system: WatchedSystem) -> list[str]:
    """Return the names that files were given, but the record's."""
    paths = [call.path for call in system.calls if call.name == "rename" and call.path is not None]
    return [path.name for path in paths if path.name != "mirror.json"]


def test_the_mirror_has_the_runs_files_byte_for_byte(tmp_path: Path, to: Path) -> None:
    """Log, artifacts, payloads and what other sinks made; nothing of evlog's own state."""
    run = full_run(tmp_path / "experiments")
    sync(run, MirrorSink(to=to))

    held = files_of(to / "p" / "a")
    assert held == files_of(run)
    assert {path.split("/")[0] for path in held} == {"artifacts", "log", "metadata.json"}
    assert held["artifacts/empty.bin"] == b""


def test_what_is_not_whole_yet_is_left_out(tmp_path: Path, to: Path) -> None:
    """Rings, reserves and temporary files of running processes are nobody's copy."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(3))
    for name in (".metrics.json.123.tmp", ".x.json.9.a1b2c3.tmp", "log/r0-x.reserve", "log/r0-x.000001.ring"):
        (run / name).write_text("young")
    (run / "artifacts").mkdir()
    (run / "artifacts" / ".young-12-0a1b2c3d").mkdir()
    (run / "artifacts" / ".young-12-0a1b2c3d" / "part").write_text("young")
    (run / "artifacts" / ".gitignore").write_text("kept")
    copy_now(run, MirrorSink(to=to))

    assert not [path for path, data in files_of(to / "p" / "a").items() if data == b"young"]
    assert files_of(to / "p" / "a")["artifacts/.gitignore"] == b"kept"


def test_a_copy_is_on_the_disk_before_it_counts(tmp_path: Path, to: Path) -> None:
    """The bytes are synced before the file gets its name, and the name before anything else happens."""
    system = WatchedSystem()
    copy_now(full_run(tmp_path / "experiments"), watched(to, system))

    calls = [(call.name, call.path) for call in system.calls if call.name != "make_read_only"]
    renames = [i for i, (name, _) in enumerate(calls) if name == "rename"]
    assert len(renames) == len(files_of(to / "p" / "a")) + 1
    for i in renames:
        path = calls[i][1]
        assert path is not None
        assert [name for name, _ in calls[i - 2 : i]] == ["sync", "close"]
        assert calls[i + 1] == ("sync_directory", path.parent)


def test_a_second_sync_copies_nothing(tmp_path: Path, to: Path) -> None:
    """What the target holds is not written again, nor read."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, MirrorSink(to=to))
    system = WatchedSystem()
    copy_now(run, watched(to, system))

    assert Counter(call.name for call in system.calls) == {}


def test_the_same_content_with_a_new_time_is_not_copied_again(tmp_path: Path, to: Path) -> None:
    """Another sink that makes its files anew costs the mirror a look."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, MirrorSink(to=to))
    os.utime(run / "metadata.json", ns=(1, 1))
    system = WatchedSystem()
    copy_now(run, watched(to, system))

    assert named(system) == []


def test_a_resumed_run_adds_its_new_files(tmp_path: Path, to: Path) -> None:
    """Only what is new is copied: the new writer's segment and a changed file."""
    run = full_run(tmp_path / "experiments")
    sync(run, MirrorSink(to=to))
    old = set(files_of(run))
    make_run(run, metrics(3))
    (run / "metadata.json").write_text('{"new": 1}')
    system = WatchedSystem()
    sync(run, watched(to, system))

    (segment,) = set(files_of(run)) - old
    assert sorted(named(system)) == sorted(["metadata.json", Path(segment).name])
    assert files_of(to / "p" / "a") == files_of(run)


def test_a_growing_run_is_mirrored_in_whole_lines(tmp_path: Path, to: Path) -> None:
    """Whoever reads the mirror of a living run sees a prefix of it, and later more."""
    run = tmp_path / "experiments" / "p" / "a"
    writer = RunWriter(run)
    sink = MirrorSink(to=to)
    sink.open(RunInfo(project="p", run_id="a", path=run))
    reader = RunReader(run)
    seen = []
    for start in (0, 10, 20):
        writer.write(*metrics(10, start=start))
        sink.write(Batch(list(reader.slices())))
        seen.append(len(entries_of(to / "p" / "a")))
    sink.close(RunStatus(status="running"))
    held = files_of(to / "p" / "a")
    writer.close()
    copy_now(run, MirrorSink(to=to))

    assert seen == [10, 20, 30]
    assert all(data.endswith(b"\n") for data in held.values())
    assert files_of(to / "p" / "a") == files_of(run)


def test_a_half_line_of_a_dead_writer_lies_in_the_mirror_too(tmp_path: Path, to: Path) -> None:
    """Nobody will complete it: the mirror says of the log what the log says."""
    run = tmp_path / "experiments" / "p" / "a"
    lines = LogMaker().segment(metrics(5), is_sealed=False)
    put(run, 1, b"".join(lines)[:-20])
    copy_now(run, MirrorSink(to=to))

    assert files_of(to / "p" / "a") == files_of(run)


def test_what_disappears_here_stays_there(tmp_path: Path, to: Path) -> None:
    """Deleting a run's files to make room does not reach the mirror."""
    run = full_run(tmp_path / "experiments")
    sync(run, MirrorSink(to=to))
    before = files_of(to / "p" / "a")
    (run / "artifacts" / "model.bin").unlink()
    next((run / "log").iterdir()).unlink()
    copy_now(run, MirrorSink(to=to))

    assert files_of(to / "p" / "a") == before


@pytest.mark.parametrize("name", ["artifacts/model.bin", "log"])
def test_a_copy_that_was_changed_is_copied_again(tmp_path: Path, to: Path, name: str) -> None:
    """A flipped bit under the same size is found, and only that file is mended."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, MirrorSink(to=to))
    path = to / "p" / "a" / name
    path = min(path.iterdir()) if path.is_dir() else path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    system = WatchedSystem()
    copy_now(run, watched(to, system))

    assert named(system) == [path.name]
    assert files_of(to / "p" / "a") == files_of(run)


def test_a_lost_copy_and_a_lost_record_are_made_again(tmp_path: Path, to: Path) -> None:
    """The target's record is believed as far as the files agree, and is not needed."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, MirrorSink(to=to))
    (to / "p" / "a" / "artifacts" / "empty.bin").unlink()
    copy_now(run, MirrorSink(to=to))
    first = files_of(to / "p" / "a")
    (to / "p" / "a" / ".evlog" / "mirror.json").write_text("{")
    copy_now(run, MirrorSink(to=to))

    assert first == files_of(to / "p" / "a") == files_of(run)


def test_a_moved_mirror_is_not_copied_again(tmp_path: Path, to: Path) -> None:
    """Files that were copied elsewhere with new times are read once and believed."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, MirrorSink(to=to))
    for path in (to / "p" / "a").rglob("*"):
        os.utime(path, ns=(5, 5))
    system = WatchedSystem()
    copy_now(run, watched(to, system))

    assert named(system) == []


def test_damage_here_does_not_reach_a_good_copy(tmp_path: Path, to: Path) -> None:
    """A segment that was sealed and verified is never replaced."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, MirrorSink(to=to))
    before = files_of(to / "p" / "a")
    for path in (run / "log").iterdir():
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-300])
    copy_now(run, MirrorSink(to=to))

    assert files_of(to / "p" / "a") == before


def test_a_segment_that_lost_its_end_here_keeps_it_there(tmp_path: Path, to: Path) -> None:
    """A power cut may take the last lines of a log that was never sealed; the mirror has them."""
    run = tmp_path / "experiments" / "p" / "a"
    lines = LogMaker().segment(metrics(20), is_sealed=False)
    path = put(run, 1, b"".join(lines))
    copy_now(run, MirrorSink(to=to))
    path.write_bytes(b"".join(lines[:10]))
    copy_now(run, MirrorSink(to=to))
    path.write_bytes(b"".join(lines[:10]) + bytes(50))
    copy_now(run, MirrorSink(to=to))

    assert list(files_of(to / "p" / "a").values()) == [b"".join(lines)]


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_segment_damaged_here_goes_on_there(tmp_path: Path, to: Path, is_sealed: bool) -> None:
    """What was mirrored stays good, and new lines come behind it."""
    run = tmp_path / "experiments" / "p" / "a"
    lines = LogMaker().segment(metrics(20), is_sealed=is_sealed)
    whole = b"".join(lines)
    path = put(run, 1, b"".join(lines[:10]))
    copy_now(run, MirrorSink(to=to))
    damaged = bytearray(whole)
    damaged[len(lines[0]) + 20] ^= 1
    path.write_bytes(damaged)
    copy_now(run, MirrorSink(to=to))

    assert list(files_of(to / "p" / "a").values()) == [whole]


def test_a_segment_that_was_damaged_before_is_mirrored_as_it_lies(tmp_path: Path, to: Path) -> None:
    """The mirror hides no damage."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(20))
    (path,) = (run / "log").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    copy_now(run, MirrorSink(to=to))

    assert files_of(to / "p" / "a") == files_of(run)


def test_another_generation_copies_everything_anew(tmp_path: Path, to: Path) -> None:
    """Who asks for everything anew gets every file written again."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, MirrorSink(to=to))
    system = WatchedSystem()
    copy_now(run, watched(to, system), generation=1)
    again = WatchedSystem()
    copy_now(run, watched(to, again), generation=1)

    assert sorted(named(system)) == sorted(Path(path).name for path in files_of(run))
    assert named(again) == []


def test_links_are_not_followed(tmp_path: Path, to: Path) -> None:
    """What lies outside of the run does not come along."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(3))
    (tmp_path / "secret").write_text("s")
    (run / "artifacts").mkdir()
    (run / "artifacts" / "link").symlink_to(tmp_path / "secret")
    (run / "artifacts" / "up").symlink_to(tmp_path)
    copy_now(run, MirrorSink(to=to))

    assert [path for path in files_of(to / "p" / "a") if not path.startswith("log/")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take UTF-8 only")
def test_a_file_that_cannot_be_copied_is_named_and_does_not_stop_the_others(tmp_path: Path, to: Path) -> None:
    """Everything else is in the mirror when the error is raised."""
    run = full_run(tmp_path / "experiments")
    odd = os.fsencode(run / "artifacts") + b"/\xff"
    Path(os.fsdecode(odd)).write_text("x")

    with pytest.raises(EvlogError, match=r"artifacts/\\udcff: its name is not UTF-8"):
        copy_now(run, MirrorSink(to=to))
    Path(os.fsdecode(odd)).unlink()
    assert files_of(to / "p" / "a") == files_of(run)


def test_a_path_that_is_too_long_there_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    """Waiting makes no path shorter."""
    run = full_run(tmp_path / "experiments")
    deep = run.joinpath("artifacts", *["e" * 200] * 3)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    parts = (3700 - len(str(tmp_path))) // 201
    to = tmp_path.joinpath(*["d" * 200] * parts)

    with pytest.raises(EvlogError, match=r"not mirrored: artifacts/eee.*File name too long"):
        copy_now(run, MirrorSink(to=to))
    (deep / "file").unlink()
    assert files_of(to / "p" / "a") == files_of(run)


class Replacing(DirectoryTarget):
    """Replaces the file that is to be copied while it is copied, as often as told."""

    times = 1

    def put(self, path: str, content: Content, *, is_final: bool = False) -> Held:
        if path.endswith("model.bin") and self.times:
            self.times -= 1
            content.path.write_bytes(b"new" * (1000 + self.times))
        return super().put(path, content, is_final=is_final)


def test_a_file_that_is_replaced_while_it_is_copied_arrives_whole(
    tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is made again of what is there now."""
    monkeypatch.setattr("sinks._mirror.targets.IN_MEMORY_BYTES", 0)
    run = full_run(tmp_path / "experiments")
    sink = MirrorSink(to=to)
    sink.target = Replacing(to)
    copy_now(run, sink)

    assert files_of(to / "p" / "a")["artifacts/model.bin"] == b"new" * 1000


def test_a_file_that_never_stands_still_is_named(
    tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no half copy, and the rest is there."""
    monkeypatch.setattr("sinks._mirror.targets.IN_MEMORY_BYTES", 0)
    run = full_run(tmp_path / "experiments")
    sink = MirrorSink(to=to)
    sink.target = Replacing(to)
    sink.target.times = 100

    with pytest.raises(EvlogError, match=r"model\.bin: it changes while it is copied"):
        copy_now(run, sink)
    assert set(files_of(run)) - set(files_of(to / "p" / "a")) == {"artifacts/model.bin"}


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename", "sync_directory"])
def test_a_full_or_failing_disk_is_told_and_tried_again(tmp_path: Path, to: Path, call: str) -> None:
    """The pump waits; when there is room, the mirror is completed."""
    run = full_run(tmp_path / "experiments")

    with pytest.raises(SinkUnavailableError, match="No space left"):
        copy_now(run, watched(to, WatchedSystem(failing(call, 2, errno.ENOSPC, times=10**6))))
    copy_now(run, MirrorSink(to=to))
    assert files_of(to / "p" / "a") == files_of(run)
    assert not list((to / "p" / "a" / ".evlog" / "mirror-young").iterdir())


def test_query_and_other_commands_work_on_the_mirror(tmp_path: Path, to: Path, evlog: cli.Evlog) -> None:
    """A mirror is a root like any other."""
    root = tmp_path / "experiments"
    sync(full_run(root), MirrorSink(to=to))
    sync(full_run(root, "b"), MirrorSink(to=to))

    sql = "select run_id, status, count(*) n from runs join metrics using (run_id) group by all order by 1"
    done = evlog("query", sql, "--dir", str(to), "--format", "json")
    assert json.loads(done.out) == [{"run_id": r, "status": "finished", "n": 51} for r in ("a", "b")]
    assert evlog("verify", "--dir", str(to)).code == 0
    assert "a" in evlog("list", "--dir", str(to)).out


def test_the_command_line_makes_a_mirror(tmp_path: Path, to: Path, evlog: cli.Evlog) -> None:
    """``evlog sync --to mirror --option to=…`` and its proof."""
    run = full_run(tmp_path / "experiments")
    words = ("sync", "--to", "mirror", "--option", f"to={to}", "--dir", str(tmp_path / "experiments"))
    done, proof = evlog(*words), evlog(*words, "--verify")

    assert (done.code, proof.code) == (0, 0), done.out + proof.out
    assert files_of(to / "p" / "a") == files_of(run)


def test_the_proof_notices_what_is_wrong_in_the_mirror(tmp_path: Path, to: Path) -> None:
    """Every event and every file of the run is compared."""
    run = full_run(tmp_path / "experiments")
    info = RunInfo(project="p", run_id="a", path=run)
    copy_now(run, MirrorSink(to=to))
    wanted = list(MirrorSink(to=to).expected(entries_of(run)))
    whole = describe_difference(wanted, MirrorSink(to=to).delivered(info))
    (to / "p" / "a" / "artifacts" / "model.bin").write_bytes(b"other")
    (to / "p" / "a" / "artifacts" / "folder" / "deep" / "ä b?*[1]%20.txt").unlink()
    max((to / "p" / "a" / "log").iterdir()).unlink()
    broken = describe_difference(wanted, MirrorSink(to=to).delivered(info))

    assert whole == ""
    assert "file artifacts/model.bin" in broken
    assert "deep/" in broken
    assert "event note" in broken
    assert "metric loss" in broken


@pytest.mark.parametrize("place", ["", "p/a/artifacts"])
def test_a_run_is_not_mirrored_into_itself(tmp_path: Path, place: str) -> None:
    """That would copy copies of copies."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with pytest.raises(EvlogError, match="Choose another place"):
        copy_now(run, MirrorSink(to=tmp_path / "experiments" / place))


def test_a_place_that_cannot_take_files_is_named(tmp_path: Path) -> None:
    """A file in the way will not go away by waiting."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))
    (tmp_path / "file").write_text("")

    with pytest.raises(EvlogError, match="cannot take the mirror"):
        copy_now(run, MirrorSink(to=tmp_path / "file"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": " "}, "`to` is empty"),
        ({"to": "s3://b", "storage_options": "{"}, "not JSON"),
        ({"to": "s3://b", "storage_options": "[1]"}, "not an object"),
        ({"to": "/data", "endpoint_url": "http://x"}, "takes no storage options"),
        ({"to": "/data", "interval_s": "soon"}, "no number of seconds"),
        ({"to": "/data", "interval_s": "nan"}, "no number of seconds"),
        ({"to": "nosuch://x"}, "nosuch"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, str], message: str, tmp_path: Path) -> None:
    """With what is wrong, and the way out."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with pytest.raises((EvlogError, ValueError), match=message):
        copy_now(run, MirrorSink(**options))


def test_the_destination_tells_places_apart_and_no_secrets() -> None:
    """Two servers are two destinations; a password is none."""
    url = "s3://key:secret@bucket/runs/?x=1#y"

    assert MirrorSink(to=url).destination == "s3://bucket/runs"
    with_server = MirrorSink(to=url, endpoint_url="http://ada:pw@127.0.0.1:9000/?token=1").destination
    assert with_server == "s3://bucket/runs at http://127.0.0.1:9000"
    assert MirrorSink(to="abfs://box@account.net/x").destination == "abfs://box@account.net/x"
    assert MirrorSink(to="simplecache::sftp://ada:pw@host/x?y").destination == "simplecache::sftp://host/x"
    assert MirrorSink(to="~/x/../m").destination == str(Path.home() / "m")


def test_only_urls_need_fsspec(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory works without a package; a URL says which one is missing."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)

    copy_now(run, MirrorSink(to=to))
    with pytest.raises(ImportError, match="fsspec"):
        copy_now(run, MirrorSink(to="memory://x"))


def test_a_batch_says_how_far_the_mirror_must_be(tmp_path: Path, to: Path) -> None:
    """A batch that the mirror is ahead of costs nothing."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(50))
    system = WatchedSystem()
    Courier(run, lambda: watched(to, system)).deliver(size=5)

    assert Counter(named(system)) == {path.name: 1 for path in (run / "log").iterdir()}


def test_events_name_files_below_the_run_only(tmp_path: Path, to: Path) -> None:
    """A hostile log cannot make the mirror read elsewhere."""
    (tmp_path / "secret").write_text("s")
    run = make_run(
        tmp_path / "experiments" / "p" / "a",
        [ev.Artifact(name="x", path="../../../secret", size_bytes=1, sha256="0" * 64)],
    )
    copy_now(run, MirrorSink(to=to))

    held = [p.value for p in MirrorSink(to=to).delivered(RunInfo(project="p", run_id="a", path=run))]
    assert "missing" in held
    assert not list(tmp_path.rglob("mirror/**/secret"))
