"""A decorator that makes a run of every call of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from numbers import Number
from typing import ParamSpec, TypeVar, cast

from eventlog.tracker.core import Tracker

P = ParamSpec("P")
R = TypeVar("R")


def auto_track(
    tracker: Tracker, experiment_name: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator: each call is a run with the arguments as params.

    Of a mapping that the function returns, numbers become metrics (if the config's ``auto_log_metrics``
    says so) and texts the summary. An exception ends the run as failed and goes on to the caller. Plain
    and async functions are taken; inside of an active run the call is a nested run.

    Args:
        experiment_name: name of the runs; default the function's name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = experiment_name or function.__name__
        signature = inspect.signature(function)

        def begin(args: tuple[object, ...], kwargs: dict[str, object]) -> object:
            handle = tracker.start_run(run_name=name, nested=tracker.run_id is not None)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = {k: v for k, v in bound.arguments.items() if k not in ("self", "cls")}
            if arguments:
                tracker.log_params(arguments)
            return handle

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> object:
                with begin(args, kwargs):  # type: ignore[attr-defined]
                    result = await function(*args, **kwargs)
                    _log_result(tracker, result)
                    return result

            return cast("Callable[P, R]", run_async)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with begin(args, kwargs):  # type: ignore[attr-defined]
                result = function(*args, **kwargs)
                _log_result(tracker, result)
                return result

        return run

    return decorate


def _log_result(tracker: Tracker, result: object) -> None:
    if not isinstance(result, Mapping):
        return
    numbers = {k: v for k, v in result.items() if isinstance(v, Number) or hasattr(v, "item")}
    words = {k: v for k, v in result.items() if isinstance(v, str)}
    if numbers and tracker.config.auto_log_metrics:
        tracker.log_metrics(numbers)
    if words:
        tracker.log_summary(words)
