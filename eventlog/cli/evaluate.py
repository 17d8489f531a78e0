"""``evlog eval``: a benchmark over a model, resumable."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

import typer

from eventlog.cli import render
from eventlog.cli.find import complete_run
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from eventlog.evaluation.engine import Task
    from eventlog.evaluation.engine_options import Options, Progress
    from eventlog.evaluation.engine_plan import Plan
    from eventlog.evaluation.groups import GroupResult
    from eventlog.evaluation.model import Model
    from eventlog.tracker.core import Tracker

EXAMPLES = (
    "evlog eval gsm8k --model openai:gpt-4o-mini --num-samples 100",
    "evlog eval gsm8k math --group reasoning --model http://localhost:8000/v1#llama-3-8b",
    "evlog eval questions.jsonl --model my_model:answer",
    "evlog eval --resume RUN",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES)
    app.command("eval", epilog=epilog)(evaluate)


def complete_benchmark(incomplete: str) -> list[str]:
    """Return what a shell may offer for the beginning of a benchmark."""
    from eventlog.evaluation.benchmark_registry import BenchmarkRegistry

    return [name for name in BenchmarkRegistry.names() if name.startswith(incomplete)]


Benchmarks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[BENCHMARK]...",
        autocompletion=complete_benchmark,
        help="Benchmarks by name, data files with questions and answers, or module:Class.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="module:function, http://HOST/v1#NAME, openai:NAME, cmd:COMMAND or constant:TEXT.",
    ),
]
NumSamples = Annotated[
    int | None, typer.Option("--num-samples", "-n", min=1, metavar="N", help="At most so many items.")
]
ResumedRun = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        autocompletion=complete_run,
        help="Go on with this run: only what is missing or failed is asked. It says all the rest itself.",
    ),
]
Group = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name under which several benchmarks are aggregated.")
]
BenchmarkOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="KEY=VALUE",
        help="For the benchmark, such as data=FILE; BENCHMARK.KEY=VALUE for one of several. Repeatable.",
    ),
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Part of the data; default test.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Param of the run; sent to an endpoint.")]
Temperature = Annotated[float | None, typer.Option(min=0, metavar="X", help="Sent to an endpoint.")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Longest answer; sent to an endpoint.")
]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System message in front of each prompt.")]
Api = Annotated[
    str | None, typer.Option(metavar="chat|completions", help="What the endpoint speaks; default chat.")
]
BaseUrl = Annotated[str | None, typer.Option(metavar="URL", help="Where openai:NAME is; default OpenAI.")]
ApiKeyEnv = Annotated[str, typer.Option(metavar="NAME", help="Environment variable that holds the key.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Prompts in one call; default as the model says.")
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Calls at the same time; default as the model says.")
]
Rpm = Annotated[float | None, typer.Option(metavar="N", help="At most so many calls a minute.")]
Tpm = Annotated[float | None, typer.Option(metavar="N", help="At most so many tokens a minute.")]
Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Longest time of a call; endpoints have 120 s.")
]
Retries = Annotated[
    int, typer.Option(min=0, metavar="N", help="Calls after a failed one that may still help.")
]
MaxErrors = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Stop when more samples than this have failed.")
]
Cache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Keep answers in ROOT/.evlog and never pay twice.")
]
CacheFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keep answers in this file instead.", dir_okay=False)
]
RunName = Annotated[str | None, typer.Option(metavar="NAME", help="Name and id of the run.")]
RunProject = Annotated[
    str | None,
    typer.Option(envvar="EVLOG_PROJECT", metavar="NAME", help="Project of the run; default 'default'."),
]
RunTags = Annotated[
    list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Label of the run; repeatable.")
]


def evaluate(
    benchmark: Benchmarks = None,
    model: ModelName = None,
    num_samples: NumSamples = None,
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
    from eventlog.evaluation.engine_plan import Plan
    from eventlog.evaluation.limits import RateLimit
    from eventlog.evaluation.model_names import Sampling

    if api not in (None, "chat", "completions"):
        raise typer.BadParameter(f"{api!r} is not chat or completions", param_hint="--api")
    given = Plan(
        benchmarks=benchmark or [],
        model=model,
        split=split,
        num_samples=num_samples,
        group=group,
        options=dict(map(_option, option or ())),
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
        raise typer.BadParameter("name at least one, or a run to go on with", param_hint="BENCHMARK")
    if given.model is None:
        raise typer.BadParameter("say which", param_hint="--model")
    _begin(given, how, api_key_env, root, name=name, project=project, tags=tag or [], as_json=as_json)


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
    from eventlog.ids import safe_name
    from eventlog.tracker.config import TrackingConfig
    from eventlog.tracker.core import Tracker

    job = _job(plan, how, api_key_env)  # what is wrong with it must not leave a run behind
    what = plan.group or "-".join(task.benchmark.name for task in job.tasks)
    labels = {label: value if has else None for label, has, value in (tag.partition("=") for tag in tags)}
    tracker = Tracker(
        ("local",), TrackingConfig(project=project, tags=labels), output_dir=root, writer=PATIENT
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says is for those who call it; ours follows
        start_own(tracker, name or safe_name(f"{what}-{job.model.name}"), name)
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
    from eventlog.evaluation.engine_log import PATIENT
    from eventlog.evaluation.engine_plan import gone_on, plan_of
    from eventlog.replay import outline
    from eventlog.tracker.config import TrackingConfig
    from eventlog.tracker.core import Tracker

    found = find_run(run, root)
    label = f"{found.project}/{found.run_id}"
    plan = gone_on(plan_of(outline(found.path).params, label), given, label)
    if has_living_writer(found.path):
        raise BadEvaluationError(f"run {label} is going on now; wait for it, or stop it first")
    job = _job(plan, how, api_key_env)
    config = TrackingConfig(project=found.project)
    tracker = Tracker(("local",), config, output_dir=found.path.parent.parent, writer=PATIENT)
    tracker.start_run(run_id=found.run_id, resume=True)
    _evaluate(tracker, job, resume=True, as_json=as_json)


class _Job(NamedTuple):
    """What to evaluate."""

    tasks: list[Task]
    model: Model
    group: str | None
    options: Options


def _job(plan: Plan, how: dict[str, object], api_key_env: str) -> _Job:
    from eventlog.evaluation.engine import load_task
    from eventlog.evaluation.engine_options import options_of
    from eventlog.evaluation.engine_plan import benchmarks_of
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
        render.say(f"the evaluation was stopped. What is answered is in the log. Go on with: {again}")
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
