"""Models: whose files are stored how, which version a registration means, and what is refused by name."""

from __future__ import annotations

import gc
import json
import pickle
import threading
import types
from pathlib import Path

import pytest

from eventlog import EvlogWarning, Tracker, TrackingConfig
from eventlog.errors import BadValueError, InvalidNameError, forget_reports
from eventlog.events import Artifact, Model, ModelRegistered
from eventlog.tracker import models
from tests.tracker.support import logged, only_run, run_job


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    forget_reports()
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path / "runs")
    tracker.start_run("a")
    return tracker


def end(tracker: Tracker) -> Path:
    """End the run and return its directory."""
    run = tracker.run_dir
    assert run is not None
    tracker.end_run()
    return run


class Weights:
    """A model of the user's own."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers


class Unwilling:
    """A model that cannot be pickled."""

    def __reduce__(self) -> str:
        raise RuntimeError("it is on a GPU")


class Booster:
    """What the boosting libraries share; the tests give it their names."""

    def save_model(self, path: str) -> None:
        """Write itself."""
        Path(path).write_text("trees")


class Broken:
    """A model whose framework fails."""

    def save_model(self, path: str) -> None:
        """Fail."""
        raise ZeroDivisionError(f"division by zero: {Path(path).name}")


class Layers:
    """What a keras model can do."""

    def save(self, path: str) -> None:
        """Write itself."""
        Path(path).write_text("layers")


def of_package(kind: type, module: str) -> object:
    """Return an instance of a user's subclass of a class that lies in *module*."""
    theirs = type("Theirs", (kind,), {"__module__": module})
    return type("Mine", (theirs,), {"__module__": "__main__"})()


def test_an_object_is_pickled_as_an_artifact(tracker: Tracker) -> None:
    """The artifact comes first, then the model that it holds; what is read back is what was logged."""
    returned = tracker.log_model(Weights([1.5]), "mine", step=7)

    run = end(tracker)
    (artifact,), (model,) = logged(run, Artifact), logged(run, Model)
    assert artifact.seq < model.seq
    assert (artifact.name, artifact.artifact_type, artifact.is_directory) == ("models/mine", "model", True)
    assert (model.name, model.artifact, model.flavor, model.step) == ("mine", "models/mine", "pickle", 7)
    assert model.path == artifact.path == "artifacts/models/mine"
    assert returned is not None
    assert returned.path == model.path
    loaded = pickle.loads((run / artifact.path / "model.pkl").read_bytes())
    assert loaded.numbers == [1.5]


def test_nothing_is_left_beside_the_artifact(tracker: Tracker) -> None:
    """What was made on the way is gone."""
    tracker.log_model(Weights([]), "mine")

    run = end(tracker)
    assert [p.name for p in (run / "artifacts").iterdir()] == ["models"]
    assert [p.name for p in (run / "artifacts" / "models").iterdir()] == ["mine"]


def test_a_scikit_learn_model_predicts_as_before(tracker: Tracker) -> None:
    """An estimator goes to a pickle that scikit-learn's users know, as sklearn."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    fitted = linear_model.LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])

    tracker.log_model(fitted, "line")

    run = end(tracker)
    (model,) = logged(run, Model)
    assert model.flavor == "sklearn"
    loaded = pickle.loads((run / str(model.path) / "model.pkl").read_bytes())
    assert loaded.predict([[2.0]]).tolist() == pytest.approx([5.0])


@pytest.mark.parametrize(
    ("model", "flavor", "file"),
    [
        (of_package(Booster, "xgboost.sklearn"), "xgboost", "model.json"),
        (of_package(Booster, "lightgbm.basic"), "lightgbm", "model.txt"),
        (of_package(Booster, "catboost.core"), "catboost", "model.cbm"),
        (of_package(Layers, "keras.src.models.sequential"), "keras", "model.keras"),
        (of_package(Layers, "tf_keras.engine"), "keras", "model.keras"),
    ],
)
def test_frameworks_write_their_own_files(tracker: Tracker, model: object, flavor: str, file: str) -> None:
    """The classes of the object say which framework it is; nothing of it is imported."""
    tracker.log_model(model, "m")

    run = end(tracker)
    (logged_model,) = logged(run, Model)
    assert logged_model.flavor == flavor
    assert [p.name for p in (run / str(logged_model.path)).iterdir()] == [file]


@pytest.mark.parametrize(
    "model",
    [
        of_package(Layers, "torch._tensor"),  # of torch, yet no Module
        of_package(type("Module", (), {}), "mytorch.nn"),
        of_package(Layers, "sklearnish.base"),
        types.SimpleNamespace(save_model=print),
    ],
)
def test_a_name_that_only_resembles_a_framework_is_none(model: object) -> None:
    """Whole names of packages count."""
    assert models.flavor_of(model) == "pickle"


def test_a_lightgbm_classifier_is_pickled(tracker: Tracker, tmp_path: Path) -> None:
    """It has no save_model, so the way of any other object is taken, under its own name."""
    directory = tmp_path / "made"
    directory.mkdir()

    models.save({"trees": 1}, "lightgbm", directory)

    assert [p.name for p in directory.iterdir()] == ["model.pkl"]


def test_a_flavor_of_ones_own_is_kept(tracker: Tracker) -> None:
    """It is a word for people and sinks; how the object is stored follows from the object."""
    tracker.log_model(Weights([1.0]), "a", flavor="my-framework")
    tracker.log_model(of_package(Booster, "xgboost.core"), "b", flavor="my-framework")

    run = end(tracker)
    assert [m.flavor for m in logged(run, Model)] == ["my-framework", "my-framework"]
    assert (run / "artifacts/models/a/model.pkl").exists()
    assert (run / "artifacts/models/b/model.json").exists()


def test_a_file_keeps_its_name_in_the_artifact(tracker: Tracker, tmp_path: Path) -> None:
    """The artifact is a directory for files too, so that the suffix is not lost."""
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "net.onnx")

    tracker.log_model(str(tmp_path / "link.onnx"), "net", flavor="onnx")

    run = end(tracker)
    (model,) = logged(run, Model)
    (artifact,) = logged(run, Artifact)
    copy = run / str(model.path) / "link.onnx"
    assert copy.read_bytes() == b"onnx"
    assert [f.path for f in artifact.files] == ["link.onnx"]
    # A copy: what the user does to the file later is not seen.
    (tmp_path / "net.onnx").write_bytes(b"other")
    assert copy.read_bytes() == b"onnx"


def test_a_directory_is_copied_whole(tracker: Tracker, tmp_path: Path) -> None:
    """Such as one that `save_pretrained` or mlflow made; without a flavor it has none."""
    (tmp_path / "saved" / "deep").mkdir(parents=True)
    (tmp_path / "saved" / "MLmodel").write_text("flavors: {}")
    (tmp_path / "saved" / "deep" / "w.bin").write_bytes(b"w")

    tracker.log_model(tmp_path / "saved", "m")

    run = end(tracker)
    (model,) = logged(run, Model)
    (artifact,) = logged(run, Artifact)
    assert model.flavor is None
    assert [f.path for f in artifact.files] == ["MLmodel", "deep/w.bin"]


def test_a_file_by_reference_stays_where_it_is(tmp_path: Path) -> None:
    """With log_artifacts=False files of the user's are not copied; objects lie nowhere else and are."""
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    config = TrackingConfig(project="p", log_artifacts=False)
    tracker = Tracker((), config, output_dir=tmp_path / "runs")

    tracker.log_model(tmp_path / "net.onnx", "file")
    tracker.log_model(Weights([]), "object")

    run = end(tracker)
    assert [(a.name, a.stored) for a in logged(run, Artifact)] == [
        ("models/file", "reference"),
        ("models/object", "copy"),
    ]
    assert logged(run, Model)[0].path == str(tmp_path / "net.onnx")


def test_a_registration_names_the_last_version(tracker: Tracker) -> None:
    """Artifact and path are those of the model that was logged last under the name."""
    tracker.log_model(Weights([1.0]), "m")
    tracker.register_model("m", alias="first")
    tracker.log_model(Weights([2.0]), "m")
    tracker.log_model(Weights([3.0]), "other")
    tracker.register_model("m", version=4, stage="production", alias="champion")

    run = end(tracker)
    first, second = logged(run, ModelRegistered)
    assert (first.artifact, first.path, first.version) == ("models/m", "artifacts/models/m", None)
    assert (second.artifact, second.path) == ("models/m", "artifacts/models/m.v2")
    assert (second.version, second.stage, second.alias) == ("4", "production", "champion")
    assert [a.version for a in logged(run, Artifact) if a.name == "models/m"] == [1, 2]


def test_a_resumed_run_registers_what_it_logged_before(tmp_path: Path) -> None:
    """The log knows the model when the process does not."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
        tracker.start_run("a")
        tracker.log_model(Weights([1.0]), "m")
        tracker.log_model(Weights([2.0]), "m")
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
        tracker.start_run(run_id="a", resume=True)
        tracker.register_model("m")

    (event,) = logged(only_run(tmp_path), ModelRegistered)
    assert (event.artifact, event.path) == ("models/m", "artifacts/models/m.v2")


def test_a_registration_without_a_model_says_so(tracker: Tracker) -> None:
    """It is logged all the same; with a version it is of another run, and needs no warning."""
    tracker.register_model("elsewhere", version="3")
    with pytest.warns(EvlogWarning, match="'typo' was registered, but this run has logged none"):
        tracker.register_model("typo")

    events = logged(end(tracker), ModelRegistered)
    assert [(e.name, e.artifact, e.path) for e in events] == [("elsewhere", None, None), ("typo", None, None)]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a:b", "x\n", ".hidden", None, "n" * 300])
def test_bad_names_are_errors(tracker: Tracker, name: str) -> None:
    """A model's name is one of a directory, everywhere."""
    with pytest.raises(InvalidNameError):
        tracker.log_model(Weights([]), name)
    with pytest.raises(InvalidNameError):
        tracker.register_model(name)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Unwilling(), "it is on a GPU"),
        (lambda: None, "pickle"),
        (None, "it is None"),
        ("nowhere.pt", "nowhere.pt"),
        (Path("/dev/null"), "neither a file nor a directory"),
        (of_package(Broken, "xgboost.core"), "division by zero: model.json"),
    ],
)
def test_a_model_that_cannot_be_stored_costs_one_warning(tracker: Tracker, model: object, why: str) -> None:
    """Name and reason stand in it; no model is logged, and nothing is left behind."""
    with pytest.warns(EvlogWarning, match=rf"'(models/)?m' was not logged: .*{why}") as caught:
        returned = [tracker.log_model(model, "m") for _ in range(2)]

    run = end(tracker)
    assert (returned, len(caught)) == ([None, None], 1)
    assert logged(run, Model) == []
    assert logged(run, Artifact) == []
    assert [p for p in (run / "artifacts").rglob("*") if p.name != "models"] == []


def test_the_version_of_a_failed_model_is_given_again(tracker: Tracker) -> None:
    """A failure leaves no hole."""
    with pytest.warns(EvlogWarning):
        tracker.log_model("nowhere.pt", "m")
    tracker.log_model(Weights([]), "m")

    assert [a.version for a in logged(end(tracker), Artifact)] == [1]


@pytest.mark.parametrize("model", [Unwilling(), "nowhere.pt", None])
def test_strict_raises_once(tmp_path: Path, model: object) -> None:
    """The error says what happened in one sentence, not nested in itself."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path, strict=True) as tracker:
        with pytest.raises(BadValueError) as caught:
            tracker.log_model(model, "m")
        with pytest.raises(BadValueError, match="log_model"):
            tracker.register_model("m")

    assert str(caught.value).count("its type is") == 1


def test_threads_log_models_side_by_side(tracker: Tracker) -> None:
    """Every version is there once, each model with a path of its own and what it held."""

    def work(number: int) -> None:
        for _ in range(5):
            tracker.log_model(Weights([number]), "m")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    run = end(tracker)
    assert sorted(a.version for a in logged(run, Artifact)) == list(range(1, 21))
    assert len({m.path for m in logged(run, Model)}) == 20
    assert all((run / str(m.path) / "model.pkl").exists() for m in logged(run, Model))


def test_models_are_forgotten_with_their_run(tracker: Tracker) -> None:
    """A process with thousands of runs keeps nothing of those that are over."""
    tracker.log_model(Weights([]), "m")
    recorder = tracker._stack[-1]
    assert recorder in models._logged

    end(tracker)
    del recorder
    gc.collect()

    assert not any(run.path.name == "a" and run.path.parent.name == "p" for run in models._logged)


def test_logging_a_model_imports_no_framework(tmp_path: Path) -> None:
    """Frameworks take seconds to import: who has an object of one has imported it."""
    code = """
    import json, sys
    from eventlog import create_tracker
    with create_tracker("local") as t:
        t.log_model({"w": [1, 2]}, "m"); t.register_model("m"); t.log_html("k", "x")
    print(json.dumps([m for m in ("mlflow", "torch", "sklearn", "numpy", "wandb") if m in sys.modules]))
    """
    exit_code, out, err = run_job(code, tmp_path)

    assert (exit_code, err) == (0, "")
    assert json.loads(out) == []


def test_a_torch_model_is_stored_as_its_state(tracker: Tracker) -> None:
    """Weights that `weights_only` loading takes, and the architecture for people."""
    torch = pytest.importorskip("torch", reason="needs torch")
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())

    tracker.log_model(net, "net", step=5)
    tracker.log_model(net.state_dict(), "state", flavor="pytorch")

    run = end(tracker)
    net_event, state_event = logged(run, Model)
    assert (net_event.flavor, state_event.flavor) == ("pytorch", "pytorch")
    for event in (net_event, state_event):
        loaded = torch.load(run / str(event.path) / "state_dict.pt", weights_only=True)
        assert torch.equal(loaded["0.weight"], net[0].weight)
    words = (run / str(net_event.path) / "architecture.txt").read_text()
    assert words.startswith("torch.nn.modules.container.Sequential\n")
    assert "Linear(in_features=2, out_features=3" in words
