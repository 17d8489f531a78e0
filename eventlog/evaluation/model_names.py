"""Models as people name them on a command line.

| form | means |
|---|---|
| ``module:function`` | a Python callable; the working directory is searched too |
| ``http://host/v1#name`` | the model *name* at an OpenAI-compatible endpoint |
| ``openai:NAME`` | the model *NAME* at OpenAI, at ``OPENAI_BASE_URL``, or at a base URL that is given |
| ``cmd:COMMAND`` | a process for each batch, JSON lines in and out |
| ``constant:TEXT`` | always the same answer, to try a benchmark out |
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from eventlog.evaluation.endpoint import API_KEY, OPENAI, Endpoint, shown
from eventlog.evaluation.engine_errors import BadEvaluationError
from eventlog.evaluation.model import Constant, Model, as_model
from eventlog.evaluation.model_command import Command

FORMS = "module:function, http://host/v1#name, openai:NAME, cmd:COMMAND or constant:TEXT"


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What only an endpoint can be told: how to answer, and where it is."""

    base_url: str | None = None
    api: Literal["chat", "completions"] | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    @property
    def given(self) -> dict[str, object]:
        """Return what was given."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found


def named_model(name: str, sampling: Sampling, *, api_key_env: str = API_KEY) -> Model:
    """Return the model that *name* means.

    Raises:
        BadEvaluationError: it means none, or *sampling* says what this model cannot be told.
    """
    kind, _, rest = name.partition(":")
    if kind in ("http", "https"):
        url, _, model = name.partition("#")
        if not model:
            raise BadEvaluationError(
                f"{kind}://… needs the model's name behind a #, as in http://localhost:8000/v1#my-model"
            )
        if sampling.base_url is not None:
            raise BadEvaluationError("the model has a URL already; leave --base-url away")
        return _endpoint(url, model, sampling, api_key_env)
    if kind == "openai" and rest:
        url = sampling.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
        return _endpoint(url, rest, sampling, api_key_env)
    # A seed may belong to any model: it is a param of the run.
    unused = [f"--{key.replace('_', '-')}" for key in sampling.given if key != "seed"]
    if unused:
        raise BadEvaluationError(f"{unused[0]} is for models behind an endpoint, and {name!r} is none")
    if kind == "cmd":
        return Command(rest)
    if kind == "constant":
        return Constant(rest)
    return _python(name)


def _endpoint(url: str, model: str, sampling: Sampling, api_key_env: str) -> Model:
    return Endpoint(
        url,
        model,
        api=sampling.api or "chat",
        api_key_env=api_key_env,
        system=sampling.system,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
    )


def _python(name: str) -> Model:
    if not is_python_name(name):
        raise BadEvaluationError(f"the model {name!r} is none of {FORMS}")
    found = load_object(name)
    model = as_model(found)
    if model is not found:
        model.name = name
    return model


def is_python_name(name: str) -> bool:
    """Tell whether *name* has the form ``module:object``, with dots in either part."""
    module, _, path = name.partition(":")
    return path != "" and all(part.isidentifier() for part in [*module.split("."), *path.split(".")])


def load_object(name: str) -> object:
    """Return the Python object ``module:object``; the working directory is searched too.

    Raises:
        BadEvaluationError: it cannot be imported.
    """
    module, _, path = name.partition(":")
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the user's module does when it is imported
        raise BadEvaluationError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    return found


def shown_name(name: str) -> str:
    """Return *name* without a user and password in its URL, for logs."""
    if name.startswith(("http://", "https://")):
        url, _, model = name.partition("#")
        return f"{shown(url)}#{model}"
    return name


def params_of_sampling(sampling: Sampling) -> Mapping[str, object]:
    """Return what was given, without secrets."""
    found = dict(sampling.given)
    if sampling.base_url is not None:
        found["base_url"] = shown(sampling.base_url)
    return found
