"""The `wandb` sink: what becomes of each event, seen from the service."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import events as ev
from eventlog.delivery.pump import deliver_run
from eventlog.errors import SinkRejectedError
from eventlog.sink import Entry, KeepsState, ReadsBack, RunInfo, RunStatus
from sinks._wandb.media import artifact_name, histogram
from sinks._wandb.names import project_name, run_name
from sinks.wandb import WandBSink
from tests.logs import START_TS
from tests.sinks.wandb_support import (
    FINISHED,
    Pump,
    batches,
    environment,
    info,
    make_log,
    png,
    quick_sink,
    rows,
)
from tests.standin import Fault, StandIn, cut, status
from tests.standin.service import RunState
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as stand_in:
        for name, value in environment(stand_in, tmp_path_factory.mktemp("wandb")).items():
            patch.setenv(name, value)
        yield stand_in
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an event of each kind."""
    run = tmp_path_factory.mktemp("logs") / "demo" / "Rich Run"
    (run / "artifacts" / "dir").mkdir(parents=True)
    for name, data in {"a.png": png(), "a.wav": b"RIFF", "w.bin": b"weights", "dir/x.txt": b"x"}.items():
        (run / "artifacts" / name).write_bytes(data)
    entry = ev.FileEntry(path="x.txt", size_bytes=1, sha256=hashlib.sha256(b"x").hexdigest())
    sample = {"benchmark": "mmlu", "target": "B", "prediction": {"x": 1}}
    return make_log(
        run,
        [
            ev.Params(data={"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.99]}}),
            ev.Params(data={"opt": {"name": "sgd"}, "_wandb": 1, "param/_wandb": 2}),
            ev.Metrics(step=10, data={"loss": 0.5, "train/acc": 1}),
            ev.Metrics(step=3, data={"loss": "NaN", "up": "Infinity", "down": "-Infinity"}),
            ev.Metrics(data={"step": 7, "_hidden": 1, "metric/step": 2, "größe": 2**62}),
            ev.Histogram(key="h", step=1, edges=[0.0, 1.0, 2.0], counts=[3, 4]),
            ev.Table(key="tab", step=4, columns=["a", "b"], rows=[[1, "x"], [None, 2.5]]),
            ev.Media(key="pic", media_type="image", path="artifacts/a.png", caption="grey", step=5),
            ev.Media(key="snd", media_type="audio", path="artifacts/a.wav"),
            ev.Media(key="vid", media_type="video", path="artifacts/a.wav", mime_type="video/mp4"),
            ev.Media(key="page", media_type="html", text="<b>x</b>"),
            ev.Media(key="said", media_type="text", text="a < b"),
            ev.System(data={"cpu_percent": 12.5}),
            ev.Console(stream="stdout", text="one\ntwo"),
            ev.Console(stream="stderr", text="bad"),
            ev.Evaluation(benchmark="mmlu", step=6, metrics={"acc": 0.75}),
            ev.Sample(index=0, input="q0", metrics={"ok": 1}, **sample),  # type: ignore[arg-type]
            ev.Sample(index=1, input="q1", metrics={"ok": 0}, latency_ms=2.5, **sample),  # type: ignore[arg-type]
            ev.Artifact(name="weights", path="artifacts/w.bin", artifact_type="model", sha256="00"),
            ev.Artifact(name="my/dir", path="artifacts/dir", is_directory=True, files=[entry], version=2),
            ev.Artifact(name="far", path=str(run / "artifacts/a.wav"), stored="reference"),
            ev.Artifact(name="lost", path="/nowhere/x.bin", stored="reference", sha256="11"),
            ev.Checkpoint(path="/ckpt/1.pt", step=8, metrics={"loss": 0.25}, size_bytes=5),
            ev.Dataset(name="imagenet", split="val", version="2", rows=50),
            ev.Model(name="net", artifact="weights", flavor="torch"),
            ev.ModelRegistered(name="net", version="3", alias="prod"),
            ev.Tags(data={"late": None, "k": "w"}, removed=["t"]),
            ev.Note(text="more"),
            ev.Alert(title="hot", text="90 °C", level="warning"),
            ev.Context(kind="git", data={"commit": "abc", "branch": "main"}),
            ev.Context(kind="command", data={"argv": ["train.py", "--fast"]}),
            ev.Dropped(counts={"metrics": 3}, reason="full", first_ts=1, last_ts=2),
            ev.Summary(data={"best": 0.9, "verdict": "good"}),
        ],
    )


@pytest.fixture(scope="module")
def pump(rich: Path, service: StandIn) -> Pump:
    """The rich run, delivered in small batches."""
    pump = Pump(rich, size=10)
    pump.deliver(quick_sink(job_type="train"))
    return pump


@pytest.fixture(scope="module")
def held(pump: Pump, service: StandIn) -> RunState:
    """The rich run as the service holds it."""
    (found,) = (run for run in service.service.runs.values() if run.name.startswith("rich-run"))
    return found


def row_with(held: RunState, key: str) -> dict[str, Any]:
    (row,) = (row for row in held.rows() if key in row)
    return row


def test_rows_keep_step_and_time(held: RunState) -> None:
    """A row has the event's time and the user's step; its own number is another thing."""
    first, second, *_ = held.rows()

    assert (first["loss"], first["train/acc"], first["step"], first["_step"]) == (0.5, 1, 10, 0)
    assert (second["step"], second["_step"]) == (3, 1)
    assert first["_timestamp"] == pytest.approx((START_TS + 3000) / 1e6, abs=1e-6)
    assert first["_runtime"] == pytest.approx(0.003)
    assert [row["_step"] for row in held.rows()] == list(range(len(held.rows())))


def test_the_step_is_the_axis(held: RunState) -> None:
    """The config says what `define_metric("*", step_metric="step")` makes the SDK say."""
    defined = held.config["_wandb"]["value"]["m"]

    assert defined == [{"2": "*", "5": 2, "6": [1], "7": []}, {"1": "step", "6": [], "7": []}]


def test_numbers_that_are_not_finite_arrive(held: RunState) -> None:
    """NaN and infinity are numbers of the row and of the summary."""
    row = row_with(held, "up")

    assert math.isnan(row["loss"])
    assert (row["up"], row["down"]) == (math.inf, -math.inf)
    assert held.summary["down"] == -math.inf


def test_reserved_columns_are_given_to_nobody(held: RunState) -> None:
    """A metric with the name of a column of ours or of W&B's gets another name, each its own."""
    row = row_with(held, "größe")

    assert row["metric/step"] == 7
    assert row["metric/_hidden"] == 1
    assert row["metric/metric/step"] == 2
    assert row["größe"] == 2**62
    assert "step" not in row


def test_the_run_is_described(held: RunState) -> None:
    """Name, group, job type, tags, notes, commit and program are those of the log."""
    fields = held.fields

    assert (fields["displayName"], fields["groupName"], fields["jobType"]) == ("first", "exp", "train")
    assert fields["tags"] == ["k:w", "late"]
    assert fields["notes"] == "why\nmore"
    assert (fields["commit"], fields["program"]) == ("abc", "train.py")


def test_params_become_the_config(held: RunState) -> None:
    """Nested params stay nested; later values win, key by key."""
    config = held.user_config()

    assert config["opt"] == {"name": "sgd", "betas": [0.9, 0.99]}
    assert config["lr"] == 0.1
    assert (config["param/_wandb"], config["param/param/_wandb"]) == (1, 2)
    assert config["datasets"] == {"imagenet/val": {"version": "2", "rows": 50}}
    assert config["_evlog"]["run_id"] == "Rich Run"


def test_the_summary_has_last_values(held: RunState) -> None:
    """Last value of each metric, and what was put into the summary."""
    summary = held.summary

    assert (summary["best"], summary["verdict"], summary["train/acc"]) == (0.9, "good", 1)
    assert summary["dropped/metrics"] == 3
    assert summary["model/net"] == {"artifact": "weights", "flavor": "torch"}
    assert summary["registered/net"] == {"version": "3", "alias": "prod"}
    assert summary["status"] == "finished"


def test_machine_load_goes_to_its_own_stream(held: RunState) -> None:
    """W&B shows it under System, apart from the history."""
    (line,) = held.stats()

    assert line["system.cpu_percent"] == 12.5
    assert line["_wandb"] is True


def test_the_console_keeps_its_times(held: RunState) -> None:
    """Lines have the form that W&B's own have, with the time at which they were printed."""
    lines = held.output()

    assert [re.sub(r"\d{4}-\S+", "TIME", line) for line in lines] == [
        "TIME one",
        "TIME two",
        "ERROR TIME bad",
        "ERROR TIME [warning] hot: 90 °C",
    ]
    assert lines[0].startswith("2025-11-21T04:40:00.0")


def test_histograms_and_media_have_the_shapes_of_the_sdk(held: RunState) -> None:
    """What the SDK's own objects would have written stands in the row, and the files are there."""
    assert row_with(held, "h")["h"] == {"_type": "histogram", "values": [3, 4], "bins": [0.0, 1.0, 2.0]}
    pic = row_with(held, "pic")["pic"]
    assert (pic["_type"], pic["format"], pic["width"], pic["height"], pic["caption"]) == (
        "image-file", "png", 3, 2, "grey",
    )  # fmt: skip
    assert held.files[pic["path"]] == png()
    assert pic["sha256"] == hashlib.sha256(png()).hexdigest()
    assert row_with(held, "snd")["snd"]["_type"] == "audio-file"
    assert row_with(held, "vid")["vid"]["_type"] == "video-file"
    assert held.files[row_with(held, "page")["page"]["path"]] == b"<b>x</b>"
    assert held.files[row_with(held, "said")["said"]["path"]] == b"<pre>a &lt; b</pre>"
    assert held.uploaded == set(held.files)


def test_tables_are_files_and_artifacts(held: RunState, service: StandIn) -> None:
    """The row names a file of the run and the artifact that the SDK logged."""
    value = row_with(held, "tab")["tab"]

    assert (value["_type"], value["nrows"], value["ncols"]) == ("table-file", 2, 2)
    assert json.loads(held.files[value["path"]])["data"] == [[1, "x"], [None, 2.5]]
    (artifact,) = service.service.versions(f"{held.name}-tab-table")
    assert json.loads(artifact.files["table.table.json"])["data"] == [[1, "x"], [None, 2.5]]
    assert value["artifact_path"].endswith("/table.table.json")


def test_samples_become_one_table(held: RunState) -> None:
    """Samples of one benchmark in a row are one table, not a row each."""
    value = row_with(held, "mmlu/samples")["mmlu/samples"]

    table = json.loads(held.files[value["path"]])
    assert table["columns"] == ["index", "input", "target", "prediction", "ok", "latency_ms"]
    assert table["data"] == [[0, "q0", "B", '{"x": 1}', 1, None], [1, "q1", "B", '{"x": 1}', 0, 2.5]]
    assert row_with(held, "mmlu/acc")["step"] == 6


def test_checkpoints_are_rows(held: RunState) -> None:
    """Path and metrics of a checkpoint stand at its step."""
    row = row_with(held, "checkpoint/path")

    assert (row["checkpoint/path"], row["checkpoint/loss"], row["step"]) == ("/ckpt/1.pt", 0.25, 8)


def test_artifacts_are_committed_with_aliases(held: RunState, service: StandIn) -> None:
    """Files, directories and references become artifacts that the service has committed."""
    (weights,) = service.service.versions("weights")
    assert (weights.data["type"], weights.files["w.bin"]) == ("model", b"weights")
    assert set(weights.data["aliases"]) == {"latest", artifact_name("Rich Run-v1")}
    (directory,) = service.service.versions(artifact_name("my/dir"))
    assert directory.files["x.txt"] == b"x"
    (far,) = service.service.versions("far")
    manifest = json.loads(far.files["wandb_manifest.json"])
    assert next(iter(manifest["contents"].values()))["ref"].startswith("file:///")
    (lost,) = service.service.versions("lost")
    (entry,) = json.loads(lost.files["wandb_manifest.json"])["contents"].values()
    assert (entry["ref"], entry["digest"]) == ("file:///nowhere/x.bin", "11")


def test_delivering_again_changes_nothing(rich: Path, pump: Pump, held: RunState, service: StandIn) -> None:
    """A delivery that lost its state finds every row and artifact there."""
    before = (held.rows(), held.output(), held.stats(), len(service.service.artifacts), held.user_config())

    Pump(rich, size=10).deliver(quick_sink(job_type="train"))

    assert before == (
        held.rows(), held.output(), held.stats(), len(service.service.artifacts), held.user_config()
    )  # fmt: skip
    assert (held.state, held.exit_code) == ("finished", 0)


def test_what_is_read_back_is_what_was_expected(rich: Path, held: RunState) -> None:
    """Both sides of `--verify` yield the same points."""
    sink = quick_sink()
    assert isinstance(sink, ReadsBack)
    assert isinstance(sink, KeepsState)

    delivered = list(sink.delivered(info(rich)))
    entries: Iterator[Entry] = (e for batch in batches(rich, 5) for e in batch.entries())
    expected = list(sink.expected(entries))

    assert sorted(map(str, expected)) == sorted(map(str, delivered))
    assert ("metric loss", 3, "NaN") in [(p.series, p.step, p.value) for p in delivered]
    assert ("param opt.name", None, "sgd") in [(p.series, p.step, p.value) for p in delivered]


def test_the_sdk_goes_on_with_the_run(held: RunState, service: StandIn) -> None:
    """W&B's own client can resume a run that was delivered, and continues after its last row."""
    import wandb

    count = len(held.rows())
    run = wandb.init(
        project=held.project,
        id=held.name,
        resume="must",
        reinit="create_new",
        settings=wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True, finish_timeout=20),
    )
    run.log({"later": 1})
    run.finish()

    assert len(held.rows()) == count + 1
    assert held.rows()[-1]["_step"] == count
    assert held.user_config()["lr"] == 0.1


@pytest.mark.parametrize(
    ("word", "code", "exit_code", "state"),
    [
        ("finished", None, 0, "finished"),
        ("failed", 3, 3, "failed"),
        ("failed", None, 1, "failed"),
        ("killed", None, 255, "failed"),
        ("crashed", None, 1, "failed"),
    ],
)
def test_the_end_is_told(
    tmp_path: Path, service: StandIn, word: str, code: int | None, exit_code: int, state: str
) -> None:
    """Exit code and status reach the service; a run that is going on is left running."""
    run = make_log(tmp_path / "demo" / f"ends-{word}-{exit_code}", rows(2))
    pump = Pump(run)
    pump.deliver(quick_sink(), status=RunStatus(status="running"))
    held = service.run("demo", run.name)
    assert held.state == "running"

    pump.deliver(quick_sink(), status=RunStatus(status=word, exit_code=code))

    assert (held.state, held.exit_code) == (state, exit_code)
    assert held.summary["status"] == word


def test_the_pump_delivers_it(tmp_path: Path, service: StandIn) -> None:
    """With the real pump, twice: the second time there is nothing to do."""
    run = make_log(tmp_path / "demo" / "pumped", rows(50))

    first = deliver_run(run, quick_sink(), "wandb", timeout_s=20)
    second = deliver_run(run, quick_sink(), "wandb", timeout_s=20)

    assert (first.status, second.events) == ("finished", 0)
    assert len(service.run("demo", "pumped").rows()) == 50


def test_large_batches_are_cut(tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """No post is larger than W&B takes, and the rows are whole and in order."""
    monkeypatch.setattr("sinks._wandb.stream.POST_BYTES", 2000)
    run = make_log(tmp_path / "demo" / "large", rows(100))
    before = len(service.requests("file_stream"))

    Pump(run, size=200).deliver(quick_sink())

    posts = service.requests("file_stream")[before:]
    assert len(posts) > 5
    sizes = [sum(len(line) for c in p.body["files"].values() for line in c["content"]) for p in posts]
    assert max(sizes) < 3000
    assert [row["i"] for row in service.run("demo", "large").rows()] == list(range(100))


def test_events_that_w_and_b_cannot_hold_are_named(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost file and a row beyond W&B's limit are rejected by name; all others are delivered."""
    monkeypatch.setattr("sinks._wandb.rows.MAX_LINE_BYTES", 5000)
    lost = ev.Media(key="pic", media_type="image", path="artifacts/gone.png")
    wide = ev.Metrics(step=1, data={f"k{i}": i for i in range(1000)})
    gone = ev.Artifact(name="gone", path="artifacts/gone.bin")
    run = make_log(tmp_path / "demo" / "holes", [*rows(2), lost, wide, gone, *rows(1)])
    sink = quick_sink()
    sink.open(info(run))

    with pytest.raises(SinkRejectedError, match=r"cannot hold 3 events.*gone.png") as caught:
        sink.write(next(batches(run, 100)))

    state = sink.state()
    sink.close(FINISHED)
    assert sorted(seq for _, seq in caught.value.events) == [3, 4, 5]
    assert state["rows"] == 3
    assert [row["_step"] for row in service.run("demo", "holes").rows()] == [0, 1, 2]


def test_ranks_have_their_own_columns(tmp_path: Path, service: StandIn) -> None:
    """Rank 0 has the bare names."""
    from tests.logs import WRITER_B, LogMaker, put

    run = make_log(tmp_path / "demo" / "ranks", rows(1))
    put(
        run,
        1,
        b"".join(LogMaker(WRITER_B).segment([ev.Metrics(step=0, data={"loss": 9.0})])),
        writer=WRITER_B,
    )

    Pump(run).deliver(quick_sink())

    found = service.run("demo", "ranks").rows()
    assert sorted(k for row in found for k in row if "loss" in k) == ["loss", "rank1/loss"]


def test_a_project_of_ones_own_is_used(tmp_path: Path, service: StandIn) -> None:
    """Options choose project and group; runs of several projects do not meet in one id."""
    run = make_log(tmp_path / "demo" / "mixed", rows(1))

    sink = quick_sink(project="other", group="g")
    Pump(run).deliver(sink)

    (held,) = (r for r in service.service.runs.values() if r.project == "other")
    assert held.name.startswith("mixed-")
    assert held.fields["groupName"] == "g"
    assert sink.destination.endswith("/other")


def test_names_that_w_and_b_forbids_are_mapped() -> None:
    """Ids keep to letters, digits and dashes, differ where the runs differ, and never change."""

    def name(run_id: str, generation: int = 0, project: str = "p") -> str:
        return run_name(RunInfo(project=project, run_id=run_id, path=Path(), generation=generation))

    odd = ["A", "a b", "a/b", "a_b", "ü", "x" * 80, "x" * 81, "-a", "a:b", "a;b", "%"]

    assert name("run-1") == "run-1"
    assert all(re.fullmatch(r"[a-z0-9-]{1,64}", name(n)) for n in odd)
    assert len({name(n) for n in odd}) == len(odd)
    assert name("run-1", 1) != name("run-1", 2) != name("run-1")
    assert name("a b", project="q") != name("a b")
    assert project_name("a/b:c") != project_name("a-b-c") == "a-b-c"
    assert len(project_name("x" * 300)) <= 128


def test_wide_histograms_are_joined() -> None:
    """W&B shows 512 bins; the counts stay."""
    event = ev.Histogram(key="h", edges=[float(i) for i in range(2001)], counts=[1] * 2000)

    joined = histogram(event)

    counts, edges = joined["values"], joined["bins"]
    assert isinstance(counts, list)
    assert isinstance(edges, list)
    assert len(counts) + 1 == len(edges) <= 513
    assert sum(counts) == 2000
    assert (edges[0], edges[-1]) == (0.0, 2000.0)


@pytest.mark.parametrize(
    "options", [{"mode": "shared"}, {"timeout_s": "soon"}, {"confirm_s": "-1"}, {"settle_s": "nan"}]
)
def test_bad_options_are_told(options: dict[str, str]) -> None:
    """The message names option, value and what is wanted."""
    (name,) = options

    with pytest.raises(ValueError, match=name):
        WandBSink(**options)


def test_options_may_be_texts(service: StandIn) -> None:
    """As they come from a command line."""
    sink = WandBSink(timeout_s="5", confirm_s="1.5", settle_s="0", entity="team", project="p")

    assert sink.destination == f"{service.url}/team/p"
    assert os.environ["WANDB_API_KEY"] not in sink.destination


def test_runs_of_several_threads_do_not_meet(tmp_path: Path, service: StandIn) -> None:
    """Sinks in several threads, each with artifacts, deliver each to its own run."""
    from concurrent.futures import ThreadPoolExecutor

    def deliver(number: int) -> None:
        run = tmp_path / "demo" / f"thread-{number}"
        (run / "artifacts").mkdir(parents=True)
        (run / "artifacts" / "n").write_text(str(number))
        make_log(run, [*rows(number), ev.Artifact(name=f"n{number}", path="artifacts/n")])
        Pump(run).deliver(quick_sink())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, range(1, 5)))

    for number in range(1, 5):
        assert len(service.run("demo", f"thread-{number}").rows()) == number
        (artifact,) = service.service.versions(f"n{number}")
        assert (artifact.data["run"], artifact.files["n"]) == (f"thread-{number}", str(number).encode())


def test_a_silent_run_is_kept_alive(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a run is followed, empty posts tell W&B that it goes on; they end with the sink."""
    monkeypatch.setattr("sinks.wandb.HEARTBEAT_S", 0.01)
    run = make_log(tmp_path / "demo" / "silent", [])
    sink = quick_sink()
    sink.open(info(run))

    def beats() -> int:
        return sum(r.body == {} and "/silent/" in r.path for r in service.requests("file_stream"))

    wait_until(lambda: beats() > 3, "heartbeats")
    sink.close(None)

    assert not [t for t in threading.enumerate() if t.name == "evlog-wandb-heart"]
    assert service.run("demo", "silent").rows() == []


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("CreateArtifact", status(500)), ("CommitArtifact", status(400)), ("upload", cut("before"))],
)
def test_an_artifact_is_committed_in_the_end(
    tmp_path: Path, service: StandIn, kind: str, fault: Fault
) -> None:
    """A failure on the way to the commit costs a try, and there is one version."""
    run = tmp_path / "demo" / f"artifact-{kind.lower()}"
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "a").write_text(kind)
    make_log(run, [*rows(2), ev.Artifact(name=f"of-{kind}", path="artifacts/a"), *rows(2)])
    service.faults.add(kind, fault)

    Pump(run).deliver(quick_sink())

    assert service.faults.waiting == 0
    (version,) = service.service.versions(f"of-{kind}")
    assert version.files["a"] == kind.encode()
    assert len(service.run("demo", run.name).rows()) == 4
