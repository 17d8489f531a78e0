"""The mirror in an object store (moto's S3), and in other file systems of fsspec."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.sink import RunInfo
from eventlog.testing import describe_difference, entries_of, make_run
from sinks._mirror.targets import StoreTarget
from sinks.mirror import RECORD, MirrorSink
from tests.cli import conftest as cli
from tests.faults import Killed
from tests.logs import metrics
from tests.sinks import s3_server as fixtures
from tests.sinks.mirror_support import copy_now, files_of, full_run, problems_of, sync
from tests.sinks.s3_server import Bucket

s3_server, bucket = fixtures.s3_server, fixtures.bucket
evlog = cli.evlog
clean_environment = cli.clean_environment


class WatchedFiles:
    """A file system of fsspec with every call noted; ends the process before or after call *number*."""

    def __init__(self, files: Any, *, number: int = 0, is_after: bool = False) -> None:
        self._files, self._number, self._is_after = files, number, is_after
        self.calls: list[str] = []
        self.sent_to: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        return self._noted(name, found) if callable(found) and not name.startswith("_") else found

    def _noted(self, name: str, method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in {"pipe_file", "put_file"}:
                self.sent_to.append(str(args[name == "put_file"]))
            is_last = len(self.calls) == self._number
            if is_last and not self._is_after:
                raise Killed(name)
            done = method(*args, **options)
            if is_last:
                raise Killed(name)
            return done

        return call


def mirror(bucket: Bucket, prefix: str = "runs") -> MirrorSink:
    return MirrorSink(to=f"{bucket.url}/{prefix}", endpoint_url=bucket.endpoint)


def watched(bucket: Bucket, *, files: WatchedFiles | None = None) -> tuple[MirrorSink, WatchedFiles]:
    """Return a sink, and what sees its calls to the store."""
    sink = mirror(bucket)
    target = StoreTarget(f"{bucket.url}/runs", {"endpoint_url": bucket.endpoint})
    files = files or WatchedFiles(target.filesystem)
    target.filesystem = files
    sink.target = target
    return sink, files


def held_in(bucket: Bucket, prefix: str = "runs/p/a/") -> dict[str, bytes]:
    """Return the objects of a mirrored run by path."""
    return {k[len(prefix) :]: data for k, data in bucket.contents().items() if k.startswith(prefix)}


def without_record(held: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in held.items() if path != RECORD}


def test_the_store_has_the_runs_files_byte_for_byte(tmp_path: Path, bucket: Bucket) -> None:
    """Also empty ones, and names that mean something in URLs and patterns."""
    run = full_run(tmp_path / "experiments")
    odd = {"q?x=1&y.txt": b"1", "[a-z]*.txt": b"2", "#hash %41 +.txt": b"3", "ü/é.txt": b""}
    for name, data in odd.items():
        path = run / "artifacts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    sync(run, mirror(bucket))

    assert without_record(held_in(bucket)) == files_of(run)


def test_large_files_are_read_from_the_disk(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit in memory goes in parts, and appears when it is whole."""
    monkeypatch.setattr("sinks._mirror.targets.IN_MEMORY_BYTES", 1000)
    run = full_run(tmp_path / "experiments")
    sink, files = watched(bucket)
    copy_now(run, sink)

    assert files.calls.count("put_file") >= 3
    assert without_record(held_in(bucket)) == files_of(run)


def test_a_second_sync_sends_nothing(tmp_path: Path, bucket: Bucket) -> None:
    """One listing and the record tell that everything is there."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, mirror(bucket))
    sink, files = watched(bucket)
    copy_now(run, sink)

    assert Counter(files.calls) == {"find": 1, "open": 1}


def test_a_resumed_run_sends_its_new_segment(tmp_path: Path, bucket: Bucket) -> None:
    """Sealed segments are sent once."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, mirror(bucket))
    make_run(run, metrics(3))
    sink, files = watched(bucket)
    copy_now(run, sink)

    assert files.calls.count("pipe_file") == 2  # the segment and the record
    assert without_record(held_in(bucket)) == files_of(run)


def test_an_object_that_was_changed_is_sent_again(tmp_path: Path, bucket: Bucket) -> None:
    """Another ETag under the same size: the object is read, and replaced if it is something else."""
    run = full_run(tmp_path / "experiments")
    copy_now(run, mirror(bucket))
    key = f"{bucket.name}/runs/p/a/artifacts/model.bin"
    data = bytearray(bucket.files.cat_file(key))
    data[7] ^= 1
    bucket.files.pipe_file(key, bytes(data))
    copy_now(run, mirror(bucket))

    assert without_record(held_in(bucket)) == files_of(run)


class SpoilsOnce(WatchedFiles):
    """A store that keeps other bytes than it was sent, the first time that an object of some name is sent."""

    def __init__(self, files: Any, ending: str) -> None:
        super().__init__(files)
        self.ending, self.times = ending, 1

    def pipe_file(self, name: str, data: bytes) -> None:
        if name.endswith(self.ending) and self.times:
            self.times -= 1
            data = data[:-1] + b"?"
        self._files.pipe_file(name, data)


@pytest.mark.parametrize("ending", ["model.bin", ".jsonl"])
def test_what_arrives_wrong_is_sent_again(tmp_path: Path, bucket: Bucket, ending: str) -> None:
    """Every object is read back before it counts."""
    run = full_run(tmp_path / "experiments")
    files = StoreTarget(bucket.url, {"endpoint_url": bucket.endpoint}).filesystem
    sink, _ = watched(bucket, files=SpoilsOnce(files, ending))
    copy_now(run, sink)

    assert without_record(held_in(bucket)) == files_of(run)


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_leaves_whole_objects(tmp_path: Path, bucket: Bucket, is_after: bool) -> None:
    """Killed before and after each call to the store, again and again, until there is nothing left to do."""
    run = full_run(tmp_path / "experiments")
    number, files = 0, StoreTarget(bucket.url, {"endpoint_url": bucket.endpoint}).filesystem
    while True:
        number += 1
        sink, _ = watched(bucket, files=WatchedFiles(files, number=number, is_after=is_after))
        try:
            copy_now(run, sink)
            break
        except Killed:
            assert problems_of(run, held_in(bucket)) == [], f"killed at call {number}"

    assert number > 10
    assert without_record(held_in(bucket)) == files_of(run)


def test_the_proof_reads_the_store(tmp_path: Path, bucket: Bucket) -> None:
    """Log and files are fetched and compared."""
    run = full_run(tmp_path / "experiments")
    info = RunInfo(project="p", run_id="a", path=run)
    wanted = list(mirror(bucket).expected(entries_of(run)))
    nothing = list(mirror(bucket).delivered(info))
    copy_now(run, mirror(bucket))
    whole = describe_difference(wanted, mirror(bucket).delivered(info))
    bucket.files.pipe_file(f"{bucket.name}/runs/p/a/artifacts/model.bin", b"other")

    assert nothing == []
    assert whole == ""
    assert "file artifacts/model.bin" in describe_difference(wanted, mirror(bucket).delivered(info))


def test_the_command_line_mirrors_to_a_store_and_back(
    tmp_path: Path, bucket: Bucket, evlog: cli.Evlog
) -> None:
    """A mirror that was fetched is a root: so one gets a run back."""
    root = tmp_path / "experiments"
    full_run(root)
    options = json.dumps({"endpoint_url": bucket.endpoint})
    words = ["sync", "--to", "mirror", "-o", f"to={bucket.url}", "-o", f"storage_options={options}"]
    done, proof = (evlog(*words, "--dir", str(root), *also) for also in ((), ("--verify",)))
    for key, data in bucket.contents().items():
        path = tmp_path / "back" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    assert (done.code, proof.code) == (0, 0), done.out + proof.out
    found = evlog(
        "query", "select count(*) n from metrics", "--dir", str(tmp_path / "back"), "--format", "json"
    )
    assert json.loads(found.out) == [{"n": 51}]


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path, bucket: Bucket) -> None:
    """Waiting does not make a bucket: the error says what to do."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with pytest.raises(EvlogError, match=r"s3://no-such-bucket/x is not there.*Create the bucket"):
        copy_now(run, MirrorSink(to="s3://no-such-bucket/x", endpoint_url=bucket.endpoint))


def test_a_setting_that_cannot_be_is_not_tried_again(tmp_path: Path, bucket: Bucket) -> None:
    """No request is made with a bucket's name that is none."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with pytest.raises(Exception, match="Invalid bucket name"):
        copy_now(run, MirrorSink(to="s3://Bad!Name/x", endpoint_url=bucket.endpoint))


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """Yield the address of a server that says the same to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooMany")])
def test_a_server_in_trouble_is_tried_again_later(tmp_path: Path, status: int, code: str) -> None:
    """The pump waits and repeats."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with answering(status, code) as url, pytest.raises(SinkUnavailableError, match="cannot be reached now"):
        copy_now(run, MirrorSink(to="s3://bucket/x", endpoint_url=url))


@pytest.mark.usefixtures("bucket")
def test_a_server_that_is_not_there_is_tried_again_later(tmp_path: Path) -> None:
    """Nobody listens: that may change."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with pytest.raises(SinkUnavailableError, match="cannot be reached now"):
        copy_now(run, MirrorSink(to="s3://bucket/x", endpoint_url="http://127.0.0.1:9"))


@pytest.mark.usefixtures("bucket")
def test_a_refused_key_is_told(tmp_path: Path) -> None:
    """Waiting does not make a key good."""
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with (
        answering(403, "AccessDenied") as url,
        pytest.raises(EvlogError, match="Set the credentials") as told,
    ):
        copy_now(run, MirrorSink(to="s3://bucket/x", endpoint_url=url))
    assert not isinstance(told.value, SinkUnavailableError)


def test_missing_credentials_are_told(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the names of the variables."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_run(tmp_path / "experiments" / "p" / "a", metrics(1))

    with pytest.raises(EvlogError, match="AWS_ACCESS_KEY_ID"):
        copy_now(run, mirror(bucket))


# --- file systems where a put is not atomic -----------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Any]:
    """Yield fsspec's file system in memory, empty."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_elsewhere_a_file_gets_its_name_when_it_is_whole(tmp_path: Path, memory: Any, is_after: bool) -> None:
    """Copied under another name, read back, moved; killed at every call."""
    run = full_run(tmp_path / "experiments")
    number = 0
    while True:
        number += 1
        sink = MirrorSink(to="memory://runs")
        target = StoreTarget("memory://runs", {})
        files = target.filesystem = WatchedFiles(target.filesystem, number=number, is_after=is_after)
        sink.target = target
        try:
            copy_now(run, sink)
            break
        except Killed:
            assert all("/.evlog/mirror-young/" in name for name in files.sent_to)
            found = {p.removeprefix("/runs/p/a/"): memory.cat_file(p) for p in memory.find("/runs/p/a")}
            assert problems_of(run, found) == [], f"killed at call {number}"

    held = {p.removeprefix("/runs/p/a/"): memory.cat_file(p) for p in memory.find("/runs/p/a")}
    assert without_record(held) == files_of(run)
