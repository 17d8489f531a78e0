"""What an evaluation was told: it stands in the params of its run, so that the run says how to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec

from eventlog.evaluation.benchmark import Benchmark
from eventlog.evaluation.benchmark_registry import BenchmarkRegistry
from eventlog.evaluation.engine_errors import BadEvaluationError
from eventlog.evaluation.model_names import (
    Sampling,
    is_python_name,
    load_object,
    params_of_sampling,
    shown_name,
)
from eventlog.ids import safe_name

_MAY_DIFFER = frozenset({"num_samples", "option data"})
"""More samples of the same data may follow in a second sitting, and the data may have moved: each item that
was asked is checked."""

_LONGEST_NAME = 120
"""Characters: a run's directory is called so, with the time behind it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is evaluated, and on what: everything that the results depend on.

    Attributes:
        model: as `eventlog.evaluation.model_names` reads it.
        options: of the benchmarks: a name counts for each that has it, ``benchmark.name`` for one.
    """

    benchmarks: list[str] = []
    model: str | None = None
    split: str | None = None
    num_samples: int | None = None
    group: str | None = None
    options: dict[str, object] = {}
    sampling: Sampling = Sampling()

    def params(self) -> dict[str, object]:
        """Return the params of the run; no secrets are among them."""
        names = self.benchmarks
        found: dict[str, object] = {
            "benchmark": names[0] if len(names) == 1 else list(names),
            "model": shown_name(self.model or ""),
            "split": self.split or "test",
        }
        more = {"num_samples": self.num_samples, "group": self.group, "options": _shown(self.options)}
        return found | {k: v for k, v in more.items() if v} | dict(params_of_sampling(self.sampling))

    def run_name(self, benchmarks: Sequence[str], model: str) -> str:
        """Return a name that tells runs apart: benchmarks, model and what else matters most."""
        sampling = self.sampling
        given = {
            "num_samples": self.num_samples,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        parts = [self.group or "-".join(benchmarks), model]
        parts += [f"{key}={value:g}" for key, value in given.items() if value is not None]
        return safe_name("-".join(parts)[:_LONGEST_NAME])


def plan_of(params: Mapping[str, object], run: str) -> Plan:
    """Return the plan that a run was begun with.

    Raises:
        BadEvaluationError: the run is no evaluation.
    """
    names = params.get("benchmark")
    rest = {
        key: params[key] for key in ("model", "split", "num_samples", "group", "options") if key in params
    }
    sampling = {key: params[key] for key in Sampling.__struct_fields__ if key in params}
    try:
        names = [names] if isinstance(names, str) else names
        plan = msgspec.convert({"benchmarks": names, "sampling": sampling, **rest}, Plan)
    except msgspec.ValidationError:
        plan = Plan()
    if not plan.benchmarks or not plan.model:
        raise BadEvaluationError(f"run {run} was not begun by `evlog eval`, so it says nothing to go on with")
    return plan


def gone_on(before: Plan, given: Plan, run: str) -> Plan:
    """Return the plan to go on with: what was before, where nothing is given now.

    Raises:
        BadEvaluationError: something else is given now that the results depend on.
    """
    old, new = _flat(before), _flat(given)
    for key, value in new.items():
        if key not in _MAY_DIFFER and old.get(key) != value:
            was = "nothing" if key not in old else repr(old[key])
            raise BadEvaluationError(
                f"run {run} was begun with {key} {was}, and now it is {value!r}: together they would be "
                "neither. Leave it away, or start a new evaluation."
            )
    return msgspec.structs.replace(
        before,
        num_samples=given.num_samples or before.num_samples,
        # A model, and a judge among the options, may hold a password that the params do not.
        model=given.model or before.model,
        options=before.options | given.options,
        sampling=msgspec.structs.replace(
            before.sampling, base_url=given.sampling.base_url or before.sampling.base_url
        ),
    )


def _shown(options: Mapping[str, object]) -> dict[str, object]:
    return {key: shown_name(value) if isinstance(value, str) else value for key, value in options.items()}


def _flat(plan: Plan) -> dict[str, object]:
    found: dict[str, object] = {
        "benchmark": list(plan.benchmarks) or None,
        "model": None if plan.model is None else shown_name(plan.model),
        "split": plan.split,
        "num_samples": plan.num_samples,
        "group": plan.group,
        **{f"option {key}": value for key, value in _shown(plan.options).items()},
        **params_of_sampling(plan.sampling),
    }
    return {key: value for key, value in found.items() if value is not None}


def benchmarks_of(names: Sequence[str], options: Mapping[str, object]) -> list[Benchmark]:
    """Return the benchmarks with their options.

    Args:
        names: as `BenchmarkRegistry.get` takes them, or ``module:Class``.

    Raises:
        UnknownBenchmarkError: nothing has one of the names.
        BadEvaluationError: an option that none of them has.
    """
    taken: set[str] = set()
    found = []
    for name in names:
        if is_python_name(name):
            BenchmarkRegistry.register(name, cast("Callable[..., Benchmark]", load_object(name)))
        known, prefix = BenchmarkRegistry.options(name), f"{name}."
        own = {key: key.removeprefix(prefix) for key in options if key.startswith(prefix)}
        shared = [key for key in options if key not in own and (key in known or len(names) == 1)]
        chosen = {key: options[key] for key in shared} | {own[key]: options[key] for key in own}
        taken |= {*own, *shared}
        found.append(BenchmarkRegistry.get(name, **chosen))
    left = [key for key in options if key not in taken]
    if left:
        raise BadEvaluationError(f"none of {', '.join(names)} has an option {left[0]!r}")
    return found
