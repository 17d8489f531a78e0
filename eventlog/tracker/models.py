"""Trained models: their files as the artifact ``models/<name>``, and what became of them in a registry.

No framework is imported: an object's own is in memory already, and the classes of the object say which it
is. Nothing is wrapped either; what lies in the artifact is what the framework itself reads:

=================================  ============  ==========================================================
object                             flavor        files
=================================  ============  ==========================================================
``torch.nn.Module``                pytorch       ``state_dict.pt`` (`torch.save`), ``architecture.txt``
keras, tf_keras                    keras         ``model.keras``
xgboost                            xgboost       ``model.json``, from `save_model`
lightgbm                           lightgbm      ``model.txt``, from `save_model`; else ``model.pkl``
catboost                           catboost      ``model.cbm``, from `save_model`
scikit-learn                       sklearn       ``model.pkl``
anything else                      pickle        ``model.pkl``
a file or directory                none          a file below its own name, a directory with all in it
=================================  ============  ==========================================================

mlflow is not asked to write its own format, even if it is installed: importing it takes seconds in the
middle of a training. Whoever wants it saves with ``mlflow.<flavor>.save_model`` and logs that directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast
from weakref import WeakKeyDictionary

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.ids import check_name
from eventlog.storage.layout import ARTIFACTS_DIRECTORY
from eventlog.storage.modes import make_directory
from eventlog.tracker.recording import RunRecorder
from eventlog.tracker.runs import Runs
from eventlog.values import text

MODELS = "models"
MAX_ARCHITECTURE = 200_000

_FLAVOR_OF_PACKAGE = {
    "keras": "keras",
    "tf_keras": "keras",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "sklearn": "sklearn",
}
_FILE_OF_FLAVOR = {"xgboost": "model.json", "lightgbm": "model.txt", "catboost": "model.cbm"}
FLAVORS = frozenset({*_FLAVOR_OF_PACKAGE.values(), "pytorch", "pickle"})
"""The frameworks whose way of saving is known."""

_logged: WeakKeyDictionary[RunRecorder, dict[str, ev.Model]] = WeakKeyDictionary()


class ModelCalls(Runs):
    """The tracker's calls for models."""

    def log_model(
        self, model: object, name: str, flavor: str | None = None, step: int | None = None
    ) -> ev.Model | None:
        """Store a model's files as the artifact ``models/<name>``, with a version if it was logged before.

        Args:
            model: an object, stored as its framework does it (see `eventlog.tracker.models`), or the path of
                a file or directory, copied unless the config's ``log_artifacts`` is False. Anything that no
                framework is known for is pickled: it can be loaded where its classes can be imported.
            name: of the model, without ``/``.
            flavor: the framework, if it cannot be told from the object; any other text is kept as it is.

        Returns:
            What was logged, or None if it could not be stored.

        Raises:
            InvalidNameError: *name* cannot be a directory's name.
        """
        check_name("model", name)
        run = self._active()
        if run is None:
            return None
        return _log_model(run, model, name, flavor, step, copies_files=self.config.log_artifacts)

    def register_model(
        self,
        name: str,
        version: str | int | None = None,
        stage: str | None = None,
        alias: str | None = None,
    ) -> ev.ModelRegistered | None:
        """Log that a model got a name in a registry: the model that this run logged last under *name*.

        Without such a model the registration is logged alone; if no *version* says which one of the
        registry it is, that costs a warning.

        Args:
            version: in the registry; None lets the registry count.
            stage: such as ``staging`` or ``production``.
            alias: such as ``champion``.

        Raises:
            InvalidNameError: *name* cannot be a model's.
        """
        check_name("model", name)
        run = self._active()
        if run is None:
            return None
        model = _logged.get(run, {}).get(name) or _find_model(run, name)
        if model is None and version is None:
            run.complain(
                name, f"model {name!r} was registered, but this run has logged none of that name: log_model"
            )
        event = ev.ModelRegistered(
            name=name,
            version=_words(version),
            stage=_words(stage),
            alias=_words(alias),
            artifact=model.artifact if model else None,
            path=model.path if model else None,
        )
        run.add(event)
        return event


def _words(value: object) -> str | None:
    return None if value is None else text(str(value))


def _log_model(
    run: RunRecorder, model: object, name: str, flavor: str | None, step: object, *, copies_files: bool
) -> ev.Model | None:
    flavor = _words(flavor)
    try:
        if isinstance(model, (str, os.PathLike)):
            artifact = _store_path(run, Path(model), name, copies_files=copies_files)
        else:
            found = flavor_of(model)
            flavor = flavor or found
            artifact = _store_object(run, model, name, flavor if flavor in FLAVORS else found)
    except BadValueError:
        raise  # under `strict`, and says all that there is to say
    except Exception as error:  # frameworks and the user's __reduce__ raise whatever they like
        run.complain(name, f"model {name!r} was not logged: {error or type(error).__name__}")
        return None
    if artifact is None:
        return None  # it has been complained about
    event = ev.Model(
        name=name, artifact=artifact.name, flavor=flavor, step=run.step(step), path=artifact.path
    )
    run.add(event)
    _logged.setdefault(run, {})[name] = event
    return event


def _find_model(run: RunRecorder, name: str) -> ev.Model | None:
    """Return the model that another process of this run logged, or this one before it was resumed."""
    from eventlog.replay import outline

    try:
        found = [a for a in outline(run.path).artifacts if a.name == f"{MODELS}/{name}"]
    except OSError as error:
        run.complain(name, f"the log could not be searched for the model {name!r}: {error}")
        return None
    return ev.Model(name=name, artifact=found[-1].name, path=found[-1].path) if found else None


# --- storing ----------------------------------------------------------------------------------------


def _store_path(run: RunRecorder, source: Path, name: str, *, copies_files: bool) -> ev.Artifact | None:
    if not copies_files or not source.is_file():
        return run.artifact(source, f"{MODELS}/{name}", "model", copy=copies_files)
    return _store_made(run, name, lambda directory: _link_or_copy(source, directory / source.name))


def _store_object(run: RunRecorder, model: object, name: str, flavor: str) -> ev.Artifact | None:
    if model is None:
        raise TypeError("it is None")
    return _store_made(run, name, lambda directory: save(model, flavor, directory))


def _store_made(run: RunRecorder, name: str, make: Callable[[Path], None]) -> ev.Artifact | None:
    """Store the directory that *make* fills."""
    import tempfile

    # Beside the artifacts: there is room for models, which the system's temporary directory may lack.
    artifacts = run.path / ARTIFACTS_DIRECTORY
    make_directory(artifacts)
    with tempfile.TemporaryDirectory(
        dir=artifacts, prefix=".young-model-", ignore_cleanup_errors=True
    ) as young:
        directory = Path(young) / name
        directory.mkdir()
        make(directory)
        return run.artifact(directory, f"{MODELS}/{name}", "model", copy=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        import shutil

        shutil.copyfile(source, target)


def flavor_of(model: object) -> str:
    """Return the framework that a class of *model* comes from, or ``pickle``; the most special class wins."""
    for kind in type(model).__mro__:
        package = str(kind.__module__).partition(".")[0]
        if package in _FLAVOR_OF_PACKAGE:
            return _FLAVOR_OF_PACKAGE[package]
        if package == "torch" and kind.__name__ == "Module":
            return "pytorch"
    return "pickle"


def save(model: object, flavor: str, directory: Path) -> None:
    """Write *model* into *directory* as its framework does it; by pickle if the framework is not known.

    Raises:
        Exception: whatever the framework raises.
    """
    if flavor == "pytorch":
        _save_pytorch(model, directory)
    elif flavor == "keras":
        cast("_Keras", model).save(str(directory / "model.keras"))
    elif flavor in _FILE_OF_FLAVOR and callable(getattr(model, "save_model", None)):
        cast("_Booster", model).save_model(str(directory / _FILE_OF_FLAVOR[flavor]))
    else:
        import pickle

        with (directory / "model.pkl").open("wb") as file:
            pickle.dump(model, file, protocol=pickle.HIGHEST_PROTOCOL)


def _save_pytorch(model: object, directory: Path) -> None:
    state = getattr(model, "state_dict", None)
    # Whoever says pytorch and gives no module has a state or a tensor.
    sys.modules["torch"].save(state() if callable(state) else model, directory / "state_dict.pt")
    kind = type(model)
    words = f"{kind.__module__}.{kind.__qualname__}\n\n"
    if callable(state):
        words += repr(model)[:MAX_ARCHITECTURE] + "\n"
    (directory / "architecture.txt").write_text(text(words), "utf-8")


class _Keras(Protocol):
    def save(self, path: str, /) -> object: ...


class _Booster(Protocol):
    def save_model(self, path: str, /) -> object: ...
