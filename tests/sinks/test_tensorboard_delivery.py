"""Delivery by the pump, proof, refused events and options of the `tensorboard` sink."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.errors import SinkRejectedError
from eventlog.events import Evaluation, Event, Media, Metrics, Params, RunStarted, Summary
from eventlog.sink import RunInfo
from sinks.tensorboard import HPARAMS_FILE, TensorBoardSink
from tests.sinks.tb_support import (
    FINISHED,
    STEPS,
    contents,
    deliver,
    event_file,
    in_batches,
    make_run,
    messages,
    run_info,
    scalars,
    some_events,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "logs", some_events())


def test_impossible_events_are_named_and_the_others_written(tmp_path: Path) -> None:
    """A step beyond 64 bits, a file that is missing or lies elsewhere: refused whole, by name."""
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    events: list[Event] = [
        RunStarted(name="run"),
        Metrics(step=0, data={"a": 1.0}),
        Metrics(step=1, data={"a": 2.0, "b": "no number"}),
        Media(key="gone", media_type="image", path="media/gone.png", mime_type="image/png"),
        Media(key="outside", media_type="image", path="../../../secret.png", mime_type="image/png"),
        Evaluation(benchmark="m", metrics={"fine": 1.0, "bad": "x"}),
        Metrics(step=2, data={"a": 3.0}),
    ]
    run = make_run(tmp_path / "logs", events)
    (batch,) = in_batches(run, 1000)
    far = [*batch.slices[0].events, Metrics(seq=7, ts=1, step=1 << 64, data={"a": 9.0})]
    sink = TensorBoardSink(log_dir=tmp_path / "board")
    sink.open(run_info(run))

    with pytest.raises(SinkRejectedError) as caught:
        sink.write(type(batch)([batch.slices[0]._replace(events=far)]))
    sink.close(FINISHED)

    assert [seq for _, seq in caught.value.events] == [2, 3, 4, 5, 7]
    reader = scalars(tmp_path / "board/p/a", "a")
    assert reader == [(0, 1.0), (2, 3.0)]
    assert b"evaluation/m" not in event_file(tmp_path / "board").read_bytes()


@pytest.mark.parametrize("log_dir", ["", "gs://bucket/runs", "s3://bucket"])
def test_log_dir_has_to_be_a_directory_here(log_dir: str) -> None:
    """An address or nothing is refused with an example."""
    with pytest.raises(ValueError, match=r"\./runs"):
        TensorBoardSink(log_dir=log_dir)


def test_destination_is_the_same_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative directory counts from where the command runs; the destination is absolute."""
    monkeypatch.chdir(tmp_path)

    assert TensorBoardSink().destination == str(tmp_path / "runs")
    assert TensorBoardSink(log_dir="x/../y").destination == str(tmp_path / "y")


# --- with the pump: once, and proven ----------------------------------------------------------------------


def test_pump_delivers_once_and_proves_it(tmp_path: Path, run: Path) -> None:
    """A repeated delivery adds nothing; what is there is what the log says."""
    for _ in range(2):
        deliver_run(run, TensorBoardSink(log_dir=tmp_path / "board"), "tensorboard")

    proof = prove(run, TensorBoardSink(log_dir=tmp_path / "board"), "tensorboard")
    assert (proof.result, proof.differences) == ("proven", [])
    assert proof.points == 2 * len(STEPS) + 15 + 4 + 5 + 1 + 3


def test_proof_finds_a_changed_point(tmp_path: Path, run: Path) -> None:
    """A file that was changed behind our back is not proven."""
    deliver_run(run, TensorBoardSink(log_dir=tmp_path / "board"), "tensorboard")
    path = event_file(tmp_path / "board")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    proof = prove(run, TensorBoardSink(log_dir=tmp_path / "board"), "tensorboard")

    assert proof.result == "differs"


def test_restart_through_the_pump_begins_anew(tmp_path: Path, run: Path) -> None:
    """The way out that the error names works: after the directory was deleted, everything is there again."""
    deliver_run(run, TensorBoardSink(log_dir=tmp_path / "board"), "tensorboard")
    before = contents(tmp_path / "board")
    shutil.rmtree(tmp_path / "board")

    deliver_run(run, TensorBoardSink(log_dir=tmp_path / "board"), "tensorboard", restart=True)

    assert contents(tmp_path / "board") == before


def test_params_given_again_on_resume_replace_the_old_ones(tmp_path: Path) -> None:
    """The file of hparams holds the last value of each, and no end while the run goes on."""
    first: list[Event] = [RunStarted(name="run"), Params(data={"lr": 0.1, "seed": 1})]
    run = make_run(tmp_path / "logs", [*first, Params(data={"lr": 0.2}), Summary(data={"best": 1.0})])
    state = deliver(run, tmp_path / "board").state()
    ended = messages(tmp_path / "board/p/a" / HPARAMS_FILE)

    sink = TensorBoardSink(log_dir=tmp_path / "board")
    sink.open(run_info(run, state))
    more = make_run(tmp_path / "more", [*first, Params(data={"seed": 2})])
    sink.write(in_batches(more, 1000)[0])
    going = messages(tmp_path / "board/p/a" / HPARAMS_FILE)
    sink.close(None)

    assert [len(ended), len(going)] == [3, 2]
    points = TensorBoardSink(log_dir=tmp_path / "board").delivered(run_info(run, sink.state()))
    assert {p.series: p.value for p in points if p.series.startswith("hparam")} == {
        "hparam lr": 0.1,
        "hparam seed": 2.0,
    }


def test_run_without_a_start_is_delivered(tmp_path: Path) -> None:
    """If the log lost how the run began, its points are still there."""
    run = make_run(tmp_path / "logs", [Metrics(step=3, data={"a": 1.0}), Params(data={"lr": 1})])

    sink = deliver(run, tmp_path / "board")

    assert scalars(tmp_path / "board/p/a", "a") == [(3, 1.0)]
    info = RunInfo(project="p", run_id="a", path=run, state=sink.state())
    expected = sink.expected(e for b in in_batches(run, 9) for e in b.entries())
    assert sorted(sink.delivered(info)) == sorted(expected)
