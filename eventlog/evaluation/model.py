"""A model: takes prompts, gives answers.

Whatever is evaluated is brought into this one shape: a callable that takes a list of prompts (sync or async),
one that takes a single prompt and was declared so with `one_at_a_time`, or something that is a `Model`
already, as `eventlog.evaluation.endpoint.Endpoint`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import msgspec

from eventlog.evaluation.engine_errors import BadEvaluationError, ModelCallError
from eventlog.values import text

Prompt = str | list[dict[str, str]]
"""A text, or chat messages with ``role`` and ``content``."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model said; a callable may return these in the place of texts, to report its tokens.

    Attributes:
        finish: why it stopped, in the model's own word, such as ``stop`` or ``length``.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish: str | None = None


class CallDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is called unless the evaluation says otherwise.

    Attributes:
        batch_size: prompts in one call.
        largest_batch: more than so many are never in one call; None for no limit.
        concurrency: calls at the same time.
        timeout_s: seconds until a call counts as failed; None waits for ever.
    """

    batch_size: int = 16
    largest_batch: int | None = None
    concurrency: int = 1
    timeout_s: float | None = None


@runtime_checkable
class Model(Protocol):
    """Something that answers prompts.

    Attributes:
        name: what it is called in runs, caches and price lists.
        parameters: what its answers depend on besides the prompt, such as ``temperature``.
        is_sync: `ask` never waits for an event loop, so that it can run in any thread.
    """

    name: str
    parameters: Mapping[str, object]
    defaults: CallDefaults
    is_sync: bool

    async def ask(self, prompts: Sequence[Prompt]) -> Sequence[Answer | Exception]:
        """Return an answer, or what went wrong, for each prompt; raise if all of them failed together."""

    async def close(self) -> None:
        """Release connections; `ask` may open them anew."""


class CallableModel:
    """A model that is a Python callable.

    Args:
        function: takes a list of prompts and returns a list of texts (or `Answer`) of the same length.
        name: default the function's module and name.
        takes_one: it takes one prompt and returns one text instead.
        is_async: default as the function is declared.
        parameters: what its answers depend on, for the log and for the cache.
    """

    def __init__(
        self,
        function: Callable[..., object],
        name: str | None = None,
        *,
        takes_one: bool = False,
        is_async: bool | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        if not callable(function):
            raise BadEvaluationError(
                f"a model is a callable that takes a list of prompts, not a {type(function).__name__}"
            )
        self.function, self.takes_one = function, takes_one
        self.name = name or _name_of(function)
        self.has_own_name = name is not None or "<" not in self.name
        self.parameters: Mapping[str, object] = dict(parameters or {})
        self.is_async = _is_async(function) if is_async is None else is_async
        self.is_sync = not self.is_async
        self.defaults = CallDefaults(
            batch_size=1 if self.is_async or takes_one else 16,
            largest_batch=1 if takes_one else None,
            concurrency=8 if self.is_async else 1,
        )

    async def ask(self, prompts: Sequence[Prompt]) -> Sequence[Answer | Exception]:
        """Call the function; each prompt by itself if it takes only one."""
        if not self.takes_one:
            return answers_of(await self._call(list(prompts)), len(prompts))
        found: list[Answer | Exception] = []
        for prompt in prompts:
            try:
                found.append(answer_of(await self._call(prompt)))
            except Exception as error:  # it costs this prompt; the engine decides about another try
                found.append(error)
        return found

    async def _call(self, argument: object) -> object:
        result = self.function(argument)
        if self.is_async:
            return await cast("Awaitable[object]", result)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise ModelCallError(
                f"{self.name} returned something to await. Pass the async function itself, or "
                "CallableModel(function, is_async=True)",
                "fatal",
            )
        return result

    async def close(self) -> None:
        """Do nothing."""


class Constant:
    """A model that always says the same, to try a benchmark out."""

    def __init__(self, answer: str) -> None:
        self.name, self.parameters = "constant", cast("Mapping[str, object]", {"text": answer})
        self.is_sync, self.defaults = True, CallDefaults()
        self._answer = Answer(text=text(answer))

    async def ask(self, prompts: Sequence[Prompt]) -> Sequence[Answer | Exception]:
        """Return the text once for each prompt."""
        return [self._answer] * len(prompts)

    async def close(self) -> None:
        """Do nothing."""


def one_at_a_time(function: Callable[..., object], name: str | None = None) -> CallableModel:
    """Return a model from a function, sync or async, that takes one prompt and returns one text."""
    return CallableModel(function, name, takes_one=True)


def as_model(model: object) -> Model:
    """Return *model* if it is one, else the callable as a model that takes lists of prompts.

    Raises:
        BadEvaluationError: neither.
    """
    if isinstance(model, type):
        raise BadEvaluationError(f"a model is wanted, not the class {model.__name__}: make one of it first")
    if isinstance(model, Model):
        return model
    return CallableModel(cast("Callable[..., object]", model))


def answers_of(outputs: object, count: int) -> list[Answer | Exception]:
    """Return the outputs of a callable as answers.

    Raises:
        ModelCallError: it is no list. Its length is the caller's to check.
    """
    if isinstance(outputs, (str, bytes, Mapping, Answer)) or not isinstance(outputs, Iterable):
        kind = type(outputs).__name__
        raise ModelCallError(
            f"the model returned a {kind} for a list of {count} prompts, not a list of texts. If it takes "
            "one prompt at a time, wrap it: eventlog.evaluation.model.one_at_a_time(function)",
            "fatal",
        )
    return [_answer_or_error(output) for output in outputs]


def answer_of(output: object) -> Answer:
    """Return one output of a callable as an answer.

    Raises:
        ModelCallError: it is no text.
    """
    if isinstance(output, str):
        return Answer(text=text(output))
    if isinstance(output, Answer) and isinstance(output.text, str):
        return msgspec.structs.replace(output, text=text(output.text))
    raise ModelCallError(f"the model returned a {type(output).__name__} instead of a text")


def _answer_or_error(output: object) -> Answer | Exception:
    if isinstance(output, Exception):
        return output
    try:
        return answer_of(output)
    except ModelCallError as error:
        return error


def _is_async(function: object) -> bool:
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its kind is wanted, not whether it is there
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _name_of(function: object) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", "model")
    return text(name if module in (None, "__main__", "builtins") else f"{module}:{name}")
