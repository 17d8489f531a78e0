"""The options of ``evlog eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventlog.cli.find import complete_run


def complete_benchmark(incomplete: str) -> list[str]:
    """Return what a shell may offer for the beginning of a benchmark."""
    from eventlog.evaluation.benchmark_registry import BenchmarkRegistry

    return [name for name in BenchmarkRegistry.names() if name.startswith(incomplete)]


Benchmarks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="BENCHMARK",
        autocompletion=complete_benchmark,
        help="gsm8k, judge, math, mmlu, multiple_choice, squad, squad_v2 or one of your packages; a file "
        "whose rows have a question and an answer; or module:Class.",
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
Data = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Items of the benchmark: JSONL, JSON, CSV or Parquet, or a directory with test.jsonl.",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="How answers to a file of questions are scored: exact_match, f1, choice or number; default "
        "exact_match.",
    ),
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
        help="For the benchmark, such as seed=1; BENCHMARK.KEY=VALUE for one of several. Repeatable.",
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
