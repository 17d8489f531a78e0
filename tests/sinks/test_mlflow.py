"""The `mlflow` sink against a real tracking server: what each event becomes there."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from eventlog import events as ev
from eventlog.delivery.pump import deliver_run
from eventlog.errors import SinkUnavailableError
from eventlog.events import Event
from eventlog.sink import Batch, RunStatus
from eventlog.storage.merge import RunReader
from sinks.mlflow import MLflowSink
from tests.logs import START_TS, WRITER_B, LogMaker, put
from tests.sinks.mlflow_runs import ENDED, content, deliver, make_run, stored, write_by_hand
from tests.sinks.mlflow_server import FaultyProxy, MLflowServer, shared_server

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


# --- the run itself -----------------------------------------------------------------------------------


def test_run_has_name_times_tags_and_status(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """Times are the log's, tags without a value are empty, notes become the description."""
    started = ev.RunStarted(
        name="My run", tags={"team": "vision", "quick": None, "a=b": "1"}, notes="why", ts=START_TS
    )
    events: list[Event] = [
        ev.Context(kind="command", data={"argv": ["train.py", "--lr"], "user": "ada"}),
        ev.Context(kind="git", data={"commit": "abc123", "branch": "main"}),
        ev.Tags(data={"late": "x"}, removed=["quick"]),
        ev.Note(text="more"),
        ev.RunEnded(status="finished", ts=START_TS + 5_000_000, exit_code=3),
    ]
    run = make_run(project / "a", events, started=started, is_ended=False)

    found = deliver(run, server, client)

    info, tags = found.info, found.data.tags
    assert (info.run_name, info.status) == ("My run", "FINISHED")
    assert (info.start_time, info.end_time) == (START_TS // 1000, START_TS // 1000 + 5000)
    assert client.get_experiment(info.experiment_id).name == project.name
    assert {"team": "vision", "late": "x", "a_x3d_b": "1"}.items() <= tags.items()
    assert "quick" not in tags
    assert tags["mlflow.note.content"] == "why\n\nmore"
    assert (tags["mlflow.user"], tags["mlflow.source.name"]) == ("ada", "train.py")
    assert (tags["mlflow.source.git.commit"], tags["evlog.exit_code"]) == ("abc123", "3")


@pytest.mark.parametrize(
    ("status", "shown"),
    [("finished", "FINISHED"), ("failed", "FAILED"), ("killed", "KILLED"), ("crashed", "FAILED")],
)
def test_status_is_one_that_mlflow_has(
    project: Path, server: MLflowServer, client: MlflowClient, status: str, shown: str
) -> None:
    """MLflow has no word for a crash: it has failed, and a tag says how."""
    run = make_run(project / "a", [])
    sink = MLflowSink(tracking_uri=server.uri)

    write_by_hand(run, sink)
    sink.close(RunStatus(status=status, ended_at=START_TS))

    found = stored(run, client)
    assert (found.info.status, found.data.tags["evlog.status"]) == (shown, status)


def test_run_that_was_not_ended_stays_running(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """A delivery that was stopped says nothing of the end."""
    run = make_run(project / "a", [])
    sink = MLflowSink(tracking_uri=server.uri)

    write_by_hand(run, sink)
    sink.close(None)

    assert stored(run, client).info.status == "RUNNING"


def test_run_that_goes_on_after_its_end_is_running_again(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """A resumed run shows as running until it ends anew."""
    run = make_run(project / "a", [])
    sink = MLflowSink(tracking_uri=server.uri)

    seen = []
    for status in (ENDED, None, ENDED):
        write_by_hand(run, sink)
        sink.close(status)
        seen.append(stored(run, client).info.status)

    assert seen == ["FINISHED", "RUNNING", "FINISHED"]


def test_experiment_is_the_options_then_the_runs_then_the_project(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """Whoever asks for another experiment gets it, odd names too."""
    own = f'it\'s "{project.name}" `own`'
    plain = make_run(project / "a", [], started=ev.RunStarted(name="a", experiment=own))
    asked = make_run(project / "b", [], started=ev.RunStarted(name="b", experiment=own))

    deliver_run(plain, MLflowSink(tracking_uri=server.uri), "mlflow")
    option = f"{project.name} asked"
    deliver_run(asked, MLflowSink(tracking_uri=server.uri, experiment_name=option), "mlflow")

    names = [client.get_experiment(stored(run, client).info.experiment_id).name for run in (plain, asked)]
    assert names == [own, option]


@pytest.mark.parametrize("order", [("parent", "child"), ("child", "parent")], ids=" first, then ".join)
def test_child_is_nested_whichever_comes_first(
    project: Path, server: MLflowServer, client: MlflowClient, order: tuple[str, str]
) -> None:
    """The run that is delivered second makes the link."""
    runs = {
        "parent": make_run(project / "parent", []),
        "child": make_run(project / "child", [], started=ev.RunStarted(name="child", parent_run_id="parent")),
    }

    for name in order:
        deliver_run(runs[name], MLflowSink(tracking_uri=server.uri), "mlflow")

    parent, child = (stored(runs[name], client) for name in ("parent", "child"))
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["evlog.parent_run_id"] == "parent"


def test_second_run_for_the_same_log_is_deleted(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """A run that was made although no answer came is found and taken away at the end."""
    run = make_run(project / "a", [ev.Metrics(step=1, data={"loss": 1.0})])
    sink = MLflowSink(tracking_uri=server.uri)
    write_by_hand(run, sink)
    first = stored(run, client)
    again = client.create_run(
        first.info.experiment_id, tags={k: v for k, v in first.data.tags.items() if k.startswith("evlog.")}
    )

    sink.close(ENDED)

    assert stored(run, client).info.run_id == first.info.run_id
    assert client.get_run(again.info.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(again.info.run_id).data.tags["evlog.duplicate_of"] == first.info.run_id


def test_deleted_run_asks_for_a_decision(project: Path, server: MLflowServer, client: MlflowClient) -> None:
    """Nothing is lost and nothing is made again behind the back of who deleted it."""
    run = make_run(project / "a", [ev.Metrics(step=1, data={"loss": 1.0})])
    sink = MLflowSink(tracking_uri=server.uri)
    write_by_hand(run, sink)
    client.delete_run(stored(run, client).info.run_id)

    with pytest.raises(SinkUnavailableError, match="runs restore"):
        sink.write(Batch(list(RunReader(run).slices())))
    with pytest.raises(SinkUnavailableError, match="runs restore"):
        write_by_hand(run, MLflowSink(tracking_uri=server.uri))


def test_deleted_experiment_asks_for_a_decision(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """The message says how to bring it back."""
    run = make_run(project / "a", [])
    client.delete_experiment(client.create_experiment(project.name))

    with pytest.raises(SinkUnavailableError, match="experiments restore"):
        write_by_hand(run, MLflowSink(tracking_uri=server.uri))


def test_restart_makes_another_run(project: Path, server: MLflowServer, client: MlflowClient) -> None:
    """MLflow cannot forget points, so what is delivered anew is a run of its own."""
    run = make_run(project / "a", [ev.Metrics(step=1, data={"loss": 1.0})])

    for restart in (False, False, True):
        deliver_run(run, MLflowSink(tracking_uri=server.uri), "mlflow", restart=restart)

    ids = [e.experiment_id for e in client.search_experiments(filter_string=f"name = '{project.name}'")]
    assert sorted(r.data.tags["evlog.generation"] for r in client.search_runs(ids)) == ["0", "1"]


# --- points, params, tags -----------------------------------------------------------------------------


def test_points_keep_step_time_and_value(project: Path, server: MLflowServer, client: MlflowClient) -> None:
    """Each point has the event's own time; no step is step 0; negative steps and 64 bits are kept."""
    steps = [-5, 0, 7, 2**63 - 1, -(2**63), None]
    events = [ev.Metrics(step=s, data={"loss": 0.1 + i, "n": i}) for i, s in enumerate(steps)]
    run = make_run(project / "a", events)

    found = deliver(run, server, client)

    points = server.points(found.info.run_id)
    wanted = sorted(
        (key, step or 0, value, START_TS // 1000 + 2 + i, False)
        for i, step in enumerate(steps)
        for key, value in (("loss", 0.1 + i), ("n", float(i)))
    )
    assert sorted(map(tuple, points)) == wanted


def test_points_of_other_ranks_and_kinds_have_their_own_names(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """Rank 0 is bare; system, evaluations, checkpoints and final values have a prefix."""
    run = project / "a"
    mine: list[Event] = [
        ev.RunStarted(name="a", ts=START_TS),
        ev.System(data={"cpu_percent": 50.0}, ts=START_TS + 61_500_000),
        ev.Evaluation(benchmark="mmlu", step=3, metrics={"accuracy": 0.7}),
        ev.Checkpoint(path="/ckpt/3", step=3, metrics={"val": 0.2}),
        ev.Summary(data={"best": 0.1, "verdict": "good", "worst": "NaN"}),
        ev.RunEnded(status="finished"),
    ]
    put(run, 1, b"".join(LogMaker().segment(mine)))
    theirs = [ev.Metrics(step=1, data={"loss": 1.0})]
    put(run, 1, b"".join(LogMaker(WRITER_B).segment(theirs)), writer=WRITER_B)

    found = deliver(run, server, client)

    points = {(p.key, p.step, p.value) for p in server.points(found.info.run_id) if not p.is_nan}
    assert points == {
        ("rank1/loss", 1, 1.0),
        ("system/cpu_percent", 61, 50.0),
        ("evaluation/mmlu/accuracy", 3, 0.7),
        ("checkpoint/val", 3, 0.2),
        ("summary/best", 0, 0.1),
    }
    assert found.data.tags["evlog.summary.verdict"] == "good"
    assert found.data.tags["evlog.checkpoint"] == "/ckpt/3 (step 3)"


def test_values_that_are_no_numbers_are_named(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """MLflow's database turns infinity into a large number; a tag says where that happened first."""
    values: list[float | str] = [1.0, "NaN", "Infinity", "-Infinity", "NaN"]
    run = make_run(project / "a", [ev.Metrics(step=i, data={"a=b": v}) for i, v in enumerate(values)])

    found = deliver(run, server, client)

    history = {p.step: p.value for p in client.get_metric_history(found.info.run_id, "a_x3d_b")}
    assert math.isnan(history[1])
    assert (history[2], history[3]) == (1.7976931348623157e308, -1.7976931348623157e308)
    assert found.data.tags["evlog.nonfinite.a_x3d_b"] == '{"NaN":1,"Infinity":2,"-Infinity":3}'
    assert found.data.tags["evlog.keymap"] == '{"a_x3d_b":"a=b"}'


def test_params_keep_their_first_value(
    project: Path, tmp_path: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """A changed or over-long value is whole in params.json, the last one also in a tag."""
    events = [
        ev.Params(data={"opt": {"lr": 0.1, "betas": [0.9, 0.99]}, "text": "x" * 9000, "empty": ""}),
        ev.Params(data={"opt": {"lr": 0.2}}),
    ]
    run = make_run(project / "a", events)

    found = deliver(run, server, client)

    params = found.data.params
    assert (params["opt.lr"], params["opt.betas"], params["empty"]) == ("0.1", "[0.9, 0.99]", "")
    assert len(params["text"]) == 6000
    assert params["text"].endswith("; whole in params.json]")
    assert found.data.tags["evlog.param.opt.lr"] == "0.2"
    whole = json.loads(content(client, found, "params.json", tmp_path / "down"))
    assert whole == {"opt": {"lr": 0.2, "betas": [0.9, 0.99]}, "text": "x" * 9000, "empty": ""}


def test_more_than_a_request_takes_is_split(
    project: Path, server: MLflowServer, client: MlflowClient
) -> None:
    """Counts and bytes of a request stay within MLflow's limits."""
    events: list[Event] = [
        ev.Metrics(step=1, data={f"{'é' * 240}{i}": float(i) for i in range(2500)}),
        ev.Params(data={f"p{i}": "ü" * 6000 for i in range(250)}),
        *(ev.Tags(data={f"t{i}": "\x01" * 8000}) for i in range(150)),
    ]
    run = make_run(project / "a", events)

    found = deliver(run, server, client)

    assert len(server.points(found.info.run_id)) == 2500
    assert len(found.data.params) == 250
    assert sum(key.startswith("t") for key in found.data.tags) == 150
    assert found.data.tags["t7"] == "\x01" * 8000
