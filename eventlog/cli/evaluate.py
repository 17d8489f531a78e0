"""``evlog eval``: a benchmark over a model, resumable."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import typer

from eventlog.cli import render
from eventlog.cli.evaluate_options import (
    Api,
    ApiKeyEnv,
    BaseUrl,
    BatchSize,
    BenchmarkOptions,
    Benchmarks,
    Cache,
    CacheFile,
    Concurrency,
    Data,
    Group,
    MaxErrors,
    MaxTokens,
    Metric,
    ModelName,
    NumSamples,
    ResumedRun,
    Retries,
    Rpm,
    RunName,
    RunProject,
    RunTags,
    Seed,
    Split,
    System,
    Temperature,
    Timeout,
    Tpm,
)
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from eventlog.evaluation.engine_options import Options, Progress
    from eventlog.evaluation.engine_plan import Plan
    from eventlog.evaluation.engine_task import Task
    from eventlog.evaluation.groups import GroupResult
    from eventlog.evaluation.model import Model
    from eventlog.tracker.core import Tracker

EXAMPLES = (
    "evlog eval gsm8k --model openai:gpt-4o-mini --num-samples 100",
    "evlog eval questions.jsonl --metric number --model http://localhost:8000/v1#llama-3-8b",
    "evlog eval gsm8k math --group reasoning --model my_model:answer",
    "evlog eval --resume RUN",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES)
    app.command("eval", epilog=epilog)(evaluate)


def evaluate(
    benchmark: Benchmarks = None,
    model: ModelName = None,
    num_samples: NumSamples = None,
    data: Data = None,
    metric: Metric = None,
    resume: ResumedRun = None,
    group: Group = None,
    option: BenchmarkOptions = None,
    split: Split = None,
    seed: Seed = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    system: System = None,
    api: Api = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    batch_size: BatchSize = None,
    concurrency: Concurrency = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    timeout: Timeout = None,
    retries: Retries = 5,
    max_errors: MaxErrors = None,
    cache: Cache = False,
    cache_file: CacheFile = None,
    name: RunName = None,
    project: RunProject = None,
    tag: RunTags = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on benchmarks.

    Each sample is logged as soon as it is scored. What is stopped, by Ctrl-C or worse, goes on with --resume.
    The key of an endpoint comes from the environment and is logged nowhere. The exit code is 1 when
    samples have failed.
    """
    from eventlog.evaluation.benchmark_registry import is_file_name
    from eventlog.evaluation.engine_plan import Plan
    from eventlog.evaluation.limits import RateLimit
    from eventlog.evaluation.model_names import Sampling

    if api not in (None, "chat", "completions"):
        raise typer.BadParameter(f"{api!r} is not chat or completions", param_hint="--api")
    options = _options(option or [], data=data, metric=metric)
    if not benchmark and "data" in options and resume is None:
        benchmark = [str(options.pop("data"))]
    given = Plan(
        benchmarks=benchmark or [],
        model=model,
        split=split,
        num_samples=num_samples,
        group=group,
        options=options,
        sampling=Sampling(
            base_url=base_url,
            api=cast("Literal['chat', 'completions'] | None", api),
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
        ),
    )
    how: dict[str, object] = {
        "batch_size": batch_size,
        "concurrency": concurrency,
        "rate_limit": RateLimit(requests_per_minute=rpm, tokens_per_minute=tpm),
        "timeout_s": timeout,
        "retries": retries,
        "max_errors": max_errors,
        "cache": cache_file or cache,
    }
    if resume is not None:
        for flag, value in (("--name", name), ("--tag", tag)):
            if value:
                raise typer.BadParameter("the run that goes on has its own", param_hint=flag)
        _go_on(resume, given, how, api_key_env, root, as_json=as_json)
        return
    if not given.benchmarks:
        what = "name at least one, a file of questions, or a run to go on with"
        raise typer.BadParameter(what, param_hint="BENCHMARK")
    if given.model is None:
        raise typer.BadParameter("say which", param_hint="--model")
    if "data" in options and any(map(is_file_name, given.benchmarks)):
        raise typer.BadParameter("a file of questions is its own data", param_hint="--data")
    _begin(given, how, api_key_env, root, name=name, project=project, tags=tag or [], as_json=as_json)


def _options(words: list[str], **flags: str | None) -> dict[str, object]:
    """Return the options of benchmarks; a flag is one, too."""
    found = dict(map(_option, words))
    for key, value in flags.items():
        if value is not None and found.setdefault(key, value) != value:
            raise typer.BadParameter(f"the option {key} says {found[key]!r}", param_hint=f"--{key}")
    return found


def _option(word: str) -> tuple[str, object]:
    """Return name and value of an option; numbers, true, false and null as such."""
    key, has_value, value = word.partition("=")
    if not has_value or not key:
        raise typer.BadParameter(f"{word!r} is not KEY=VALUE", param_hint="--option")
    try:
        parsed: object = json.loads(value)
    except ValueError:
        return key, value
    return key, value if isinstance(parsed, (dict, str)) else parsed


def _begin(
    plan: Plan,
    how: dict[str, object],
    api_key_env: str,
    root: Path,
    *,
    name: str | None,
    project: str | None,
    tags: list[str],
    as_json: bool,
) -> None:
    """Evaluate in a new run."""
    from eventlog.evaluation.engine_log import PATIENT, start_own
    from eventlog.tracker.config import TrackingConfig
    from eventlog.tracker.core import Tracker

    job = _job(plan, how, api_key_env)  # what is wrong with it must not leave a run behind
    usual_name = plan.run_name([task.benchmark.name for task in job.tasks], job.model.name)
    labels = {label: value if has else None for label, has, value in (tag.partition("=") for tag in tags)}
    config = TrackingConfig(project=project, tags=labels)
    # Strict: who pays for answers wants to know when they are not kept.
    tracker = Tracker(("local",), config, output_dir=root, writer=PATIENT, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says is for those who call it; ours follows
        start_own(tracker, name or usual_name, name)
    if name and tracker.run_id not in (None, name) and tracker.settings.run_id is None:
        render.say(f"run {name!r} exists; this run is {tracker.run_id!r}")
    tracker.log_params(plan.params())
    _evaluate(tracker, job, resume=False, as_json=as_json)


def _go_on(
    run: str, given: Plan, how: dict[str, object], api_key_env: str, root: Path, *, as_json: bool
) -> None:
    """Evaluate in a run that is there, as it was begun."""
    from eventlog.analysis.runs import find_run
    from eventlog.cli.writing import has_living_writer
    from eventlog.evaluation.engine_errors import BadEvaluationError
    from eventlog.evaluation.engine_log import PATIENT, going_on, only_one, read_kept
    from eventlog.evaluation.engine_plan import gone_on, plan_of
    from eventlog.replay import outline
    from eventlog.tracker.config import TrackingConfig
    from eventlog.tracker.core import Tracker

    found = find_run(run, root)
    label = f"{found.project}/{found.run_id}"
    plan = gone_on(plan_of(outline(found.path).params, label), given, label)
    with only_one(found.path, label):
        job = _job(plan, how, api_key_env)
        if has_living_writer(found.path):
            raise BadEvaluationError(going_on(label))
        for task in job.tasks:  # a run that cannot go on is left as it is
            task.checked(read_kept(found.path, task.benchmark.name, None).samples, found.run_id)
        config = TrackingConfig(project=found.project)
        where = found.path.parent.parent
        tracker = Tracker(("local",), config, output_dir=where, writer=PATIENT, strict=True)
        tracker.start_run(run_id=found.run_id, resume=True)
        _evaluate(tracker, job, resume=True, as_json=as_json)


class _Job(NamedTuple):
    """What to evaluate."""

    tasks: list[Task]
    model: Model
    group: str | None
    options: Options


def _job(plan: Plan, how: dict[str, object], api_key_env: str) -> _Job:
    from eventlog.evaluation.engine_options import options_of
    from eventlog.evaluation.engine_plan import benchmarks_of
    from eventlog.evaluation.engine_task import load_task
    from eventlog.evaluation.groups import check_names
    from eventlog.evaluation.model_names import named_model

    # The model first: its module may register benchmarks.
    model = named_model(plan.model or "", plan.sampling, api_key_env=api_key_env)
    benchmarks = benchmarks_of(plan.benchmarks, plan.options)
    check_names([benchmark.name for benchmark in benchmarks], plan.group)
    options = options_of({**how, "split": plan.split or "test", "num_samples": plan.num_samples})
    with render.progress("loading data"):
        tasks = [load_task(benchmark, options) for benchmark in benchmarks]
    return _Job(tasks, model, plan.group, options)


def _evaluate(tracker: Tracker, job: _Job, *, resume: bool, as_json: bool) -> None:
    """Evaluate in the tracker's run, end it, and show what came of it."""
    import msgspec

    from eventlog.evaluation.groups import evaluate_tasks

    run_dir, again = tracker.run_dir, _command(tracker)
    try:
        with tracker, render.progress("evaluating") as bar:
            options = msgspec.structs.replace(job.options, on_progress=lambda told: _show(bar, told))
            result = evaluate_tasks(tracker, job.tasks, job.model, options, group=job.group, resume=resume)
    except BaseException:
        render.say(f"the evaluation was stopped. What the log holds is not asked again. Go on with: {again}")
        raise
    _report(result, run_dir, as_json=as_json)
    failed = [sample for one in result.results.values() for sample in one.samples if sample.error]
    if failed:
        render.say(
            f"{len(failed)} samples failed; the results are those of the others. "
            f"The first error: {failed[0].error}\nAsk them again with: {again}"
        )
        raise typer.Exit(1)


def _command(tracker: Tracker) -> str:
    where = "" if tracker.root == DEFAULT_ROOT else f" --dir {tracker.root}"
    return f"evlog eval --resume {tracker.project}/{tracker.run_id}{where}"


def _show(bar: render.Bar, progress: Progress) -> None:
    failed = f" ({progress.errors} failed)" if progress.errors else ""
    bar.tell(progress.benchmark + failed)
    bar.set(progress.done, progress.total)


def _report(result: GroupResult, run_dir: Path | None, *, as_json: bool) -> None:
    if as_json:
        where = None if run_dir is None else str(run_dir)
        render.write_json(result.to_dict(with_samples=False) | {"path": where})
        return
    rows = [
        (f"{name}/{key}", str(one.answered), value if isinstance(value, str) else render.number(value))
        for name, one in result.results.items()
        for key, value in (one.metrics | one.texts).items()
    ]
    total = sum(one.answered for one in result.results.values())
    rows += [
        (f"{result.name}/{key}", str(total), render.number(value)) for key, value in result.metrics.items()
    ]
    render.write_table(("result", "samples", "value"), rows, right=("samples", "value"))
    if run_dir is not None:
        render.write(f"run {render.printable(f'{run_dir.parent.name}/{run_dir.name}')}")
