"""``evlog significance``: is the difference more than chance?"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import complete_run
from eventlog.cli.leaderboard import Mode
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.cli.selecting import SYNTAX, select

if TYPE_CHECKING:
    from eventlog.analysis.chance.answer import Comparison, Significance
    from eventlog.analysis.statistics.contrast import Contrast
    from eventlog.analysis.statistics.outcomes import Outcome


class Alternative(StrEnum):
    """What is tested."""

    TWO_SIDED = "two-sided"
    GREATER = "greater"
    LESS = "less"


class Correction(StrEnum):
    """How p-values of several comparisons are corrected."""

    HOLM = "holm"
    BH = "bh"
    NONE = "none"


class Test(StrEnum):
    """Whose p decides."""

    AUTO = "auto"
    PERMUTATION = "permutation"
    T = "t"
    MCNEMAR = "mcnemar"


class WhichInterval(StrEnum):
    """Which interval is told."""

    AUTO = "auto"
    T = "t"
    PERCENTILE = "percentile"
    BCA = "bca"


def significance(
    groups: Annotated[list[str], typer.Argument(metavar="A B...", autocompletion=complete_run, help=SYNTAX)],
    metric: Annotated[
        str | None, typer.Option("--metric", "-m", metavar="KEY", help="The result, or metric of samples.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", "-b", metavar="NAME", help="Whose samples or results.")
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Compare the others with the first, not each with each.")
    ] = False,
    paired: Annotated[
        bool | None,
        typer.Option("--paired/--unpaired", help="Insist on pairs of seeds, or never pair them."),
    ] = None,
    alternative: Annotated[
        Alternative,
        typer.Option(metavar="two-sided|greater|less", help="Is the first different, greater, or less?"),
    ] = Alternative.TWO_SIDED,
    test: Annotated[
        Test, typer.Option(metavar="auto|permutation|t|mcnemar", help="Whose p decides.")
    ] = Test.AUTO,
    interval: Annotated[
        WhichInterval, typer.Option(metavar="auto|t|percentile|bca", help="Which interval is told.")
    ] = WhichInterval.AUTO,
    correction: Annotated[
        Correction, typer.Option(metavar="holm|bh|none", help="Of p, when there are several comparisons.")
    ] = Correction.HOLM,
    mode: Annotated[
        Mode | None,
        typer.Option("--mode", metavar="max|min", help="What is better; default as the metric's name says."),
    ] = None,
    level: Annotated[
        float, typer.Option(help="Of intervals; p below 1 - level is called a difference.")
    ] = 0.95,
    resamples: Annotated[
        int, typer.Option(min=99, max=1_000_000, metavar="N", help="Random arrangements and resamples.")
    ] = 9999,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of what is drawn at random.")] = 0,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Tell whether one run or group of runs is better than another by more than chance.

    One run on each side: the samples of a benchmark, in pairs. Several: a result of each, in pairs where
    both sides have the same seeds. Differences are the first minus the second.
    """
    from eventlog.analysis.chance.answer import significance as ask
    from eventlog.analysis.statistics.contrast import Options

    if len(groups) < 2:
        raise typer.BadParameter("there is nothing to compare with. Give two or more.", param_hint="A B...")
    if not 0 < level < 1:
        raise typer.BadParameter("it lies between 0 and 1: 0.95, say.", param_hint="--level")
    if len(set(groups)) < len(groups):
        raise typer.BadParameter("the same is there twice.", param_hint="A B...")
    chosen = {text: select(text, root) for text in groups}
    with render.progress("comparing"):
        found = ask(
            chosen,
            metric=metric,
            benchmark=benchmark,
            options=Options(
                level=level,
                alternative=alternative.value,
                resamples=resamples,
                seed=seed,
                test=test.value,
                interval=interval.value,
            ),
            correction=correction.value,
            against_first=baseline,
            paired=paired,
            mode=None if mode is None else mode.value,
        )
    if as_json:
        render.write_json(found.to_dict())
    else:
        _write(found)


def _write(found: Significance) -> None:
    what = f"{found.benchmark}: {found.metric}" if found.unit == "samples" else found.metric
    per = "a value for each sample" if found.unit == "samples" else "a value for each run"
    render.write(f"{render.printable(what)} ({per})\n")
    for i, one in enumerate(found.comparisons):
        if i:
            render.write("")
        render.write(render.printable(one.sentence) + "\n")
        _write_groups(one)
        _write_tests(one, found.correction if len(found.comparisons) > 1 else "none")
        for warning in one.warnings:
            render.write(f"  note: {render.printable(warning)}")


def _write_groups(one: Comparison) -> None:
    found = one.found
    rows = [
        (name, str(side.n), render.number(side.mean), "" if side.std is None else render.number(side.std))
        for name, side in ((one.a, found.a), (one.b, found.b))
    ]
    rows.append(
        ("difference", f"{found.a.n} pairs" if found.is_paired else "", render.number(found.difference), "")
    )
    columns = ("group", "n", "mean", "std")
    render.write_table(columns, rows, right=columns[1:], indent=2)
    if found.table is not None:
        table = found.table
        render.write(
            f"  right: both {table.both}, only the first {table.only_a}, only the second {table.only_b}, "
            f"neither {table.neither}"
        )
    render.write("")


def _write_tests(one: Comparison, correction: str) -> None:
    from eventlog.analysis.chance.wording import p_text, range_text

    found = one.found
    rows = []
    for test in found.tests:
        mark = " *" if test == found.test else ""
        rows.append((f"{test.test}{mark}", p_text(test.p_value), _how(test, found)))
    if correction != "none" and found.test is not None:
        rows.append((f"{found.test.test}, {correction}", p_text(one.p_corrected), "corrected"))
    for interval in found.intervals:
        mark = " *" if interval == found.interval else ""
        rows.append((f"interval {interval.method}{mark}", range_text(interval), interval.note or ""))
    for effect in found.effects:
        value = "-" if effect.value is None else f"{effect.value:.3f}"
        rows.append((f"effect {effect.name}", value, effect.size))
    render.write_table(("statistic (* decides)", "value", "how"), rows, indent=2)


def _how(test: Outcome, found: Contrast) -> str:
    from eventlog.analysis.chance.wording import arranged

    if test.test == "welch_t" and found.is_paired:
        return "as if unpaired"
    return arranged(test) or test.note or ""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    app.command(
        "significance",
        epilog="\b\nExamples:\n"
        "  evlog significance exp_001 exp_002 --benchmark gsm8k\n"
        "  evlog significance aug=flip aug=cutout --metric val_f1_macro\n"
        "  evlog significance base-0,base-1,base-2 new-0,new-1,new-2 --metric val/acc --json\n"
        "  evlog significance exp_001 exp_002 exp_003 --baseline --correction bh",
    )(significance)
