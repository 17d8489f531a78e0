"""What TensorBoard's pages get to show of each kind of event, asked for as its pages ask."""

from __future__ import annotations

import io
import math
import urllib.parse
import wave
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from eventlog import events as ev
from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.events import KNOWN, Event, Media, Metrics, Params, RunStarted, UnknownEvent
from eventlog.sink import Batch, RunStatus
from sinks.tensorboard import TensorBoardSink
from tests.logs import START_TS, WRITER_A, WRITER_B
from tests.sinks.tb_support import (
    Series,
    Server,
    accumulated,
    deliver,
    event_file,
    in_batches,
    make_run,
    run_info,
    serving,
)
from tests.waiting import wait_until

FORMATS = ("png", "jpeg", "gif", "bmp", "webp")
ODD_TAGS = ("", "ü/ /#?&=%", "\x00", "a" * 3000, "../up", "page", "<script>", "🙂")


def image(kind: str, width: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, 3), (200, 50, 0)).save(file, kind)
    return file.getvalue()


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(400))
    return file.getvalue()


def media(run: Path, key: str, kind: Any, mime_type: str, data: bytes, step: int, caption: str = "") -> Media:
    """Return an event whose file lies in *run*."""
    name = f"media/{sha256(data).hexdigest()[:16]}"
    (run / "media").mkdir(parents=True, exist_ok=True)
    (run / name).write_bytes(data)
    digest = sha256(data).hexdigest()
    return Media(
        key=key,
        media_type=kind,
        mime_type=mime_type,
        path=name,
        sha256=digest,
        step=step,
        size_bytes=len(data),
        caption=caption or None,
    )


def rich_events(run: Path) -> list[Event]:
    """Return a run with an event of every kind."""
    events: list[Event] = [
        RunStarted(name="first", experiment="exp", tags={"model": "mlp"}, notes="why"),
        Params(data={"lr": 0.1, "opt": {"name": "adam", "nesterov": True}, "none": None, "list": [1, 2]}),
        Params(data={"bad": "NaN", "far": 2**60, "text": "a|b <i>"}),
        ev.Context(kind="git", data={"commit": "abc"}),
        Metrics(step=0, data={"loss": 0.5, "odd": "NaN"}),
        Metrics(step=1, data={"loss": 0.25, "odd": 1.0}),
        Metrics(step=2, data=dict.fromkeys(ODD_TAGS, 1.0)),
        ev.Histogram(key="weights", step=3, edges=[-1.0, 0.0, 2.5], counts=[4, 10**15]),
        ev.Table(key="confusion", step=4, columns=["true", "a|b"], rows=[[1, "x"], [2, None]]),
        ev.Summary(data={"best": 0.25, "verdict": "good", "is_ok": True, "worst": "Infinity"}),
        ev.Evaluation(benchmark="mmlu", step=5, metrics={"accuracy": 0.5}, data={"shots": 5}),
        ev.System(data={"cpu_percent": 12.0}, ts=START_TS + 90_000_000),
        ev.Note(text="looks **good**"),
        ev.Tags(data={"keep": None}),
        ev.Alert(title="loss is high", text="look"),
        ev.Artifact(name="model.npz", path="run/artifacts/model.npz", sha256="ab12"),
        ev.Checkpoint(path="/ckpt/7", step=7, metrics={"loss": 0.25}),
        ev.Dataset(name="digits", rows=1797),
        ev.Model(name="net", artifact="model.npz"),
        ev.ModelRegistered(name="net", version="3"),
        ev.Dropped(counts={"metrics": 3}, reason="disk full", first_ts=START_TS, last_ts=START_TS),
        ev.Console(stream="stdout", text="hello"),
        ev.Sample(benchmark="mmlu", index=1),
        Media(key="remark", media_type="text", text="plain **text**", step=1),
        Media(key="page", media_type="html", text="<b>x</b>", step=1),
        media(run, "clip", "video", "video/mp4", b"mp4", 1),
        media(run, "plan", "image", "image/svg+xml", b"<svg/>", 1),
        media(run, "sound", "audio", "audio/wav", sound(), 1, caption="a beep"),
        ev.RunEnded(status="finished"),
    ]
    return events + [
        media(run, f"image/{k}", "image", f"image/{k}", image(k, 4 + s), s) for k in FORMATS for s in (0, 1)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with logs, and a board to which they were delivered."""
    root = tmp_path_factory.mktemp("pages")
    deliver(make_run(root / "logs", rich_events(root / "logs/p/rich"), name="p/rich"), root / "board")
    for number, status in enumerate(("finished", "failed", "crashed", "running")):
        params: dict[str, object] = {"lr": 10.0**-number, "net": {"hidden": 8}}
        if number:
            params["extra"] = "x"
        events = [RunStarted(name="run"), Params(data=params), Metrics(step=9, data={"loss": number})]
        run = make_run(root / "logs", events, name=f"sweep/{status}")
        deliver(run, root / "board", status=RunStatus(status=status, ended_at=START_TS + 5_000_000))
    ranks: list[tuple[str, dict[str, object]]] = [
        (WRITER_A, {"lr": 1.0}),
        (WRITER_B, {"lr": 1.0, "device": "cuda:1"}),
    ]
    for writer, rank_params in ranks:
        run = make_run(root / "logs", [Params(data=rank_params)], name="sweep/ranks", writer=writer)
    deliver(run, root / "board")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root / "board") as server:
        wait_until(lambda: len(server.runs()) == 6, "all runs are read")
        wait_until(lambda: server.knows("p/rich", "image/webp", plugin="images"), "the last event is read")
        yield server


def text(server: Server, tag: str, run: str = "p/rich") -> list[str]:
    """Return the texts of a tag as they are in the file."""
    return [
        part["text"] for part in server.json("/data/plugin/text/text", run=run, tag=tag, markdown="false")
    ]


def test_scalars_of_every_kind(server: Server) -> None:
    """Metrics, system load, results of evaluations and final values are scalars."""
    assert server.series("p/rich", "loss") == [(0, 0.5), (1, 0.25)]
    assert server.series("p/rich", "evaluation/mmlu/accuracy") == [(5, 0.5)]
    assert server.series("p/rich", "summary/best") == [(0, 0.25)]
    assert server.series("p/rich", "summary/worst") == [(0, math.inf)]
    assert server.series("p/rich", "system/cpu_percent") == [(89, 12.0)]


def test_nan_is_shown_as_such(server: Server) -> None:
    """A loss that is not a number is a point."""
    (first, second) = server.series("p/rich", "odd")

    assert (first[0], math.isnan(first[1]), second) == (0, True, (1, 1.0))


def test_odd_names_are_kept(server: Server) -> None:
    """Any text is a tag; an empty one is called so, and one that another kind has gets its kind behind it."""
    tags = server.json("/data/plugin/scalars/tags")["p/rich"]

    wanted = {"(no name)", *(tag for tag in ODD_TAGS if tag)}
    assert wanted <= tags.keys()
    assert "page (text)" in server.json("/data/plugin/text/tags")["p/rich"]


def test_texts_say_what_was_logged(server: Server) -> None:
    """Params, notes, files and the like are on the Text page."""
    shown = {
        "run/params": "| opt.nesterov | true |",
        "run/context/git": "| commit | abc |",
        "run/about": "| experiment | exp |",
        "confusion": "| true | a\\|b |",
        "summary/verdict": "good",
        "summary/is_ok": "true",
        "evaluation/mmlu": "| shots | 5 |",
        "run/notes": "looks **good**",
        "run/tags": "keep",
        "run/alerts": "loss is high",
        "run/artifacts/model.npz": "| sha256 | ab12 |",
        "run/checkpoints": "| path | /ckpt/7 |",
        "run/datasets/digits": "| rows | 1797 |",
        "run/models/net": "| artifact | model.npz |",
        "run/dropped": "disk full",
        "remark": "plain **text**",
        "page (text)": "    &lt;b&gt;x&lt;/b&gt;",
        "clip": "video/mp4",
        "plan": "svg",
        "sound/caption": "a beep",
    }
    found = {tag: "\n".join(text(server, tag)) for tag in shown}

    assert {tag: words in found[tag] for tag, words in shown.items()} == dict.fromkeys(shown, True)
    assert "a\\|b &lt;i&gt;" in text(server, "run/params")[1]


def test_params_are_a_table_on_the_page(server: Server) -> None:
    """What goes to the browser is a table, with nothing of the values taken for markup."""
    shown = server.json("/data/plugin/text/text", run="p/rich", tag="run/params", markdown="true")

    assert "<td>a|b &lt;i&gt;</td>" in shown[1]["text"]


def test_histogram_has_its_edges_and_counts(server: Server) -> None:
    """Buckets arrive with all digits."""
    ((_, step, buckets),) = server.json("/data/plugin/histograms/histograms", run="p/rich", tag="weights")

    assert (step, buckets) == (3, [[-1.0, 0.0, 4.0], [0.0, 2.5, 1e15]])


@pytest.mark.parametrize("kind", FORMATS)
def test_images_are_the_files(server: Server, kind: str) -> None:
    """An image arrives as it was logged, at its step, with its size."""
    shown = server.json("/data/plugin/images/images", run="p/rich", tag=f"image/{kind}", sample="0")
    files = [
        server.get("/data/plugin/images/individualImage", **dict(urllib.parse.parse_qsl(part["query"])))
        for part in shown
    ]

    assert [part["step"] for part in shown] == [0, 1]
    assert files == [image(kind, 4), image(kind, 5)]


def test_size_of_images_is_read(root: Path) -> None:
    """Width and height stand beside each image, whatever its format."""
    reader = accumulated(root / "board/p/rich")

    for kind in FORMATS:
        assert [(i.width, i.height) for i in reader.Images(f"image/{kind}")] == [(4, 3), (5, 3)]


def test_sound_is_the_file(server: Server) -> None:
    """A WAV file arrives as one that browsers play."""
    (shown,) = server.json("/data/plugin/audio/audio", run="p/rich", tag="sound", sample="0")
    data = server.get("/data/plugin/audio/individualAudio", **dict(urllib.parse.parse_qsl(shown["query"])))

    assert (shown["step"], shown["contentType"], data) == (1, "audio/wav", sound())


# --- hparams ------------------------------------------------------------


def groups(server: Server) -> dict[str, Any]:
    """Return the sessions of the HParams page by name."""
    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    query = {"experimentName": "", "startIndex": 0, "sliceSize": 100, "allowedStatuses": statuses}
    found = server.post("/data/plugin/hparams/session_groups", query)["sessionGroups"]
    return {group["name"]: group for group in found}


def test_hparams_of_all_runs_are_compared(server: Server) -> None:
    """The page has a column for each param of any run and each metric, numbers as numbers."""
    about = server.post("/data/plugin/hparams/experiment", {"experimentName": "", "includeMetrics": True})

    types = {info["name"]: info["type"] for info in about["hparamInfos"]}
    assert types["lr"] == "DATA_TYPE_FLOAT64"
    assert types["opt.nesterov"] == "DATA_TYPE_BOOL"
    assert {"net.hidden", "extra", "opt.name", "rank1/device"} <= types.keys()
    assert "rank1/lr" not in types
    assert {"tag": "loss", "group": ""} in [info["name"] for info in about["metricInfos"]]


def test_hparams_and_metrics_stand_with_their_run(server: Server) -> None:
    """Each run is a session with its params, its last metrics and how it ended."""
    found = groups(server)

    assert {name: group["sessions"][0]["status"] for name, group in found.items() if "sweep/" in name} == {
        "sweep/finished": "STATUS_SUCCESS",
        "sweep/failed": "STATUS_FAILURE",
        "sweep/crashed": "STATUS_FAILURE",
        "sweep/running": "STATUS_UNKNOWN",
        "sweep/ranks": "STATUS_SUCCESS",
    }
    failed = found["sweep/failed"]
    assert failed["hparams"] == {"lr": 0.1, "net.hidden": 8.0, "extra": "x"}
    assert [(m["name"]["tag"], m["value"]) for m in failed["metricValues"]] == [("loss", 1.0)]


def test_params_of_several_calls_are_joined(server: Server) -> None:
    """All params of a run are there, also those that were logged later; odd ones as texts."""
    assert groups(server)["p/rich"]["hparams"] == {
        "lr": 0.1,
        "opt.name": "adam",
        "opt.nesterov": True,
        "none": "null",
        "list": "[1,2]",
        "bad": "NaN",
        "far": str(2**60),
        "text": "a|b <i>",
    }


# --- while it runs ------------------------------------------------------------


def test_open_board_goes_on_over_a_killed_delivery(root: Path, server: Server) -> None:
    """Readers that saw more than the last checkpoint show the whole series in the end, without a restart."""
    series: Series = [(step, float(step)) for step in range(90)]
    events = [RunStarted(name="run"), *(Metrics(step=step, data={"a": value}) for step, value in series)]
    run = make_run(root / "logs", events, name="p/live")
    batches = in_batches(run, 30)
    directory = root / "board/p/live"

    sink = TensorBoardSink(log_dir=root / "board")
    sink.open(run_info(run))
    sink.write(batches[0])
    state = sink.state()
    sink.write(batches[1])
    sink.close(None)
    wait_until(lambda: server.series("p/live", "a") == series[:59], "what was delivered is shown")
    reader = accumulated(directory)
    sink.open(run_info(run, state))
    for batch in batches[1:]:
        sink.write(batch)
    sink.close(None)

    wait_until(lambda: server.series("p/live", "a") == series, "all of it is shown")
    reader.Reload()
    assert [(event.step, event.value) for event in reader.Scalars("a")] == series


# --- completeness ------------------------------------------------------------


def test_rich_run_is_proven(root: Path, tmp_path: Path) -> None:
    """Everything that was delivered is found again, and nothing else."""
    run = root / "logs/p/rich"
    delivered = deliver_run(run, TensorBoardSink(log_dir=tmp_path), "tensorboard")

    proof = prove(run, TensorBoardSink(log_dir=tmp_path), "tensorboard")
    assert (delivered.dead_letters, proof.result, proof.differences) == (0, "proven", [])
    assert proof.points > 50


def test_every_kind_of_event_is_on_the_page_of_mappings() -> None:
    """The reference has a row for each type."""
    page = (Path(__file__).parents[2] / "docs/reference/tensorboard.md").read_text()

    names = [ev.type_name(kind) for kind in KNOWN]  # type: ignore[arg-type]  # a class knows its tag as well
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_unknown_events_are_passed_over(tmp_path: Path) -> None:
    """An event of a later version leaves nothing and harms nothing."""
    run = make_run(tmp_path / "logs", [RunStarted(name="run"), Metrics(step=0, data={"a": 1.0})])
    (batch,) = in_batches(run, 100)
    part = batch.slices[0]
    unknown = UnknownEvent(seq=9, ts=START_TS, type="dream", raw=b"{}")
    deliver(run, tmp_path / "plain")

    sink = TensorBoardSink(log_dir=tmp_path / "board")
    sink.open(run_info(run))
    sink.write(Batch([part._replace(events=[unknown, *part.events])]))
    sink.close(None)

    assert event_file(tmp_path / "board").read_bytes() == event_file(tmp_path / "plain").read_bytes()
