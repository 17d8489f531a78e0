"""Every sink that comes with evlog keeps the rules of `SinkContract`."""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from eventlog.sink import Entry, Point, RunInfo, Sink
from eventlog.testing import FaultySink, MemorySink, MemoryStore, SinkContract
from sinks.console import ConsoleSink
from sinks.csv import CSVSink
from sinks.local import LocalSink
from sinks.mirror import MirrorSink
from sinks.sqlite import SQLiteSink
from tests.sinks.s3_server import Bucket


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skip where a sink's module or what it stands on is not there."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


class TestMemory(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self) -> None:
        self.store = MemoryStore()

    def make_sink(self) -> Sink:
        return MemorySink(self.store)


class TestMemoryWhoseRepliesAreLost(TestMemory):
    def make_sink(self) -> Sink:
        return FaultySink([], self.store)


class TestConsole(SinkContract):
    def make_sink(self) -> Sink:
        return ConsoleSink(io.StringIO())


class TestLocal(SinkContract):
    def make_sink(self) -> Sink:
        return LocalSink()


class TestCSV(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self, tmp_path: Path) -> None:
        self.to = tmp_path / "tables"

    def make_sink(self) -> Sink:
        return CSVSink(to=self.to)


class TestCSVBesideTheRuns(SinkContract):
    def make_sink(self) -> Sink:
        return CSVSink()


class TestSQLite(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self, tmp_path: Path) -> None:
        self.path = tmp_path / "databases" / "experiments.db"

    def make_sink(self) -> Sink:
        return SQLiteSink(path=self.path)


class TestMirrorInADirectory(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self, tmp_path: Path) -> None:
        self.to = tmp_path / "mirror"

    def make_sink(self) -> Sink:
        return MirrorSink(to=self.to)

    def expected(self, entries: Iterable[Entry]) -> list[Point]:
        return _without_lost_files(super().expected(entries))

    def points(self, run: RunInfo) -> list[Point]:
        return _without_lost_files(super().points(run) or [])


def _without_lost_files(points: list[Point]) -> list[Point]:
    """Leave out the files that the odd events name and no run has: the proof of a mirror tells of those."""
    return [point for point in points if point.value not in ("missing", "0" * 64)]


class TestMirrorInAStore(TestMirrorInADirectory):
    secrets = ("wJalrXUtnFEMI",)

    @pytest.fixture(autouse=True)
    def destination(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def make_sink(self) -> Sink:
        options = {"key": "AKIA", "secret": "wJalrXUtnFEMI"}
        return MirrorSink(
            to=f"{self.bucket.url}/runs", endpoint_url=self.bucket.endpoint, storage_options=options
        )


@needs("sinks.tensorboard", "tensorboard")
class TestTensorBoard(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self, tmp_path: Path) -> None:
        self.to = tmp_path / "runs"

    def make_sink(self) -> Sink:
        from sinks.tensorboard import TensorBoardSink

        return TensorBoardSink(log_dir=self.to)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of MLflow: to make one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@needs("sinks.mlflow", "mlflow")
class TestMLflow(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self, tmp_path: Path, empty_database: Path) -> None:
        self.uri = f"sqlite:///{shutil.copy(empty_database, tmp_path)}"

    def make_sink(self) -> Sink:
        from sinks.mlflow import MLflowSink

        return MLflowSink(tracking_uri=self.uri)


@needs("wandb")
class TestWandB(SinkContract):
    @pytest.fixture(autouse=True)
    def destination(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        from tests.sinks.wandb_support import environment
        from tests.standin import StandIn

        with StandIn() as service:
            for name, value in environment(service, tmp_path / "scratch").items():
                monkeypatch.setenv(name, value)
            yield

    def make_sink(self) -> Sink:
        from tests.sinks.wandb_support import quick_sink

        return quick_sink()

    def after_kill(self, sink: Sink) -> None:
        from sinks.wandb import WandBSink

        assert isinstance(sink, WandBSink)
        if sink._heart is not None:
            sink._heart.stop()
