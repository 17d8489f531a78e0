"""Benchmarks by name: our own, those that a program registers, and those of installed packages.

A package offers its benchmarks by the entry-point group ``eventlog.benchmarks``. Listing names imports none.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast, overload

from eventlog.errors import EvlogError
from eventlog.evaluation.benchmark import Benchmark

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from eventlog.evaluation.results import EvaluationResult

GROUP = "eventlog.benchmarks"
_OWN = {
    "gsm8k": "gsm8k:GSM8K",
    "judge": "judged:JudgedBenchmark",
    "math": "competition_math:CompetitionMath",
    "mmlu": "choice:MMLU",
    "multiple_choice": "choice:MultipleChoice",
    "squad": "squad:SQuAD",
    "squad_v2": "squad:SQuADv2",
}
_FILES = (".jsonl", ".json", ".csv", ".parquet")

Maker = Callable[..., Benchmark]
AnyMaker = TypeVar("AnyMaker", bound=Maker)


class UnknownBenchmarkError(EvlogError, LookupError):
    """No benchmark has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, list(known)

    def __str__(self) -> str:
        near = difflib.get_close_matches(self.name, self.known)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"No benchmark is called {self.name!r}.{hint} There are: {', '.join(self.known)}."


class BadBenchmarkOptionError(EvlogError, TypeError):
    """A benchmark was given an option that it does not have, or a value that it cannot use."""

    def __init__(self, benchmark: str, reason: str, known: Sequence[str] = ()) -> None:
        super().__init__(benchmark, reason, known)
        self.benchmark, self.reason, self.known = benchmark, reason, list(known)

    def __str__(self) -> str:
        has = f" Its options: {', '.join(self.known)}." if self.known else ""
        return f"{self.benchmark}: {self.reason}.{has}"


class BenchmarkNotLoadedError(EvlogError, ImportError):
    """An installed package offers a benchmark that cannot be loaded."""

    def __init__(self, benchmark: str, reference: str, reason: str) -> None:
        super().__init__(benchmark, reference, reason)
        self.benchmark, self.reference, self.reason = benchmark, reference, reason

    def __str__(self) -> str:
        return f"{self.benchmark} could not be loaded from {self.reference}: {self.reason}."


class BenchmarkRegistry:
    """The benchmarks that can be asked for by name. What a program registers wins over the rest."""

    _registered: ClassVar[dict[str, Maker]] = {}

    @overload
    @classmethod
    def register(cls, name: str, benchmark: AnyMaker) -> AnyMaker: ...

    @overload
    @classmethod
    def register(cls, name: str) -> Callable[[AnyMaker], AnyMaker]: ...

    @classmethod
    def register(
        cls, name: str, benchmark: AnyMaker | None = None
    ) -> AnyMaker | Callable[[AnyMaker], AnyMaker]:
        """Make *benchmark*, a class or a function that returns one, known as *name*; also a decorator.

        A second registration of a name replaces the first, so that a notebook's cell may be run again.

        Raises:
            BadBenchmarkOptionError: the name is empty, or nothing that can be called was given.
        """

        def keep(maker: AnyMaker) -> AnyMaker:
            if not name or not callable(maker):
                raise BadBenchmarkOptionError(
                    name or "a benchmark", "register takes a name, and a class or a function"
                )
            cls._registered[name] = maker
            return maker

        return keep if benchmark is None else keep(benchmark)

    @classmethod
    def unregister(cls, name: str) -> None:
        """Forget what was registered as *name*; nothing happens if nothing was."""
        cls._registered.pop(name, None)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all benchmarks, sorted; imports none of them."""
        return sorted({*_OWN, *_installed(), *cls._registered})

    @classmethod
    def get(cls, name: str, **options: object) -> Benchmark:
        """Return a new benchmark.

        Args:
            name: one of `names`, or the path of a data file (``.jsonl``, ``.json``, ``.csv``, ``.parquet``).
            options: what its class takes: ``data``, ``seed``, ….

        Raises:
            UnknownBenchmarkError: nothing has this name.
            BadBenchmarkOptionError: it does not take these options, or needs others.
            BenchmarkNotLoadedError: the package that offers it is broken.
        """
        maker = cls._maker(name)
        if maker is None and is_file_name(name):
            # Data that have moved are still called as they were.
            maker = _own("files:FileBenchmark")
            options = {"data": name, "name": Path(name).stem or name, **options}
        if maker is None:
            raise UnknownBenchmarkError(name, cls.names())
        _check_options(name, maker, options)
        return maker(**options)

    @classmethod
    def options(cls, name: str) -> list[str]:
        """Return the names of the options that a benchmark takes.

        Raises:
            UnknownBenchmarkError: nothing has this name.
        """
        maker = cls._maker(name)
        if maker is None and is_file_name(name):
            maker = _own("files:FileBenchmark")
        if maker is None:
            raise UnknownBenchmarkError(name, cls.names())
        return sorted(_options_of(maker) or ())

    @classmethod
    def evaluate(
        cls, model: object, benchmark_name: str, num_samples: int | None = None, **options: object
    ) -> EvaluationResult:
        """Ask *model* the questions of a benchmark and return what came of it.

        Args:
            model: a callable ``prompts -> outputs``, sync or async, or an endpoint.
            num_samples: at most so many items; all if None.
            options: those of the benchmark go to it, the rest to `eventlog.evaluation.engine.evaluate`.

        Raises:
            UnknownBenchmarkError: nothing has this name.
        """
        from eventlog.evaluation.engine import evaluate

        known = cls.options(benchmark_name)
        its = {key: value for key, value in options.items() if key in known}
        rest = {key: value for key, value in options.items() if key not in known}
        benchmark = cls.get(benchmark_name, **its)
        run = cast("Callable[..., EvaluationResult]", evaluate)
        return run(benchmark, model, num_samples=num_samples, **rest)

    @classmethod
    def _maker(cls, name: str) -> Maker | None:
        if name in cls._registered:
            return cls._registered[name]
        if name in _OWN:
            return _own(_OWN[name])
        point = _installed().get(name)
        if point is None:
            return None
        try:
            return cast("Maker", point.load())
        except Exception as error:  # it is somebody else's code
            raise BenchmarkNotLoadedError(name, point.value, f"{type(error).__name__}: {error}") from error


def is_file_name(name: str) -> bool:
    """Tell whether *name* is that of a data file."""
    return Path(name).suffix.lower() in _FILES


def _own(reference: str) -> Maker:
    module, _, attribute = reference.partition(":")
    return cast(
        "Maker", getattr(importlib.import_module(f"eventlog.evaluation.benchmarks.{module}"), attribute)
    )


def _installed() -> dict[str, EntryPoint]:
    return _installed_on(tuple(sys.path))


@lru_cache(maxsize=4)
def _installed_on(search_path: tuple[str, ...]) -> dict[str, EntryPoint]:  # noqa: ARG001 - what it depends on
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def _options_of(maker: Maker) -> dict[str, bool] | None:
    """Return the names of the options and whether each must be given; None if it takes any."""
    import inspect

    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):  # a callable of C that does not tell
        return None
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {one.name: one.default is inspect.Parameter.empty for one in parameters if one.kind in named}


def _check_options(name: str, maker: Maker, options: Mapping[str, object]) -> None:
    known = _options_of(maker)
    if known is None:
        return
    for option in options:
        if option not in known:
            raise BadBenchmarkOptionError(name, f"it has no option {option!r}", sorted(known))
    for option, is_needed in known.items():
        if is_needed and option not in options:
            raise BadBenchmarkOptionError(name, f"it needs the option {option!r}", sorted(known))
