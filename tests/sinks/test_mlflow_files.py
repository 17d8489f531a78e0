"""The `mlflow` sink against a real tracking server: files, models, refusals and reading back."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.models import Model as MLflowModel

import sinks._mlflow.mapping
from eventlog import events as ev
from eventlog.errors import SinkRejectedError, SinkUnavailableError
from eventlog.events import Event
from eventlog.sink import Batch, RunInfo
from eventlog.storage.merge import RunReader
from sinks.mlflow import MLflowSink
from tests.logs import WRITER_A
from tests.sinks.mlflow_runs import content, deliver, files, make_run, stored, write_by_hand
from tests.sinks.mlflow_server import BUSY, Fault, FaultyProxy, MLflowServer, shared_server

pytestmark = pytest.mark.xdist_group("mlflow")

_numbers = itertools.count()


@pytest.fixture
def server() -> MLflowServer:
    return shared_server()


@pytest.fixture
def client(server: MLflowServer) -> MlflowClient:
    return MlflowClient(tracking_uri=server.uri)


@pytest.fixture
def proxy(server: MLflowServer) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(server.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the directory of a project that no other test has."""
    return tmp_path / f"{tmp_path.name}-{next(_numbers)}"


# --- files and models ---------------------------------------------------------------------------------


def test_files_lie_in_mlflow_as_in_the_run(
    project: Path, tmp_path: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """Each version of an artifact has a place of its own; ours never replace a user's."""
    run = project / "a"
    names = ["odd #%?name é.txt", "plot.png", "plot.v2.png", "params.json", "evlog/console.log", "empty"]
    for name in names:
        path = run / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else f"mine: {name}".encode())
    events: list[Event] = [ev.Artifact(name=n, path=f"artifacts/{n}") for n in names]
    events += [
        ev.Params(data={"lr": 1}),
        ev.Console(stream="stdout", text="printed"),
        ev.Artifact(name="far", path="/data/far.bin", stored="reference", sha256="0" * 64),
        ev.Media(key="a//b", media_type="text", step=2, text="words"),
        ev.Histogram(key="w", step=1, edges=[0.0, 1.0], counts=[3]),
    ]
    make_run(run, events)

    found = deliver(run, server, client)

    assert files(client, found) == {
        "odd _x23__x25__x3f_name é.txt",
        "plot.png",
        "plot.v2.png",
        "empty",
        "artifacts/params.json",
        "artifacts/evlog/console.log",
        "params.json",
        "evlog/console.log",
        "evlog/references.json",
        "evlog/histograms/w.jsonl",
        "media/text/a_x2f__x2f_b/2.txt",
    }
    assert content(client, found, "artifacts/params.json", tmp_path / "down") == "mine: params.json"
    assert content(client, found, "evlog/console.log", tmp_path / "down") == "printed\n"
    assert "/data/far.bin" in content(client, found, "evlog/references.json", tmp_path / "down")


def test_table_is_one_of_mlflows(
    project: Path, server: MLflowServer, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own load_table reads it, and its pages find it by a tag."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)  # load_table asks no client where to look
    table = ev.Table(key="examples", step=4, columns=["q", "a"], rows=[["1+1", 2], ["?", None]])
    run = make_run(project / "a", [table])

    found = deliver(run, server, client)

    frame = client.load_table(found.info.experiment_id, "tables/examples/4.json", [found.info.run_id])
    assert list(frame["q"]) == ["1+1", "?"]
    assert found.data.tags["mlflow.loggedArtifacts"] == '[{"path":"tables/examples/4.json","type":"table"}]'


def test_dataset_is_an_input_of_the_run(project: Path, server: MLflowServer, client: MlflowClient) -> None:
    """Name, digest and split are MLflow's; the rest is in the profile."""
    event = ev.Dataset(name="digits", path="/data/digits.csv", sha256="ab" * 32, rows=100, split="train")
    run = make_run(project / "a", [event])

    inputs = deliver(run, server, client).inputs

    assert inputs is not None
    (given,) = inputs.dataset_inputs

    assert (given.dataset.name, given.dataset.digest) == ("digits", ("ab" * 32)[:36])
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "train")]
    assert '"rows":100' in str(given.dataset.profile)


@pytest.mark.parametrize("has_mlmodel", [True, False], ids=["saved by MLflow", "saved by hand"])
def test_model_is_one_of_mlflows_and_registered_once(
    project: Path, tmp_path: Path, server: MLflowServer, client: MlflowClient, has_mlmodel: bool
) -> None:
    """A model can be loaded from the registry; stages and aliases are set on the one version."""
    run, name = project / "a", f"net-{project.name}"
    directory = run / "artifacts/models/net"
    directory.mkdir(parents=True)
    (directory / "model.pkl").write_bytes(b"weights")
    if has_mlmodel:
        (directory / "MLmodel").write_text("flavors: {pickle: {mine: 1}}\n")
    parts = [
        ev.FileEntry(path=p.name, size_bytes=p.stat().st_size, sha256=sha256(p))
        for p in sorted(directory.iterdir())
    ]
    place = "artifacts/models/net"
    registered = ev.ModelRegistered(name=name, artifact="models/net", path=place)
    events: list[Event] = [
        ev.Artifact(name="models/net", path=place, is_directory=True, files=parts),
        ev.Model(name=name, artifact="models/net", path=place, flavor="pickle"),
        registered,
        msgspec.structs.replace(registered, alias="champion", stage="Staging"),
        msgspec.structs.replace(registered, alias="v1", stage="on fire"),
    ]
    make_run(run, events)

    deliver(run, server, client)
    write_by_hand(run, MLflowSink(tracking_uri=server.uri))

    (version,) = client.search_model_versions(f"name='{name}'")
    assert (version.version, version.current_stage) in {("1", "Staging"), (1, "Staging")}
    assert client.get_model_version_by_alias(name, "champion").run_id == version.run_id
    assert (version.tags["evlog.alias"], version.tags["evlog.stage"]) == ("v1", "on fire")
    (tmp_path / "down").mkdir()
    down = client.download_artifacts(str(version.run_id), "models/net", str(tmp_path / "down"))
    model = MLflowModel.load(down)
    assert model.flavors["pickle"].get("mine") == (1 if has_mlmodel else None)
    assert (Path(down) / "model.pkl").read_bytes() == b"weights"


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- refusals and outages -----------------------------------------------------------------------------


def test_what_cannot_be_delivered_is_named_and_the_rest_arrives(
    project: Path, tmp_path: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """Bad steps, and copies that are missing, changed or outside of the run, cost only themselves."""
    run = project / "a"
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts/changed").write_text("other")
    (tmp_path / "secret").write_text("secret")
    events: list[Event] = [
        ev.Metrics(step=1, data={"loss": 1.0}),
        ev.Metrics(step=2**70, data={"loss": 2.0}),
        ev.Artifact(name="gone", path="artifacts/gone"),
        ev.Artifact(name="changed", path="artifacts/changed", size_bytes=5, sha256="0" * 64),
        ev.Artifact(name="secret", path="../../secret"),
        ev.Metrics(step=3, data={"loss": 3.0}),
    ]
    make_run(run, events)

    with pytest.raises(SinkRejectedError) as caught:
        write_by_hand(run, MLflowSink(tracking_uri=server.uri))

    assert sorted(caught.value.events) == [(WRITER_A, seq) for seq in (2, 3, 4, 5)]
    found = stored(run, client)
    assert [p.step for p in server.points(found.info.run_id)] == [1, 3]
    assert files(client, found) == set()


def test_points_that_the_server_refuses_are_found_by_halving(
    project: Path, server: MLflowServer, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad key makes MLflow refuse a request of a thousand; its event is named, the others arrive."""
    bad = {100: "a=b", 101: "c=d", 900: "e//f"}
    events = [ev.Metrics(step=i, data={bad.get(i, "loss"): 1.0}) for i in range(1500)]
    run = make_run(project / "a", events)
    monkeypatch.setattr(sinks._mlflow.mapping, "key_name", lambda key: key)

    with pytest.raises(SinkRejectedError) as caught:
        write_by_hand(run, MLflowSink(tracking_uri=server.uri))

    assert sorted(caught.value.events) == [(WRITER_A, step + 1) for step in sorted(bad)]
    steps = [p.step for p in server.points(stored(run, client).info.run_id)]
    assert steps == [step for step in range(1500) if step not in bad]


def test_busy_server_says_when_to_come_back(project: Path, proxy: FaultyProxy) -> None:
    """Retry-After reaches the pump."""
    run = make_run(project / "a", [])
    proxy.faults = {1: BUSY}

    with pytest.raises(SinkUnavailableError) as caught:
        write_by_hand(run, MLflowSink(tracking_uri=proxy.uri))

    assert caught.value.retry_after_s == 7
    assert proxy.count == 1, "MLflow's own repeats would count here"


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "MLFLOW_TRACKING_TOKEN"), (403, "MLFLOW_TRACKING_TOKEN"), (404, "tracking URI"), (502, "502")],
)
def test_answers_that_need_somebody_are_explained(
    project: Path, proxy: FaultyProxy, status: int, words: str
) -> None:
    """Whoever is not let in, or asks another server, loses nothing and is told what to do."""
    run = make_run(project / "a", [])
    proxy.faults = {1: Fault("nothing", status)}

    with pytest.raises(SinkUnavailableError, match=words):
        write_by_hand(run, MLflowSink(tracking_uri=proxy.uri))


def test_points_can_be_proven_and_differences_are_seen(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """What somebody else adds to the run does not pass as ours."""
    values: list[float | str] = [1.0, "NaN", "Infinity", -0.0, 3]
    events = [ev.Metrics(step=i, data={"loss": v}) for i, v in enumerate(values)]
    run = make_run(project / "a", [*events, ev.Metrics(data={"loss": 1}), ev.Params(data={"a": {"b": 1}})])
    found = deliver(run, server, client)
    sink = MLflowSink(tracking_uri=server.uri)
    info = RunInfo(project=project.name, run_id="a", path=run)
    entries = list(Batch(list(RunReader(run).slices())).entries())

    assert sorted(map(repr, sink.delivered(info))) == sorted(map(repr, sink.expected(entries)))

    client.log_batch(found.info.run_id, [Metric("loss", 5.0, 1, 99)])
    extra = set(sink.delivered(info)) - set(sink.expected(entries))
    assert [(p.series, p.step, p.value, p.time) for p in extra] == [("metric loss", 99, 5.0, 1)]
