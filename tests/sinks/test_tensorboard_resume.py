"""Delivery that is killed, cut, repeated or hindered ends with the file that an undisturbed one writes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.events import Metrics, RunStarted
from sinks.tensorboard import TensorBoardSink
from tests.sinks.tb_support import (
    FINISHED,
    STEPS,
    contents,
    deliver,
    event_file,
    in_batches,
    kept,
    make_run,
    run_info,
    scalars,
    some_events,
)
from tests.tracker.support import run_job


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "logs", some_events())


class Killed:
    """A delivery that ends without a word after some batches, and what its last checkpoint knew."""

    def __init__(self, run: Path, log_dir: Path, *, batches: int, saved: int, size: int) -> None:
        sink = TensorBoardSink(log_dir=log_dir)
        sink.open(run_info(run))
        self.state: dict[str, object] = {}
        for number, batch in enumerate(in_batches(run, size)[:batches], 1):
            sink.write(batch)
            if number == saved:
                self.state = sink.state()
        sink.close(None)


def finish(run: Path, log_dir: Path, state: dict[str, object], *, saved: int, size: int) -> None:
    """Deliver what comes after the *saved* batches."""
    sink = TensorBoardSink(log_dir=log_dir)
    sink.open(run_info(run, state))
    for batch in in_batches(run, size)[saved:]:
        sink.write(batch)
    sink.state()
    sink.close(FINISHED)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_killed_at_any_batch_ends_with_the_same_files(tmp_path: Path, run: Path, size: int) -> None:
    """Whatever was delivered beyond the last checkpoint, the files end byte for byte the same."""
    deliver(run, tmp_path / "undisturbed", batch_events=size)
    whole = contents(tmp_path / "undisturbed")
    count = len(in_batches(run, size))

    for batches in range(0, count + 1, max(1, count // 12)):
        for saved in {0, batches // 2, batches}:
            log_dir = tmp_path / f"{batches}-{saved}"
            killed = Killed(run, log_dir, batches=batches, saved=saved, size=size)
            finish(run, log_dir, killed.state, saved=saved, size=size)

            assert contents(log_dir) == whole


def test_torn_at_any_byte_ends_with_the_same_files(tmp_path: Path, run: Path) -> None:
    """A write that was torn anywhere behind the checkpoint leaves nothing behind."""
    deliver(run, tmp_path / "undisturbed", batch_events=20)
    whole = contents(tmp_path / "undisturbed")
    killed = Killed(run, tmp_path / "killed", batches=3, saved=2, size=20)
    path = event_file(tmp_path / "killed")
    young = path.read_bytes()
    length = killed.state["length"]
    assert isinstance(length, int)
    assert length < len(young)

    for size in [*range(length, len(young), 7), len(young) - 1]:
        path.write_bytes(young[:size])
        finish(run, tmp_path / "killed", killed.state, saved=2, size=20)

        assert contents(tmp_path / "killed") == whole


def test_what_lies_beyond_the_checkpoint_is_cut_off(tmp_path: Path, run: Path) -> None:
    """Also more than what comes after it will fill: another delivery may have been further ahead."""
    deliver(run, tmp_path / "undisturbed", batch_events=20)
    killed = Killed(run, tmp_path / "killed", batches=3, saved=2, size=20)
    with event_file(tmp_path / "killed").open("ab") as file:
        file.write(bytes(100_000))

    finish(run, tmp_path / "killed", killed.state, saved=2, size=20)

    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 100), max_size=5), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6)
)
def test_series_is_right_however_batches_are_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], sizes: list[int]
) -> None:
    """Other batches after each kill make another file, and the same series."""
    root = tmp_path_factory.mktemp("cut")
    run = make_run(root / "logs", some_events())
    events = [event for batch in in_batches(run, 10_000) for part in batch.slices for event in part.events]
    (batch,) = in_batches(run, 10_000)
    state: dict[str, object] = {}
    at = 0
    for stop in [*sorted(cuts), len(events)]:
        sink = TensorBoardSink(log_dir=root / "board")
        sink.open(run_info(run, state))
        while at < stop:
            size = sizes[at % len(sizes)]
            part = batch.slices[0]._replace(events=events[at : at + size])
            sink.write(type(batch)([part]))
            at += size
        state = sink.state()
        sink.close(None)
    shutil.rmtree(root / "logs")

    board = root / "board/p/a"
    assert scalars(board, "acc") == kept(zip(STEPS, range(len(STEPS)), strict=True))
    assert scalars(board, "unnumbered") == [(i, i * 5.0) for i in range(15)]


# --- what became of the file ---------------------------------------------------------------------------


def lose(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    ("harm", "said"), [(lose, "is gone"), (shorten, "of the"), (change, "holds something else")]
)
def test_lost_file_is_named_with_the_way_out(
    tmp_path: Path, run: Path, harm: Callable[[Path], None], said: str
) -> None:
    """A file that no longer holds what was delivered stops delivery: nothing is lost in silence."""
    state = deliver(run, tmp_path / "board").state()
    harm(event_file(tmp_path / "board"))

    with pytest.raises(EvlogError, match=f"{said}.*evlog sync --restart") as caught:
        TensorBoardSink(log_dir=tmp_path / "board").open(run_info(run, state))

    assert not isinstance(caught.value, SinkUnavailableError)


def test_new_generation_writes_the_files_anew(tmp_path: Path, run: Path) -> None:
    """Delivered anew, the old files are gone and the new ones are the same."""
    deliver(run, tmp_path / "board")
    before = contents(tmp_path / "board")
    event_file(tmp_path / "board").write_bytes(b"garbage")

    sink = TensorBoardSink(log_dir=tmp_path / "board")
    sink.open(run_info(run, generation=1))
    assert contents(tmp_path / "board") == {}
    for batch in in_batches(run, 1000):
        sink.write(batch)
    sink.close(FINISHED)

    assert contents(tmp_path / "board") == before


def test_runs_of_one_id_in_two_projects_stay_apart(tmp_path: Path) -> None:
    """The project is a directory above the run's."""
    for project in ("p", "q"):
        run = make_run(tmp_path / "logs", [Metrics(step=0, data={project: 1.0})], name=f"{project}/a")
        deliver(run, tmp_path / "board")

    assert [scalars(tmp_path / f"board/{p}/a", p) for p in ("p", "q")] == [[(0, 1.0)]] * 2


def test_another_run_of_the_same_name_is_not_overwritten(tmp_path: Path, run: Path) -> None:
    """A run from another root with the same project and id is refused, and the first one's file stays."""
    other = make_run(tmp_path / "elsewhere", [RunStarted(name="run", ts=5_000_000)])
    deliver(run, tmp_path / "board")
    before = contents(tmp_path / "board")

    with pytest.raises(EvlogError, match="holds another run"):
        TensorBoardSink(log_dir=tmp_path / "board").open(run_info(other))

    assert contents(tmp_path / "board") == before


# --- a disk that is full ---------------------------------------------------------------------------------

FULL = """
    import resource, signal, sys
    from pathlib import Path
    from eventlog.errors import SinkUnavailableError
    from sinks.tensorboard import TensorBoardSink
    from tests.sinks.tb_support import in_batches, run_info, FINISHED

    run, log_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("logs/p/a"), Path("board")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    batches = in_batches(run, 30)
    sink = TensorBoardSink(log_dir=log_dir)
    sink.open(run_info(run))
    sink.write(batches[0])
    state = sink.state()
    resource.setrlimit(resource.RLIMIT_FSIZE, (state["length"] + 100, resource.RLIM_INFINITY))
    try:
        sink.write(batches[1])
    except SinkUnavailableError as error:
        print(error)
    (path,) = log_dir.glob("p/a/events.out.tfevents.[!0]*")
    assert path.stat().st_size == state["length"], "no half record stays"
    sink.close(None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sink.open(run_info(run, state))
    for batch in batches[1:]:
        sink.write(batch)
    sink.state()
    sink.close(FINISHED)
"""


def test_full_disk_says_so_and_delivery_goes_on_later(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not grow is cut back to its last record, and the batch goes through afterwards."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    deliver(run, tmp_path / "undisturbed", batch_events=30)

    code, out, err = run_job(FULL, tmp_path)

    assert (code, err) == (0, "")
    assert "cannot be written: File too large. Make room on that disk" in out
    assert contents(tmp_path / "board") == contents(tmp_path / "undisturbed")


def test_failed_sync_is_never_taken_for_a_success(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync no state is given out; opened with the old one, everything is written anew."""
    deliver(run, tmp_path / "undisturbed", batch_events=30)
    batches, real = in_batches(run, 30), os.fsync
    sink = TensorBoardSink(log_dir=tmp_path / "board")
    sink.open(run_info(run))
    sink.write(batches[0])
    state = sink.state()
    sink.write(batches[1])

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SinkUnavailableError, match="Input/output error"):
        sink.state()
    monkeypatch.setattr(os, "fsync", real)
    with pytest.raises(SinkUnavailableError):
        sink.state()

    finish(run, tmp_path / "board", state, saved=1, size=30)
    assert contents(tmp_path / "board") == contents(tmp_path / "undisturbed")


def fail(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_log_dir_that_cannot_be_made_is_unavailable(tmp_path: Path, run: Path) -> None:
    """A file in the way of the directory is told as such, to be tried again."""
    (tmp_path / "board").write_text("in the way")

    with pytest.raises(SinkUnavailableError, match="cannot be written"):
        TensorBoardSink(log_dir=tmp_path / "board").open(run_info(run))
